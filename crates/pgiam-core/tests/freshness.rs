//! The cache: one fetch for all who wait, a refresh that nobody waits for, and credentials served on while their source
//! is down. The clock is the tests'.

mod support;

use std::fs;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use aws_simulator::{Fault, Route, Simulator, SimulatorOptions, Times};
use pgiam_core::{Client, ErrorKind, TokenRequest};
use support::{Hands, access_key_id, environment, on_instance, request, settings, simulator};

const HOUR: i64 = 3600;

/// A client on an instance whose credentials live six hours, by a clock that the test moves.
fn timed(simulator: &Simulator) -> (Client, Hands) {
    let hands = Hands::of(simulator);
    let client = Client::builder()
        .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url())]))
        .settings(settings(&[("timeout_ms", "500")]))
        .clock(hands.clock())
        .build();
    (client, hands)
}

fn asked(simulator: &Simulator) -> usize {
    simulator.requests_for(Route::ImdsCredentials).len()
}

/// Waits, without a clock of its own, for something that another thread is about to do.
fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn a_thousand_threads_with_nothing_held_make_three_requests() {
    let simulator = simulator();
    simulator.inject(Route::ImdsToken, Fault::Hold, 1);
    let client = Client::builder()
        .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url())]))
        .settings(settings(&[("timeout_ms", "60000")]))
        .build();
    let together = Barrier::new(1001);
    std::thread::scope(|scope| {
        for _ in 0..1000 {
            std::thread::Builder::new()
                .stack_size(256 * 1024)
                .spawn_scoped(scope, || {
                    together.wait();
                    client.generate_token(&request()).unwrap();
                })
                .unwrap();
        }
        together.wait();
        assert!(simulator.wait_for_held(1, Duration::from_secs(10)));
        simulator.release();
    });
    assert_eq!(simulator.requests().len(), 3);
}

#[test]
fn a_failure_reaches_everyone_who_waits_for_it() {
    let simulator = simulator();
    simulator.inject(Route::ImdsToken, Fault::Hold, 1);
    simulator.inject(Route::ImdsRoleList, Fault::Status(403), Times::Forever);
    let (client, _) = timed(&simulator);
    let began = Instant::now();
    let together = Barrier::new(51);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                together.wait();
                client.generate_token(&request()).unwrap_err();
            });
        }
        together.wait();
        assert!(simulator.wait_for_held(1, Duration::from_secs(10)));
        simulator.release();
    });
    // No convoy: fifty fetches, one after the other, would be fifty session tokens.
    assert!(simulator.requests_for(Route::ImdsToken).len() < 10);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn in_the_refresh_window_one_refresh_runs_and_nobody_waits_for_it() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    let first = access_key_id(&client.generate_token(&request()).unwrap());
    let next = simulator.rotate().access_key_id;
    hands.forward(6 * HOUR - 10 * 60);
    simulator.inject(Route::ImdsToken, Fault::Hold, 1);
    for _ in 0..100 {
        assert_eq!(access_key_id(&client.generate_token(&request()).unwrap()), first, "the held ones, at once");
    }
    assert!(simulator.wait_for_held(1, Duration::from_secs(10)));
    simulator.release();
    until("the refresh", || access_key_id(&client.generate_token(&request()).unwrap()) == next);
    assert_eq!(simulator.requests_for(Route::ImdsToken).len(), 2, "the first fetch and one refresh");
}

#[test]
fn outside_the_window_nothing_is_asked() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    client.generate_token(&request()).unwrap();
    hands.forward(6 * HOUR - 16 * 60);
    client.generate_token(&request()).unwrap();
    assert_eq!(asked(&simulator), 1);
}

#[test]
fn a_refresh_that_fails_backs_off_and_nobody_sees_it() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    client.generate_token(&request()).unwrap();
    hands.forward(6 * HOUR - 14 * 60);
    simulator.inject(Route::ImdsToken, Fault::Status(403), Times::Forever);
    client.generate_token(&request()).unwrap();
    until("the refresh", || simulator.requests_for(Route::ImdsToken).len() == 2);
    for _ in 0..50 {
        client.generate_token(&request()).unwrap();
    }
    assert_eq!(simulator.requests_for(Route::ImdsToken).len(), 2, "not again within the back-off");
    hands.forward(61);
    until("the next try", || {
        client.generate_token(&request()).unwrap();
        simulator.requests_for(Route::ImdsToken).len() == 3
    });
}

#[test]
fn an_expiry_that_does_not_advance_backs_off() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    client.generate_token(&request()).unwrap();
    let expiration = simulator.instance_credentials().expiration;
    simulator.set_expiration(expiration);
    hands.forward(6 * HOUR - 14 * 60);
    client.generate_token(&request()).unwrap();
    until("the refresh", || asked(&simulator) == 2);
    for _ in 0..50 {
        client.generate_token(&request()).unwrap();
    }
    assert_eq!(asked(&simulator), 2);
}

#[test]
fn expired_instance_credentials_are_served_while_imds_is_down() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    let first = access_key_id(&client.generate_token(&request()).unwrap());
    simulator.inject(Route::ImdsToken, Fault::Status(503), Times::Forever);
    hands.forward(6 * HOUR + 1);
    let token = client.generate_token(&request()).unwrap();
    assert_eq!(access_key_id(&token), first);
    let left = token.expires_at() - hands.now();
    assert!((300..=900).contains(&left), "the extension's end, {left} s ahead");

    // Asked again when the extension ends, and the new ones taken when the source is back.
    simulator.clear_faults();
    let next = simulator.rotate().access_key_id;
    hands.forward(901);
    assert_eq!(access_key_id(&client.generate_token(&request()).unwrap()), next);
}

