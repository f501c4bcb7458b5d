//! `pgiam exec` with a real server: PostgreSQL's programs get a fresh token at every connect, and at a terminal they
//! behave as without it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use aws_simulator::{Simulator, SimulatorOptions};

use crate::support::{
    ENDPOINT, clean_command, expect_success, product, python, run, server, temporary_directory, texts,
};

/// `pgiam exec FLAGS -- COMMAND` on an EC2 instance. The endpoint is this computer.
fn exec(simulator: &Simulator, flags: &[&str], words: &[&str]) -> Command {
    let mut command = clean_command(product("pgiam"));
    command.arg("exec").args(flags).arg("--").args(words);
    command
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url())
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGPORT", server().port.to_string())
        .env("PGHOST", ENDPOINT)
        .env("PGUSER", "app_user")
        .env("PGDATABASE", "app")
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", &server().ca);
    command
}

fn succeeds(flags: &[&str], words: &[&str]) -> String {
    let simulator = server().simulator(SimulatorOptions::default());
    expect_success(&format!("{words:?}"), &exec(&simulator, flags, words).output().unwrap())
}

#[test]
fn psql_reads_the_password_file_at_every_connect() {
    let directory = temporary_directory();
    let script = directory.path().join("script.sql");
    fs::write(&script, "select 'first ' || current_user;\n\\c\nselect 'again ' || current_user;\n\\c - jane@corp.com\nselect current_user;\n").unwrap();
    let out = succeeds(&["-U", "jane@corp.com"], &["psql", "-XAtqf", script.to_str().unwrap()]);
    assert_eq!(
        out.lines().filter(|line| !line.contains("connected")).collect::<Vec<_>>(),
        ["first app_user", "again app_user", "jane@corp.com"]
    );
}

#[test]
fn behind_a_tunnel_the_token_is_for_the_named_endpoint() {
    let conninfo = format!("host=localhost hostaddr=127.0.0.1 iam_host={ENDPOINT} sslmode=verify-full");
    let out = succeeds(&[], &["psql", "-XAt", "-d", &conninfo, "-c", "select current_user"]);
    assert_eq!(out.trim(), "app_user");
}

#[test]
fn pg_dump_and_pg_restore_work_in_parallel() {
    let directory = temporary_directory();
    let dump = directory.path().join("dump");
    let dump = dump.to_str().unwrap();
    let sql = "create schema dumped; create table dumped.a as select generate_series(1, 1000) as n; \
               create table dumped.b as table dumped.a; create index on dumped.b (n)";
    succeeds(&[], &["psql", "-Xqc", sql]);
    succeeds(&[], &["pg_dump", "-Fd", "-j", "3", "-n", "dumped", "-f", dump]);
    succeeds(&[], &["psql", "-Xqc", "set client_min_messages = error; drop schema dumped cascade"]);
    succeeds(&[], &["pg_restore", "-j", "3", "-d", "app", dump]);
    assert_eq!(succeeds(&[], &["psql", "-XAtc", "select count(*) from dumped.a natural join dumped.b"]).trim(), "1000");
    succeeds(&[], &["psql", "-Xqc", "set client_min_messages = error; drop schema dumped cascade"]);
}

/// A program of the server's bin directory, such as pgbench, which is not always on PATH.
fn server_program(name: &str) -> String {
    let directory = run("pg_config", ["--bindir"], None::<&str>);
    let path = Path::new(directory.trim()).join(name);
    if path.exists() { path.to_str().unwrap().to_owned() } else { name.to_owned() }
}

#[test]
fn pgbench_connects_for_every_transaction() {
    let directory = temporary_directory();
    let script = directory.path().join("one.sql");
    fs::write(&script, "select 1;\n").unwrap();
    let pgbench = server_program("pgbench");
    let out = succeeds(&[], &[&pgbench, "-n", "-C", "-c", "4", "-j", "2", "-t", "5", "-f", script.to_str().unwrap()]);
    assert!(out.contains("number of transactions actually processed: 20/20"), "{out}");
}

#[test]
fn tokens_that_expire_within_seconds_are_renewed_in_time() {
    let server = crate::support::Server::start(&["--max-token-age", "2"], &[]);
    let simulator = server.simulator(SimulatorOptions::default());
    let port = server.port.to_string();
    let login = "psql -XAtqc 'select 1' >/dev/null || exit 1";
    let script = format!("for i in 1 2 3 4 5 6 7 8 9 10; do {login}; sleep 0.4; done");
    let with = |flags: &[&str]| -> Output {
        let mut command = exec(&simulator, flags, &["sh", "-c", &script]);
        command.env("PGPORT", &port).env("PGSSLROOTCERT", &server.ca).output().unwrap()
    };
    expect_success("logins over two lifetimes", &with(&["--refresh-every", "1"]));
    let (_, err) = texts(&with(&[]));
    assert!(err.contains("PAM authentication failed"), "without renewal the logins fail: {err}");
}

/// `pgiam` and the preload library in one directory, as `make install` installs them into bin and lib.
fn pgiam_with_preload() -> &'static Path {
    static DIRECTORY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, pgiam) = DIRECTORY.get_or_init(|| {
        let directory = temporary_directory();
        for name in ["pgiam", "libpgiam_preload.so"] {
            fs::copy(product(name), directory.path().join(name)).unwrap();
        }
        let pgiam = directory.path().join("pgiam");
        (directory, pgiam)
    });
    pgiam
}

