//! Unmodified programs, run with the preload library on a simulated EC2 instance.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use aws_simulator::{Simulator, SimulatorOptions};

use crate::support::{ENDPOINT, Server, clean_command, outlive_a_token, product, root, run, temporary_directory};

/// A simulated EC2 instance on which programs run.
pub(crate) struct Client {
    pub(crate) simulator: Simulator,
    server: &'static Server,
}

impl Client {
    /// An instance whose role the server accepts.
    pub(crate) fn new(server: &'static Server) -> Self {
        Self { simulator: server.simulator(SimulatorOptions::default()), server }
    }

    /// A program on it, with the library.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command_without_library(program);
        command.env("LD_PRELOAD", product("libpgiam_preload.so"));
        command
    }

    /// A program on it, without the library.
    pub(crate) fn command_without_library(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = clean_command(program);
        command
            .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.simulator.url())
            .env("HOME", "/nonexistent")
            .env("PGHOSTADDR", "127.0.0.1")
            .env("PGPORT", self.server.port.to_string())
            .env("PGSSLROOTCERT", &self.server.ca);
        command
    }

    /// A connection without a password.
    pub(crate) fn conninfo(&self) -> String {
        format!("host={ENDPOINT} user=app_user dbname=app sslmode=verify-full")
    }
}

/// `tests/c/preload.c`, linked to the system's libpq only.
pub(crate) fn c_program() -> &'static Path {
    static PROGRAM: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = PROGRAM.get_or_init(|| {
        let directory = temporary_directory();
        let program = directory.path().join("preload");
        compile(&program, &[]);
        (directory, program)
    });
    path
}

/// Compiles `tests/c/preload.c` with more flags.
pub(crate) fn compile(program: &Path, more: &[&str]) {
    let flags = run("pkg-config", ["--cflags", "--libs"], Some("libpq"));
    let mut arguments: Vec<String> =
        ["-std=gnu99", "-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"].map(str::to_owned).into();
    arguments.extend(more.iter().map(|flag| (*flag).to_owned()));
    arguments.push(root().join("tests/c/preload.c").display().to_string());
    arguments.extend(flags.split_whitespace().map(str::to_owned));
    arguments.push("-o".to_owned());
    run("cc", arguments, Some(program));
}

/// Runs a program that runs longer than its tokens are valid: it prints a line for each login, and continues when it
/// reads one. Returns its standard output and standard error.
pub(crate) fn outlives_its_tokens(command: &mut Command, times: usize) -> (String, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut input = child.stdin.take().expect("piped");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut printed = String::new();
    for _ in 0..times {
        output.read_line(&mut printed).expect("text");
        outlive_a_token();
        input.write_all(b"\n").ok();
    }
    drop(input);
    output.read_to_string(&mut printed).expect("text");
    let rest = child.wait_with_output().expect("it exits");
    (printed, String::from_utf8_lossy(&rest.stderr).into_owned())
}
