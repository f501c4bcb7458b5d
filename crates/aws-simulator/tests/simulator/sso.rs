use aws_simulator::{Fault, Route, Simulator};
use serde_json::{Value, json};

use crate::support::*;

const ROLE_CREDENTIALS: &str = "/federation/credentials?role_name=Developer&account_id=123456789012";

fn role_credentials(simulator: &Simulator, token: &str) -> Answer {
    let headers = [("x-amz-sso_bearer_token", token)];
    request(simulator, "GET", ROLE_CREDENTIALS, &headers, "")
}

fn create_token(simulator: &Simulator, refresh_token: &str) -> Answer {
    create_token_with(simulator, "refreshToken", refresh_token)
}

fn create_token_with(simulator: &Simulator, field: &str, value: &str) -> Answer {
    let mut input = json!({
        "clientId": "simulated-client-id",
        "clientSecret": "simulated-client-secret",
        "grantType": "refresh_token",
        "refreshToken": "simulated-sso-refresh-token",
    });
    input[field] = Value::from(value);
    let headers = [("Content-Type", "application/json")];
    request(simulator, "POST", "/token", &headers, &input.to_string())
}

#[test]
fn role_credentials_have_an_expiration_in_milliseconds() {
    let simulator = start();
    let answer = role_credentials(&simulator, "simulated-sso-access-token");
    assert_eq!(answer.status, 200);
    let document = answer.json();
    let credentials = &document["roleCredentials"];
    assert_eq!(credentials["expiration"], (NOON + 6 * 3600) * 1000);
    let id = credentials["accessKeyId"].as_str().expect("a string");
    let known = simulator.find_credentials(id).expect("recorded");
    assert_eq!(credentials["secretAccessKey"], known.secret_access_key);
    assert_eq!(credentials["sessionToken"], known.session_token.unwrap());
}

#[test]
fn an_unknown_access_token_is_refused_with_401() {
    let simulator = start();
    let answer = role_credentials(&simulator, "unknown");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("x-amzn-ErrorType"), Some("UnauthorizedException"));
    assert_eq!(answer.json()["message"], "Session token not found or invalid");
}

#[test]
fn role_and_account_are_required() {
    let simulator = start();
    let headers = [("x-amz-sso_bearer_token", "simulated-sso-access-token")];
    for target in ["/federation/credentials", "/federation/credentials?role_name=Developer"] {
        assert_eq!(request(&simulator, "GET", target, &headers, "").status, 400);
    }
}

#[test]
fn a_refreshed_access_token_is_valid_until_it_expires() {
    let simulator = start();
    let answer = create_token(&simulator, "simulated-sso-refresh-token");
    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert_eq!(document["expiresIn"], 28_800);
    assert_eq!(document["tokenType"], "Bearer");
    let token = document["accessToken"].as_str().expect("a string");
    simulator.set_clock_offset(28_799);
    assert_eq!(role_credentials(&simulator, token).status, 200);
    simulator.set_clock_offset(28_800);
    assert_eq!(role_credentials(&simulator, token).status, 401);
}

#[test]
fn a_refresh_token_is_valid_once_and_is_replaced() {
    let simulator = start();
    let document = create_token(&simulator, "simulated-sso-refresh-token").json();
    let again = create_token(&simulator, "simulated-sso-refresh-token");
    assert_eq!(again.status, 400);
    assert_eq!(again.header("x-amzn-ErrorType"), Some("InvalidGrantException"));
    assert_eq!(again.json()["error"], "invalid_grant");
    let next = document["refreshToken"].as_str().expect("a string");
    assert_eq!(create_token(&simulator, next).status, 200);
}

#[test]
fn a_wrong_client_or_grant_is_refused_with_its_error_name() {
    let simulator = start();
    for (field, kind) in [
        ("clientId", "InvalidClientException"),
        ("clientSecret", "InvalidClientException"),
        ("grantType", "UnsupportedGrantTypeException"),
        ("refreshToken", "InvalidGrantException"),
    ] {
        let answer = create_token_with(&simulator, field, "wrong");
        assert_eq!(answer.status, 400, "{field}");
        assert_eq!(answer.header("x-amzn-ErrorType"), Some(kind), "{field}");
    }
}

#[test]
fn the_refresh_token_stays_valid_when_access_tokens_are_revoked() {
    let simulator = start();
    simulator.revoke_sso_access_tokens();
    assert_eq!(role_credentials(&simulator, "simulated-sso-access-token").status, 401);
    assert_eq!(create_token(&simulator, "simulated-sso-refresh-token").status, 200);
}

#[test]
fn each_service_has_its_own_throttling_response() {
    let simulator = start();
    simulator.inject(Route::Any, Fault::Throttling, 2);
    let portal = role_credentials(&simulator, "simulated-sso-access-token");
    assert_eq!(portal.status, 429);
    assert_eq!(portal.header("x-amzn-ErrorType"), Some("TooManyRequestsException"));
    let oidc = create_token(&simulator, "simulated-sso-refresh-token");
    assert_eq!(oidc.status, 400);
    assert_eq!(oidc.json()["error"], "slow_down");
}
