//! One login to the real server for each source of credentials, through the core, and tests with moto.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use aws_simulator::{Credentials, KeyFormat, Route, Simulator, SimulatorOptions};
use pgiam_core::{Client, Environment, Settings, TokenRequest};
use tempfile::TempDir;

use crate::moto::Moto;
use crate::support::{ENDPOINT, REGION, run, server, temporary_directory};

/// A home directory, an environment, and a simulator whose credentials the server knows.
struct Machine {
    home: TempDir,
    simulator: Simulator,
    variables: Vec<(String, String)>,
}

impl Machine {
    fn new() -> Self {
        Self::with(SimulatorOptions::default())
    }

    fn with(options: SimulatorOptions) -> Self {
        let home = temporary_directory();
        for cache in [".aws/sso/cache", ".aws/login/cache"] {
            fs::create_dir_all(home.path().join(cache)).unwrap();
        }
        let simulator = server().simulator(SimulatorOptions { region: REGION.into(), ..options });
        let url = simulator.url();
        let mut machine = Self { home, simulator, variables: Vec::new() };
        let home = machine.home.path().to_str().unwrap().to_owned();
        machine.set("HOME", &home);
        machine.set("AWS_REGION", REGION);
        for service in ["STS", "SSO", "SSO_OIDC", "SIGNIN"] {
            machine.set(&format!("AWS_ENDPOINT_URL_{service}"), &url);
        }
        // No instance metadata service, unless the test sets one.
        machine.set("AWS_EC2_METADATA_DISABLED", "true");
        machine
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.into(), value.into()));
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Keys of a user that both the simulator and the server know.
    fn user(&self) -> Credentials {
        let credentials = Credentials::of_user("tests");
        self.simulator.register_credentials(&credentials);
        credentials
    }

    fn logs_in(&self) {
        self.logs_in_with(&[]);
    }

    fn logs_in_with(&self, settings: &[(&str, &str)]) {
        let mut all = Settings::default();
        for (keyword, value) in settings {
            all.set(keyword, value).unwrap();
        }
        let environment: Environment = self.variables.iter().cloned().collect();
        let client = Client::builder().settings(all).environment(environment).build();
        let request = TokenRequest { host: ENDPOINT, port: server().port.into(), region: None, user: "app_user" };
        let token = client.generate_token(&request).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(server().log_in("app_user", token.as_str()).as_deref(), Ok("app_user"));
    }
}

#[test]
fn keys_in_the_environment_log_in() {
    let mut machine = Machine::new();
    let user = machine.user();
    machine.set("AWS_ACCESS_KEY_ID", &user.access_key_id);
    machine.set("AWS_SECRET_ACCESS_KEY", &user.secret_access_key);
    machine.logs_in();
}

#[test]
fn keys_in_the_credentials_file_log_in() {
    let machine = Machine::new();
    let user = machine.user();
    machine.file(
        ".aws/credentials",
        &format!(
            "[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            user.access_key_id, user.secret_access_key
        ),
    );
    machine.logs_in();
}

fn two_profiles(machine: &Machine, role: &str) {
    let user = machine.user();
    machine.file(
        ".aws/credentials",
        &format!(
            "[base]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            user.access_key_id, user.secret_access_key
        ),
    );
    machine.file(".aws/config", role);
}

#[test]
fn a_role_assumed_through_a_profile_logs_in() {
    let mut machine = Machine::with(SimulatorOptions { external_id: Some("trusted".into()), ..Default::default() });
    two_profiles(
        &machine,
        "[profile app]\nrole_arn = arn:aws:iam::123456789012:role/app\nsource_profile = base\nexternal_id = trusted\n",
    );
    machine.set("AWS_PROFILE", "app");
    machine.logs_in();
    assert_eq!(machine.simulator.requests_for(Route::StsAssumeRole).len(), 1);
}

#[test]
fn a_role_given_to_the_client_logs_in() {
    let machine = Machine::new();
    two_profiles(&machine, "");
    machine.logs_in_with(&[("profile", "base"), ("role_arn", "arn:aws:iam::123456789012:role/app")]);
}

#[test]
fn a_web_identity_logs_in() {
    let mut machine = Machine::new();
    let file = machine.file("token", "simulated-web-identity-token");
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    machine.set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app");
    machine.logs_in();
}

