//! Every fault against every remote source: the kind of the error, the number of requests, the time limit, and no secret
//! in the message.

mod support;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_simulator::{Fault, Part, Route, Times};
use pgiam_core::ErrorKind::{self, CredentialsExpired, Provider, Timeout};
use support::{Machine, request, within};

/// A remote source, and the setup in which it is the only one.
struct Remote {
    route: Route,
    /// The number of requests after which an outage is an error.
    tries: usize,
    prepare: fn(&mut Machine),
}

const REMOTES: [Remote; 10] = [
    Remote { route: Route::ImdsToken, tries: 3, prepare: Machine::become_instance },
    Remote { route: Route::ImdsRoleList, tries: 3, prepare: Machine::become_instance },
    Remote { route: Route::ImdsCredentials, tries: 3, prepare: Machine::become_instance },
    Remote { route: Route::ImdsRegion, tries: 3, prepare: region_of_instance },
    Remote { route: Route::Container, tries: 3, prepare: container },
    Remote { route: Route::StsAssumeRole, tries: 3, prepare: Machine::assume_a_role },
    Remote { route: Route::StsWebIdentity, tries: 3, prepare: Machine::use_web_identity },
    Remote { route: Route::SsoRoleCredentials, tries: 3, prepare: Machine::use_sso },
    Remote { route: Route::OidcCreateToken, tries: 3, prepare: Machine::use_sso_to_refresh },
    Remote { route: Route::SignInToken, tries: 3, prepare: Machine::use_login_to_refresh },
];

fn region_of_instance(machine: &mut Machine) {
    machine.become_instance();
    machine.unset("AWS_REGION");
    let keys = machine.keys("tests");
    machine.config(&format!("[default]\n{keys}"));
}

fn container(machine: &mut Machine) {
    let url = format!("{}/v1/credentials", machine.simulator.url());
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "planted-pod-token");
}

/// The expected result of a fault.
enum Outcome {
    /// A token, despite the fault.
    Token,
    /// An error of this kind after one request.
    Refused(ErrorKind),
    /// An error of this kind after `tries` requests.
    Failed(ErrorKind),
    /// An error because of the deadline.
    TimedOut,
}

fn faults() -> Vec<Fault> {
    let interval = Duration::from_millis(100);
    vec![
        Fault::Refuse,
        Fault::HangBeforeAnswer,
        Fault::HangInHeader,
        Fault::HangAfterHeader,
        Fault::HangInBody,
        Fault::Drip { interval },
        Fault::DripHeader { interval },
        Fault::Reset,
        Fault::SplitBody,
        Fault::Truncate,
        Fault::NonJson,
        Fault::WrongXml,
        Fault::Empty,
        Fault::Huge(10 * 1024 * 1024),
        Fault::Endless,
        Fault::Redirect(301, "http://127.0.0.1:9/elsewhere".into()),
        Fault::Redirect(307, "http://127.0.0.1:9/elsewhere".into()),
        Fault::Throttling,
        Fault::Status(400),
        Fault::Status(401),
        Fault::Status(403),
        Fault::Status(404),
        Fault::Status(429),
        Fault::Status(500),
        Fault::Status(503),
        Fault::ExpiredCredentials,
        Fault::ClockOff(600),
        Fault::ClockOff(-600),
        Fault::ClockOff(1200),
        Fault::ClockOff(-1200),
    ]
}

const PARTS: [Part; 6] =
    [Part::Headers, Part::HeaderValue, Part::InterimResponses, Part::ChunkExtension, Part::Chunks, Part::Trailers];

/// What a hostile peer may send: parts without end, as fast as they are read and piece by piece, and more of something
/// than any service has.
fn hostile() -> Vec<Fault> {
    let paces = [Duration::ZERO, Duration::from_millis(50)];
    let endless = PARTS.into_iter().flat_map(|part| paces.map(|interval| Fault::EndlessPart { part, interval }));
    endless.chain([Fault::Headers(100), Fault::Headers(200), Fault::Headers(3000), Fault::Nested(30_000)]).collect()
}

