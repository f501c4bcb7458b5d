//! The cache: one fetch for all waiting callers, background refresh, and expired credentials used while their source is
//! down. The tests set the clock; `clock_steps.rs` has clocks that are wrong.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::{Duration, Instant, UNIX_EPOCH};

use aws_simulator::{Fault, Route, Simulator, SimulatorOptions, Times};
use pgiam_core::{Client, ErrorKind, TokenRequest, test_hooks};
use support::{Hands, Machine, ROLE, access_key_id, environment, on_instance, request, settings, simulator};

const HOUR: i64 = 3600;
const START: i64 = 1_700_000_000;

/// A client on an instance whose credentials have a lifetime of six hours, with a clock that the test sets.
fn timed(simulator: &Simulator) -> (Client, Hands) {
    let hands = Hands::of(simulator);
    let client = Client::builder()
        .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url())]))
        .settings(settings(&[("timeout_ms", "5000")]))
        .clock(hands.clock())
        .build();
    (client, hands)
}

fn asked(simulator: &Simulator) -> usize {
    simulator.requests_for(Route::ImdsCredentials).len()
}

/// Waits until another thread has done something.
fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

#[test]
fn a_thousand_threads_with_nothing_cached_make_three_requests() {
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
fn a_failure_is_returned_to_every_waiting_caller() {
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
    // Fifty fetches, one after the other, would be fifty session tokens.
    assert!(simulator.requests_for(Route::ImdsToken).len() < 10);
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn in_the_refresh_window_one_refresh_runs_in_the_background() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    let first = access_key_id(&client.generate_token(&request()).unwrap());
    let next = simulator.rotate().access_key_id;
    hands.forward(6 * HOUR - 10 * 60);
    simulator.inject(Route::ImdsToken, Fault::Hold, 1);
    for _ in 0..100 {
        assert_eq!(access_key_id(&client.generate_token(&request()).unwrap()), first, "the cached credentials");
    }
    assert!(simulator.wait_for_held(1, Duration::from_secs(10)));
    simulator.release();
    until("the refresh", || access_key_id(&client.generate_token(&request()).unwrap()) == next);
    assert_eq!(simulator.requests_for(Route::ImdsToken).len(), 2, "the first fetch and one refresh");
}

#[test]
fn outside_the_refresh_window_there_are_no_requests() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    client.generate_token(&request()).unwrap();
    hands.forward(6 * HOUR - 16 * 60);
    client.generate_token(&request()).unwrap();
    assert_eq!(asked(&simulator), 1);
}

#[test]
fn a_failed_background_refresh_backs_off_and_is_not_reported() {
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
fn expired_instance_credentials_are_used_while_imds_is_down() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    let first = access_key_id(&client.generate_token(&request()).unwrap());
    simulator.inject(Route::ImdsToken, Fault::Status(503), Times::Forever);
    hands.forward(6 * HOUR + 1);
    let token = client.generate_token(&request()).unwrap();
    assert_eq!(access_key_id(&token), first);
    let left = token.expires_at() - hands.now();
    assert!((300..=900).contains(&left), "the extension's end, {left} s ahead");

    // Fetched again when the extension ends; new credentials are used when the source is available again.
    simulator.clear_faults();
    let next = simulator.rotate().access_key_id;
    hands.forward(901);
    assert_eq!(access_key_id(&client.generate_token(&request()).unwrap()), next);
}

#[test]
fn expired_credentials_from_imds_are_used_for_a_limited_time() {
    let simulator = simulator();
    let (client, hands) = timed(&simulator);
    simulator.set_expiration(Some(simulator.now() - Duration::from_secs(60)));
    let token = client.generate_token(&request()).unwrap();
    assert!((300..=900).contains(&(token.expires_at() - hands.now())));
    client.generate_token(&request()).unwrap();
    assert_eq!(asked(&simulator), 1, "not again before the extension ends");
}

#[test]
fn expired_credentials_are_not_extended_when_the_source_refuses() {
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
        assert!(token.expires_at() - hands.now() <= 5 * 60, "a token expires with its credentials");
    }
}

