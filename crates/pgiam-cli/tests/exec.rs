//! `pgiam exec` from outside, with static keys and no network: what the command gets, and how the two live together.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const HOST: &str = "mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com";

/// `pgiam exec FLAGS -- COMMAND` in an environment that has nothing but keys.
fn exec(flags: &[&str], command: &[&str]) -> Command {
    let mut exec = Command::new(env!("CARGO_BIN_EXE_pgiam"));
    exec.arg("exec").args(flags).arg("--").args(command).env_clear().envs([
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("PGSYSCONFDIR", "/nonexistent"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hushhush"),
    ]);
    exec
}

fn texts(output: &Output) -> (&str, &str) {
    (str::from_utf8(&output.stdout).unwrap(), str::from_utf8(&output.stderr).unwrap())
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), err), (Some(0), ""), "{command:?}");
    out.to_owned()
}

fn refused(command: &mut Command, status: i32) -> String {
    let output = command.output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!((output.status.code(), out), (Some(status), ""), "{command:?}: {err}");
    assert!(!err.contains("hush") && !err.contains("panicked"), "{err}");
    err.to_owned()
}

/// The first four fields of each line of the password file that the command gets.
fn lines(command: &mut Command) -> Vec<String> {
    let field = |line: &str| line.splitn(5, ':').take(4).collect::<Vec<_>>().join(":");
    printed(command).lines().map(field).collect()
}

const CAT: &[&str] = &["sh", "-c", "cat \"$PGPASSFILE\""];

#[test]
fn any_command_gets_a_line_for_each_host_and_user_that_is_named() {
    let other = HOST.replace("mydb", "other");
    let list = format!("{HOST},{other}");
    let conninfo = format!("host={other} port=7 user=c");
    for (flags, expected) in [
        (&["-h", HOST, "-U", "u"][..], vec![format!("{HOST}:5432:*:u")]),
        (&["--host", &list, "--port", "1", "--user", "u"], vec![format!("{HOST}:1:*:u"), format!("{other}:1:*:u")]),
        (
            &["-h", HOST, "-h", &other, "-U", "u", "-U", "v"],
            vec![format!("{HOST}:5432:*:u"), format!("{other}:5432:*:v")],
        ),
        (&["-h", HOST, "-U", "u", "-U", "v"], vec![format!("{HOST}:5432:*:u"), format!("{HOST}:5432:*:v")]),
        (
            &["--connection", &conninfo, "-h", HOST, "-U", "u"],
            vec![format!("{other}:7:*:c"), format!("{HOST}:5432:*:u")],
        ),
    ] {
        assert_eq!(lines(&mut exec(flags, CAT)), expected, "{flags:?}");
    }
    let upper = HOST.replace("mydb", "MyDb");
    let both = [format!("{upper}:5432:*:u"), format!("{HOST}:5432:*:u")];
    assert_eq!(lines(&mut exec(&["-h", &upper, "-U", "u"], CAT)), both, "programs may write it in small letters");
    let mut by_environment = exec(&[], CAT);
    by_environment.envs([("PGHOST", HOST), ("PGPORT", "2"), ("PGUSER", "e")]);
    assert_eq!(lines(&mut by_environment), [format!("{HOST}:2:*:e")]);
    assert!(refused(&mut exec(&["-h", HOST, "-h", &other, "-U", "a", "-U", "b", "-U", "c"], CAT), 2).contains("-U"));
}

#[test]
fn the_token_stands_in_no_argument_no_variable_and_no_file_on_disk() {
    let look = "tr '\\0' '\\n' </proc/$PPID/cmdline; tr '\\0' '\\n' </proc/$$/cmdline; \
                tr '\\0' '\\n' </proc/$PPID/environ; env; stat -L -c '%a %F %U' \"$PGPASSFILE\"; \
                readlink \"$PGPASSFILE\"; ls -l /proc/self/fd | grep -c memfd";
    let seen = printed(exec(&["-h", HOST, "-U", "u"], &["sh", "-c", &format!("{look}; true")]).env("PGSSLMODE", ""));
    assert!(!seen.contains("X-Amz"), "{seen}");
    assert!(seen.contains("PGSSLMODE=require") && seen.contains("PGPASSFILE=/proc/"), "{seen}");
    assert!(seen.contains("600 regular") && seen.contains("memfd:pgiam-passfile"), "{seen}");
    assert!(seen.ends_with("\n0\n"), "the command inherits no descriptor of the file: {seen}");
}

