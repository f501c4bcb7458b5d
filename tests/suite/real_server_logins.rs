//! Logins to the real server: the right token is accepted, and each wrong one is refused for its reason.
//!
//! As with RDS, the server's message is the same for every reason. So each refused token differs from an accepted one in
//! exactly one field, and the PAM module's log must name that field.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use aws_simulator::SimulatorOptions;
use pgiam_core::{Client, Clock, Environment, Settings, TokenRequest};
use serde_json::json;

use crate::support::{ENDPOINT, REGION, Server, clean_command, expect_success, python, server};

pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// An access key that the server knows and no other test uses.
pub(crate) struct Key {
    pub(crate) id: String,
    session_token: Option<String>,
}

impl Key {
    pub(crate) fn new(server: &Server, session_token: Option<&str>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let id = format!("AKIALOGIN{:07}{:08}", NUMBER.fetch_add(1, Ordering::Relaxed), std::process::id());
        let entry = json!({
            "access_key_id": id, "secret_access_key": SECRET, "session_token": session_token, "expiration": null,
            "principal": "arn:aws:iam::123456789012:user/tests",
        });
        let path = server.credentials.join(format!("{id}.json"));
        std::fs::write(path, entry.to_string()).unwrap();
        Self { id, session_token: session_token.map(str::to_owned) }
    }
}

/// The fields of a token; each test changes one.
pub(crate) struct Parts {
    pub(crate) host: String,
    pub(crate) port: i32,
    pub(crate) region: String,
    pub(crate) user: String,
    secret: String,
    session_token: Option<String>,
    pub(crate) seconds_ago: i64,
    service: &'static str,
}

fn now() -> i64 {
    Clock::system().now()
}

impl Parts {
    pub(crate) fn right(server: &Server, key: &Key) -> Self {
        Self {
            host: ENDPOINT.into(),
            port: server.port.into(),
            region: REGION.into(),
            user: "app_user".into(),
            secret: SECRET.into(),
            session_token: key.session_token.clone(),
            seconds_ago: 0,
            service: "rds",
        }
    }

    pub(crate) fn sign(&self, key: &Key) -> String {
        let mut environment = vec![
            ("AWS_ACCESS_KEY_ID", key.id.as_str()),
            ("AWS_SECRET_ACCESS_KEY", &self.secret),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ];
        if let Some(token) = &self.session_token {
            environment.push(("AWS_SESSION_TOKEN", token));
        }
        let mut settings = Settings::default();
        settings.set("service", self.service).unwrap();
        let token = Client::builder()
            .settings(settings)
            .environment(environment.into_iter().collect::<Environment>())
            .clock(Clock::fixed(now() - self.seconds_ago))
            .build()
            .generate_token(&TokenRequest {
                host: &self.host,
                port: self.port,
                region: Some(&self.region),
                user: &self.user,
            })
            .unwrap();
        token.as_str().to_owned()
    }
}

/// The login fails with RDS's message, and exactly this check of the module refused it.
fn refused(server: &Server, key: &Key, token: &str, check: &str) {
    let words = server.log_in("app_user", token).expect_err("the server should refuse this token");
    assert!(words.contains("FATAL:  PAM authentication failed for user \"app_user\""), "{words}");
    assert_eq!(server.decision(&key.id), check);
}

fn refused_with(change: impl FnOnce(&mut Parts), check: &str) {
    let server = server();
    let key = Key::new(server, Some("a-session-token/with+characters="));
    let mut parts = Parts::right(server, &key);
    let token = parts.sign(&key);
    assert_eq!(server.log_in("app_user", &token).as_deref(), Ok("app_user"), "unchanged, the token is accepted");
    change(&mut parts);
    refused(server, &key, &parts.sign(&key), check);
}

#[test]
fn the_right_token_logs_in() {
    let server = server();
    let key = Key::new(server, None);
    assert_eq!(server.log_in("app_user", &Parts::right(server, &key).sign(&key)).as_deref(), Ok("app_user"));
    assert_eq!(server.decision(&key.id), "accepted");
}

#[test]
fn a_token_of_the_instance_role_with_a_session_token_of_2500_bytes_logs_in() {
    let server = server();
    let simulator = server.simulator(SimulatorOptions { session_token_length: 2500, ..Default::default() });
    let environment: Environment = [
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url().as_str()),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ]
    .into_iter()
    .collect();
    let client = Client::builder().environment(environment).build();
    let request = TokenRequest { host: ENDPOINT, port: server.port.into(), region: None, user: "app_user" };
    let token = client.generate_token(&request).unwrap();
    assert!(token.as_str().len() > 2500);
    assert_eq!(server.log_in("app_user", token.as_str()).as_deref(), Ok("app_user"));
}

#[test]
fn a_user_with_an_at_sign_logs_in() {
    let server = server();
    let key = Key::new(server, None);
    let token = Parts { user: "jane@corp.com".into(), ..Parts::right(server, &key) }.sign(&key);
    assert_eq!(server.log_in("jane@corp.com", &token).as_deref(), Ok("jane@corp.com"));
}