/// The rules, and the reason for every exception.
fn expected(route: Route, fault: &Fault) -> Outcome {
    use Outcome::{Failed, Refused, TimedOut, Token};
    let imds = matches!(route, Route::ImdsToken | Route::ImdsRoleList | Route::ImdsCredentials | Route::ImdsRegion);
    let failing = if route == Route::ImdsRegion { ErrorKind::NoRegion } else { Provider };
    match fault {
        Fault::SplitBody => Token,
        Fault::HangBeforeAnswer
        | Fault::HangInHeader
        | Fault::HangAfterHeader
        | Fault::HangInBody
        | Fault::Drip { .. }
        | Fault::DripHeader { .. } => TimedOut,
        Fault::Refuse | Fault::Reset | Fault::Truncate | Fault::Status(429 | 500 | 503) => Failed(failing),
        // The session token of IMDS is any text without spaces, which an HTML page is not; all else must parse.
        Fault::NonJson | Fault::WrongXml | Fault::Empty | Fault::Huge(_) | Fault::Endless => match (route, fault) {
            // An empty list means that no role is attached.
            (Route::ImdsRoleList, Fault::Empty) => Refused(ErrorKind::NoCredentials),
            _ => Refused(failing),
        },
        Fault::EndlessPart { interval, .. } if !interval.is_zero() => TimedOut,
        Fault::EndlessPart { .. } => Refused(failing),
        // ureq's limit is 128.
        Fault::Headers(..=128) => expected(route, &Fault::Empty),
        Fault::Headers(_) | Fault::Nested(_) => Refused(failing),
        // Throttling is 503, 429, or 400 with a code of the service.
        Fault::Throttling => Failed(failing),
        Fault::Status(404) if route == Route::ImdsRoleList => Refused(ErrorKind::NoCredentials),
        // A new session token is fetched, once.
        Fault::Status(401) if imds => Refused(failing),
        // The portal reports an expired session this way.
        Fault::Status(401) if route == Route::SsoRoleCredentials => Refused(CredentialsExpired),
        // The sign-in service names its reason in the body.
        Fault::Status(_) if route == Route::SignInToken => Refused(Provider),
        // The refresh token is no longer valid: log in again.
        Fault::Status(_) if route == Route::OidcCreateToken => Refused(CredentialsExpired),
        Fault::Status(_) | Fault::Redirect(..) => Refused(failing),
        Fault::ExpiredCredentials => match route {
            // These sources may return expired credentials during an outage of their own; they are used, as in the SDKs.
            Route::ImdsCredentials | Route::Container => Token,
            Route::StsAssumeRole | Route::StsWebIdentity | Route::SsoRoleCredentials => Refused(CredentialsExpired),
            _ => Token,
        },
        // Signatures are valid for fifteen minutes either way; no other request has a time.
        Fault::ClockOff(1200 | -1200) if route == Route::StsAssumeRole => Refused(Provider),
        // A proof of possession is valid for five.
        Fault::ClockOff(_) if route == Route::SignInToken => Refused(Provider),
        Fault::ClockOff(_) => Token,
        other => panic!("no rule for {other:?}"),
    }
}

/// Whether both sides work as fast as they can.
fn is_busy(fault: &Fault) -> bool {
    matches!(fault, Fault::EndlessPart { interval: Duration::ZERO, .. })
}

/// Chunks of a byte take the client long to read, and every source reads them the same way.
fn is_repetition(route: Route, fault: &Fault) -> bool {
    let is_long = matches!(fault, Fault::EndlessPart { part: Part::Chunks, interval: Duration::ZERO });
    is_long && !matches!(route, Route::ImdsCredentials | Route::StsAssumeRole)
}

/// One row of the table: the result, or why it is wrong.
fn row(remote: &Remote, fault: &Fault) -> Result<String, String> {
    let outcome = expected(remote.route, fault);
    let time_out = match outcome {
        Outcome::TimedOut => Duration::from_millis(600),
        _ => Duration::from_secs(20),
    };
    let mut came = Ok(String::new());
    // One at a time: the others' time limits are short.
    static BUSY: Mutex<()> = Mutex::new(());
    let _turn = is_busy(fault).then(|| BUSY.lock().unwrap_or_else(PoisonError::into_inner));
    let bound = within(time_out, || {
        let mut machine = Machine::new();
        (remote.prepare)(&mut machine);
        machine.setting("timeout_ms", &time_out.as_millis().to_string());
        if is_busy(fault) {
            // Else the second that instance metadata has may be over before all of the limit is read.
            machine.set("AWS_METADATA_SERVICE_TIMEOUT", "20");
        }
        machine.simulator.inject(remote.route, fault.clone(), Times::Forever);
        let host = if remote.route == Route::ImdsRegion { "db.example.com" } else { request().host };
        let client = machine.client();
        let result = client.generate_token(&pgiam_core::TokenRequest { host, ..request() });
        let asked = machine.simulator.requests_for(remote.route).len();
        came = judge(remote, &outcome, asked, &result).and_then(|word| {
            let said = format!("{result:?}");
            match planted(&machine).into_iter().find(|secret| result.is_err() && said.contains(secret.as_str())) {
                Some(secret) => Err(format!("{secret} is in {said}")),
                None => Ok(word),
            }
        });
    });
    bound.map_err(|took| format!("took {took:?} of {time_out:?}"))?;
    came
}

