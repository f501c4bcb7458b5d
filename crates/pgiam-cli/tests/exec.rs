//! `pgiam exec`, `passfile` and `pgbouncer` as a user runs them, with static keys and no network.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

const HOST: &str = "mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com";

/// `PROGRAM ARGUMENTS` in an environment with keys and nothing else, started by `env SIGNALS`.
fn start(signals: &str, program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("env");
    command.args([signals, program]).args(arguments).env_clear().envs([
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/nonexistent"),
        ("PGSYSCONFDIR", "/nonexistent"),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "hushhush"),
        ("PGUSER", "app_user"),
    ]);
    command
}

const PGIAM: &str = env!("CARGO_BIN_EXE_pgiam");

/// `pgiam ARGUMENTS`, with no signal ignored: the tests may run in the background of a script, where SIGINT and SIGQUIT
/// are ignored, and that is inherited.
fn pgiam(arguments: &[&str]) -> Command {
    start("--default-signal", PGIAM, arguments)
}

/// `pgiam exec FLAGS -- COMMAND`.
fn exec(flags: &[&str], command: &[&str]) -> Command {
    pgiam(&[&["exec"], flags, &["--"], command].concat())
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

/// The first four fields of each line of the command's password file.
fn lines(command: &mut Command) -> Vec<String> {
    let field = |line: &str| line.splitn(5, ':').take(4).collect::<Vec<_>>().join(":");
    printed(command).lines().map(field).collect()
}

const CAT: &[&str] = &["sh", "-c", "cat \"$PGPASSFILE\""];

#[test]
fn any_command_gets_a_line_for_each_host_and_user_that_is_given() {
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
fn the_token_is_in_no_argument_no_variable_and_no_file_on_disk() {
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
fn the_lines_of_the_users_own_password_file_follow_for_other_servers() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "elsewhere:5432:*:u:p\n").unwrap();
    let mut command = exec(&["-h", HOST, "-U", "u"], CAT);
    command.env("PGPASSFILE", file.path());
    assert_eq!(lines(&mut command), [format!("{HOST}:5432:*:u"), "elsewhere:5432:*:u".to_owned()]);
}

#[test]
fn a_host_without_tokens_and_an_unsafe_connection_are_refused_before_the_command_runs() {
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
fn the_settings_say_which_hosts_get_tokens_and_what_is_signed() {
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

/// A directory with a program of this name that prints its password file, then its password and arguments, one per line.
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
fn the_arguments_of_a_postgresql_program_say_where_it_connects_and_it_gets_no_keyword_of_ours() {
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
    assert_eq!(users, ["other", "u"], "flags are in addition to the arguments");
    assert!(refused(&mut exec(&[], &[path, "-h", HOST, "-W"]), 2).contains("-W"));
    assert!(refused(&mut exec(&[], &[path, "-h", HOST, "--nonsense"]), 2).contains("--nonsense"));
}

#[test]
fn with_env_the_token_is_in_pgpassword() {
    let echo = &["sh", "-c", "echo ${PGPASSFILE-none} $PGPASSWORD"];
    let out = printed(exec(&["--env", "-h", HOST, "-U", "u"], echo).env("PGPASSWORD", "rds-iam"));
    assert!(out.starts_with(&format!("none {HOST}:5432/?Action=connect&DBUser=u&")), "{out}");
    assert!(refused(&mut exec(&["--env", "-h", HOST, "-U", "u", "-U", "v"], echo), 2).contains("--env"));
}

#[test]
fn a_libpq_that_truncates_password_files_gets_the_token_in_pgpassword() {
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

/// An installation with a preload library that is an empty file: the dynamic linker reports it and continues.
fn installed_with_empty_preload_library() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    for name in ["bin", "lib"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    let pgiam = directory.path().join("bin/pgiam");
    fs::copy(env!("CARGO_BIN_EXE_pgiam"), &pgiam).unwrap();
    fs::write(directory.path().join("lib/libpgiam_preload.so"), "").unwrap();
    let pgiam = pgiam.to_str().unwrap().to_owned();
    (directory, pgiam)
}

#[test]
fn with_preload_the_library_of_the_installation_is_loaded_and_no_password_file_or_sslmode_is_set() {
    let (directory, pgiam) = installed_with_empty_preload_library();
    let library = directory.path().join("lib/libpgiam_preload.so");
    let script = "echo $LD_PRELOAD $PGIAM_REGION ${PGPASSFILE-none} ${PGSSLMODE-none} ${PGPASSWORD-none}";
    let run = |flags: &[&str]| {
        let arguments = [&["exec", "--preload"], flags, &["--", "sh", "-c", script]].concat();
        start("--default-signal", &pgiam, &arguments)
    };
    let expected = |region: &str| format!("{} {region}none none none", library.canonicalize().unwrap().display());
    let output = run(&["--region", "eu-west-3"]).output().unwrap();
    assert_eq!(texts(&output).0.trim(), expected("eu-west-3 "));
    let output = run(&[]).env("PGHOST", HOST).output().unwrap();
    assert_eq!(texts(&output).0.trim(), expected(""), "nor is there a fallback for a host that is known");
    for flags in [&["-h", HOST][..], &["-U", "u"], &["--connection", "host=h"], &["--role-arn", "x"]] {
        assert!(refused(&mut run(flags), 2).contains("has no effect with --preload"), "{flags:?}");
    }
    assert!(refused(run(&[]).env("PGHOST", HOST).env("PGPASSWORD", "hush"), 2).contains("PGPASSWORD"));
    fs::remove_file(&library).unwrap();
    let message = refused(&mut run(&[]), 1);
    assert!(message.contains("libpgiam_preload.so") && message.contains("../lib"), "{message}");
}

#[test]
fn the_password_rds_iam_is_never_sent_to_a_host_that_gets_no_token() {
    let (_directory, installed) = installed_with_empty_preload_library();
    let conninfo = "host=db.example.com user=u password=rds-iam";
    for (arguments, variables, why) in [
        (&["--", "psql", "-h", "db.example.com"][..], &[("PGPASSWORD", "rds-iam")][..], "PGIAM_HOSTS"),
        (&["--", "psql", conninfo], &[], "PGIAM_HOSTS"),
        (&["--", "psql", conninfo], &[("PGIAM", "off")], "PGIAM=off"),
        (&["-h", HOST, "--", "env"], &[("PGIAM", "off"), ("PGPASSWORD", "rds-iam")], "PGIAM=off"),
        (&["--preload", "--", "psql", conninfo], &[], "PGIAM_HOSTS"),
        (&["--preload", "--", "psql", "-h", "localhost"], &[("PGPASSWORD", "rds-iam")], "PGIAM_HOSTS"),
    ] {
        let arguments = [&["exec"], arguments].concat();
        let mut command = start("--default-signal", &installed, &arguments);
        let message = refused(command.envs(variables.iter().copied()), 2);
        assert!(message.contains(why), "{arguments:?}: {message}");
    }
}

#[test]
fn a_program_after_nohup_or_timeout_is_read_too() {
    let directory = program("psql");
    let path = directory.path().join("psql");
    let path = path.to_str().unwrap();
    let own = format!("host=localhost user=u iam_host={HOST}");
    for wrapper in [&["nohup"][..], &["nice", "-n", "1", "timeout", "-k1", "1m"], &["stdbuf", "-oL"]] {
        let command = [wrapper, &[path, &own, "-c", "select 1"]].concat();
        let output = exec(&[], &command).stdin(Stdio::null()).output().unwrap();
        let lines: Vec<&str> = texts(&output).0.lines().collect();
        assert!(lines[0].starts_with("localhost:5432:*:u:mydb."), "{wrapper:?}: {output:?}");
        assert_eq!(lines[1..], ["unset", "host='localhost' user='u'", "-c", "select 1"], "{wrapper:?}");
    }
}

#[test]
fn for_a_command_whose_arguments_are_not_read_the_message_says_what_to_write() {
    for (command, parts) in [
        (&["env", "A=b", "psql", "-h", HOST][..], &["arguments of env", "env A=b pgiam exec -- psql"][..]),
        (&["setsid", "psql", "-h", HOST], &["arguments of setsid", "setsid pgiam exec -- psql", "-h HOST"]),
        (&["nohup", "setsid", "psql"], &["arguments of setsid", "nohup setsid pgiam exec -- psql", "-- nohup setsid"]),
        (&["sh", "-c", "psql"], &["arguments of sh", "pgiam exec -h HOST -U USER -- sh", "PGHOST"]),
    ] {
        let message = refused(&mut exec(&[], command), 2);
        assert!(message.contains("no host") && parts.iter().all(|part| message.contains(part)), "{message}");
        assert_eq!(message.lines().count(), 1);
    }
    for (misspelt, meant) in [("pqsl", "psql"), ("pgdump", "pg_dump"), ("pg-restore", "pg_restore")] {
        let message = refused(&mut exec(&[], &[misspelt, "-h", HOST]), 127);
        assert_eq!(message, format!("pgiam: {misspelt}: command not found; did you mean {meant}?\n"));
    }
}

#[test]
fn a_guessed_user_and_a_custom_endpoint_are_warned_of() {
    let custom = "reporting.cluster-custom-c9akciq32rpa.eu-central-1.rds.amazonaws.com";
    let output = exec(&["-h", custom], &["true"]).env_remove("PGUSER").output().unwrap();
    let (_, err) = texts(&output);
    let lines: Vec<&str> = err.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("no database user") && lines[1].contains("custom endpoint"), "{err}");
}

// --- the command and pgiam ----------------------------------------------------------------------------------------------

#[test]
fn exec_exits_with_the_status_of_the_command_or_by_the_same_signal() {
    let status = |script: &str| exec(&["-h", HOST], &["sh", "-c", script]).output().unwrap().status;
    assert_eq!(status("exit 0").code(), Some(0));
    assert_eq!(status("exit 42").code(), Some(42));
    for (name, number) in [("TERM", 15), ("KILL", 9), ("INT", 2), ("SEGV", 11), ("PIPE", 13)] {
        let status = status(&format!("ulimit -c 0; kill -{name} $$"));
        assert_eq!((status.signal(), status.core_dumped()), (Some(number), false), "{name}");
    }
}

#[test]
fn a_command_that_is_not_found_or_not_executable_gives_the_shells_statuses() {
    let message = refused(&mut exec(&["-h", HOST], &["no-such-command-here"]), 127);
    assert!(message.contains("no-such-command-here"), "{message}");
    refused(&mut exec(&["-h", HOST], &["/etc/passwd"]), 126);
    refused(exec(&["-h", HOST], &["no-such-command-here"]).env("PGIAM", "off"), 127);
}

/// A running command and the lines that it prints.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Running {
    fn start(flags: &[&str], script: &str) -> Self {
        // In a process group of its own, as from a shell: an orphaned process group could not be stopped.
        let mut command = exec(flags, &["sh", "-c", script]);
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
fn signals_to_pgiam_reach_the_command() {
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
fn pgiam_stops_and_continues_together_with_the_command() {
    let mut running = Running::start(&["-h", HOST], "echo $$; read line; echo again");
    let command: i32 = running.line().parse().unwrap();
    // As for a key of a terminal.
    kill("TSTP", running.pid());
    await_state(command, "T");
    await_state(running.pid(), "T");
    kill("CONT", running.pid());
    await_state(running.pid(), "SR");
    await_state(command, "SR");
    // SIGSTOP to the command alone is not job control.
    kill("STOP", command);
    await_state(command, "T");
    kill("CONT", command);
    writeln!(running.child.stdin.take().unwrap(), "go").unwrap();
    assert_eq!(running.line(), "again");
    assert!(running.child.wait().unwrap().success());
}

#[test]
fn if_pgiam_is_killed_the_command_ends() {
    let mut running = Running::start(&["-h", HOST], "echo $$; exec sleep 60");
    let command: i32 = running.line().parse().unwrap();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    await_state(command, "Z-");
}

#[test]
fn tokens_are_renewed_at_the_same_path_and_after_a_failure_the_old_one_stays() {
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

    // From now on the source fails, and its credentials expire: the old token stays, and there is a warning.
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
    assert!(line.contains("the token has expired and could not be renewed"), "{line}");
    assert!(began.elapsed().as_secs() >= 1, "not before it has");
    assert!(child.wait().unwrap().success(), "the old token stays in its place");
}

// --- files on disk -----------------------------------------------------------------------------------------------------

fn passfile(path: &Path, flags: &[&str]) -> Command {
    pgiam(&[&["passfile", path.to_str().unwrap()], flags].concat())
}

/// Waits until a file has other contents than before.
fn await_change(path: &Path, before: &str) -> String {
    let began = std::time::Instant::now();
    loop {
        if let Ok(now) = fs::read_to_string(path)
            && now != before
        {
            return now;
        }
        assert!(began.elapsed().as_secs() < 20, "{} does not change", path.display());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn a_password_file_on_disk_is_written_once_and_only_its_owner_reads_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pgpass");
    // A file that somebody keeps by hand is not lost.
    fs::write(&path, "h:1:*:u:mine\n").unwrap();
    let both = ["--once", "-h", HOST, "-U", "u", "-U", "v"];
    assert!(refused(&mut passfile(&path, &both), 2).contains("--force"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "h:1:*:u:mine\n");
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(refused(&mut passfile(&link, &both), 2).contains("symbolic link"));
    assert!(refused(passfile(&link, &both).arg("--force"), 2).contains("symbolic link"));
    fs::remove_file(&link).unwrap();
    assert_eq!(printed(passfile(&path, &both).arg("--force")), "");
    assert_eq!(printed(&mut passfile(&path, &both)), "", "its own file is replaced");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("# Written by pgiam"), "libpq ignores it");
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
    // A token contains the second in which it was made.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    kill("HUP", pid);
    await_change(&path, &third);
    kill("TERM", pid);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(path.exists());
}

/// What a service manager receives, one message after the other.
fn message(manager: &UnixDatagram) -> String {
    let mut bytes = [0; 1024];
    let length = manager.recv(&mut bytes).expect("a message in time");
    text_of(&bytes[..length])
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_service_manager_and_a_probe_see_when_tokens_are_fresh_when_they_are_not_renewed_and_that_nothing_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    let (path, health, log) = (place("pgpass"), place("health"), place("log"));
    let manager = UnixDatagram::bind(place("notify")).unwrap();
    manager.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
    let mut command = passfile(&path, &["-h", HOST, "-U", "u", "--refresh-every", "1", "--health-file"]);
    command.arg(&health).env("NOTIFY_SOCKET", place("notify")).env("WATCHDOG_USEC", "200000");
    command.env("PGIAM_LOG", "info").env("PGIAM_LOG_FILE", &log);
    let mut child = command.spawn().unwrap();

    assert!(message(&manager).starts_with("READY=1\nSTATUS=Tokens are valid until 2"));
    assert!(path.exists());
    let probe = "test \"$(tail -n 1 \"$0\")\" -gt \"$(date +%s)\"";
    assert!(Command::new("sh").args(["-c", probe]).arg(&health).status().unwrap().success());
    assert_eq!(message(&manager), "WATCHDOG=1");

    // From now on no token can be put in its place.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let failed = std::iter::repeat_with(|| message(&manager)).find(|message| message.contains("Not renewed")).unwrap();
    assert!(failed.starts_with("STATUS=Tokens are valid until 2") && failed.contains("is a directory"), "{failed}");
    kill("TERM", i32::try_from(child.id()).unwrap());
    assert!(std::iter::repeat_with(|| message(&manager)).any(|message| message == "STOPPING=1"));
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let log = fs::read_to_string(log).unwrap();
    let wrote = format!("info: wrote {}: tokens for u at {HOST}:5432, valid until 2", path.display());
    for part in [wrote.as_str(), "key id AKIDEXAMPLE", "warn: no new tokens for", "is not renewed any more"] {
        assert!(log.contains(part), "{part} in {log}");
    }
    assert!(!log.contains("X-Amz") && !log.contains("hush"), "{log}");
}

#[test]
fn exec_logs_the_tokens_that_it_puts_into_memory() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = exec(&["-h", HOST], &["cat", "/dev/null"]);
    printed(command.env("PGIAM_LOG", "info").env("PGIAM_LOG_FILE", &log));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains(&format!("wrote the password file in memory: tokens for app_user at {HOST}:5432")), "{log}");
    assert!(log.contains("credentials from environment: AWS_ACCESS_KEY_ID, key id AKIDEXAMPLE"), "{log}");
}

#[test]
fn devices_fifos_and_directories_are_never_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (path, what) in [
        (Path::new("/dev/null"), "is a device"),
        (Path::new("/dev/stdout"), "is a symbolic link"),
        (directory.path(), "is a directory"),
        (&fifo, "is a FIFO"),
    ] {
        let before = fs::symlink_metadata(path).unwrap().file_type();
        let message = refused(&mut passfile(path, &["--once", "--force", "-h", HOST]), 2);
        assert!(message.contains(what), "{message}");
        let database = format!("app=host={HOST} user=u dbname=app");
        let pooler = ["pgbouncer", path.to_str().unwrap(), "--once", "--force", "--database", &database];
        assert!(refused(&mut pgiam(&pooler), 2).contains(what));
        assert_eq!(fs::symlink_metadata(path).unwrap().file_type(), before);
    }
}

#[test]
fn a_database_of_a_service_has_its_name_and_address_in_pgbouncers_file() {
    let directory = tempfile::tempdir().unwrap();
    let (path, services) = (directory.path().join("pgiam.ini"), directory.path().join("services"));
    fs::write(&services, format!("[orders]\nhost={HOST}\nhostaddr=10.1.2.3\ndbname=orders\nuser=u\nsslmode=require\n"))
        .unwrap();
    let run = |database: &str| {
        let mut command = pgiam(&["pgbouncer", path.to_str().unwrap(), "--once", "--database", database]);
        printed(command.env("PGSERVICEFILE", &services).env("PGDATABASE", "other"));
        fs::read_to_string(&path).unwrap()
    };
    let text = run("app=service=orders");
    assert!(text.contains("app = host='10.1.2.3' port=5432 dbname='orders' user='u' password='"), "{text}");
    let text = run(&format!("app=host={HOST} user=u sslmode=require"));
    assert!(text.contains(&format!("app = host='{HOST}' port=5432 dbname='app'")), "{text}");
}

#[test]
fn only_a_process_that_is_pgbouncer_gets_sighup() {
    let directory = tempfile::tempdir().unwrap();
    let (path, pid_file) = (directory.path().join("pgiam.ini"), directory.path().join("pid"));
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(&pid_file, format!("{}\n", other.id())).unwrap();
    let database = format!("app=host={HOST} user=u dbname=app sslmode=require");
    let mut command = pgiam(&["pgbouncer", path.to_str().unwrap(), "--once", "--database", &database, "--pid-file"]);
    let output = command.arg(&pid_file).output().unwrap();
    assert!(output.status.success());
    assert!(texts(&output).1.contains(&format!("process {} in", other.id())), "{output:?}");
    assert!(other.try_wait().unwrap().is_none(), "it still runs");
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn exec_reports_the_status_of_the_command_also_if_sigchld_is_ignored_at_the_start() {
    let mut command = start("--ignore-signal=CHLD", PGIAM, &["exec", "-h", HOST, "--", "sh", "-c", "exit 3"]);
    assert_eq!(command.status().unwrap().code(), Some(3));
}

#[test]
fn signals_that_are_ignored_at_the_start_stay_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pgpass");
    let arguments = ["passfile", path.to_str().unwrap(), "-h", HOST];
    let mut child = start("--ignore-signal=INT", PGIAM, &arguments).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    await_change(&path, "");
    kill("INT", pid);
    // SIGTERM is read after SIGINT, which has the lower number.
    kill("TERM", pid);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    // In the command of exec too, which then ends by itself.
    let script = "kill -INT $PPID; kill -INT $$; exit 5";
    let mut command = start("--ignore-signal=INT", PGIAM, &["exec", "-h", HOST, "--", "sh", "-c", script]);
    assert_eq!(command.status().unwrap().code(), Some(5));
}

#[test]
fn a_command_that_fails_without_opening_its_password_file_is_explained() {
    let run = |script: &str| texts(&exec(&["-h", HOST], &["sh", "-c", script]).output().unwrap()).1.to_owned();
    let message = run("exit 7");
    assert!(message.contains("status 7") && message.contains("never opened") && message.contains("--env"), "{message}");
    assert_eq!(message.lines().count(), 1);
    assert_eq!(run("exit 0"), "");
    assert_eq!(run("cat $PGPASSFILE >/dev/null; exit 7"), "");
}

#[test]
fn a_process_that_is_left_running_without_its_password_file_is_named() {
    let script = "sleep 60 >/dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done; echo $!";
    let output = exec(&["-h", HOST], &["sh", "-c", script]).output().unwrap();
    let (out, err) = texts(&output);
    kill("KILL", out.trim().parse().unwrap());
    assert!(err.contains(&format!("process {} (sleep)", out.trim())) && err.contains("pgiam passfile"), "{err}");
    assert_eq!(err.lines().count(), 1);
}

#[test]
fn a_configuration_that_is_kept_by_hand_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pgbouncer.ini");
    fs::write(&path, "[pgbouncer]\n").unwrap();
    let pgbouncer = |more: &[&str]| {
        let database = format!("app=host={HOST} user=u dbname=app sslmode=require");
        pgiam(&[&["pgbouncer", path.to_str().unwrap()], more, &["--once", "--database", &database]].concat())
    };
    assert!(refused(&mut pgbouncer(&[]), 2).contains("--force"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "[pgbouncer]\n");
    printed(&mut pgbouncer(&["--force"]));
    printed(&mut pgbouncer(&[]));
    assert!(fs::read_to_string(&path).unwrap().starts_with("; Written by pgiam pgbouncer."));
}