fn exec_with_preload(simulator: &Simulator, words: &[&str]) -> Command {
    let mut command = exec(simulator, &["--preload"], words);
    let mut installed = clean_command(pgiam_with_preload());
    installed.args(command.get_args());
    installed.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    std::mem::swap(&mut command, &mut installed);
    command
}

#[test]
fn with_preload_every_connection_gets_a_token_and_other_servers_need_no_tls() {
    let simulator = server().simulator(SimulatorOptions::default());
    let local = format!("host={} user=postgres sslmode=disable", server().socket.display());
    let script = format!(
        "psql -XAtqc 'select current_user' && PGHOSTADDR= psql -XAtqd '{local} dbname=postgres' -c 'select current_user'"
    );
    let output = exec_with_preload(&simulator, &["sh", "-c", &script]).output().unwrap();
    assert_eq!(expect_success("exec --preload", &output), "app_user\npostgres\n");
}

/// A server without TLS that requests the password in clear. Returns everything that one client sends to it.
fn received_by_a_server_without_tls(listener: &TcpListener) -> Vec<u8> {
    let (mut client, _) = listener.accept().unwrap();
    let mut received = Vec::new();
    let message = |client: &mut TcpStream, received: &mut Vec<u8>, prefix: usize| {
        let mut head = vec![0; prefix + 4];
        client.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes(head[prefix..].try_into().unwrap()) as usize;
        let mut body = vec![0; length - 4];
        client.read_exact(&mut body).ok()?;
        received.extend([head, body.clone()].concat());
        Some(body)
    };
    while let Some(body) = message(&mut client, &mut received, 0) {
        match u32::from_be_bytes(body[..4].try_into().unwrap()) {
            // SSLRequest and GSSENCRequest: neither is supported.
            80_877_103 | 80_877_104 => client.write_all(b"N").unwrap(),
            // The startup message; AuthenticationCleartextPassword follows, and then the password.
            _ => {
                client.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap();
                message(&mut client, &mut received, 1);
                break;
            }
        }
    }
    received
}

#[test]
fn with_preload_no_token_ever_reaches_a_server_without_tls() {
    let simulator = server().simulator(SimulatorOptions::default());
    for (words, expected) in [
        ("psql -Xwc 'select 1'", "does not support SSL"),
        ("psql -Xwd 'sslmode=prefer' -c 'select 1'", "sslmode=prefer"),
        ("psql -Xwd 'sslmode=disable' -c 'select 1'", "sslmode=disable"),
        ("PGSSLMODE=allow psql -Xwc 'select 1'", "sslmode=allow"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut command = exec_with_preload(&simulator, &["sh", "-c", words]);
        command.env("PGPORT", port).env_remove("PGSSLMODE").env_remove("PGSSLROOTCERT");
        let (received, output) = std::thread::scope(|scope| {
            let server = scope.spawn(|| received_by_a_server_without_tls(&listener));
            let output = command.output().unwrap();
            (server.join().unwrap(), output)
        });
        let (_, err) = texts(&output);
        assert!(!output.status.success() && err.contains(expected), "{words}: {err}");
        let received = String::from_utf8_lossy(&received).into_owned();
        assert!(!received.is_empty() && !received.contains("X-Amz"), "{words}: {received}");
    }
}

#[test]
fn at_a_terminal_ctrl_c_cancels_the_query_and_ctrl_z_stops_the_job() {
    let simulator = server().simulator(SimulatorOptions::default());
    let psql = exec(&simulator, &[], &["psql", "-X", "-P", "pager=off"]);
    let mut driver = clean_command(python());
    driver.args(["-c", TERMINAL]).arg(psql.get_program()).args(psql.get_args());
    driver.envs(psql.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = driver.env("TERM", "dumb").output().unwrap();
    let out = expect_success("psql at a terminal", &output);
    assert!(out.contains("all as at any prompt"), "{out}");
}

/// A shell with job control at a new terminal, and the typed input. The tests may run in the background of a script,
/// where SIGINT and SIGQUIT are ignored, which is inherited.
const TERMINAL: &str = r#"
import os, pty, select, signal, sys, time, shlex
pid, terminal = pty.fork()
if pid == 0:
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    os.environ['PS1'] = 'shell> '
    os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])
seen = ''
def until(words):
    global seen
    end = time.time() + 20
    while words not in seen:
        left = end - time.time()
        if left <= 0 or not select.select([terminal], [], [], left)[0]:
            sys.exit(f'no {words!r} in {seen!r}')
        seen += os.read(terminal, 4096).decode(errors='replace')
    seen = seen[seen.index(words) + len(words):]
def type(text): os.write(terminal, text.encode())
until('shell> ')
type(shlex.join(sys.argv[1:]) + '; echo "status=$?"\n')
until('app=> ')
type("select 'logged in as ' || current_user;\n"); until('logged in as app_user'); until('app=> ')
type('select pg_sleep(60);\n'); time.sleep(0.5)
type('\x03'); until('canceling statement due to user request'); until('app=> ')
type('\\c\n'); until('You are now connected'); until('app=> ')
type('\x1a'); until('Stopped'); until('shell> ')
type('fg\n'); type("select 'back ' || 'again';\n"); until('back again'); until('app=> ')
type('\\! stty -a | grep -c echo\n'); until('app=> ')
type('\\q\n'); until('shell> ')
type('exit\n')
print('all as at any prompt')
"#;
