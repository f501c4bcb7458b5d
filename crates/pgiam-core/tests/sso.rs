//! SSO: the token that `aws sso login` left, its refresh, and what is said when it is over.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use aws_simulator::{Fault, Route, Times};
use pgiam_core::ErrorKind;
use serde_json::Value;
use support::{Hands, Machine, REFRESHABLE, SSO_PROFILE, request};

const LEGACY: &str = "[profile app]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-central-1\n\
    sso_account_id = 123456789012\nsso_role_name = Developer\n";
const START_URL: &str = "https://corp.awsapps.com/start";
const HOUR: i64 = 3600;

fn refreshes(machine: &Machine) -> usize {
    machine.simulator.requests_for(Route::OidcCreateToken).len()
}

#[test]
fn the_cached_token_is_found_by_either_naming_rule() {
    for (profile, key) in [(SSO_PROFILE, "corp"), (LEGACY, START_URL)] {
        let mut machine = Machine::new();
        machine.profile_app(profile);
        machine.sso_cache(key, 8 * HOUR, "");
        machine.token();
        let asked = &machine.simulator.requests_for(Route::SsoRoleCredentials)[0];
        assert_eq!(asked.header("x-amz-sso_bearer_token"), Some("simulated-sso-access-token"));
        assert!(asked.target.contains("role_name=Developer&account_id=123456789012"), "{}", asked.target);
    }
}

#[test]
fn a_token_near_its_end_is_refreshed_and_the_file_replaced_whole_with_mode_0600() {
    let mut machine = Machine::new();
    machine.profile_app(SSO_PROFILE);
    let path = machine.sso_cache("corp", 240, &format!(r#"{REFRESHABLE}, "startUrl": "{START_URL}""#));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    machine.token();
    assert_eq!(refreshes(&machine), 1);

    let document: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_ne!(document["accessToken"], "simulated-sso-access-token");
    assert_ne!(document["refreshToken"], "simulated-sso-refresh-token", "a refresh token is good once");
    assert_eq!(document["startUrl"], START_URL, "what others wrote stays");
    assert_eq!(document["clientId"], "simulated-client-id");
    assert!(document["expiresAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "no temporary file stays behind");

    // Whoever comes next finds the new token and asks OIDC for nothing.
    machine.token();
    assert_eq!(refreshes(&machine), 1);
}

#[test]
fn a_token_that_still_holds_is_used_when_its_refresh_fails_or_hangs() {
    for fault in [Fault::Status(400), Fault::Status(503), Fault::HangBeforeAnswer] {
        let mut machine = Machine::new();
        machine.setting("timeout_ms", "1500");
        machine.profile_app(SSO_PROFILE);
        machine.sso_cache("corp", 240, REFRESHABLE);
        machine.simulator.inject(Route::OidcCreateToken, fault, Times::Forever);
        machine.token();
    }
}

#[test]
fn a_session_that_is_over_says_how_to_log_in_again() {
    let over = |prepare: &dyn Fn(&mut Machine)| {
        let mut machine = Machine::new();
        machine.profile_app(SSO_PROFILE);
        machine.become_instance();
        prepare(&mut machine);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::CredentialsExpired, "{error}");
        assert!(error.message().contains("aws sso login --profile app"), "{error}");
        assert!(!error.message().contains("simulated-"), "{error}");
        assert!(machine.simulator.requests_for(Route::ImdsToken).is_empty(), "never the node's role");
    };
    over(&|_| {});
    over(&|machine| drop(machine.sso_cache("corp", -60, "")));
    over(&|machine| {
        machine.config(LEGACY);
        machine.sso_cache(START_URL, -60, REFRESHABLE);
    });
    over(&|machine| {
        let refreshable = format!(r#"{REFRESHABLE}, "registrationExpiresAt": "2020-01-01T00:00:00Z""#);
        machine.sso_cache("corp", -60, &refreshable);
    });
    over(&|machine| {
        machine.sso_cache("corp", -60, &REFRESHABLE.replace("sso-refresh", "used-refresh"));
    });
    over(&|machine| {
        machine.sso_cache("corp", 8 * HOUR, "");
        machine.simulator.inject(Route::SsoRoleCredentials, Fault::Status(401), Times::Forever);
    });
    for text in ["not json", "{}", r#"{"accessToken": "line\nbreak", "expiresAt": "2999-01-01T00:00:00Z"}"#] {
        over(&|machine| drop(machine.file(&format!(".aws/sso/cache/{}.json", support::sha1_hex("corp")), text)));
    }
}

#[test]
fn a_role_that_the_user_does_not_have_is_told_so() {
    let mut machine = Machine::new();
    machine.profile_app(SSO_PROFILE);
    machine.sso_cache("corp", 8 * HOUR, "");
    machine.simulator.inject(Route::SsoRoleCredentials, Fault::Status(403), Times::Forever);
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::Provider);
    assert!(error.message().contains("sso_role_name") && error.message().contains("123456789012"), "{error}");
}

#[test]
fn logging_in_again_is_enough_for_a_running_program() {
    let mut machine = Machine::new();
    machine.profile_app(SSO_PROFILE);
    machine.sso_cache("corp", -60, "");
    let client = machine.client();
    assert_eq!(client.generate_token(&request()).unwrap_err().kind(), ErrorKind::CredentialsExpired);
    machine.sso_cache("corp", 8 * HOUR, "");
    client.generate_token(&request()).unwrap();
}

#[test]
fn a_refresh_that_another_process_won_is_read_from_the_cache() {
    let mut machine = Machine::new();
    let hands = Hands::of(&machine.simulator);
    machine.clock(&hands);
    machine.profile_app(SSO_PROFILE);
    machine.sso_cache("corp", -60, &REFRESHABLE.replace("sso-refresh", "used-refresh"));
    machine.simulator.inject(Route::OidcCreateToken, Fault::Hold, 1);
    let client = machine.client();
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| client.generate_token(&request()));
        assert!(machine.simulator.wait_for_held(1, std::time::Duration::from_secs(10)));
        machine.sso_cache("corp", 8 * HOUR, "");
        machine.simulator.release();
        ours.join().unwrap().unwrap();
    });
}
