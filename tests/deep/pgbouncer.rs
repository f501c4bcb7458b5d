//! `pgiam pgbouncer`: the distribution's pooler logs in with fresh tokens under load, over many of their lifetimes.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_simulator::SimulatorOptions;

use crate::support::{Server, clean_command, expect_success, product, run, temporary_directory, texts};

/// Ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// PgBouncer does not run as root; from root it runs as the server does.
fn unprivileged(program: &Path) -> Command {
    if run("id", ["-u"], None::<&str>).trim() != "0" {
        return clean_command(program);
    }
    let mut command = clean_command("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed().as_secs() < 20, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn pgbouncer_logs_in_under_load_across_many_token_lifetimes_and_a_restart() {
    let server = Server::start(&["--max-token-age", "3"], &[]);
    let simulator = server.simulator(SimulatorOptions { session_token_length: 600, ..Default::default() });
    let directory = temporary_directory();
    let place = |name: &str| directory.path().join(name);
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::copy(product("pgiam"), place("pgiam")).unwrap();
    fs::copy(&server.ca, place("ca.pem")).unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (included, pid_file, log) = (place("pgiam.ini"), place("pid"), place("log"));
    let settings = format!(
        "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
         pidfile = {}\nlogfile = {}\npool_mode = transaction\nserver_lifetime = 1\nserver_login_retry = 1\n%include {}\n",
        pid_file.display(),
        log.display(),
        included.display()
    );
    fs::write(place("pgbouncer.ini"), settings).unwrap();
    fs::set_permissions(place("pgbouncer.ini"), fs::Permissions::from_mode(0o644)).unwrap();

    let conninfo = format!(
        "app=host={} hostaddr=127.0.0.1 port={} user=app_user dbname=app sslmode=verify-ca sslrootcert={}",
        crate::support::ENDPOINT,
        server.port,
        place("ca.pem").display()
    );
    let mut pgiam = unprivileged(&place("pgiam"));
    pgiam.args(["pgbouncer", included.to_str().unwrap(), "--pid-file", pid_file.to_str().unwrap()]);
    pgiam.args(["--refresh-every", "1", "--database", &conninfo]);
    let mut keeper = Running(pgiam.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url()).spawn().unwrap());
    await_that("the file is written", || included.exists());

    let start = || {
        let mut pooler = unprivileged(Path::new("/usr/sbin/pgbouncer"));
        pooler.args(["-q", place("pgbouncer.ini").to_str().unwrap()]).stderr(Stdio::null());
        let pooler = Running(pooler.spawn().unwrap());
        await_that("the pooler listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        pooler
    };
    let script = place("one.sql");
    fs::write(&script, "select 1;\n").unwrap();
    let load = |seconds: &str| {
        let bin = run("pg_config", ["--bindir"], None::<&str>);
        let beside = Path::new(bin.trim()).join("pgbench");
        let mut pgbench = clean_command(if beside.exists() { beside } else { "pgbench".into() });
        pgbench.args(["-n", "-C", "-c", "4", "-R", "200", "-T", seconds, "-f", script.to_str().unwrap()]);
        pgbench.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "any", "app"]).env("PGSSLMODE", "disable");
        let output = pgbench.output().unwrap();
        let out = expect_success("pgbench", &output);
        assert!(!out.contains("aborted") && !texts(&output).1.contains("error"), "{out}{}", texts(&output).1);
    };
    let pooler = start();
    load("16");
    drop(pooler);
    // The pooler's pidfile now names nobody; new tokens are written all the same.
    let before = fs::metadata(&included).unwrap().modified().unwrap();
    await_that("the file is kept fresh", || fs::metadata(&included).unwrap().modified().unwrap() != before);
    let _ = fs::remove_file(&pid_file);
    let _pooler = start();
    load("4");

    assert!(keeper.0.try_wait().unwrap().is_none(), "it still runs");
    let decisions = fs::read_to_string(&server.log).unwrap();
    let accepted = decisions.lines().filter(|line| line.contains("\"accepted\"")).count();
    assert_eq!(accepted, decisions.lines().count(), "no login was refused");
    assert!(accepted > 15, "{accepted} logins over the lifetimes");
}