#[test]
fn a_token_of_the_aws_cli_logs_in_too() {
    let server = server();
    let key = Key::new(server, None);
    let output = clean_command(python().with_file_name("aws"))
        .args(["rds", "generate-db-auth-token", "--hostname", ENDPOINT, "--username", "app_user", "--region", REGION])
        .args(["--port", &server.port.to_string()])
        .env("AWS_ACCESS_KEY_ID", &key.id)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .output()
        .unwrap();
    let token = expect_success("aws", &output);
    assert_eq!(server.log_in("app_user", token.trim()).as_deref(), Ok("app_user"));
}

#[test]
fn a_token_for_another_user_is_refused() {
    refused_with(|parts| parts.user = "jane@corp.com".into(), "user");
}

#[test]
fn a_token_for_another_host_is_refused() {
    refused_with(|parts| parts.host = ENDPOINT.replace("mypg", "other"), "host");
}

#[test]
fn a_token_for_another_port_is_refused() {
    refused_with(|parts| parts.port -= 1, "port");
}

#[test]
fn a_token_for_another_region_is_refused() {
    // pgiam refuses a region that contradicts the endpoint's name; botocore signs it.
    let server = server();
    let key = Key::new(server, None);
    let right = Parts::right(server, &key).sign(&key);
    assert_eq!(server.log_in("app_user", &right).as_deref(), Ok("app_user"));
    let wrong = reference_token(server, &key, "rds-db", "eu-west-1");
    refused(server, &key, &wrong, "region");
}

#[test]
fn a_token_for_another_service_is_refused() {
    let server = server();
    let key = Key::new(server, None);
    let right = reference_token(server, &key, "rds-db", REGION);
    assert_eq!(server.log_in("app_user", &right).as_deref(), Ok("app_user"), "botocore's own signer is accepted");
    refused(server, &key, &reference_token(server, &key, "rds", REGION), "service");
}

/// A token that pgiam would not make, by botocore's signer.
fn reference_token(server: &Server, key: &Key, service: &str, region: &str) -> String {
    let script = "
import sys
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
key, secret, service, region, host, port = sys.argv[1:]
request = AWSRequest('GET', f'https://{host}:{port}/', params={'Action': 'connect', 'DBUser': 'app_user'})
SigV4QueryAuth(Credentials(key, secret), service, region, expires=900).add_auth(request)
print(request.prepare().url.removeprefix('https://'))
";
    let output = Command::new(python())
        .args(["-c", script, &key.id, SECRET, service, region, ENDPOINT, &server.port.to_string()])
        .output()
        .unwrap();
    expect_success("botocore", &output).trim().to_owned()
}

#[test]
fn a_token_signed_with_another_secret_is_refused() {
    refused_with(|parts| parts.secret = SECRET.replace('w', "x"), "signature");
}

#[test]
fn a_token_of_an_unknown_access_key_is_refused() {
    let server = server();
    let key = Key::new(server, None);
    let unknown = Key { id: key.id.replace("AKIALOGIN", "AKIANOONE"), session_token: None };
    refused(server, &unknown, &Parts::right(server, &key).sign(&unknown), "access_key");
}

#[test]
fn a_token_with_another_session_token_is_refused() {
    refused_with(|parts| parts.session_token = Some("another-session-token".into()), "session_token");
}

#[test]
fn a_token_with_one_changed_byte_is_refused() {
    let server = server();
    let key = Key::new(server, None);
    let mut token = Parts::right(server, &key).sign(&key);
    assert_eq!(server.log_in("app_user", &token).as_deref(), Ok("app_user"));
    let last = token.pop().unwrap();
    token.push(if last == '0' { '1' } else { '0' });
    refused(server, &key, &token, "signature");
}

#[test]
fn a_token_16_minutes_old_is_refused() {
    refused_with(|parts| parts.seconds_ago = 16 * 60, "expired");
}

#[test]
fn a_token_10_minutes_in_the_future_is_refused() {
    refused_with(|parts| parts.seconds_ago = -10 * 60, "not_yet_valid");
}

#[test]
fn a_role_without_rds_iam_is_refused_with_the_message_for_passwords() {
    let server = server();
    let key = Key::new(server, None);
    let token = Parts { user: "not_granted".into(), ..Parts::right(server, &key) }.sign(&key);
    let words = server.log_in("not_granted", &token).unwrap_err();
    assert!(words.contains("password authentication failed for user \"not_granted\""), "{words}");
}

#[test]
fn a_connection_without_tls_is_refused() {
    let server = server();
    let key = Key::new(server, None);
    let token = Parts::right(server, &key).sign(&key);
    let conninfo = server.conninfo("app_user").replace("verify-full", "disable");
    let output =
        clean_command("psql").args(["-XAtwc", "select 1", &conninfo]).env("PGPASSWORD", token).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("no encryption"));
}
