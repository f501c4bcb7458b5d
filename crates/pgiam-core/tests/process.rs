//! credential_process: how the command is read, what is taken from its output, and how it is ended.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use pgiam_core::{Error, ErrorKind};
use support::{Machine, access_key_id, within};

const KEYS: &str = r#""AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "planted-secret""#;

fn with_command(command: &str) -> Machine {
    let mut machine = Machine::new();
    machine.profile_app(&format!("[profile app]\ncredential_process = {command}\n"));
    // An instance role that must not be fallen back to.
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
    assert!(machine.simulator.requests().is_empty(), "never the node's role");
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
fn all_members_are_read_and_a_large_output_is_no_hindrance() {
    let token = "t".repeat(100 * 1024);
    let machine = printing(&format!(
        r#"{{"Version": 1, {KEYS}, "SessionToken": "{token}", "Expiration": "2999-01-01T00:00:00Z", "AccountId": "1"}}"#
    ));
    let made = machine.token();
    assert_eq!(access_key_id(&made), "AKIDPROCESS");
    assert!(made.as_str().contains(&token));
}

#[test]
fn output_that_is_not_what_it_must_be_is_refused_and_never_repeated() {
    for (output, part) in [
        ("planted-secret", "no JSON"),
        (&*format!("{{{KEYS}}}"), "Version"),
        (&*format!(r#"{{"Version": 2, {KEYS}}}"#), "Version"),
        (r#"{"Version": 1, "AccessKeyId": "AKID"}"#, "SecretAccessKey"),
        (r#"{"Version": 1, "SecretAccessKey": "planted-secret"}"#, "AccessKeyId"),
        (&*format!(r#"{{"Version": 1, {KEYS}, "Expiration": "planted"}}"#), "Expiration"),
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
fn a_program_that_fails_or_is_not_there_is_told_by_name() {
    let error = fails(&with_command("/nonexistent/tool --secret planted"));
    assert!(error.message().contains("/nonexistent/tool"), "{error}");
    let machine = with_command("");
    let script = machine.script("fail", "echo planted-secret; echo planted-secret >&2; exit 7");
    machine.config(&format!("[profile app]\ncredential_process = {script}\n"));
    let error = fails(&machine);
    assert!(error.message().contains("exit status: 7"), "{error}");
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
fn what_overruns_the_deadline_is_killed_with_all_it_started() {
    for body in [
        // It hangs itself, and so does what it started.
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
fn the_program_gets_signals_as_from_a_shell_even_when_started_beside() {
    // The refreshing thread blocks all signals; a time-out of the program's own must fire all the same.
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