#[test]
fn an_sso_session_logs_in() {
    let mut machine = Machine::new();
    machine.file(
        ".aws/config",
        "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Developer\n\
         [sso-session corp]\nsso_region = eu-central-1\nsso_start_url = https://corp.awsapps.com/start\n",
    );
    let name = run("sh", ["-c", "printf corp | sha1sum | cut -d' ' -f1"], None::<&str>);
    machine.file(
        &format!(".aws/sso/cache/{}.json", name.trim()),
        r#"{"accessToken": "simulated-sso-access-token", "expiresAt": "2999-01-01T00:00:00Z"}"#,
    );
    machine.set("AWS_PROFILE", "dev");
    machine.logs_in();
}

#[test]
fn a_login_session_logs_in_with_cached_and_with_refreshed_credentials() {
    const SESSION: &str = "arn:aws:iam::123456789012:user/jane.doe";
    for (expires_at, refreshes) in [(None, 0), (Some("2020-01-01T00:00:00Z"), 1)] {
        let mut machine = Machine::new();
        machine.file(".aws/config", &format!("[profile dev]\nlogin_session = {SESSION}\n"));
        let mut document = machine.simulator.log_in(SESSION, KeyFormat::Sec1);
        if let Some(expires_at) = expires_at {
            document["accessToken"]["expiresAt"] = expires_at.into();
        }
        let name = run("sh", ["-c", &format!("printf {SESSION} | sha256sum | cut -d' ' -f1")], None::<&str>);
        machine.file(&format!(".aws/login/cache/{}.json", name.trim()), &document.to_string());
        machine.set("AWS_PROFILE", "dev");
        machine.logs_in();
        assert_eq!(machine.simulator.requests_for(Route::SignInToken).len(), refreshes);
    }
}

#[test]
fn a_credential_process_logs_in() {
    let mut machine = Machine::new();
    let user = machine.user();
    let script = machine.file(
        "print credentials",
        &format!(
            "#!/bin/sh\nprintf '{{\"Version\": 1, \"AccessKeyId\": \"%s\", \"SecretAccessKey\": \"%s\"}}' '{}' '{}'\n",
            user.access_key_id, user.secret_access_key
        ),
    );
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    machine.file(".aws/config", &format!("[profile tool]\ncredential_process = \"{script}\" --quietly\n"));
    machine.set("AWS_PROFILE", "tool");
    machine.logs_in();
}

#[test]
fn the_container_endpoint_logs_in() {
    let mut machine =
        Machine::with(SimulatorOptions { container_token: Some("Bearer pod".into()), ..Default::default() });
    let token = machine.file("pod-token", "Bearer pod");
    let url = format!("{}/get-credentials", machine.simulator.url());
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token);
    machine.logs_in();
}

#[test]
fn the_instance_role_logs_in() {
    let mut machine = Machine::new();
    let url = machine.simulator.url();
    machine.variables.retain(|(name, _)| name != "AWS_EC2_METADATA_DISABLED");
    machine.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url);
    machine.logs_in();
    assert_eq!(machine.simulator.requests().len(), 3, "session token, role, credentials");
}

fn token_with(variables: &[(&str, &str)]) -> String {
    let none = [("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")];
    let environment: Environment = variables.iter().copied().chain(none).collect();
    let client = Client::builder().environment(environment).build();
    let request = TokenRequest { host: ENDPOINT, port: 5432, region: None, user: "app_user" };
    client.generate_token(&request).unwrap_or_else(|error| panic!("{error}")).as_str().to_owned()
}

#[test]
fn credentials_of_the_metadata_service_and_sts_of_moto_sign_tokens() {
    let moto = Moto::start();
    let token = token_with(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", moto.url())]);
    assert!(token.starts_with(&format!("{ENDPOINT}:5432/?Action=connect&DBUser=app_user")), "{token}");
    assert!(token.contains("X-Amz-Security-Token="));

    let directory = temporary_directory();
    let file = directory.path().join("token");
    fs::write(&file, "eyJhbGciOiJub25lIn0.e30.").unwrap();
    let token = token_with(&[
        ("AWS_ENDPOINT_URL_STS", moto.url()),
        ("AWS_REGION", REGION),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", file.to_str().unwrap()),
        ("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app"),
    ]);
    assert!(token.contains("X-Amz-Security-Token="), "{token}");
}
