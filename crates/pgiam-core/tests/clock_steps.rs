//! A wall clock that somebody sets while a client runs, for each source whose credentials expire: two hours back, seven
//! hours or a year ahead, and right again. Tokens signed by a wrong clock are refused, whatever a client does; what counts
//! is that it has valid credentials once the clock is right.

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use aws_simulator::{KeyFormat, SimulatorOptions};
use pgiam_core::{Client, ErrorKind, test_hooks};
use support::{Hands, Machine, ROLE, access_key_id, environment, request, rfc3339};

const MINUTE: i64 = 60;
const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;
const START: i64 = 1_700_000_000;

/// Seconds by which the clock is set wrong.
const STEPS: [i64; 3] = [-2 * HOUR, 7 * HOUR, YEAR];

/// Somebody who logged in with `aws login`.
const SESSION: &str = "arn:aws:iam::123456789012:user/jane";

/// A source of credentials that expire.
struct Expiring {
    name: &'static str,
    /// Seconds that its credentials live.
    lifetime: i64,
    set_up: fn(&mut Machine),
}

const SOURCES: [Expiring; 10] = [
    Expiring { name: "instance metadata", lifetime: 6 * HOUR, set_up: Machine::become_instance },
    Expiring {
        name: "container",
        lifetime: 6 * HOUR,
        set_up: |machine| {
            let url = format!("{}/v1/credentials", machine.simulator.url());
            machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
        },
    },
    Expiring {
        name: "web identity",
        lifetime: HOUR,
        set_up: |machine| {
            let file = machine.file("token", "simulated-web-identity-token");
            machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
            machine.set("AWS_ROLE_ARN", ROLE);
        },
    },
    Expiring {
        name: "assumed role",
        lifetime: HOUR,
        set_up: |machine| {
            let keys = machine.keys("tests");
            machine
                .profile_app(&format!("[profile app]\nrole_arn={ROLE}\nsource_profile=base\n[profile base]\n{keys}"));
        },
    },
    Expiring {
        name: "role of a role",
        lifetime: HOUR,
        set_up: |machine| {
            let keys = machine.keys("tests");
            machine.profile_app(&format!(
                "[profile app]\nrole_arn={ROLE}\nsource_profile=first\n\
                 [profile first]\nrole_arn={ROLE}-first\nsource_profile=base\n[profile base]\n{keys}"
            ));
        },
    },
    Expiring {
        name: "role of the instance's role",
        lifetime: HOUR,
        set_up: |machine| {
            machine.become_instance();
            machine.profile_app(&format!("[profile app]\nrole_arn={ROLE}\ncredential_source=Ec2InstanceMetadata\n"));
        },
    },
    Expiring {
        name: "SSO",
        lifetime: 6 * HOUR,
        set_up: |machine| {
            machine.profile_app(support::SSO_PROFILE);
            machine.sso_cache("corp", 2 * YEAR, "");
        },
    },
    Expiring {
        name: "SSO with a session that is refreshed",
        lifetime: 6 * HOUR,
        set_up: |machine| {
            machine.profile_app(support::SSO_PROFILE);
            machine.sso_cache("corp", HOUR, support::REFRESHABLE);
        },
    },
    Expiring {
        name: "login",
        lifetime: 15 * MINUTE,
        set_up: |machine| {
            machine.profile_app(&format!("[profile app]\nlogin_session = {SESSION}\n"));
            let document = machine.simulator.log_in(SESSION, KeyFormat::Sec1);
            machine.login_cache(SESSION, &document);
        },
    },
    Expiring {
        name: "process",
        lifetime: HOUR,
        set_up: |machine| {
            // The expiration is read from a file that the test updates.
            let ends = machine.path("ends");
            let keys = r#""Version": 1, "AccessKeyId": "AKIDPROCESS", "SecretAccessKey": "s""#;
            let print = format!(r#"printf '{{{keys}, "Expiration": "%s"}}' "$(cat '{}')""#, ends.display());
            let script = machine.script("print", &print);
            machine.profile_app(&format!("[profile app]\ncredential_process = {script}\n"));
        },
    },
];

/// A client, and services of AWS whose clock is always right.
struct Running {
    what: String,
    lifetime: i64,
    client: Client,
    machine: Machine,
    hands: Hands,
    /// Does nothing: each background thread of the client has a reference to it.
    hook: test_hooks::Hook,
}

impl Running {
    fn start(source: &Expiring, case: &str) -> Self {
        let hands = Hands::at(START);
        let right = hands.clone();
        let now = Arc::new(move || UNIX_EPOCH + Duration::from_secs(u64::try_from(right.now()).unwrap()));
        let options =
            SimulatorOptions { now, sso_access_token_lifetime: Duration::from_secs(3600), ..Default::default() };
        let mut machine = Machine::with(options);
        machine.clock(&hands);
        (source.set_up)(&mut machine);
        let (what, lifetime) = (format!("{}, {case}", source.name), source.lifetime);
        let hook: test_hooks::Hook = Arc::new(|_| {});
        test_hooks::set_hook(Some(Arc::clone(&hook)));
        let running = Self { what, lifetime, client: machine.client(), machine, hands, hook };
        running.pass(0);
        running
    }

    /// Waits for the end of background fetches. They take milliseconds, in which the clock must not be set: who waits for
    /// such a fetch gets the refusal of what the wrong clock signed.
    fn finish_fetches(&self) {
        let give_up = Instant::now() + Duration::from_secs(30);
        // This thread has the other reference.
        while Arc::strong_count(&self.hook) > 2 {
            assert!(Instant::now() < give_up, "{}: a background fetch does not end", self.what);
            std::thread::yield_now();
        }
    }

    /// Lets time pass. The process then prints a new expiration.
    fn pass(&self, seconds: i64) {
        self.finish_fetches();
        self.hands.forward(seconds);
        self.machine.file("ends", &rfc3339(self.hands.now() + self.lifetime));
    }

    /// The next call makes a token with credentials that are valid for as long as it says. Returns their key's id.
    fn expect_valid(&self, when: &str) -> String {
        let (what, now) = (&self.what, self.hands.now());
        let token = self.client.generate_token(&request()).unwrap_or_else(|error| panic!("{what}, {when}: {error}"));
        assert!((1..=900).contains(&(token.expires_at() - now)), "{what}, {when}: {}", token.expires_at() - now);
        let id = access_key_id(&token);
        if let Some(credentials) = self.machine.simulator.find_credentials(&id) {
            let ends = credentials.expiration.unwrap().duration_since(UNIX_EPOCH).unwrap().as_secs();
            assert!(token.expires_at() <= i64::try_from(ends).unwrap(), "{what}, {when}: {id} has ended");
        }
        id
    }
}

impl Running {
    /// For two lifetimes every token is signed by valid credentials.
    fn expect_valid_from_now_on(&self) {
        self.expect_valid("as soon as the clock is right");
        let interval = self.lifetime / 6;
        for passed in (interval..=2 * self.lifetime).step_by(usize::try_from(interval).unwrap()) {
            self.machine.simulator.rotate();
            self.pass(interval);
            self.expect_valid(&format!("{passed} s after the clock is right"));
        }
    }

    /// The clock is wrong for so many seconds, and is used meanwhile. Calls may fail.
    fn be_wrong(&self, by: i64, seconds: i64) {
        self.hands.set_wrong_by(by);
        self.client.generate_token(&request()).ok();
        for _ in 0..4 {
            self.pass(seconds / 4);
            self.machine.simulator.rotate();
            self.client.generate_token(&request()).ok();
            self.client.try_generate_token(&request()).ok();
        }
        self.finish_fetches();
        self.hands.set_wrong_by(0);
    }
}

/// When the clock is set wrong: seconds before the end of the credentials.
fn moments(lifetime: i64) -> [i64; 3] {
    // Fresh, being refreshed in the background, ended.
    [lifetime, lifetime / 8, -1]
}

#[test]
fn the_first_token_after_the_clock_is_right_again_has_valid_credentials() {
    for source in &SOURCES {
        for wrong_by in STEPS {
            for left in moments(source.lifetime) {
                for wrong_for in [MINUTE, 20 * MINUTE, 3 * HOUR] {
                    let case = format!("wrong by {wrong_by} s for {wrong_for} s, {left} s before the end");
                    let running = Running::start(source, &case);
                    running.expect_valid("at the start");
                    running.pass(source.lifetime - left);
                    running.be_wrong(wrong_by, wrong_for);
                    running.expect_valid_from_now_on();
                }
            }
        }
    }
}

#[test]
fn a_clock_that_is_set_again_and_again_does_no_harm_once_it_is_right() {
    for source in &SOURCES {
        let running = Running::start(source, "several steps");
        running.expect_valid("at the start");
        for round in 0..3 {
            for wrong_by in [-2 * HOUR, 7 * HOUR, YEAR, -2 * HOUR] {
                running.be_wrong(wrong_by, 5 * MINUTE);
            }
            running.expect_valid(&format!("round {round}"));
            running.pass(source.lifetime / 2);
            running.expect_valid(&format!("round {round}, half a lifetime later"));
        }
        running.expect_valid_from_now_on();
    }
}

#[test]
fn a_refresh_while_the_clock_is_wrong_keeps_no_session_beyond_its_end() {
    for source in &SOURCES {
        for wrong_by in STEPS {
            let running = Running::start(source, &format!("refreshed by a clock that is wrong by {wrong_by} s"));
            running.expect_valid("at the start");
            running.hands.set_wrong_by(wrong_by);
            // A refresh that fails leaves the cached credentials.
            running.client.refresh().ok();
            running.pass(10);
            running.hands.set_wrong_by(0);
            running.expect_valid_from_now_on();
            // Another process finds what is in the files.
            let other = Running { client: running.machine.client(), ..running };
            other.expect_valid("in another client");
        }
    }
}

#[test]
fn a_client_that_starts_with_a_wrong_clock_has_valid_credentials_fifteen_minutes_after_it_is_corrected() {
    for source in &SOURCES {
        for wrong_by in STEPS {
            let running = Running::start(source, &format!("started with a clock that is wrong by {wrong_by} s"));
            running.hands.set_wrong_by(wrong_by);
            running.client.generate_token(&request()).ok();
            running.hands.set_wrong_by(0);
            running.machine.simulator.rotate();
            running.pass(15 * MINUTE + 1);
            let id = running.expect_valid("fifteen minutes after the clock is right");
            // And they expire when the source says so.
            running.machine.simulator.rotate();
            running.pass(source.lifetime + 1);
            let later = access_key_id(&running.client.generate_token(&request()).unwrap());
            assert!(id != later || source.name == "process", "{}: ended credentials sign", running.what);
        }
    }
}

#[test]
fn keys_of_the_environment_with_an_expiration_follow_the_clock() {
    let hands = Hands::at(START);
    let ends = rfc3339(START + HOUR);
    let variables = [
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "s"),
        ("AWS_CREDENTIAL_EXPIRATION", ends.as_str()),
    ];
    let client = Client::builder().environment(environment(&variables)).clock(hands.clock()).build();
    for wrong_by in STEPS {
        client.generate_token(&request()).unwrap();
        hands.set_wrong_by(wrong_by);
        match client.generate_token(&request()) {
            Ok(token) => assert!(wrong_by < 0 && token.expires_at() <= START + HOUR),
            Err(error) => assert!(wrong_by > 0 && error.kind() == ErrorKind::CredentialsExpired, "{error}"),
        }
        hands.set_wrong_by(0);
    }
    client.generate_token(&request()).unwrap();
    hands.forward(HOUR);
    assert_eq!(client.generate_token(&request()).unwrap_err().kind(), ErrorKind::CredentialsExpired);
}