#[test]
fn a_token_has_its_expiration() {
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
fn refresh_fetches_immediately_and_keeps_the_cached_credentials_if_it_fails() {
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

/// A credentials file as `aws configure` writes it, and a client that has signed with its keys.
struct KeysFile {
    _directory: tempfile::TempDir,
    path: PathBuf,
    hands: Hands,
    client: Client,
}

impl KeysFile {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("credentials");
        let hands = Hands::at(START);
        write_keys(&path, "AKIDFIRST");
        let client = Client::builder()
            .environment(environment(&[
                ("AWS_SHARED_CREDENTIALS_FILE", path.to_str().unwrap()),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ]))
            .clock(hands.clock())
            .build();
        let file = Self { _directory: directory, path, hands, client };
        assert_eq!(file.signs(), "AKIDFIRST");
        file
    }

    fn signs(&self) -> String {
        access_key_id(&self.client.generate_token(&request()).unwrap())
    }

    /// The key of `try_generate_token`, if there is a token.
    fn tries(&self) -> Option<String> {
        self.client.try_generate_token(&request()).unwrap().map(|token| access_key_id(&token))
    }
}

fn write_keys(path: &Path, id: &str) {
    fs::write(path, format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = s\n")).unwrap();
}

#[test]
fn a_call_thirty_seconds_after_the_last_check_signs_with_the_current_keys_of_the_file() {
    let file = KeysFile::new();
    write_keys(&file.path, "AKIDSECONDKEY");
    file.hands.forward(29);
    assert_eq!(file.signs(), "AKIDFIRST", "not before 30 s");
    file.hands.forward(1);
    assert_eq!(file.signs(), "AKIDSECONDKEY", "the same call");
    // Of the same length, replaced by rename, a night later.
    let new = file.path.with_extension("new");
    write_keys(&new, "AKIDTHIRDXKEY");
    fs::rename(&new, &file.path).unwrap();
    file.hands.forward(12 * HOUR);
    assert_eq!(file.signs(), "AKIDTHIRDXKEY");
    let other_user = TokenRequest { user: "reporting", ..request() };
    write_keys(&file.path, "AKIDFOURTH");
    file.hands.forward(30);
    assert_eq!(access_key_id(&file.client.generate_token(&other_user).unwrap()), "AKIDFOURTH");
}

#[test]
fn all_threads_sign_with_changed_keys_when_a_check_is_due() {
    let file = KeysFile::new();
    write_keys(&file.path, "AKIDSECONDKEY");
    file.hands.forward(30);
    let together = Barrier::new(50);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                together.wait();
                assert_eq!(file.signs(), "AKIDSECONDKEY");
            });
        }
    });
}

#[test]
fn a_nonblocking_call_signs_with_changed_keys_after_the_files_were_checked() {
    let file = KeysFile::new();
    write_keys(&file.path, "AKIDSECONDKEY");
    file.hands.forward(40);
    until("a token", || file.tries().is_some());
    assert_eq!(file.tries().unwrap(), "AKIDSECONDKEY");
}

#[test]
fn a_file_that_is_being_written_is_read_again_by_the_next_call() {
    let file = KeysFile::new();
    for half in ["[default]\naws_access_key_id = AKIDSEC", "[defau", "[default\n", "aws_access_key_id"] {
        fs::write(&file.path, half).unwrap();
        file.hands.forward(30);
        file.client.generate_token(&request()).ok();
        write_keys(&file.path, "AKIDSECONDKEY");
        file.hands.forward(1);
        if !half.contains("AKID") {
            assert_eq!(file.signs(), "AKIDSECONDKEY", "{half:?}");
        }
        write_keys(&file.path, "AKIDFIRST");
        file.hands.forward(30);
        assert_eq!(file.signs(), "AKIDFIRST");
    }
}

#[test]
fn after_a_first_call_that_fails_because_of_the_files_the_next_call_reads_them_again() {
    for (what, broken) in [("half-written", Some("[defau")), ("not UTF-8", Some("\u{0}[")), ("missing", None)] {
        let directory = tempfile::tempdir().unwrap();
        let (config, credentials) = (directory.path().join("config"), directory.path().join("credentials"));
        if let Some(text) = broken {
            fs::write(&credentials, text).unwrap();
        }
        let client = Client::builder()
            .environment(environment(&[
                ("AWS_CONFIG_FILE", config.to_str().unwrap()),
                ("AWS_SHARED_CREDENTIALS_FILE", credentials.to_str().unwrap()),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ]))
            .clock(Hands::at(START).clock())
            .build();
        let cname = TokenRequest { host: "db.example.com", ..request() };
        client.generate_token(&request()).unwrap_err();
        client.generate_token(&cname).unwrap_err();
        write_keys(&credentials, "AKIDFIRST");
        fs::write(&config, "[default]\nregion = eu-west-1\n").unwrap();
        assert_eq!(access_key_id(&client.generate_token(&request()).unwrap()), "AKIDFIRST", "{what}");
        let token = client.generate_token(&cname);
        assert_eq!(token.unwrap().region(), "eu-west-1", "{what}");
    }
}

#[test]
fn a_nonblocking_call_reads_files_again_that_could_not_be_read() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    fs::write(&config, "[defau").unwrap();
    let variables = [
        ("AWS_CONFIG_FILE", config.to_str().unwrap()),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_EC2_METADATA_DISABLED", "true"),
    ];
    let client = Client::builder().environment(environment(&variables)).build();
    fs::write(&config, "[default]\nregion = eu-west-1\n").unwrap();
    let cname = TokenRequest { host: "db.example.com", ..request() };
    until("a token", || client.try_generate_token(&cname).unwrap().is_some());
}

#[test]
fn the_cached_keys_stay_in_use_when_the_changed_file_has_no_credentials() {
    let file = KeysFile::new();
    fs::write(&file.path, "[default]\n").unwrap();
    file.hands.forward(30);
    assert_eq!(file.signs(), "AKIDFIRST");
    write_keys(&file.path, "AKIDSECONDKEY");
    file.hands.forward(30);
    assert_eq!(file.signs(), "AKIDSECONDKEY");
}

