use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use aws_simulator::{Fault, Route, Simulator, Times, blackhole_address, refused_port};

use crate::support::*;

/// How long a test checks that nothing more arrives on a connection.
const A_MOMENT: Duration = Duration::from_millis(50);

/// Sends a request to the container endpoint under one fault. Returns all received bytes and how reading ended. For a
/// fault that stops sending, it waits for the bytes that are sent and then checks for a moment that no more arrive.
fn received_under(fault: Fault) -> (String, ErrorKind) {
    let sends_nothing = matches!(fault, Fault::HangBeforeAnswer | Fault::DripHeader { .. });
    let ends = matches!(fault, Fault::Refuse | Fault::Reset | Fault::Truncate);
    let simulator = start();
    simulator.inject(Route::Container, fault, 1);
    let mut client = ask(&simulator);
    assert!(simulator.wait_for_requests(1, PATIENCE));
    if !ends {
        if !sends_nothing {
            client.more().expect("bytes");
        }
        client.set_patience(A_MOMENT);
    }
    let (received, end) = client.drain();
    let received = String::from_utf8(received).expect("UTF-8");
    (received, end)
}

fn ask(simulator: &Simulator) -> Client {
    let mut client = Client::connect(simulator);
    client.send("GET", "/get-credentials", &[], "").expect("send the request");
    client
}

fn answer_under(fault: Fault) -> Answer {
    let simulator = start();
    simulator.inject(Route::Container, fault, 1);
    request(&simulator, "GET", "/get-credentials", &[], "")
}

/// The received part of the body, and the length that the head declares.
#[track_caller]
fn body_and_declared_length(received: &str) -> (&str, usize) {
    let (head, body) = received.split_once("\r\n\r\n").expect("a whole head");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    (body, length.parse().expect("a number"))
}

#[test]
fn hang_before_answer_reads_the_request_and_sends_nothing() {
    assert_eq!(received_under(Fault::HangBeforeAnswer), (String::new(), ErrorKind::WouldBlock));
}

