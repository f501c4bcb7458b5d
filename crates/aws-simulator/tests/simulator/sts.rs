use aws_simulator::{Credentials, Fault, Route, Simulator};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::support::*;

const ROLE: &str = "arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fdatabase%2Freader";
const DATE: &str = "20260131T120000Z";

fn assume_role_form() -> String {
    format!("Action=AssumeRole&Version=2011-06-15&RoleArn={ROLE}&RoleSessionName=pgiam")
}

fn web_identity_form(token: &str) -> String {
    format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={ROLE}&RoleSessionName=pgiam\
         &WebIdentityToken={token}"
    )
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length is valid");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A signed POST to `/`, as an SDK sends it.
fn signed(simulator: &Simulator, credentials: &Credentials, form: &str) -> Answer {
    signed_at(simulator, credentials, form, DATE)
}

fn signed_at(simulator: &Simulator, credentials: &Credentials, form: &str, date: &str) -> Answer {
    let content_type = "application/x-www-form-urlencoded; charset=utf-8";
    let host = format!("127.0.0.1:{}", simulator.port());
    let mut headers = vec![("content-type", content_type), ("host", host.as_str()), ("x-amz-date", date)];
    if let Some(token) = &credentials.session_token {
        headers.push(("x-amz-security-token", token));
    }
    let names: Vec<&str> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let payload = hex(&Sha256::digest(form.as_bytes()));
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{payload}");
    let scope = format!("{}/eu-central-1/sts/aws4_request", &date[..8]);
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{}", credentials.secret_access_key).into_bytes();
    for part in scope.split('/') {
        key = hmac(&key, part);
    }
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
        credentials.access_key_id,
        hex(&hmac(&key, &text))
    );
    headers[1].0 = "Host";
    headers.push(("authorization", &authorization));
    request(simulator, "POST", "/", &headers, form)
}

fn user(simulator: &Simulator) -> Credentials {
    let user = Credentials::of_user("deployer");
    simulator.register_credentials(&user);
    user
}

#[track_caller]
fn assert_refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.element("Code")), (status, code));
    assert!(answer.text().starts_with("<ErrorResponse "));
}

#[test]
fn assume_role_returns_credentials_of_the_role_session() {
    let simulator = start();
    let answer = signed(&simulator, &user(&simulator), &assume_role_form());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let arn = "arn:aws:sts::123456789012:assumed-role/reader/pgiam";
    assert_eq!(answer.element("Arn"), arn);
    assert_eq!(answer.element("Expiration"), "2026-01-31T13:00:00Z");
    let issued = simulator.find_credentials(answer.element("AccessKeyId")).expect("recorded");
    assert_eq!(answer.element("SecretAccessKey"), issued.secret_access_key);
    assert_eq!(Some(answer.element("SessionToken")), issued.session_token.as_deref());
    assert_eq!(issued.principal, arn);

    let identity = "Action=GetCallerIdentity&Version=2011-06-15";
    let answer = signed(&simulator, &issued, identity);
    assert_eq!(answer.element("Arn"), arn);
    assert_eq!(answer.element("Account"), "123456789012");
}

#[test]
fn a_wrong_secret_is_refused_as_a_signature_mismatch() {
    let simulator = start();
    let mut caller = user(&simulator);
    caller.secret_access_key.push('x');
    let answer = signed(&simulator, &caller, &assume_role_form());
    assert_refused(&answer, 403, "SignatureDoesNotMatch");
}

#[test]
fn an_unknown_key_and_a_wrong_session_token_are_invalid_client_tokens() {
    let simulator = start();
    let stranger = Credentials::of_user("stranger");
    let answer = signed(&simulator, &stranger, &assume_role_form());
    assert_refused(&answer, 403, "InvalidClientTokenId");
    for token in [None, Some("another".to_owned())] {
        let caller = Credentials { session_token: token, ..simulator.instance_credentials() };
        let answer = signed(&simulator, &caller, &assume_role_form());
        assert_refused(&answer, 403, "InvalidClientTokenId");
    }
}

#[test]
fn an_unsigned_request_is_refused_as_missing_its_authentication_token() {
    let simulator = start();
    let answer = request(&simulator, "POST", "/", &[], &assume_role_form());
    assert_refused(&answer, 403, "MissingAuthenticationToken");
}

#[test]
fn expired_credentials_are_refused_as_expired() {
    let simulator = start();
    let caller = simulator.instance_credentials();
    simulator.set_clock_offset(6 * 3600);
    let answer = signed_at(&simulator, &caller, &assume_role_form(), "20260131T180000Z");
    assert_refused(&answer, 400, "ExpiredToken");
}

#[test]
fn a_service_with_a_wrong_clock_refuses_the_signature() {
    let simulator = start();
    simulator.inject(Route::StsAssumeRole, Fault::ClockOff(901), 1);
    let answer = signed(&simulator, &user(&simulator), &assume_role_form());
    assert_refused(&answer, 403, "SignatureDoesNotMatch");
    assert!(answer.element("Message").starts_with("Signature expired"));
    assert_eq!(answer.header("date"), Some("Sat, 31 Jan 2026 12:15:01 GMT"));
}

