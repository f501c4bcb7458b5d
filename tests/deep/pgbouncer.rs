//! `pgiam pgbouncer`: the PgBouncer of the distribution logs in with fresh tokens under load, for many token lifetimes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_simulator::{Simulator, SimulatorOptions};

use crate::support::{Server, clean_command, product, run, temporary_directory, texts};

/// A process that is killed when the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// PgBouncer does not run as root. If the tests run as root, it runs as the user postgres.
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

/// The directory of a PgBouncer, its database and its port.
struct Pooler {
    directory: tempfile::TempDir,
    port: u16,
    database: String,
}

impl Pooler {
    fn new(server: &Server) -> Self {
        let directory = temporary_directory();
        let place = |name: &str| directory.path().join(name);
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        fs::copy(product("pgiam"), place("pgiam")).unwrap();
        fs::copy(&server.ca, place("ca.pem")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = format!(
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             admin_users = pgbouncer\n\
             pidfile = {}\nlogfile = {}\npool_mode = transaction\nserver_lifetime = 1\nserver_login_retry = 1\n\
             %include {}\n",
            place("pid").display(),
            place("log").display(),
            place("pgiam.ini").display()
        );
        fs::write(place("pgbouncer.ini"), settings).unwrap();
        fs::set_permissions(place("pgbouncer.ini"), fs::Permissions::from_mode(0o644)).unwrap();
        let database = format!(
            "app=host={} hostaddr=127.0.0.1 port={} user=app_user dbname=app sslmode=verify-ca sslrootcert={}",
            crate::support::ENDPOINT,
            server.port,
            place("ca.pem").display()
        );
        Self { port, database, directory }
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `pgiam pgbouncer` for it.
    fn pgiam(&self, simulator: &Simulator, arguments: &[&str]) -> Command {
        let mut pgiam = unprivileged(&self.place("pgiam"));
        pgiam.arg("pgbouncer").arg(self.place("pgiam.ini")).args(arguments).args(["--database", &self.database]);
        pgiam.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url());
        pgiam
    }

    fn start(&self) -> Running {
        let mut pooler = unprivileged(Path::new("/usr/sbin/pgbouncer"));
        pooler.arg("-q").arg(self.place("pgbouncer.ini")).stderr(Stdio::null());
        let pooler = Running(pooler.spawn().unwrap());
        await_that("the pooler listens", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
        pooler
    }

    /// Connects for every transaction for some seconds, without failures. A RELOAD with a new password also aborts a login of
    /// PgBouncer that is in progress, and a client that connects at this moment, when the pool is empty, gets an error: that
    /// is PgBouncer's behavior, in about one of a hundred reloads, and the load starts again. [`accepted_logins`] checks in
    /// the server's log that no login was refused.
    fn load(&self, server: &Server, seconds: &str) {
        let script = self.place("one.sql");
        fs::write(&script, "select 1;\n").unwrap();
        let bin = run("pg_config", ["--bindir"], None::<&str>);
        let path = Path::new(bin.trim()).join("pgbench");
        let program = if path.exists() { path } else { "pgbench".into() };
        for attempt in 1.. {
            let mut pgbench = clean_command(&program);
            pgbench.args(["-n", "-C", "-c", "4", "-R", "200", "-T", seconds, "-f", script.to_str().unwrap()]);
            pgbench.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "any", "app"]);
            let output = pgbench.env("PGSSLMODE", "disable").output().unwrap();
            let (out, err) = texts(&output);
            if output.status.success() && !out.contains("aborted") && !err.contains("error") {
                return;
            }
            let cut_off_by_reload = err.contains("server login has been failing") && !refused_logins(server);
            let text = |log: &Path| fs::read_to_string(log).unwrap_or_default();
            assert!(
                cut_off_by_reload && attempt < 3,
                "{out}{err}\nthe server:\n{}\nthe pooler:\n{}",
                text(&server.log),
                text(&self.place("log"))
            );
        }
    }
}

fn refused_logins(server: &Server) -> bool {
    fs::read_to_string(&server.log).unwrap().lines().any(|line| !line.contains("\"accepted\""))
}