#[test]
fn the_users_own_password_file_follows_for_other_servers() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "elsewhere:5432:*:u:p\n").unwrap();
    let mut command = exec(&["-h", HOST, "-U", "u"], CAT);
    command.env("PGPASSFILE", file.path());
    assert_eq!(lines(&mut command), [format!("{HOST}:5432:*:u"), "elsewhere:5432:*:u".to_owned()]);
}

#[test]
fn what_is_not_served_or_not_safe_is_refused_before_the_command_runs() {
    let touch = &["sh", "-c", "echo it ran"][..];
    for (flags, variables, why) in [
        (&["-h", "db.example.com", "-U", "u"][..], &[][..], "PGIAM=on"),
        (&["-h", "localhost", "-U", "u"], &[], "PGIAM_HOST"),
        (&["-h", "/run", "-U", "u"], &[], "Unix socket"),
        (&["-U", "u"], &[], "no host"),
        (&[], &[], "no host"),
        (&["-h", HOST], &[("PGPASSWORD", "hush")], "PGPASSWORD"),
        (&["-h", HOST], &[("PGSSLMODE", "prefer")], "PGSSLMODE"),
        (&["--connection", "host=h password=hush"], &[], "password"),
        (&["--connection", "host=h sslmode=allow"], &[], "sslmode=allow"),
        (&["--connection", "host=h passfile=x"], &[], "passfile"),
        (&["-h", HOST, "--region", "us-east-1"], &[], "contradicts"),
        (&["-h", HOST], &[("PGIAM", "yes")], "PGIAM"),
        (&["-h", HOST, "--refresh-every", "0"], &[], "refresh-every"),
    ] {
        let message = refused(exec(flags, touch).envs(variables.iter().copied()), 2);
        assert!(message.contains(why), "{flags:?}: {message}");
    }
    let mut without_keys = exec(&["-h", HOST], touch);
    refused(without_keys.env_remove("AWS_ACCESS_KEY_ID"), 1);
    refused(&mut exec(&["-h", HOST], &[]), 2);
}

#[test]
fn the_own_settings_say_which_hosts_are_served_and_what_is_signed() {
    let file = |host: &str, variables: &[(&str, &str)]| {
        printed(exec(&["-h", host, "-U", "u"], CAT).envs(variables.iter().copied()))
    };
    let tunnel = file("localhost", &[("PGIAM_HOST", HOST), ("PGIAM_PORT", "77"), ("PGPORT", "15432")]);
    assert!(tunnel.starts_with(&format!("localhost:15432:*:u:{HOST}\\:77/?")), "{tunnel}");
    let on = [("PGIAM", "on"), ("PGIAM_REGION", "eu-west-3")];
    assert!(file("db.example.com", &on).contains("%2Feu-west-3%2Frds-db"));
    let pattern = [("PGIAM_HOSTS", "*.example.com"), ("PGIAM_REGION", "eu-west-3")];
    assert!(file("db.example.com", &pattern).starts_with("db.example.com:5432:"));
    assert_eq!(file(HOST, &[("PGIAM", "off"), ("PGPASSFILE", "/dev/null"), ("PGSSLMODE", "disable")]), "");
}

/// A directory with a program of this name that prints its password, then its arguments, a line each.
fn program(name: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(
        &path,
        "#!/bin/sh\ncut -c1-90 <\"${PGPASSFILE:-/dev/null}\"\nprintf '%s\\n' \"${PGPASSWORD-unset}\" \"$@\"\n",
    )
    .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

#[test]
fn a_program_of_postgresqls_is_asked_where_it_connects_and_sees_no_keyword_of_ours() {
    let directory = program("pg_dump");
    let path = directory.path().join("pg_dump");
    let path = path.to_str().unwrap();
    let own = format!("--dbname=host=localhost user='u' iam_host={HOST} password=rds-iam");
    let out = printed(&mut exec(&[], &[path, "-Fd", &own, "-f", "iam_host=x"]));
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("localhost:5432:*:u:mydb."), "{out}");
    assert_eq!(lines[1..], ["unset", "-Fd", "--dbname=host='localhost' user='u'", "-f", "iam_host=x"]);
    let out = printed(&mut exec(&["-U", "other"], &[path, "-h", HOST, "-U", "u"]));
    let users: Vec<&str> = out.lines().take(2).map(|line| line.split(':').nth(3).unwrap()).collect();
    assert_eq!(users, ["other", "u"], "flags add to what the program says");
    assert!(refused(&mut exec(&[], &[path, "-h", HOST, "-W"]), 2).contains("-W"));
    assert!(refused(&mut exec(&[], &[path, "-h", HOST, "--nonsense"]), 2).contains("--nonsense"));
}