#[test]
fn credentials_that_imds_itself_hands_out_expired_are_served_on() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    simulator.set_expiration(Some(simulator.now() - Duration::from_secs(60)));
    let token = client.generate_token(&request()).unwrap();
    assert!((300..=900).contains(&(token.expires_at() - hands.now())));
    client.generate_token(&request()).unwrap();
    assert_eq!(asked(&simulator), 1, "not again before the extension ends");
}

#[test]
fn a_source_that_refuses_is_not_down_and_extends_nothing() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    client.generate_token(&request()).unwrap();
    simulator.inject(Route::ImdsToken, Fault::Status(403), Times::Forever);
    hands.forward(6 * HOUR + 1);
    assert_eq!(client.generate_token(&request()).unwrap_err().kind(), ErrorKind::Provider);
}

#[test]
fn fresh_credentials_are_never_extended() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    client.generate_token(&request()).unwrap();
    simulator.inject(Route::ImdsToken, Fault::Status(503), Times::Forever);
    hands.forward(6 * HOUR - 5 * 60);
    let token = client.generate_token(&request()).unwrap();
    until("the refresh", || simulator.requests_for(Route::ImdsToken).len() >= 2);
    let later = client.generate_token(&request()).unwrap();
    for token in [token, later] {
        assert!(token.expires_at() - hands.now() <= 5 * 60, "a token ends with its credentials");
    }
}

#[test]
fn a_token_says_when_it_ends() {
    let simulator =
        Simulator::start(SimulatorOptions { lifetime: Duration::from_secs(600), ..Default::default() }).unwrap();
    let (client, hands) = timed(&simulator);
    let short = client.generate_token(&request()).unwrap();
    assert!(short.expires_at() <= hands.now() + 601, "with the credentials");
    let simulator = support::simulator();
    let (client, hands) = timed(&simulator);
    assert_eq!(client.generate_token(&request()).unwrap().expires_at(), hands.now() + 900, "15 minutes");
}

#[test]
fn refresh_fetches_now_and_keeps_what_is_held_when_it_fails() {
    let simulator = simulator();
    let client = on_instance(&simulator);
    client.generate_token(&request()).unwrap();
    let next = simulator.rotate().access_key_id;
    client.refresh().unwrap();
    assert_eq!(access_key_id(&client.generate_token(&request()).unwrap()), next);
    simulator.inject(Route::ImdsToken, Fault::Status(403), Times::Forever);
    assert_eq!(client.refresh().unwrap_err().kind(), ErrorKind::Provider);
    assert_eq!(access_key_id(&client.generate_token(&request()).unwrap()), next);
}

#[test]
fn keys_in_a_file_are_looked_at_again_after_thirty_seconds() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials");
    let write = |id: &str| {
        fs::write(&file, format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = s\n")).unwrap();
    };
    write("AKIDFIRST");
    let hands = Hands::at(1_700_000_000);
    let client = Client::builder()
        .environment(environment(&[("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap())]))
        .clock(hands.clock())
        .build();
    let used = || access_key_id(&client.generate_token(&request()).unwrap());
    assert_eq!(used(), "AKIDFIRST");
    write("AKIDSECONDKEY");
    assert_eq!(used(), "AKIDFIRST", "not before 30 s");
    hands.forward(31);
    until("the new key", || used() == "AKIDSECONDKEY");
}

#[test]
fn a_region_changed_in_the_files_is_signed_for_after_a_refresh() {
    let directory = tempfile::tempdir().unwrap();
    let (config, credentials) = (directory.path().join("config"), directory.path().join("credentials"));
    fs::write(&credentials, "[default]\naws_access_key_id = AKIDFIRST\naws_secret_access_key = s\n").unwrap();
    let client = Client::builder()
        .environment(environment(&[
            ("AWS_CONFIG_FILE", config.to_str().unwrap()),
            ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]))
        .build();
    let elsewhere = TokenRequest { host: "db.example.com", ..request() };
    let region = || client.generate_token(&elsewhere).unwrap().region().to_owned();
    let write = |region: &str| fs::write(&config, format!("[default]\nregion = {region}\n")).unwrap();
    write("eu-west-1");
    client.refresh().unwrap();
    assert_eq!(region(), "eu-west-1");
    write("eu-west-2");
    assert_eq!(region(), "eu-west-1", "not before it is asked for");
    client.refresh().unwrap();
    assert_eq!(region(), "eu-west-2");
    // What is configured counts, also where no new credentials are to be had.
    write("eu-west-3");
    fs::remove_file(&credentials).unwrap();
    client.refresh().unwrap_err();
    assert_eq!(region(), "eu-west-3");
}

#[test]
fn trying_never_waits_and_a_failure_is_told_once() {
    let simulator = simulator();
    simulator.inject(Route::ImdsToken, Fault::Hold, 1);
    let client = on_instance(&simulator);
    assert!(client.try_generate_token(&request()).unwrap().is_none());
    assert!(simulator.wait_for_held(1, Duration::from_secs(10)));
    assert!(client.try_generate_token(&request()).unwrap().is_none(), "the same fetch goes on");
    simulator.release();
    until("the token", || client.try_generate_token(&request()).unwrap().is_some());
    assert_eq!(simulator.requests().len(), 3);

    let simulator = support::simulator();
    simulator.inject(Route::ImdsToken, Fault::Status(403), Times::Forever);
    let client = on_instance(&simulator);
    assert!(client.try_generate_token(&request()).unwrap().is_none());
    until("the failure", || client.try_generate_token(&request()).is_err());
    for _ in 0..20 {
        assert!(client.try_generate_token(&request()).unwrap().is_none(), "told once, then backs off");
    }
    assert_eq!(simulator.requests().len(), 1);
}
