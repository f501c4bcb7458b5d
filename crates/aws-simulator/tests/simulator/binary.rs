use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::{Value, json};

use crate::support::*;

/// The process. It exits when its standard input is closed.
struct Process {
    child: Child,
    input: Option<ChildStdin>,
    line: String,
}

impl Process {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_aws-simulator"))
            .arg("--stop-at-end-of-input")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the process");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
        Self { input: child.stdin.take(), child, line }
    }

    fn request(&self, method: &str, target: &str, body: &str) -> Answer {
        let port = self.line.trim_end().strip_prefix("ready url=http://127.0.0.1:").expect("a line with the port");
        let mut client = Client::connect_to(port.parse().expect("a port"));
        client.send(method, target, &[], body).expect("send");
        client.receive().expect("an answer")
    }

    fn control(&self, method: &str, path: &str, body: Value) -> Answer {
        self.request(method, &format!("/simulator{path}"), &body.to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        let status = self.child.wait().expect("the process exits");
        if !std::thread::panicking() {
            assert!(status.success());
        }
    }
}

#[test]
fn it_prints_its_url_and_exits_at_the_end_of_its_input() {
    let process = Process::start(&[]);
    assert!(process.line.ends_with('\n'));
    let health = process.control("GET", "/health", Value::Null).json();
    assert_eq!(health["status"], "ok");
}

#[test]
fn faults_and_log_are_available_over_http() {
    let process = Process::start(&[]);
    let status = || process.request("GET", "/get-credentials", "").status;
    let fault = json!({"route": "container", "fault": {"status": 503}, "times": 1});
    assert_eq!(process.control("POST", "/faults", fault).status, 200);
    assert_eq!([status(), status()], [503, 200]);
    let forever = json!({"route": "any", "fault": "empty"});
    process.control("POST", "/faults", forever);
    assert_eq!(process.request("GET", "/get-credentials", "").body, b"");
    process.control("DELETE", "/faults", Value::Null);
    assert_ne!(process.request("GET", "/get-credentials", "").body, b"");

    let log = process.control("GET", "/requests", Value::Null).json();
    let statuses: Vec<&Value> = log.as_array().expect("a list").iter().map(|entry| &entry["status"]).collect();
    assert_eq!(statuses, [503, 200, 200, 200]);
    assert_eq!(log[0]["fault"], json!({"status": 503}));
    assert_eq!(log[0]["route"], "container");
    process.control("DELETE", "/requests", Value::Null);
    let log = process.control("GET", "/requests", Value::Null).json();
    assert_eq!(log, json!([]));
}

#[test]
fn an_invalid_control_request_is_refused_with_a_reason() {
    let process = Process::start(&[]);
    for body in [
        json!({"route": "nowhere", "fault": "empty"}),
        json!({"route": "any", "fault": "empty", "time": 1}),
        json!({"route": "any", "fault": "refuse"}),
    ] {
        let answer = process.control("POST", "/faults", body);
        assert_eq!(answer.status, 400);
        assert!(answer.json()["error"].is_string());
    }
    assert_eq!(process.control("GET", "/faults", Value::Null).status, 404);
}

#[test]
fn rotation_expiration_and_clock_are_available_over_http() {
    let process = Process::start(&["--lifetime=3600", "--session-token-length", "50"]);
    let get = || process.request("GET", "/get-credentials", "").json();
    let first = get();
    assert_eq!(first["Token"].as_str().map(str::len), Some(50));
    process.control("POST", "/rotate", Value::Null);
    let second = get();
    assert_ne!(first["AccessKeyId"], second["AccessKeyId"]);
    process.control("POST", "/expiration", json!({"expiration": NOON}));
    assert_eq!(get()["Expiration"], "2026-01-31T12:00:00Z");
    process.control("POST", "/expiration", json!({"expiration": null}));
    process.control("POST", "/clock", json!({"offset_seconds": 86_400}));
    assert_ne!(get()["AccessKeyId"], second["AccessKeyId"]);
}

#[test]
fn registered_credentials_are_written_to_the_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    let process = Process::start(&["--credentials-dir", path]);
    let user = json!({"access_key_id": "AKIAEXAMPLE", "secret_access_key": "secret"});
    assert_eq!(process.control("POST", "/credentials", user).status, 200);
    assert!(directory.path().join("AKIAEXAMPLE.json").is_file());
    let escaping = json!({"access_key_id": "../x", "secret_access_key": "secret"});
    assert_eq!(process.control("POST", "/credentials", escaping).status, 400);
}

#[test]
fn the_error_message_names_a_wrong_argument() {
    for (arguments, words) in [
        (&["--port", "70000"][..], "--port needs a number"),
        (&["--region"], "--region needs a value"),
        (&["--regoin", "x"], "unknown option --regoin"),
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_aws-simulator"))
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the process");
        let mut message = String::new();
        let mut errors = child.stderr.take().expect("a pipe");
        errors.read_to_string(&mut message).expect("a message");
        assert_eq!(child.wait().expect("it exits").code(), Some(2));
        assert!(message.contains(words), "{message}");
    }
}
