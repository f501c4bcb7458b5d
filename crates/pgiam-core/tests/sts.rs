//! STS: what a refusal becomes, what is tried again, and what is read anew.

mod support;

use aws_simulator::{Fault, Route, Times};
use pgiam_core::ErrorKind;
use support::{Machine, ROLE, access_key_id};

fn web_identity(machine: &mut Machine) {
    let file = machine.file("token", "simulated-web-identity-token");
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    machine.set("AWS_ROLE_ARN", ROLE);
}

fn assumed_role(machine: &mut Machine) {
    let keys = machine.keys("tests");
    machine.profile_app(&format!("[profile app]\nrole_arn={ROLE}\nsource_profile=base\n[profile base]\n{keys}"));
}

#[test]
fn a_request_signed_with_a_wrong_secret_is_refused_and_the_message_says_what_to_check() {
    let mut machine = Machine::new();
    let keys = machine.keys("tests");
    let wrong = keys.replace("aws_secret_access_key = ", "aws_secret_access_key = planted");
    machine.profile_app(&format!("[profile app]\nrole_arn={ROLE}\nsource_profile=base\n[profile base]\n{wrong}"));
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::Provider);
    assert!(error.message().contains("SignatureDoesNotMatch") && error.message().contains("clock"), "{error}");
    assert!(!error.message().contains("planted"), "{error}");
    assert_eq!(machine.simulator.requests_for(Route::StsAssumeRole).len(), 1, "a refusal is not tried again");
}

#[test]
fn each_refusal_says_what_to_do() {
    for (code, advice) in [
        ("AccessDenied", "trust policy"),
        ("ExpiredToken", "expired"),
        ("InvalidClientTokenId", "check key and region"),
        ("RegionDisabledException", "activate STS"),
    ] {
        let mut machine = Machine::new();
        assumed_role(&mut machine);
        let fault = Fault::StsError(403, code.into());
        machine.simulator.inject(Route::StsAssumeRole, fault, Times::Forever);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::Provider);
        for part in [code, advice, ROLE, "profile"] {
            assert!(error.message().contains(part), "{error}");
        }
    }
}

#[test]
fn throttling_and_the_identity_providers_outage_are_tried_again() {
    for code in ["Throttling", "ThrottlingException", "IDPCommunicationError"] {
        let mut machine = Machine::new();
        web_identity(&mut machine);
        let fault = Fault::StsError(400, code.into());
        machine.simulator.inject(Route::StsWebIdentity, fault, 2);
        machine.token();
        assert_eq!(machine.simulator.requests_for(Route::StsWebIdentity).len(), 3, "{code}");
    }
}

#[test]
fn the_web_identity_token_is_read_at_every_fetch() {
    let mut machine = Machine::new();
    web_identity(&mut machine);
    machine.file("token", "of-yesterday");
    let client = machine.client();
    let error = client.generate_token(&support::request()).unwrap_err();
    assert!(error.message().contains("InvalidIdentityToken"), "{error}");
    assert!(!error.message().contains("of-yesterday"), "{error}");
    // Renewed in place, by whoever provides it.
    machine.file("token", "simulated-web-identity-token\n");
    client.generate_token(&support::request()).unwrap();
}

#[test]
fn a_web_identity_that_is_half_configured_or_cannot_be_read_stops_the_search() {
    let mut machine = Machine::new();
    machine.become_instance();
    web_identity(&mut machine);
    machine.unset("AWS_ROLE_ARN");
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert!(error.message().contains("AWS_ROLE_ARN"), "{error}");

    web_identity(&mut machine);
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token");
    let error = machine.error();
    assert!(error.message().contains("/nonexistent/token"), "{error}");
    machine.file("token", " \n");
    web_identity_empty(&mut machine);
    assert!(machine.error().message().contains("is empty"));
    assert!(machine.simulator.requests().is_empty(), "the node's role is never asked for");
}

fn web_identity_empty(machine: &mut Machine) {
    let file = machine.path("token").to_str().unwrap().to_owned();
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
}

#[test]
fn the_sessions_name_of_the_environment_is_used() {
    let mut machine = Machine::new();
    web_identity(&mut machine);
    machine.set("AWS_ROLE_SESSION_NAME", "deploy-42");
    let token = machine.token();
    let principal = machine.simulator.find_credentials(&access_key_id(&token)).unwrap().principal;
    assert!(principal.ends_with(":assumed-role/app/deploy-42"), "{principal}");
}