#[test]
fn a_duration_outside_its_limits_is_a_validation_error() {
    let simulator = start();
    let caller = user(&simulator);
    for (seconds, end) in [
        ("899", None),
        ("900", Some("2026-01-31T12:15:00Z")),
        ("43200", Some("2026-02-01T00:00:00Z")),
        ("43201", None),
        ("soon", None),
    ] {
        let form = format!("{}&DurationSeconds={seconds}", assume_role_form());
        let answer = signed(&simulator, &caller, &form);
        match end {
            Some(end) => assert_eq!(answer.element("Expiration"), end),
            None => assert_refused(&answer, 400, "ValidationError"),
        }
    }
}

#[test]
fn a_role_assumed_by_a_role_has_a_session_of_at_most_an_hour() {
    let simulator = start();
    let caller = simulator.instance_credentials();
    for (seconds, status) in [("3600", 200), ("3601", 400)] {
        let form = format!("{}&DurationSeconds={seconds}", assume_role_form());
        assert_eq!(signed(&simulator, &caller, &form).status, status, "{seconds}");
    }
}

#[test]
fn a_malformed_role_or_session_name_is_a_validation_error() {
    let simulator = start();
    let caller = user(&simulator);
    for (role, session) in [
        ("reader", "pgiam"),
        ("arn:aws:iam::123456789012:user/reader", "pgiam"),
        ("arn:aws:iam::12345:role/reader", "pgiam"),
        ("arn:aws:iam::123456789012:role/reader", "p"),
        ("arn:aws:iam::123456789012:role/reader", "with%20space"),
    ] {
        let form = format!("Action=AssumeRole&Version=2011-06-15&RoleArn={role}&RoleSessionName={session}");
        let answer = signed(&simulator, &caller, &form);
        assert_refused(&answer, 400, "ValidationError");
    }
}

#[test]
fn a_required_external_id_must_be_given() {
    let simulator = start_with(|options| options.external_id = Some("ticket 7".to_owned()));
    let caller = user(&simulator);
    let with = |id: &str| format!("{}&ExternalId={id}", assume_role_form());
    assert_eq!(signed(&simulator, &caller, &with("ticket%207")).status, 200);
    let wrong = signed(&simulator, &caller, &with("8"));
    assert_refused(&wrong, 403, "AccessDenied");
    let absent = signed(&simulator, &caller, &assume_role_form());
    assert_refused(&absent, 403, "AccessDenied");
}

#[test]
fn a_web_identity_token_needs_no_signature() {
    let simulator = start();
    let form = web_identity_form("simulated-web-identity-token");
    let answer = request(&simulator, "POST", "/", &[], &form);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.text().starts_with("<AssumeRoleWithWebIdentityResponse "));
    let id = answer.element("AccessKeyId");
    assert!(simulator.find_credentials(id).is_some());
    assert_eq!(simulator.requests_for(Route::StsWebIdentity).len(), 1);
}

#[test]
fn a_wrong_web_identity_token_is_an_invalid_identity_token() {
    let simulator = start();
    let ask = |token: &str| request(&simulator, "POST", "/", &[], &web_identity_form(token));
    assert_refused(&ask("stale"), 400, "InvalidIdentityToken");
    simulator.set_web_identity_token("stale");
    assert_eq!(ask("stale").status, 200);
}

#[test]
fn injected_errors_are_returned() {
    let simulator = start();
    let caller = user(&simulator);
    simulator.inject(Route::Sts, Fault::Throttling, 1);
    let code = "IDPCommunicationError".to_owned();
    simulator.inject(Route::StsWebIdentity, Fault::StsError(400, code), 1);
    let throttled = signed(&simulator, &caller, &assume_role_form());
    assert_refused(&throttled, 400, "Throttling");
    let form = web_identity_form("simulated-web-identity-token");
    let answer = request(&simulator, "POST", "/", &[], &form);
    assert_refused(&answer, 400, "IDPCommunicationError");
    assert_eq!(request(&simulator, "POST", "/", &[], &form).status, 200);
}

#[test]
fn an_unknown_action_or_version_is_refused() {
    let simulator = start();
    for form in ["Action=GetSessionToken&Version=2011-06-15", "Action=AssumeRole&Version=2011-06-14", ""] {
        let answer = request(&simulator, "POST", "/", &[], form);
        assert_refused(&answer, 400, "InvalidAction");
    }
}

#[test]
fn a_demanded_mfa_device_must_be_given_with_the_code_that_it_shows_and_each_code_is_good_once() {
    const DEVICE: &str = "arn:aws:iam::123456789012:mfa/jane";
    let simulator = start();
    let caller = user(&simulator);
    let form = |serial: &str, code: &str| format!("{}&SerialNumber={serial}&TokenCode={code}", assume_role_form());
    assert_refused(&signed(&simulator, &caller, &form(DEVICE, "123456")), 403, "AccessDenied");
    simulator.set_mfa(DEVICE, "123456");
    for refused in [assume_role_form(), form(DEVICE, "654321"), form("arn:aws:iam::123456789012:mfa/joe", "123456")] {
        let answer = signed(&simulator, &caller, &refused);
        assert_refused(&answer, 403, "AccessDenied");
        assert!(answer.text().contains("MultiFactorAuthentication failed"), "{}", answer.text());
    }
    assert_eq!(signed(&simulator, &caller, &form(DEVICE, "123456")).status, 200);
    assert_refused(&signed(&simulator, &caller, &form(DEVICE, "123456")), 403, "AccessDenied");
}
