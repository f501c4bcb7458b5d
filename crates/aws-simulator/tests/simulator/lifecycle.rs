use std::fs;
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use aws_simulator::{Credentials, Fault, Route};
use serde_json::{Value, json};

use crate::support::*;

#[test]
fn connections_are_closed_after_one_response_by_default() {
    let simulator = start();
    let mut client = Client::connect(&simulator);
    client.send("GET", "/get-credentials", &[], "").expect("send");
    let answer = client.receive().expect("an answer");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.drain(), (Vec::new(), ErrorKind::UnexpectedEof));
}

#[test]
fn a_connection_serves_several_requests_with_keep_alive() {
    let simulator = start_with(|options| options.keep_alive = true);
    let mut client = Client::connect(&simulator);
    for _ in 0..3 {
        client.send("GET", "/get-credentials", &[], "").expect("send");
        let answer = client.receive().expect("an answer");
        assert_eq!(answer.header("connection"), Some("keep-alive"));
        assert!(client.received().is_empty());
    }
    let connections: Vec<u64> = simulator.requests().iter().map(|entry| entry.connection).collect();
    assert_eq!(connections, [1, 1, 1]);
}

#[test]
fn the_connection_is_closed_if_the_client_requests_it() {
    let simulator = start_with(|options| options.keep_alive = true);
    let headers = [("Connection", "close")];
    let answer = request(&simulator, "GET", "/get-credentials", &headers, "");
    assert_eq!(answer.header("connection"), Some("close"));
}

#[test]
fn the_simulator_stops_promptly_while_connections_are_waiting() {
    let interval = Duration::from_secs(3600);
    for fault in [
        Fault::HangBeforeAnswer,
        Fault::HangInBody,
        Fault::Hold,
        Fault::Endless,
        Fault::Drip { interval },
        Fault::Delay { duration: interval },
    ] {
        let simulator = start_with(|options| options.keep_alive = true);
        simulator.inject(Route::Container, fault.clone(), 1);
        let mut stuck = Client::connect(&simulator);
        stuck.send("GET", "/get-credentials", &[], "").expect("send");
        let _idle = Client::connect(&simulator);
        assert!(simulator.wait_for_requests(1, PATIENCE));
        let begin = Instant::now();
        drop(simulator);
        assert!(begin.elapsed() < Duration::from_secs(2), "{fault:?}");
    }
}

#[test]
fn connections_are_refused_after_the_simulator_stops() {
    let simulator = start();
    let port = simulator.port();
    drop(simulator);
    let error = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn every_issued_credential_is_written_to_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("issued");
    let simulator = start_with(|options| options.credentials_dir = Some(path.clone()));
    let instance = simulator.instance_credentials();
    let rotated = simulator.rotate();
    let user = Credentials::of_user("deployer");
    simulator.register_credentials(&user);

    let content = |credentials: &Credentials| -> Value {
        let file = path.join(format!("{}.json", credentials.access_key_id));
        let mode = fs::metadata(&file).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        serde_json::from_slice(&fs::read(&file).expect("readable")).expect("JSON")
    };
    assert_eq!(
        content(&instance),
        json!({
            "access_key_id": instance.access_key_id,
            "secret_access_key": instance.secret_access_key,
            "session_token": instance.session_token,
            "expiration": NOON + 6 * 3600,
            "principal": instance.principal,
        })
    );
    assert_eq!(content(&rotated)["access_key_id"], rotated.access_key_id);
    let user = content(&user);
    assert_eq!((&user["session_token"], &user["expiration"]), (&Value::Null, &Value::Null));
    let drafts = fs::read_dir(&path)
        .expect("a directory")
        .filter(|entry| {
            let name = entry.as_ref().expect("an entry").file_name();
            !name.to_string_lossy().ends_with(".json")
        })
        .count();
    assert_eq!(drafts, 0);
}

#[test]
fn a_credential_that_cannot_be_written_results_in_status_500() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("issued");
    let simulator = start_with(|options| options.credentials_dir = Some(path.clone()));
    fs::remove_dir(&path).expect("remove the directory");
    let answer = request(&simulator, "GET", "/get-credentials", &[], "");
    assert_eq!(answer.status, 500);
}

#[test]
fn a_request_that_is_not_http_is_refused_with_400() {
    let simulator = start();
    let mut client = Client::connect(&simulator);
    client.send("G T", "/", &[], "").expect("send");
    assert_eq!(client.receive().expect("an answer").status, 400);
}

#[test]
fn a_chunked_body_is_read() {
    let simulator = start();
    let mut stream = TcpStream::connect(("127.0.0.1", simulator.port())).expect("connect");
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\
              6\r\nAction\r\n4;x=y\r\n=Any\r\n0\r\n\r\n",
        )
        .expect("send");
    assert!(simulator.wait_for_requests(1, PATIENCE));
    let entry = &simulator.requests()[0];
    assert_eq!(entry.form_parameter("Action").as_deref(), Some("Any"));
}

#[test]
fn a_request_with_an_absolute_url_is_answered_and_logged_with_its_target() {
    let simulator = start();
    let target = "http://169.254.170.2/v2/credentials/id";
    assert_eq!(request(&simulator, "GET", target, &[], "").status, 200);
    let entry = &simulator.requests()[0];
    assert_eq!((entry.target.as_str(), entry.path.as_str()), (target, "/v2/credentials/id"));
}

#[test]
fn a_second_listener_accepts_ipv6_connections() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        // Where IPv6 is not available, requesting it must be an error.
        let options = aws_simulator::SimulatorOptions { ipv6: true, ..Default::default() };
        assert!(aws_simulator::Simulator::start(options).is_err());
        return;
    }
    let simulator = start_with(|options| options.ipv6 = true);
    let url = simulator.url_ipv6().expect("a second address");
    let address = url.strip_prefix("http://").expect("a URL");
    let mut stream = TcpStream::connect(address).expect("connect");
    stream.write_all(b"GET /get-credentials HTTP/1.1\r\n\r\n").expect("send");
    assert!(simulator.wait_for_requests(1, PATIENCE));
}