/// The number of logins, none of which was refused.
fn accepted_logins(server: &Server) -> usize {
    let decisions = fs::read_to_string(&server.log).unwrap();
    let accepted = decisions.lines().filter(|line| line.contains("\"accepted\"")).count();
    assert_eq!(accepted, decisions.lines().count(), "no login was refused");
    accepted
}

#[test]
fn pgbouncer_logs_in_under_load_across_many_token_lifetimes_and_a_restart() {
    let server = Server::start(&["--max-token-age", "3"], &[]);
    let simulator = server.simulator(SimulatorOptions { session_token_length: 600, ..Default::default() });
    let pooler = Pooler::new(&server);
    let (included, pid_file) = (pooler.place("pgiam.ini"), pooler.place("pid"));
    let mut pgiam = pooler.pgiam(&simulator, &["--refresh-every", "1", "--pid-file", pid_file.to_str().unwrap()]);
    let mut keeper = Running(pgiam.spawn().unwrap());
    await_that("the file is written", || included.exists());

    let running = pooler.start();
    pooler.load(&server, "16");
    drop(running);
    // PgBouncer's pidfile no longer names a running process; new tokens are still written.
    let before = fs::metadata(&included).unwrap().modified().unwrap();
    await_that("the file is refreshed", || fs::metadata(&included).unwrap().modified().unwrap() != before);
    let _ = fs::remove_file(&pid_file);
    let _running = pooler.start();
    pooler.load(&server, "4");

    assert!(keeper.0.try_wait().unwrap().is_none(), "pgiam still runs");
    let accepted = accepted_logins(&server);
    assert!(accepted > 15, "{accepted} logins over the lifetimes");
}

#[test]
fn pgbouncer_is_reloaded_over_its_admin_console_and_does_not_have_to_run() {
    let server = Server::start(&["--max-token-age", "3"], &[]);
    let simulator = server.simulator(SimulatorOptions::default());
    let pooler = Pooler::new(&server);
    let admin = format!("host=127.0.0.1 port={} user=pgbouncer dbname=pgbouncer", pooler.port);
    let mut pgiam = pooler.pgiam(&simulator, &["--refresh-every", "1", "--admin", &admin]);
    let mut keeper = Running(pgiam.stderr(Stdio::piped()).spawn().unwrap());
    await_that("the file is written", || pooler.place("pgiam.ini").exists());
    let mut line = String::new();
    BufReader::new(keeper.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("pgiam: warning: PgBouncer was not reloaded: ") && line.contains("refused"), "{line}");

    let _running = pooler.start();
    pooler.load(&server, "10");
    assert!(keeper.0.try_wait().unwrap().is_none(), "pgiam still runs");
    let accepted = accepted_logins(&server);
    assert!(accepted > 6, "{accepted} logins over the lifetimes");
    let log = fs::read_to_string(pooler.place("log")).unwrap();
    assert!(log.matches("RELOAD command issued").count() > 6, "{log}");
}

#[test]
fn a_token_that_pgbouncer_truncates_causes_a_warning() {
    let server = Server::start(&[], &[]);
    let simulator = server.simulator(SimulatorOptions { session_token_length: 2500, ..Default::default() });
    let pooler = Pooler::new(&server);
    let (_, err) = texts(&pooler.pgiam(&simulator, &["--once"]).output().unwrap());
    assert!(err.starts_with("pgiam: warning: the token of database app has ") && err.contains("2047"), "{err}");

    let version = run("/usr/sbin/pgbouncer", ["--version"], None::<&str>);
    let minor = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or(0);
    if (17..26).contains(&minor) {
        let _running = pooler.start();
        let mut psql = clean_command("psql");
        psql.args(["-XAtwc", "select 1", "-h", "127.0.0.1", "-p", &pooler.port.to_string(), "-U", "any", "app"]);
        assert!(!psql.env("PGCONNECT_TIMEOUT", "10").output().unwrap().status.success());
        assert!(fs::read_to_string(&server.log).unwrap().contains("refused"), "the server received a truncated token");
    }
}