#[test]
fn hang_in_header_stops_within_the_head() {
    let (received, end) = received_under(Fault::HangInHeader);
    assert!(received.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(!received.contains("\r\n\r\n"));
    assert_eq!(end, ErrorKind::WouldBlock);
}

#[test]
fn hang_after_header_sends_no_body() {
    let (received, end) = received_under(Fault::HangAfterHeader);
    let (body, declared) = body_and_declared_length(&received);
    assert_eq!(body, "");
    assert!(declared > 0);
    assert_eq!(end, ErrorKind::WouldBlock);
}

#[test]
fn hang_in_body_sends_half_of_it() {
    let (received, end) = received_under(Fault::HangInBody);
    let (body, declared) = body_and_declared_length(&received);
    assert_eq!(body.len(), declared / 2);
    assert_eq!(end, ErrorKind::WouldBlock);
}

#[test]
fn truncate_closes_the_connection_normally_after_half_of_the_body() {
    let (received, end) = received_under(Fault::Truncate);
    let (body, declared) = body_and_declared_length(&received);
    assert_eq!(body.len(), declared / 2);
    assert_eq!(end, ErrorKind::UnexpectedEof);
}

#[test]
fn reset_resets_the_connection_within_the_body() {
    let (_, end) = received_under(Fault::Reset);
    assert_eq!(end, ErrorKind::ConnectionReset);
}

#[test]
fn refuse_on_a_route_resets_the_connection_without_a_response() {
    assert_eq!(received_under(Fault::Refuse), (String::new(), ErrorKind::ConnectionReset));
}

#[test]
fn refuse_on_any_route_resets_the_connection_when_it_is_accepted() {
    let simulator = start();
    simulator.inject(Route::Any, Fault::Refuse, 1);
    let (received, end) = Client::connect(&simulator).drain();
    assert_eq!((received.len(), end), (0, ErrorKind::ConnectionReset));
    assert_eq!(simulator.connections(), 1);
    assert!(simulator.requests().is_empty());
    assert_eq!(request(&simulator, "GET", "/get-credentials", &[], "").status, 200);
}

#[test]
fn split_and_dripped_responses_arrive_completely() {
    let tick = Duration::from_micros(10);
    for fault in [Fault::SplitBody, Fault::Drip { interval: tick }, Fault::DripHeader { interval: tick }] {
        let document = answer_under(fault.clone()).json();
        assert!(document["AccessKeyId"].is_string(), "{fault:?}");
    }
}

#[test]
fn drip_waits_its_interval_before_every_byte_of_the_body() {
    let simulator = start();
    let token = imds_token(&simulator);
    let interval = Duration::from_millis(3);
    simulator.inject(Route::ImdsRegion, Fault::Drip { interval }, 1);
    let begin = Instant::now();
    let headers = [("X-aws-ec2-metadata-token", token.as_str())];
    let answer = request(&simulator, "GET", REGION_PATH, &headers, "");
    assert_eq!(answer.text(), "eu-central-1");
    assert!(begin.elapsed() >= interval * 12);
}

#[test]
fn drip_sends_the_head_in_one_write_and_drip_header_does_not() {
    let interval = Duration::from_secs(3600);
    let (received, _) = received_under(Fault::Drip { interval });
    assert!(received.ends_with("\r\n\r\n"));
    let (received, end) = received_under(Fault::DripHeader { interval });
    assert_eq!((received.as_str(), end), ("", ErrorKind::WouldBlock));
}

#[test]
fn status_and_body_are_sent_as_given() {
    assert_eq!(answer_under(Fault::Status(503)).status, 503);
    let answer = answer_under(Fault::StatusWithBody(418, "{\"a\":1}".to_owned()));
    assert_eq!((answer.status, answer.text()), (418, "{\"a\":1}"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn content_faults_are_valid_http_with_useless_bodies() {
    for (fault, opening) in [
        (Fault::NonJson, "<!DOCTYPE html>"),
        (Fault::WrongXml, "<?xml version=\"1.0\"?><Unexpected>"),
        (Fault::Empty, ""),
    ] {
        let answer = answer_under(fault.clone());
        assert_eq!(answer.status, 200, "{fault:?}");
        assert!(answer.text().starts_with(opening), "{fault:?}");
        assert_eq!(answer.body.is_empty(), opening.is_empty());
    }
}

#[test]
fn huge_sends_every_byte() {
    let answer = answer_under(Fault::Huge(10_000_000));
    assert_eq!(answer.body.len(), 10_000_000);
}

#[test]
fn endless_sends_until_the_client_closes_the_connection() {
    let simulator = start();
    simulator.inject(Route::Container, Fault::Endless, 1);
    let mut stream = TcpStream::connect(("127.0.0.1", simulator.port())).expect("connect");
    std::io::Write::write_all(&mut stream, b"GET /get-credentials HTTP/1.1\r\n\r\n").expect("send");
    let mut received = Vec::new();
    let taken = std::io::Read::take(&mut stream, 1_000_000);
    std::io::Read::read_to_end(&mut { taken }, &mut received).expect("read");
    assert_eq!(received.len(), 1_000_000);
    let text = String::from_utf8_lossy(&received);
    assert!(!text.contains("Content-Length"));
}

#[test]
fn a_redirect_has_its_location() {
    for status in [301, 307] {
        let location = "http://127.0.0.1:1/elsewhere".to_owned();
        let answer = answer_under(Fault::Redirect(status, location.clone()));
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("location"), Some(location.as_str()));
    }
}

#[test]
fn expired_credentials_expired_an_hour_ago() {
    let document = answer_under(Fault::ExpiredCredentials).json();
    assert_eq!(document["Expiration"], "2026-01-31T11:00:00Z");
}

#[test]
fn a_wrong_clock_changes_the_date_header_and_the_documents() {
    let simulator = start();
    let token = imds_token(&simulator);
    simulator.inject(Route::ImdsCredentials, Fault::ClockOff(-7200), 1);
    let headers = [("X-aws-ec2-metadata-token", token.as_str())];
    let answer = request(&simulator, "GET", ROLE_PATH, &headers, "");
    assert_eq!(answer.header("date"), Some("Sat, 31 Jan 2026 10:00:00 GMT"));
    assert_eq!(answer.json()["LastUpdated"], "2026-01-31T10:00:00Z");
}

#[test]
fn responses_under_hold_are_sent_after_the_release() {
    let simulator = start();
    simulator.inject(Route::Container, Fault::Hold, 3);
    thread::scope(|scope| {
        let waiting: Vec<_> =
            (0..3).map(|_| scope.spawn(|| request(&simulator, "GET", "/get-credentials", &[], "").status)).collect();
        assert!(simulator.wait_for_held(3, PATIENCE));
        assert!(simulator.requests().iter().all(|entry| entry.status.is_none()));
        simulator.release();
        for thread in waiting {
            assert_eq!(thread.join().expect("an answer"), 200);
        }
    });
}

#[test]
fn a_delayed_response_is_late_and_otherwise_normal() {
    let duration = Duration::from_millis(20);
    let begin = Instant::now();
    assert_eq!(answer_under(Fault::Delay { duration }).status, 200);
    assert!(begin.elapsed() >= duration);
    let slow = start_with(|options| options.delay = duration);
    let begin = Instant::now();
    request(&slow, "GET", "/get-credentials", &[], "");
    assert!(begin.elapsed() >= duration);
}

#[test]
fn faults_apply_in_order_and_only_to_their_route() {
    let simulator = start();
    simulator.inject(Route::Container, Fault::Status(503), 2);
    simulator.inject(Route::Container, Fault::Status(404), Times::Forever);
    let ask = || request(&simulator, "GET", "/get-credentials", &[], "").status;
    assert_eq!([ask(), ask(), ask(), ask()], [503, 503, 404, 404]);
    imds_token(&simulator);
    simulator.clear_faults();
    assert_eq!(ask(), 200);
}

#[test]
fn the_log_has_the_fault_that_was_applied_to_a_request() {
    let simulator = start();
    simulator.inject(Route::Container, Fault::HangBeforeAnswer, 1);
    let _client = ask(&simulator);
    assert!(simulator.wait_for_requests(1, PATIENCE));
    let entry = &simulator.requests()[0];
    assert_eq!(entry.fault, Some(Fault::HangBeforeAnswer));
    assert_eq!(entry.status, None);
}

#[test]
fn connecting_to_a_refused_port_is_refused() {
    let refused = refused_port().expect("a port");
    let error = TcpStream::connect(("127.0.0.1", refused.port())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn connecting_to_a_blackhole_address_times_out() {
    let hole = blackhole_address().expect("a blackhole address");
    let error = TcpStream::connect_timeout(&hole.address(), A_MOMENT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}