#[test]
fn a_program_that_only_reads_pgpassword_gets_the_token_there() {
    let echo = &["sh", "-c", "echo ${PGPASSFILE-none} $PGPASSWORD"];
    let out = printed(exec(&["--env", "-h", HOST, "-U", "u"], echo).env("PGPASSWORD", "rds-iam"));
    assert!(out.starts_with(&format!("none {HOST}:5432/?Action=connect&DBUser=u&")), "{out}");
    assert!(refused(&mut exec(&["--env", "-h", HOST, "-U", "u", "-U", "v"], echo), 2).contains("--env"));
}

#[test]
fn a_libpq_that_cuts_password_files_gets_the_token_in_pgpassword() {
    let directory = program("psql");
    fs::write(directory.path().join("libpq.so.5.13"), "").unwrap();
    symlink("libpq.so.5.13", directory.path().join("libpq.so.5")).unwrap();
    let path = directory.path().join("psql");
    let path = path.to_str().unwrap();
    let output = exec(&[], &[path, "-h", HOST, "-U", "u"]).env("LD_LIBRARY_PATH", directory.path()).output().unwrap();
    let (out, err) = texts(&output);
    assert!(out.starts_with(&format!("{HOST}:5432/?")) && err.contains("libpq before 14"), "{out}{err}");
    let mut several = exec(&["-U", "v"], &[path, "-h", HOST, "-U", "u"]);
    assert!(refused(several.env("LD_LIBRARY_PATH", directory.path()), 2).contains("libpq 14 or later"));
}

#[test]
fn the_preloaded_library_is_found_beside_the_helper_and_needs_no_host() {
    let directory = tempfile::tempdir().unwrap();
    let bin = directory.path().join("bin");
    fs::create_dir(&bin).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_pgiam"), bin.join("pgiam")).unwrap();
    let run = |flags: &[&str]| {
        let mut command = exec(flags, &["sh", "-c", "echo $LD_PRELOAD $PGIAM_REGION ${PGPASSFILE-none}"]);
        let mut copy = Command::new(bin.join("pgiam"));
        copy.args(command.get_args()).env_clear();
        copy.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command = copy;
        command
    };
    let message = refused(&mut run(&["--preload"]), 1);
    assert!(message.contains("libpgiam_preload.so") && message.contains("../lib"), "{message}");
    let lib = directory.path().join("lib");
    fs::create_dir(&lib).unwrap();
    let library = lib.join("libpgiam_preload.so");
    // An empty file is no library; the linker says so and goes on.
    fs::write(&library, "").unwrap();
    let output = run(&["--preload", "--region", "eu-west-3"]).output().unwrap();
    let expected = format!("{} eu-west-3 none", library.canonicalize().unwrap().display());
    assert_eq!(texts(&output).0.trim(), expected);
}

// --- living together -------------------------------------------------------------------------------------------------

#[test]
fn the_commands_status_is_the_wrappers_and_a_signal_that_ends_it_ends_the_wrapper() {
    let status = |script: &str| exec(&["-h", HOST], &["sh", "-c", script]).output().unwrap().status;
    assert_eq!(status("exit 0").code(), Some(0));
    assert_eq!(status("exit 42").code(), Some(42));
    for (name, number) in [("TERM", 15), ("KILL", 9), ("INT", 2), ("SEGV", 11), ("PIPE", 13)] {
        let status = status(&format!("ulimit -c 0; kill -{name} $$"));
        assert_eq!((status.signal(), status.core_dumped()), (Some(number), false), "{name}");
    }
}

#[test]
fn a_command_that_is_missing_or_no_program_gives_the_shells_statuses() {
    let message = refused(&mut exec(&["-h", HOST], &["no-such-command-here"]), 127);
    assert!(message.contains("no-such-command-here"), "{message}");
    refused(&mut exec(&["-h", HOST], &["/etc/passwd"]), 126);
    refused(exec(&["-h", HOST], &["no-such-command-here"]).env("PGIAM", "off"), 127);
}

/// A command that is under way, and what it prints, line by line.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(flags: &[&str], script: &str) -> Self {
        // As from a shell: in a process group whose parent is in another, for an orphaned one could not be stopped, and
        // with no signal ignored, as they are where the tests run in the background.
        let wrapped = exec(flags, &["sh", "-c", script]);
        let mut command = Command::new("env");
        command.env_clear().arg("--default-signal").arg(wrapped.get_program()).args(wrapped.get_args());
        for (name, value) in wrapped.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").unwrap()
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }
}