#[test]
fn a_nonblocking_call_uses_the_cached_keys_while_the_file_system_hangs() {
    let file = KeysFile::new();
    file.hands.forward(HOUR);
    let (arrived, arrivals) = mpsc::channel();
    let (go_on, leave) = mpsc::channel::<()>();
    let (arrived, leave) = (Mutex::new(arrived), Mutex::new(leave));
    let hook: test_hooks::Hook = Arc::new(move |reached| {
        if reached == "checking files" {
            arrived.lock().unwrap().send(()).ok();
            leave.lock().unwrap().recv_timeout(Duration::from_secs(30)).ok();
        }
    });
    test_hooks::set_hook(Some(hook));
    assert_eq!(file.tries(), None, "the files are checked first");
    arrivals.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(file.tries(), None);
    file.hands.forward(2);
    assert_eq!(file.tries().unwrap(), "AKIDFIRST", "the check hangs");
    write_keys(&file.path, "AKIDSECONDKEY");
    go_on.send(()).unwrap();
    test_hooks::set_hook(None);
    until("the new key", || file.tries().is_some_and(|id| id == "AKIDSECONDKEY"));
}

#[test]
fn a_changed_region_in_the_files_is_used_after_a_refresh() {
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
    assert_eq!(region(), "eu-west-1", "not before refresh is called");
    client.refresh().unwrap();
    assert_eq!(region(), "eu-west-2");
    // The configured region is used even if there are no new credentials.
    write("eu-west-3");
    fs::remove_file(&credentials).unwrap();
    client.refresh().unwrap_err();
    assert_eq!(region(), "eu-west-3");
}

#[test]
fn try_never_waits_and_a_failure_is_reported_once() {
    let simulator = simulator();
    simulator.inject(Route::ImdsToken, Fault::Hold, 1);
    let client = on_instance(&simulator);
    assert!(client.try_generate_token(&request()).unwrap().is_none());
    assert!(simulator.wait_for_held(1, Duration::from_secs(10)));
    assert!(client.try_generate_token(&request()).unwrap().is_none(), "the same fetch is still running");
    simulator.release();
    until("the token", || client.try_generate_token(&request()).unwrap().is_some());
    assert_eq!(simulator.requests().len(), 3);

    let simulator = support::simulator();
    simulator.inject(Route::ImdsToken, Fault::Status(403), Times::Forever);
    let client = on_instance(&simulator);
    assert!(client.try_generate_token(&request()).unwrap().is_none());
    until("the failure", || client.try_generate_token(&request()).is_err());
    for _ in 0..20 {
        assert!(client.try_generate_token(&request()).unwrap().is_none(), "reported once, then backs off");
    }
    assert_eq!(simulator.requests().len(), 1);
}

/// A machine whose services have the correct time, and a clock for the client that the test sets.
fn timed_machine() -> (Machine, Hands) {
    let hands = Hands::at(START);
    let right = hands.clone();
    let now = Arc::new(move || UNIX_EPOCH + Duration::from_secs(u64::try_from(right.now()).unwrap()));
    let mut machine = Machine::with(SimulatorOptions { now, ..Default::default() });
    machine.clock(&hands);
    (machine, hands)
}

#[test]
fn each_fetch_calls_sts_in_the_region_of_the_token_that_needs_it() {
    let (mut machine, hands) = timed_machine();
    let keys = machine.keys("tests");
    machine.profile_app(&format!("[profile app]\nrole_arn={ROLE}\nsource_profile=base\n[profile base]\n{keys}"));
    // Only the endpoint's name has a region.
    machine.unset("AWS_REGION");
    let client = machine.client();
    let asked = || -> Vec<String> {
        let region = |header: &str| header.split('/').nth(2).unwrap().to_owned();
        let requests = machine.simulator.requests_for(Route::StsAssumeRole);
        requests.iter().map(|request| region(request.header("authorization").unwrap())).collect()
    };
    let elsewhere = TokenRequest { host: "db.example.com", region: Some("eu-west-1"), ..request() };
    client.generate_token(&request()).unwrap();
    client.generate_token(&elsewhere).unwrap();
    assert_eq!(asked(), ["eu-central-1"], "the credentials are valid in every region");
    // A background refresh and refresh() use the region that worked, whichever token is made meanwhile.
    hands.forward(HOUR - 600);
    client.generate_token(&elsewhere).unwrap();
    until("the refresh", || asked().len() == 2);
    until("its end", || client.refresh().is_ok());
    assert_eq!(asked(), ["eu-central-1"; 3]);
    // The simulator refuses signatures for another region than its own.
    hands.forward(2 * HOUR);
    client.generate_token(&elsewhere).unwrap_err();
    assert_eq!(asked().last().unwrap(), "eu-west-1");
    assert!(client.explain_in_region(Some("eu-central-1")).outcome.is_ok());
    assert_eq!(asked().last().unwrap(), "eu-central-1");
    client.generate_token(&request()).unwrap();
    let other = machine.client();
    while other.try_generate_token(&request()).unwrap().is_none() {
        std::thread::yield_now();
    }
    assert_eq!(asked().last().unwrap(), "eu-central-1");
}
