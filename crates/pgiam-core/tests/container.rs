//! The container endpoint: what is sent, what is read again, what is repeated of its errors, and which addresses are
//! never asked.

mod support;

use std::time::Duration;

use aws_simulator::{Route, SimulatorOptions, Times};
use pgiam_core::ErrorKind;
use support::{Hands, Machine, request};

const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";

fn pod(token: &str) -> Machine {
    let mut machine = Machine::with(SimulatorOptions { container_token: Some(token.into()), ..Default::default() });
    let url = format!("{}/v1/credentials", machine.simulator.url());
    machine.set(FULL, &url);
    machine
}

#[test]
fn the_token_of_the_file_wins_over_that_of_the_variable() {
    let mut machine = pod("of-the-file");
    machine.set(TOKEN, "of-the-variable");
    let file = machine.file("token", "of-the-file");
    machine.set(TOKEN_FILE, &file);
    machine.token();
    machine.unset(TOKEN_FILE);
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::Provider);
    assert!(error.message().contains(TOKEN) && !error.message().contains("of-the-variable"), "{error}");
}

#[test]
fn the_tokens_file_is_read_at_every_fetch() {
    let mut machine = pod("today");
    let hands = Hands::of(&machine.simulator);
    machine.clock(&hands);
    let file = machine.file("token", "yesterday");
    machine.set(TOKEN_FILE, &file);
    let client = machine.client();
    client.generate_token(&request()).unwrap_err();
    machine.file("token", "today");
    client.generate_token(&request()).unwrap();
    // Also at a refresh.
    machine.file("token", "tomorrow");
    client.refresh().unwrap_err();
}

#[test]
fn a_token_that_could_add_a_header_is_refused_and_not_sent() {
    for token in ["a\nx: y", "a\rb", "a\r\n", "tok\0en", ""] {
        let mut machine = pod("a");
        let file = machine.file("token", token);
        machine.set(TOKEN_FILE, &file);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
        assert!(error.message().contains(TOKEN_FILE), "{error}");
        assert_eq!(machine.simulator.connections(), 0);
    }
    let mut machine = pod("a");
    machine.set(TOKEN_FILE, "/nonexistent/token");
    assert!(machine.error().message().contains("/nonexistent/token"));
}

#[test]
fn what_the_endpoint_says_is_in_the_error_without_the_token() {
    let mut machine = pod("planted-pod-token-of-today");
    machine.set(TOKEN, "planted-pod-token-of-yesterday");
    let error = machine.error();
    for words in ["HTTP 401: AccessDeniedException: the Authorization header is absent or wrong", TOKEN_FILE, TOKEN] {
        assert!(error.message().contains(words), "{error}");
    }
    assert!(!error.message().contains("planted"), "{error}");
    machine.simulator.inject(Route::Container, aws_simulator::Fault::Status(404), Times::Forever);
    assert!(machine.error().message().contains("HTTP 404: simulated status"));
}

#[test]
fn no_query_or_user_info_of_the_uri_is_in_an_error() {
    let mut machine = pod("t");
    let url = format!("{}/v1/credentials?key=planted", machine.simulator.url());
    machine.set(FULL, &url);
    machine.set(TOKEN, "wrong");
    let port = machine.simulator.port();
    for url in
        [url, format!("http://jane:planted@127.0.0.1:{port}/"), format!("gopher://jane:planted@127.0.0.1:{port}/")]
    {
        machine.set(FULL, &url);
        let error = machine.error();
        assert!(error.message().contains("127.0.0.1") && !error.message().contains("planted"), "{error}");
    }
}

#[test]
fn a_token_file_that_is_no_ordinary_file_or_has_no_end_is_refused_at_once() {
    let mut machine = pod("t");
    let fifo = machine.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let large = machine.path("large");
    std::fs::File::create(&large).unwrap().set_len(1 << 40).unwrap();
    let (fifo, large) = (fifo.to_str().unwrap(), large.to_str().unwrap());
    for (path, words) in [(fifo, "a pipe"), ("/dev/zero", "a device"), (large, "larger than 64 KiB")] {
        machine.set(TOKEN_FILE, path);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
        assert!(error.message().contains(path) && error.message().contains(words), "{error}");
    }
    assert_eq!(machine.simulator.connections(), 0);
}

#[test]
fn localhost_is_asked_by_name_and_addresses_that_are_not_allowed_in_no_spelling() {
    let mut machine = pod("t");
    machine.set(TOKEN, "t");
    let url = format!("http://localhost:{}/v1/credentials", machine.simulator.port());
    machine.set(FULL, &url);
    machine.token();
    for address in ["192.0.2.1", "169.254.169.254", "[2001:db8::1]", "[::ffff:127.0.0.1]", "2130706433", "127.1"] {
        machine.simulator.clear_requests();
        machine.set(FULL, &format!("http://{address}:{}/v1/credentials", machine.simulator.port()));
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{address}: {error}");
        assert!(machine.simulator.requests().is_empty(), "{address}");
    }
}

#[test]
fn a_proxy_is_never_asked() {
    let proxy = support::simulator();
    let mut machine = pod("t");
    machine.set(TOKEN, "t");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        machine.set(name, &proxy.url());
    }
    machine.token();
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn expired_container_credentials_are_used_while_the_endpoint_is_down() {
    let mut machine = pod("t");
    machine.set(TOKEN, "t");
    let hands = Hands::of(&machine.simulator);
    machine.clock(&hands);
    let client = machine.client();
    client.generate_token(&request()).unwrap();
    machine.simulator.inject(Route::Container, aws_simulator::Fault::Status(503), Times::Forever);
    hands.forward(6 * 3600 + 1);
    let token = client.generate_token(&request()).unwrap();
    let left = token.expires_at() - hands.now();
    assert!((300..=900).contains(&left), "{left}");
    assert!(machine.simulator.wait_for_requests(4, Duration::from_secs(1)), "one good answer and three tries");
}