fn kill(signal: &str, pid: i32) {
    assert!(Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status().unwrap().success());
}

/// Waits until a process is in one of these states, as `/proc/PID/stat` has them; an absent one is in `-`.
fn await_state(pid: i32, states: &str) {
    let began = std::time::Instant::now();
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_else(|_| "0 (x) -".into());
        let state = stat.rsplit_once(") ").unwrap().1.chars().next().unwrap();
        if states.contains(state) {
            return;
        }
        assert!(began.elapsed().as_secs() < 20, "{pid} is {state} and not one of {states}");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

#[test]
fn signals_to_the_wrapper_reach_the_command() {
    let script = "n=0; for s in HUP INT QUIT TERM USR1 USR2 WINCH; do trap \"echo $s; n=\\$((n + 1))\" $s; done; echo ready; \
                  while [ $n -lt 7 ]; do sleep 1 & wait; done; exit 0";
    let mut running = Running::start(&["-h", HOST], script);
    assert_eq!(running.line(), "ready");
    for signal in ["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"] {
        kill(signal, running.pid());
        assert_eq!(running.line(), signal);
    }
    assert!(running.child.wait().unwrap().success());
}

#[test]
fn the_wrapper_stops_and_goes_on_with_the_command() {
    let mut running = Running::start(&["-h", HOST], "echo $$; read line; echo again");
    let command: i32 = running.line().parse().unwrap();
    // As from a terminal's key, in a process group that has a parent elsewhere.
    kill("TSTP", running.pid());
    await_state(command, "T");
    await_state(running.pid(), "T");
    kill("CONT", running.pid());
    await_state(running.pid(), "SR");
    await_state(command, "SR");
    // SIGSTOP at the command alone is not job control.
    kill("STOP", command);
    await_state(command, "T");
    kill("CONT", command);
    writeln!(running.child.stdin.take().unwrap(), "go").unwrap();
    assert_eq!(running.line(), "again");
    assert!(running.child.wait().unwrap().success());
}

#[test]
fn a_wrapper_that_is_killed_takes_the_command_with_it() {
    let mut running = Running::start(&["-h", HOST], "echo $$; exec sleep 60");
    let command: i32 = running.line().parse().unwrap();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    await_state(command, "Z-");
}

#[test]
fn tokens_are_made_anew_under_the_same_path_and_failures_keep_the_old_one() {
    let directory = tempfile::tempdir().unwrap();
    let process = directory.path().join("process");
    let keys = |end: i64| {
        let text = format!(
            "#!/bin/sh\necho '{{\"Version\":1,\"AccessKeyId\":\"AKID'$(cat {0}/n)'\",\"SecretAccessKey\":\"s\",\
             \"Expiration\":\"'$(date -u -d '+{end} seconds' +%FT%TZ)'\"}}'\n",
            directory.path().display()
        );
        fs::write(directory.path().join("new"), text).unwrap();
        fs::set_permissions(directory.path().join("new"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(directory.path().join("new"), &process).unwrap();
    };
    fs::write(directory.path().join("n"), "1").unwrap();
    keys(3600);
    let config = directory.path().join("config");
    fs::write(&config, format!("[default]\ncredential_process = {}\n", process.display())).unwrap();
    let script = "old=$(cat $PGPASSFILE); echo $PGPASSFILE; for i in $(seq 400); do new=$(cat $PGPASSFILE); \
                  [ \"$new\" = \"$old\" ] || { echo fresh $PGPASSFILE; exit; }; sleep 0.05; done";
    let mut command = exec(&["-h", HOST, "-U", "u", "--refresh-every", "1"], &["sh", "-c", script]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_CONFIG_FILE", &config);
    let out = printed(&mut command);
    let (first, second) = out.trim().split_once("\nfresh ").expect("a new token");
    assert_eq!(first, second);

    // The source fails from now on, and the credentials it gave end: the old token stays, and then a warning comes.
    keys(2);
    let script = format!(
        "echo '#!/bin/false' >{1}; while [ ! -e {0}/end ]; do sleep 0.05; done; grep -q X-Amz-Signature $PGPASSFILE",
        directory.path().display(),
        process.display()
    );
    let mut command = exec(&["-h", HOST, "-U", "u", "--refresh-every", "1"], &["sh", "-c", &script]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").env("AWS_CONFIG_FILE", &config);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let began = std::time::Instant::now();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    fs::write(Path::new(directory.path()).join("end"), "").unwrap();
    assert!(line.contains("the token has ended"), "{line}");
    assert!(began.elapsed().as_secs() >= 1, "not before it has");
    assert!(child.wait().unwrap().success(), "the old token stays in its place");
}

// --- a file beside the program ---------------------------------------------------------------------------------------

fn passfile(path: &Path, flags: &[&str]) -> Command {
    let environment = exec(&[], &[]);
    let mut passfile = Command::new(env!("CARGO_BIN_EXE_pgiam"));
    passfile.arg("passfile").arg(path).args(flags).env_clear();
    passfile.envs(environment.get_envs().filter_map(|(name, value)| Some((name, value?))));
    passfile
}

/// Waits for a file that is not as it was.
fn await_change(path: &Path, before: &str) -> String {
    let began = std::time::Instant::now();
    loop {
        if let Ok(now) = fs::read_to_string(path)
            && now != before
        {
            return now;
        }
        assert!(began.elapsed().as_secs() < 20, "{} stays as it was", path.display());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_password_file_on_disk_is_written_once_and_only_its_owner_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pgpass");
    // What somebody keeps by hand is not lost.
    fs::write(&path, "h:1:*:u:mine\n").unwrap();
    let both = ["--once", "-h", HOST, "-U", "u", "-U", "v"];
    assert!(refused(&mut passfile(&path, &both), 2).contains("--force"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "h:1:*:u:mine\n");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(refused(&mut passfile(&link, &both), 2).contains("symbolic link"));
    fs::remove_file(&link).unwrap();
    assert_eq!(printed(passfile(&path, &both).arg("--force")), "");
    assert_eq!(printed(&mut passfile(&path, &both)), "", "its own file it replaces");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# Written by pgiam"), "libpq passes over it");
    assert_eq!(text.lines().skip(1).map(|line| line.split(':').nth(3).unwrap()).collect::<Vec<_>>(), ["u", "v"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    let missing = directory.path().join("no/pgpass");
    assert!(refused(&mut passfile(&missing, &["--once", "-h", HOST, "-U", "u"]), 1).contains("no/pgpass"));
    assert!(refused(&mut passfile(&path, &["--once", "-h", "localhost", "-U", "u"]), 2).contains("PGIAM_HOST"));
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_password_file_on_disk_is_kept_fresh_until_sigterm_and_at_once_on_sighup() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pgpass");
    let mut child = passfile(&path, &["-h", HOST, "-U", "u", "--refresh-every", "1"]).spawn().unwrap();
    let first = await_change(&path, "");
    await_change(&path, &first);
    child.kill().unwrap();
    child.wait().unwrap();
    fs::remove_file(&path).unwrap();

    let mut child = passfile(&path, &["-h", HOST, "-U", "u"]).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let third = await_change(&path, "");
    // A token's text changes with the second it is made in.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    kill("HUP", pid);
    await_change(&path, &third);
    kill("TERM", pid);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(path.exists());
}

#[test]
fn a_command_ends_with_its_status_where_the_host_ignores_sigchld() {
    let wrapped = exec(&["-h", HOST], &["sh", "-c", "exit 3"]);
    let mut command = Command::new("env");
    command.env_clear().arg("--ignore-signal=CHLD").arg(wrapped.get_program()).args(wrapped.get_args());
    command.envs(wrapped.get_envs().filter_map(|(name, value)| Some((name, value?))));
    assert_eq!(command.status().unwrap().code(), Some(3));
}

#[test]
fn a_configuration_that_somebody_keeps_by_hand_is_not_replaced_by_pgbouncers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pgbouncer.ini");
    fs::write(&path, "[pgbouncer]\n").unwrap();
    let pgbouncer = |more: &[&str]| {
        let mut command = passfile(&path, &[]);
        let environment: Vec<_> =
            command.get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        command = Command::new(env!("CARGO_BIN_EXE_pgiam"));
        command.env_clear().envs(environment).arg("pgbouncer").arg(&path).args(more);
        command.args(["--once", "--database", &format!("app=host={HOST} user=u dbname=app sslmode=require")]);
        command
    };
    assert!(refused(&mut pgbouncer(&[]), 2).contains("--force"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "[pgbouncer]\n");
    printed(&mut pgbouncer(&["--force"]));
    printed(&mut pgbouncer(&[]));
    assert!(fs::read_to_string(&path).unwrap().starts_with("; Written by pgiam pgbouncer."));
}
