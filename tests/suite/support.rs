//! Shared by the tests: built products, a real PostgreSQL, the simulator, a Python with the AWS CLI's signer.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use aws_simulator::{Simulator, SimulatorOptions};

/// The RDS endpoint that the test server answers for, and its region.
pub(crate) const ENDPOINT: &str = "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com";
pub(crate) const REGION: &str = "eu-central-1";

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn temporary_directory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Runs a program that must succeed and returns its standard output.
pub(crate) fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
    last: Option<impl AsRef<OsStr>>,
) -> String {
    let mut command = Command::new(&program);
    command.args(arguments);
    // Cargo sets these for a test. A nested build would take them for changes and recompile ring and its dependents.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"].iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    if let Some(last) = last {
        command.arg(last);
    }
    let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", program.as_ref().display()));
    expect_success(&format!("{command:?}"), &output)
}

pub(crate) fn expect_success(what: &str, output: &Output) -> String {
    let (out, err) = texts(output);
    assert!(output.status.success(), "{what}: {}\n{out}{err}", output.status);
    out
}

/// Standard output and standard error as text.
pub(crate) fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The directory of the built products. They are rebuilt once, so that no test uses an outdated one.
pub(crate) fn products() -> &'static Path {
    static PRODUCTS: OnceLock<PathBuf> = OnceLock::new();
    PRODUCTS.get_or_init(|| {
        run(
            env!("CARGO"),
            ["build", "--workspace", "--quiet", "--locked", "--manifest-path"],
            Some(root().join("Cargo.toml")),
        );
        let test = std::env::current_exe().expect("the test's path");
        test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST").to_owned()
    })
}

pub(crate) fn product(name: &str) -> PathBuf {
    let path = products().join(name);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// A Python with botocore, the AWS CLI, moto and psycopg, in a virtual environment that is made once.
pub(crate) fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| PathBuf::from(run(root().join("tools/python-environment"), ["check"], None::<&str>).trim()))
}

/// A PostgreSQL with TLS whose PAM module checks tokens as RDS does. It stops when its standard input is closed, also if
/// the test is killed.
pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
    pub(crate) socket: PathBuf,
    pub(crate) ca: String,
    pub(crate) log: PathBuf,
    pub(crate) credentials: PathBuf,
}

/// The server that all tests share. Each test has its own access key.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&[], &[]))
}

/// Seconds after which [`forgetful_server`] refuses a token; more than a login takes on a busy computer.
pub(crate) const SHORT_LIFETIME: u64 = 3;

/// A server that refuses tokens after three seconds, to test what happens after a token has expired.
pub(crate) fn forgetful_server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&["--max-token-age", &SHORT_LIFETIME.to_string()], &[]))
}

/// Waits until a token made now is too old for [`forgetful_server`].
pub(crate) fn outlive_a_token() {
    std::thread::sleep(std::time::Duration::from_millis(SHORT_LIFETIME * 1000 + 1050));
}

impl Server {
    pub(crate) fn start(more: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut process = clean_command(root().join("tools/server/start-postgres"))
            .arg("--module")
            .arg(product("libpam_rds_iam.so"))
            .args(["--endpoint", ENDPOINT, "--region", REGION])
            .args(more)
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tools/server/start-postgres runs");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        let value = |name: &str| {
            line.split_whitespace()
                .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
                .unwrap_or_else(|| panic!("start-postgres printed {line:?} without {name}"))
                .to_owned()
        };
        Self {
            port: value("port").parse().expect("a port"),
            socket: value("socket").into(),
            ca: value("ca"),
            log: value("log").into(),
            credentials: value("credentials").into(),
            process,
        }
    }

    /// The output of psql as the superuser.
    #[allow(dead_code, reason = "for the deep tests")]
    pub(crate) fn as_superuser(&self, database: &str, sql: &str) -> String {
        expect_success(sql, &self.query(database, sql)).trim().to_owned()
    }

    #[allow(dead_code, reason = "for the deep tests")]
    fn query(&self, database: &str, sql: &str) -> Output {
        clean_command("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database, "-p", &self.port.to_string()])
            .arg("-h")
            .arg(&self.socket)
            .args(["-c", sql])
            .output()
            .expect("psql runs")
    }

    /// Restarts the server, which ends all sessions, and waits until it takes connections again.
    #[allow(dead_code, reason = "for the deep tests")]
    pub(crate) fn restart(&mut self) {
        let started = "select pg_postmaster_start_time()";
        let before = self.as_superuser("postgres", started);
        let commands = self.process.stdin.as_mut().expect("piped");
        commands.write_all(b"restart\n").expect("start-postgres reads its commands");
        let is_new = |output: &Output| output.status.success() && texts(output).0.trim() != before;
        while !is_new(&self.query("postgres", started)) {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// A simulator whose instance role this server accepts.
    pub(crate) fn simulator(&self, options: SimulatorOptions) -> Simulator {
        Simulator::start(SimulatorOptions { credentials_dir: Some(self.credentials.clone()), ..options })
            .expect("the simulator starts")
    }

    /// A conninfo for the server under its endpoint's name, verifying its certificate.
    pub(crate) fn conninfo(&self, user: &str) -> String {
        format!(
            "host={ENDPOINT} hostaddr=127.0.0.1 port={} user='{user}' dbname=app sslmode=verify-full sslrootcert={} \
             connect_timeout=20",
            self.port, self.ca
        )
    }

    /// Logs in with psql. Returns the session's user, or the server's message.
    pub(crate) fn log_in(&self, user: &str, password: &str) -> Result<String, String> {
        let output = clean_command("psql")
            .args(["-XAtw", "-c", "select current_user", &self.conninfo(user)])
            .env("PGPASSWORD", password)
            .output()
            .expect("psql runs");
        let (out, err) = texts(&output);
        if output.status.success() { Ok(out.trim().to_owned()) } else { Err(err) }
    }

    /// The module's last decision for an access key: `accepted`, or the name of the check that refused.
    pub(crate) fn decision(&self, access_key_id: &str) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines()
            .rev()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find(|entry| entry["access_key_id"] == access_key_id)
            .map_or_else(
                || "no decision".to_owned(),
                |entry| entry["check"].as_str().or(entry["result"].as_str()).unwrap_or_default().to_owned(),
            )
    }
}

/// A command without the AWS, PostgreSQL and proxy variables of the tests' environment.
pub(crate) fn clean_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("AWS_") || text.starts_with("PG") || text.to_ascii_lowercase().ends_with("_proxy") {
            command.env_remove(&name);
        }
    }
    // And without this user's profile files.
    command.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
    command
}