fn judge(
    remote: &Remote,
    outcome: &Outcome,
    asked: usize,
    result: &Result<pgiam_core::Token, pgiam_core::Error>,
) -> Result<String, String> {
    let error = match (outcome, result) {
        (Outcome::Token, Ok(_)) => return Ok("a token".into()),
        (Outcome::Token, Err(error)) => return Err(format!("no token: {error:?}")),
        (_, Ok(_)) => return Err("a token was made".into()),
        (_, Err(error)) => error,
    };
    let (kind, requests) = match outcome {
        Outcome::Refused(kind) => (*kind, 1..=1),
        Outcome::Failed(kind) => (*kind, remote.tries..=remote.tries),
        // Retried only before the deadline.
        _ => (Timeout, 1..=2),
    };
    // After a 401 the session token of IMDS is fetched again, and the request is repeated.
    let imds_401 = error.message().contains("401") && requests == (1..=1) && asked == 2;
    if error.kind() != kind {
        return Err(format!("not {kind:?}: {error:?}"));
    }
    if !requests.contains(&asked) && !imds_401 {
        return Err(format!("asked {asked} times, not {requests:?}: {error:?}"));
    }
    Ok(format!("{kind:?} after {asked}"))
}

/// The secrets that were sent or received.
fn planted(machine: &Machine) -> Vec<String> {
    let mut secrets: Vec<String> = [
        "planted-pod-token",
        "simulated-web-identity-token",
        "simulated-sso-access-token",
        "simulated-sso-refresh-token",
        "simulated-client-secret",
    ]
    .map(str::to_owned)
    .to_vec();
    for credentials in [
        machine.simulator.instance_credentials(),
        machine.simulator.container_credentials(),
        aws_simulator::Credentials::of_user("tests"),
    ] {
        secrets.push(credentials.secret_access_key);
        secrets.extend(credentials.session_token);
    }
    secrets
}

#[test]
fn every_fault_of_every_remote_source_has_the_expected_kind_number_of_requests_and_time_limit() {
    check_all(&faults());
}

#[test]
fn a_peer_that_sends_without_end_or_too_much_of_something_gets_no_source_beyond_its_limits() {
    check_all(&hostile());
}

fn check_all(faults: &[Fault]) {
    // One table at a time: the time limits are short.
    static TABLE: Mutex<()> = Mutex::new(());
    let _turn = TABLE.lock().unwrap_or_else(PoisonError::into_inner);
    let pairs = REMOTES.iter().flat_map(|remote| faults.iter().map(move |fault| (remote, fault)));
    let work: Mutex<Vec<(&Remote, &Fault)>> =
        Mutex::new(pairs.filter(|(remote, fault)| !is_repetition(remote.route, fault)).collect());
    let table = Mutex::new(BTreeMap::new());
    let all = work.lock().unwrap().len();
    std::thread::scope(|scope| {
        // The threads mostly wait.
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let next = work.lock().unwrap().pop();
                    let Some((remote, fault)) = next else { return };
                    let came = row(remote, fault);
                    table.lock().unwrap().insert((format!("{:?}", remote.route), format!("{fault:?}")), came);
                }
            });
        }
    });
    let table = table.into_inner().unwrap();
    let good = table.values().filter(|came| came.is_ok()).count();
    for ((route, fault), came) in &table {
        let came = came.as_ref().map_or_else(|wrong| format!("WRONG: {wrong}"), Clone::clone);
        println!("{route:<28} {fault:<56} {came}");
    }
    println!("{good} of {all} combinations of source and fault as expected");
    assert_eq!(good, all);
}

#[test]
fn region_and_credentials_share_one_deadline() {
    let time_out = Duration::from_millis(900);
    let bound = within(time_out, || {
        let mut machine = Machine::new();
        machine.become_instance();
        machine.unset("AWS_REGION");
        machine.setting("timeout_ms", &time_out.as_millis().to_string());
        machine.simulator.inject(Route::ImdsRegion, Fault::Delay { duration: Duration::from_millis(500) }, 1);
        machine.simulator.inject(Route::ImdsCredentials, Fault::HangBeforeAnswer, Times::Forever);
        let request = pgiam_core::TokenRequest { host: "db.example.com", ..request() };
        assert_eq!(machine.client().generate_token(&request).unwrap_err().kind(), Timeout);
    });
    assert_eq!(bound, Ok(()));
}
