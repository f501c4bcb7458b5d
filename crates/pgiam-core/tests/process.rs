//! credential_process: how the command is read, what is read from its output, how it asks a person, and how it is ended.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::time::{Duration, Instant};

use aws_simulator::Credentials;
use pgiam_core::{Error, ErrorKind};
use support::{Machine, ROLE, access_key_id, within};

const KEYS: &str = r#""AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "planted-secret""#;

fn with_command(command: &str) -> Machine {
    let mut machine = Machine::new();
    machine.profile_app(&format!("[profile app]\ncredential_process = {command}\n"));
    // An instance role, which must not be used instead.
    machine.become_instance();
    machine
}

fn printing(output: &str) -> Machine {
    let machine = with_command("");
    let script = machine.script("print", &format!("cat <<'END'\n{output}\nEND"));
    machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
    machine
}

fn fails(machine: &Machine) -> Error {
    let error = machine.error();
    assert!(error.message().contains("profile \"app\": credential_process"), "{error}");
    assert!(!format!("{error:?}").contains("planted"), "{error:?}");
    assert!(machine.simulator.requests().is_empty(), "the role of the instance must not be used");
    error
}

#[test]
fn the_command_is_split_as_the_aws_cli_splits_it() {
    let machine = with_command("");
    let script = machine.script(
        "with space",
        &format!(r#"printf '%s\n' "$@" > "$HOME_OF_TEST/arguments"; echo '{{"Version": 1, {KEYS}}}'"#)
            .replace("$HOME_OF_TEST", machine.home.path().to_str().unwrap()),
    );
    machine.config(&format!(
        "[profile app]\ncredential_process = \"{script}\" one 'two words' three\\ words \"a \\\"quote\\\"\" $HOME *\n"
    ));
    machine.token();
    let arguments = fs::read_to_string(machine.path("arguments")).unwrap();
    assert_eq!(arguments, "one\ntwo words\nthree words\na \"quote\"\n$HOME\n*\n", "no shell reads it");
}

#[test]
fn all_members_of_a_large_output_are_read() {
    let token = "t".repeat(100 * 1024);
    let machine = printing(&format!(
        r#"{{"Version": 1, {KEYS}, "SessionToken": "{token}", "Expiration": "2999-01-01T00:00:00Z", "AccountId": "1"}}"#
    ));
    let made = machine.token();
    assert_eq!(access_key_id(&made), "AKIDPROCESS");
    assert!(made.as_str().contains(&token));
}

#[test]
fn invalid_output_is_refused_and_never_repeated() {
    for (output, part) in [
        ("planted-secret", "no JSON"),
        (&*format!("{{{KEYS}}}"), "Version"),
        (&*format!(r#"{{"Version": 2, {KEYS}}}"#), "Version"),
        (r#"{"Version": 1, "AccessKeyId": "AKID"}"#, "SecretAccessKey"),
        (r#"{"Version": 1, "SecretAccessKey": "planted-secret"}"#, "AccessKeyId"),
        (&*format!(r#"{{"Version": 1, {KEYS}, "Expiration": "planted"}}"#), "Expiration"),
        (&*format!(r#"{{"Version": 1, {KEYS}, "Expiration": 4102444800}}"#), "Expiration"),
        (&*format!(r#"{{"Version": 1, {KEYS}, "Expiration": "9999-12-31T23:59:59-23:59"}}"#), "Expiration"),
        (&*format!(r#"{{"Version": 1, {KEYS}, "SessionToken": 5}}"#), "SessionToken"),
    ] {
        let error = fails(&printing(output));
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.message().contains(part), "{error}");
    }
    let expired = printing(&format!(r#"{{"Version": 1, {KEYS}, "Expiration": "2020-01-01T00:00:00Z"}}"#)).error();
    assert_eq!(expired.kind(), ErrorKind::CredentialsExpired);
    assert!(!expired.message().contains("planted"), "{expired}");
}

#[test]
fn a_profile_that_was_changed_is_used_when_its_temporary_credentials_expire() {
    let hands = support::Hands::at(1_700_000_000);
    let mut machine = with_command("");
    machine.clock(&hands);
    let program = |id: &str, expires: &str| {
        let output = format!(
            r#"{{"Version": 1, "AccessKeyId": "{id}", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "{expires}"}}"#
        );
        format!("[profile app]\ncredential_process = {}\n", machine.script(id, &format!("echo '{output}'")))
    };
    // 2023-11-14T22:13:20Z and an hour more.
    machine.config(&program("ASIAOLD", "2023-11-14T23:13:20Z"));
    let client = machine.client();
    let token = || access_key_id(&client.generate_token(&support::request()).unwrap());
    assert_eq!(token(), "ASIAOLD");
    machine.config(&program("ASIANEW", "2024-11-14T23:13:20Z"));
    assert_eq!(token(), "ASIAOLD", "they have not expired");
    hands.forward(3700);
    assert_eq!(token(), "ASIANEW");
}

#[test]
fn a_program_that_fails_or_is_missing_is_named() {
    let error = fails(&with_command("/nonexistent/tool --secret planted"));
    assert!(error.message().contains("/nonexistent/tool"), "{error}");
    let error = fails(&with_command("API_TOKEN=planted /nonexistent/tool"));
    assert!(error.message().contains("API_TOKEN=") && !error.message().contains("planted"), "{error}");
    let machine = with_command("");
    let script = machine.script("fail", "echo planted-secret; echo planted-secret >&2; exit 7");
    machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
    let error = fails(&machine);
    assert!(error.message().contains("exit status: 7: [redacted]"), "{error}");
}

#[test]
fn the_programs_own_words_are_in_the_error() {
    let machine = with_command("");
    let script = machine.script(
        "aws-vault",
        "echo 'starting' >&2; echo 'aws-vault: error: exec: Failed to get credentials for dev:' >&2\n\
         printf '  the security token included in the request has expired\\033[0m\\n' >&2; exit 1",
    );
    machine.config(&format!("[profile app]\ncredential_process = {script} export dev\n"));
    let error = fails(&machine);
    for words in ["aws-vault: error: exec: Failed to get credentials for dev: / the security token", "has expired"] {
        assert!(error.message().contains(words), "{error}");
    }
    assert!(!error.message().chars().any(char::is_control), "{error}");
    // A program that succeeds may write there what it likes, as much as it likes.
    let script = machine.script(
        "chatty",
        &format!("head -c 300000 /dev/zero | tr '\\0' x >&2; echo '{{\"Version\": 1, {KEYS}}}'; echo more >&2"),
    );
    machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
    machine.token();
}

#[test]
fn an_overrun_names_the_setting_that_raises_the_limit() {
    let mut machine = with_command("/bin/sleep 600");
    machine.setting("timeout_ms", "200");
    let error = fails(&machine);
    for words in ["\"/bin/sleep\"", "200 ms", "timeout_ms", "no terminal"] {
        assert!(error.message().contains(words), "{error}");
    }
}

#[test]
fn output_without_end_is_stopped() {
    let machine = with_command("");
    let script = machine.script("yes", "exec yes planted-secret");
    machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
    assert!(fails(&machine).message().contains("prints more than"));
}

/// Whether a process is there and not just waiting to be reaped.
fn runs(process: &str) -> bool {
    fs::read_to_string(format!("/proc/{process}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}

#[test]
fn a_program_that_overruns_the_deadline_is_killed_with_all_it_started() {
    for body in [
        // It hangs, and so does what it started.
        "sleep 600 & echo $! > PIDS; echo $$ >> PIDS; wait",
        // It ends and leaves something behind that holds its output open.
        "sleep 600 & echo $! > PIDS; echo $$ >> PIDS; exit 0",
        // It cannot be asked to end.
        "trap '' TERM INT HUP; echo $$ > PIDS; while :; do sleep 1; done",
    ] {
        let mut machine = with_command("");
        let pids = machine.path("pids");
        let script = machine.script("hang", &body.replace("PIDS", pids.to_str().unwrap()));
        machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
        machine.setting("timeout_ms", "400");
        let mut error = None;
        within(Duration::from_millis(400), || error = Some(fails(&machine))).unwrap();
        assert_eq!(error.unwrap().kind(), ErrorKind::Timeout, "{body}");
        let deadline = Instant::now() + Duration::from_secs(10);
        for process in fs::read_to_string(&pids).unwrap().split_whitespace() {
            while runs(process) {
                assert!(Instant::now() < deadline, "{body}: process {process} is still there");
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn a_whole_document_counts_once_its_program_has_ended() {
    // What it leaves behind, an agent for example, has its output open.
    let machine = with_command("");
    let left = machine.path("left");
    let print = format!("sleep 600 & echo $! > '{}'\necho '{{\"Version\": 1, {KEYS}}}'", left.display());
    let script = machine.script("leave", &print);
    machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
    assert_eq!(access_key_id(&machine.token()), "AKIDPROCESS");
    let left = fs::read_to_string(left).unwrap();
    assert!(runs(left.trim()), "it is not killed");
    // SAFETY: sends a signal to the process that the script started, which still runs.
    unsafe { libc::kill(left.trim().parse().unwrap(), libc::SIGKILL) };
}

#[test]
fn a_name_is_searched_in_path_and_a_file_without_an_interpreter_is_run_by_the_shell() {
    let machine = with_command("");
    let script = machine.script("plain", "");
    fs::write(&script, format!("echo \"$1\" '{{\"Version\": 1, {KEYS}}}'\n")).unwrap();
    machine.config(&format!("[profile app]\ncredential_process = {script} ''\n"));
    assert_eq!(access_key_id(&machine.token()), "AKIDPROCESS");
    machine.config(&format!("[profile app]\ncredential_process = sh {script} ''\n"));
    assert_eq!(access_key_id(&machine.token()), "AKIDPROCESS");
}

#[test]
fn the_program_gets_signals_as_from_a_shell_in_a_background_refresh_too() {
    // The refreshing thread blocks all signals; a timer of the program must fire nevertheless.
    let mut machine = with_command("");
    let hands = support::Hands::at(1_700_000_000);
    machine.clock(&hands);
    let file = machine.path("seen");
    let script = machine.script(
        "mask",
        &format!(
            "grep SigBlk /proc/self/status >> {}\necho '{{\"Version\": 1, {KEYS}, \"Expiration\": \"2023-11-14T23:13:20Z\"}}'",
            file.display()
        ),
    );
    machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
    let client = machine.client();
    client.generate_token(&support::request()).unwrap();
    hands.forward(3600 - 60);
    let deadline = Instant::now() + Duration::from_secs(10);
    let seen = loop {
        client.generate_token(&support::request()).unwrap();
        let seen = fs::read_to_string(&file).unwrap();
        if seen.lines().count() >= 2 {
            break seen;
        }
        assert!(Instant::now() < deadline, "no refresh: {seen}");
        std::thread::yield_now();
    };
    for line in seen.lines() {
        assert_eq!(line.split_whitespace().nth(1), Some("0000000000000000"), "{seen}");
    }
}

/// Runs `work` in a process of its own, which first does `before`.
fn in_a_child(before: impl FnOnce(), work: impl FnOnce() -> bool) -> bool {
    // SAFETY: the child runs `before` and `work`, which is what a program with these signal settings would do, and then
    // leaves by _exit.
    unsafe {
        match libc::fork() {
            0 => {
                libc::alarm(30);
                before();
                libc::_exit(i32::from(!work()));
            }
            child => {
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
            }
        }
    }
}

/// What happened at a terminal: all that it showed, with the result of the client at the end.
struct Session {
    terminal: fs::File,
    shown: String,
    child: libc::pid_t,
}

impl Session {
    /// Opens a terminal and asks the client for a token, in the foreground of the terminal or in its background.
    fn open(machine: &Machine, in_foreground: bool) -> Self {
        let client = machine.client();
        Self::run(in_foreground, || match client.generate_token(&support::request()) {
            Ok(token) => format!("TOKEN by {}", access_key_id(&token)),
            Err(error) => format!("ERROR {error}"),
        })
    }

    fn run(in_foreground: bool, work: impl FnOnce() -> String) -> Self {
        let mut terminal = -1;
        // SAFETY: forkpty fills in the descriptor; NULL is allowed for the rest. The child does what a program at a
        // terminal would do and leaves by _exit.
        let child = unsafe {
            match libc::forkpty(&raw mut terminal, std::ptr::null_mut(), std::ptr::null(), std::ptr::null()) {
                0 => {
                    libc::alarm(60);
                    // A shell ignores it for what it starts in the background, such as these tests.
                    libc::signal(libc::SIGINT, libc::SIG_DFL);
                    if !in_foreground && libc::fork() != 0 {
                        libc::wait(std::ptr::null_mut());
                        libc::_exit(0);
                    }
                    if !in_foreground {
                        libc::alarm(60);
                        libc::setpgid(0, 0);
                    }
                    let result = work();
                    let mut modes = std::mem::zeroed();
                    libc::tcgetattr(0, &raw mut modes);
                    let echo = if modes.c_lflag & libc::ECHO == 0 { "off" } else { "on" };
                    std::io::stdout().write_all(format!("\n{result}\necho {echo}\n").as_bytes()).ok();
                    libc::_exit(0);
                }
                child => child,
            }
        };
        assert!(child > 0);
        // SAFETY: forkpty opened it, and nobody else has it.
        Self { terminal: unsafe { fs::File::from_raw_fd(terminal) }, shown: String::new(), child }
    }

    /// Waits until the terminal shows this.
    fn expect(&mut self, text: &str) {
        while !self.shown.contains(text) {
            let mut chunk = [0; 1024];
            match self.terminal.read(&mut chunk) {
                Ok(read @ 1..) => self.shown.push_str(&String::from_utf8_lossy(&chunk[..read])),
                end => panic!("{end:?} before {text:?}: {}", self.shown),
            }
        }
    }

    fn types(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    /// Everything that was shown, at the end.
    fn close(mut self) -> String {
        self.expect("echo o");
        let mut status = 0;
        // SAFETY: it is this process' child, and not waited for before.
        assert_eq!(unsafe { libc::waitpid(self.child, &raw mut status, 0) }, self.child);
        self.shown
    }
}

/// A program that asks for a code, as tools do: on standard error and standard input, or on the terminal itself.
fn asking(how: &str) -> Machine {
    let mut machine = with_command("");
    let script = machine.script(
        "ask",
        &format!(
            "{how}\n[ \"$code\" = 123456 ] || {{ echo wrong code >&2; exit 3; }}\necho '{{\"Version\": 1, {KEYS}}}'"
        ),
    );
    machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
    machine.setting("timeout_ms", "30000");
    machine
}

const BY_STANDARD_ERROR: &str = "printf 'MFA code: ' >&2; read -r code";
/// Without echo, which stops a program of the background.
const BY_TERMINAL: &str = "( : <>/dev/tty ) 2>/dev/null || { echo 'no terminal here' >&2; exit 4; }\n\
    exec 3<>/dev/tty; printf 'MFA code: ' >&3; stty -echo <&3; read -r code <&3; stty echo <&3";

#[test]
fn a_program_asks_a_person_at_the_terminal() {
    for how in [BY_STANDARD_ERROR, BY_TERMINAL] {
        let machine = asking(how);
        let mut session = Session::open(&machine, true);
        session.expect("MFA code: ");
        session.types("123456\n");
        let shown = session.close();
        assert!(shown.contains("TOKEN by AKIDPROCESS"), "{shown}");

        let mut session = Session::open(&machine, true);
        session.expect("MFA code: ");
        session.types("000000\n");
        let shown = session.close();
        assert!(shown.contains("wrong code") && shown.contains("exit status: 3"), "{shown}");
    }
}

#[test]
fn a_program_in_the_background_of_a_terminal_cannot_ask_and_says_so_at_once() {
    let shown = Session::open(&asking(BY_TERMINAL), false).close();
    assert!(shown.contains("exit status: 4: no terminal here"), "{shown}");
    let shown = Session::open(&asking(BY_STANDARD_ERROR), false).close();
    assert!(shown.contains("exit status: 3") && shown.contains("wrong code"), "{shown}");
}

#[test]
fn a_background_refresh_does_not_disturb_the_terminal() {
    let mut machine = with_command("");
    let hands = support::Hands::at(1_700_000_000);
    machine.clock(&hands);
    let file = machine.path("terminals");
    let script = machine.script(
        "where",
        &format!(
            "if ( : <>/dev/tty ) 2>/dev/null; then echo yes; else echo no; fi >> {}\n\
             echo '{{\"Version\": 1, {KEYS}, \"Expiration\": \"2023-11-14T23:13:20Z\"}}'",
            file.display()
        ),
    );
    machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
    let client = machine.client();
    let session = Session::run(true, || {
        client.generate_token(&support::request()).unwrap();
        hands.forward(3600 - 60);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            client.generate_token(&support::request()).unwrap();
            let seen = fs::read_to_string(&file).unwrap();
            if seen.lines().count() >= 2 || Instant::now() > deadline {
                return format!("terminal: {}", seen.replace('\n', " "));
            }
            std::thread::yield_now();
        }
    });
    let shown = session.close();
    assert!(shown.contains("terminal: yes no"), "{shown}");
}

#[test]
fn an_interrupt_from_the_keyboard_ends_the_question() {
    let machine = asking(&format!("trap 'exit 9' INT; {BY_STANDARD_ERROR}"));
    let mut session = Session::open(&machine, true);
    session.expect("MFA code: ");
    session.types("\x03");
    // The client's process, which is the test's and has no handler, ends as well.
    let mut status = 0;
    // SAFETY: it is this process' child, and not waited for before.
    assert_eq!(unsafe { libc::waitpid(session.child, &raw mut status, 0) }, session.child);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGINT, "{status}");
}

#[test]
fn an_overrun_at_the_terminal_kills_what_was_started_and_restores_the_terminal() {
    let mut machine = with_command("");
    let pids = machine.path("pids");
    let script = machine.script(
        "hang",
        &format!(
            "stty -echo; sh -c 'sleep 600 & echo $! >> {0}; echo $$ >> {0}; wait' & echo $$ >> {0}; wait",
            pids.display()
        ),
    );
    machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
    machine.setting("timeout_ms", "1500");
    let shown = Session::open(&machine, true).close();
    assert!(shown.contains("did not end within 1500 ms") && shown.contains("timeout_ms"), "{shown}");
    assert!(shown.contains("echo on"), "{shown}");
    let deadline = Instant::now() + Duration::from_secs(10);
    let pids = fs::read_to_string(&pids).unwrap();
    assert_eq!(pids.split_whitespace().count(), 3, "{pids}");
    for process in pids.split_whitespace() {
        while runs(process) {
            assert!(Instant::now() < deadline, "process {process} is still there");
            std::thread::yield_now();
        }
    }
}

#[test]
fn it_works_where_the_host_program_ignores_or_reaps_its_children() {
    extern "C" fn reap(_: i32) {
        // SAFETY: waitpid is async-signal-safe, and a NULL status is allowed.
        unsafe { while libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) > 0 {} }
    }
    let good = printing(&format!(r#"{{"Version": 1, {KEYS}}}"#));
    let mut hanging = with_command("/bin/sleep 600");
    hanging.setting("timeout_ms", "300");
    for handler in [libc::SIG_IGN, reap as extern "C" fn(i32) as libc::sighandler_t, libc::SIG_DFL] {
        // SAFETY: a handler that calls async-signal-safe functions alone, or one of the system's own.
        let prepare = || unsafe {
            libc::signal(libc::SIGCHLD, handler);
        };
        assert!(in_a_child(prepare, || good.client().generate_token(&support::request()).is_ok()));
        assert!(in_a_child(prepare, || {
            hanging.client().generate_token(&support::request()).is_err_and(|error| error.kind() == ErrorKind::Timeout)
        }));
    }
}

/// A role whose source is a `credential_process`, with secrets of this profile and of others in the files.
#[test]
fn a_credential_process_gets_the_environment_as_it_is_its_own_arguments_and_no_secret() {
    let mut machine = Machine::new();
    let others = machine.keys("tests");
    let base = Credentials::of_user("base");
    machine.simulator.register_credentials(&base);
    let keys = format!(
        r#"{{"Version": 1, "AccessKeyId": "{}", "SecretAccessKey": "{}"}}"#,
        base.access_key_id, base.secret_access_key
    );
    let seen = machine.path("seen");
    let look = format!(
        "tr '\\0' '\\n' </proc/$$/environ >{0}.environ; tr '\\0' '\\n' </proc/$$/cmdline >{0}.arguments\n\
         tr '\\0' '\\n' </proc/$PPID/cmdline >{0}.callers; cat <<'END'\n{keys}\nEND",
        seen.display()
    );
    let script = machine.script("vault", &look);
    machine.profile_app(&format!(
        "[profile app]\nrole_arn = {ROLE}\nexternal_id = planted-external-id\nsource_profile = base\n\
         [profile base]\ncredential_process = {script} --account 1\n[profile other]\n{others}"
    ));
    let token = machine.token();
    let read = |name: &str| fs::read_to_string(seen.with_extension(name)).unwrap();
    let environ = read("environ");
    // That of the process: the client's own is given to it by the test.
    let own: Vec<u8> = fs::read("/proc/self/environ").unwrap();
    assert_eq!(
        environ.trim_end_matches('\n'),
        String::from_utf8_lossy(&own).replace('\0', "\n").trim_end_matches('\n')
    );
    // The shell has its own arguments, and the script's.
    assert_eq!(read("arguments").lines().skip(1).collect::<Vec<_>>(), [script.as_str(), "--account", "1"]);
    let signature = token.as_str().rsplit_once('=').unwrap().1;
    for name in ["environ", "arguments", "callers"] {
        let text = read(name);
        assert!(!text.contains("PLANTED") && !text.contains("planted") && !text.contains(signature), "{name}: {text}");
    }
}
