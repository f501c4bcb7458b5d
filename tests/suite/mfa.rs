//! `mfa_serial`: the program asks for the code at a terminal, with a real pseudo-terminal; the library does not.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use aws_simulator::{Credentials, Route, Simulator, SimulatorOptions};
use tempfile::TempDir;

use crate::support::{ENDPOINT, REGION, clean_command, product, server, temporary_directory, texts};

const DEVICE: &str = "arn:aws:iam::123456789012:mfa/jane.doe";
const CODE: &str = "071829";

/// A machine with a profile whose role requires the code of an MFA device.
struct Machine {
    home: TempDir,
    simulator: Simulator,
}

impl Machine {
    fn new() -> Self {
        let home = temporary_directory();
        let simulator = server().simulator(SimulatorOptions { region: REGION.into(), ..Default::default() });
        let user = Credentials::of_user("jane.doe");
        simulator.register_credentials(&user);
        simulator.set_mfa(DEVICE, CODE);
        fs::create_dir(home.path().join(".aws")).unwrap();
        let config = format!(
            "[profile prod admin]\nrole_arn = arn:aws:iam::123456789012:role/admin\nsource_profile = base\n\
             mfa_serial = {DEVICE}\n[profile base]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            user.access_key_id, user.secret_access_key
        );
        fs::write(home.path().join(".aws/config"), config.replace("profile prod admin", "profile \"prod admin\""))
            .unwrap();
        Self { home, simulator }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = clean_command(program);
        command
            .env_remove("AWS_CONFIG_FILE")
            .env_remove("AWS_SHARED_CREDENTIALS_FILE")
            .env("HOME", self.home.path())
            .env("SHELL", "/bin/sh")
            .env("AWS_PROFILE", "prod admin")
            .env("AWS_REGION", REGION)
            .env("AWS_ENDPOINT_URL_STS", self.simulator.url())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("PGHOST", ENDPOINT)
            .env("PGHOSTADDR", "127.0.0.1")
            .env("PGPORT", server().port.to_string())
            .env("PGUSER", "app_user")
            .env("PGDATABASE", "app");
        command
    }

    /// Runs `pgiam` on a terminal at which somebody types. Returns whether it succeeded, and what the terminal shows.
    fn on_a_terminal(&self, arguments: &str, typed: &str) -> (bool, String) {
        let line = format!("{} {arguments}", product("pgiam").display());
        let mut process = self
            .command("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("script runs");
        process.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        (output.status.success(), texts(&output).0)
    }

    fn without_terminal(&self, arguments: &[&str]) -> Output {
        let pgiam = product("pgiam");
        let mut command = self.command("setsid");
        command.arg("--wait").arg(pgiam).args(arguments).stdin(Stdio::null()).output().expect("setsid runs")
    }

    fn roles_assumed(&self) -> usize {
        self.simulator.requests_for(Route::StsAssumeRole).len()
    }
}

#[test]
fn each_command_asks_once_for_the_code_of_the_device_at_a_terminal() {
    for (arguments, shown) in [
        ("token", format!("{ENDPOINT}:{}/?Action=connect", server().port)),
        ("credentials --verify", "STS identity       arn:aws:sts::123456789012:assumed-role/admin/".to_owned()),
        ("exec -- psql -P pager=off -XAtc 'select 17 + 4, current_user'", "21|app_user".to_owned()),
    ] {
        let machine = Machine::new();
        let (succeeded, out) = machine.on_a_terminal(arguments, &format!("{CODE}\n"));
        assert!(succeeded && out.contains(&shown), "{arguments}: {out}");
        assert_eq!(out.matches("MFA code of ").count(), 1, "{arguments}: {out}");
        assert!(out.contains(&format!("MFA code of {DEVICE}: ")), "{arguments}: {out}");
        let assumed = machine.simulator.requests_for(Route::StsAssumeRole);
        let sent: Vec<_> = assumed.iter().map(|request| request.form_parameter("TokenCode")).collect();
        assert_eq!(sent, [Some(CODE.to_owned())], "{arguments}");
    }
}

#[test]
fn a_wrong_code_is_an_error_in_the_words_of_sts() {
    let machine = Machine::new();
    let (succeeded, out) = machine.on_a_terminal("token", "999999\n");
    assert!(
        !succeeded && out.contains("MultiFactorAuthentication failed with invalid MFA one time pass code"),
        "{out}"
    );
    assert!(out.contains("each code works once"), "{out}");
    assert_eq!(machine.roles_assumed(), 1);
}

#[test]
fn what_is_not_a_code_is_not_sent() {
    for typed in ["\n", "12345\n", "1234567\n", "jane's password\n", "\u{4}"] {
        let machine = Machine::new();
        let (succeeded, out) = machine.on_a_terminal("token", typed);
        assert!(!succeeded && out.contains("the MFA code that was entered is not six digits"), "{typed:?}: {out}");
        assert_eq!(machine.roles_assumed(), 0);
    }
}

#[test]
fn without_a_terminal_the_error_says_what_to_do_before_anything_is_asked_of_aws() {
    let machine = Machine::new();
    let output = machine.without_terminal(&["token"]);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    for words in ["profile \"prod admin\" has mfa_serial", "in the foreground of a terminal", "credential_process"] {
        assert!(err.contains(words), "{err}");
    }
    assert!(machine.simulator.requests().is_empty());
}
