//! SSO: the token that `aws sso login` cached, its refresh, and the error when the session has ended.

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
    let numbers = r#""ofALaterVersion":[92.3376036854775807,123456789012345678901234567890]"#;
    let path = machine.sso_cache("corp", 240, &format!(r#"{REFRESHABLE}, "startUrl": "{START_URL}", {numbers}"#));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    machine.token();
    assert_eq!(refreshes(&machine), 1);

    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(numbers), "{text}");
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_ne!(document["accessToken"], "simulated-sso-access-token");
    assert_ne!(document["refreshToken"], "simulated-sso-refresh-token", "a refresh token is good for one use");
    assert_eq!(document["startUrl"], START_URL, "members that others wrote stay");
    assert_eq!(document["clientId"], "simulated-client-id");
    assert!(document["expiresAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let left = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "no temporary file stays behind");

    // The next client finds the new token and does not ask OIDC.
    machine.token();
    assert_eq!(refreshes(&machine), 1);
}

#[test]
fn a_token_that_has_not_expired_is_used_when_its_refresh_fails_or_hangs() {
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
fn the_error_of_an_ended_session_says_how_to_log_in_again() {
    let over = |prepare: &dyn Fn(&mut Machine)| {
        let mut machine = Machine::new();
        machine.profile_app(SSO_PROFILE);
        machine.become_instance();
        prepare(&mut machine);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::CredentialsExpired, "{error}");
        assert!(error.message().contains("aws sso login --profile app"), "{error}");
        assert!(!error.message().contains("simulated-"), "{error}");
        assert!(
            machine.simulator.requests_for(Route::ImdsToken).is_empty(),
            "the role of the instance must not be used"
        );
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
fn a_role_without_access_is_reported_with_the_settings_to_check() {
    let mut machine = Machine::new();
    machine.profile_app(SSO_PROFILE);
    machine.sso_cache("corp", 8 * HOUR, "");
    machine.simulator.inject(Route::SsoRoleCredentials, Fault::Status(403), Times::Forever);
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::Provider);
    assert!(error.message().contains("sso_role_name") && error.message().contains("123456789012"), "{error}");
}

#[test]
fn a_damaged_token_is_judged_after_its_refresh_and_not_before() {
    let later = "2999-01-01T00:00:00Z";
    for cached in [
        format!(r#""accessToken": "", "expiresAt": "{later}""#),
        format!(r#""accessToken": "line\nbreak", "expiresAt": "{later}""#),
        format!(r#""accessToken": "s\u00e9cret", "expiresAt": "{later}""#),
        format!(r#""expiresAt": "{later}""#),
        r#""accessToken": "", "expiresAt": "2020-01-01T00:00:00Z""#.to_owned(),
        r#""accessToken": "simulated-sso-access-token""#.to_owned(),
        r#""accessToken": "simulated-sso-access-token", "expiresAt": "soon""#.to_owned(),
        r#""accessToken": "simulated-sso-access-token", "expiresAt": 4102444800"#.to_owned(),
        r#""accessToken": "simulated-sso-access-token", "expiresAt": "9999-12-31T23:59:59-23:59""#.to_owned(),
    ] {
        let mut machine = Machine::new();
        machine.profile_app(SSO_PROFILE);
        let name = format!(".aws/sso/cache/{}.json", support::sha1_hex("corp"));
        machine.file(&name, &format!("{{{cached}{REFRESHABLE}}}"));
        machine.token();
        assert_eq!(refreshes(&machine), 1, "{cached}");
    }
}

#[test]
fn expiries_are_read_as_the_aws_cli_writes_and_wrote_them() {
    for (expires_at, is_near) in [
        ("2999-01-01T00:00:00UTC", false),
        ("2999-01-01T00:00:00+0000", false),
        ("2999-01-01 00:00:00.123456+00:00", false),
        ("2020-01-01T00:00:00UTC", true),
    ] {
        let mut machine = Machine::new();
        machine.profile_app(SSO_PROFILE);
        let name = format!(".aws/sso/cache/{}.json", support::sha1_hex("corp"));
        let cached =
            format!(r#"{{"accessToken": "simulated-sso-access-token", "expiresAt": "{expires_at}"{REFRESHABLE}}}"#);
        machine.file(&name, &cached);
        machine.token();
        assert_eq!(refreshes(&machine), usize::from(is_near), "{expires_at}");
    }
}

#[test]
fn a_token_that_expires_while_its_refresh_fails_is_not_used() {
    let mut machine = Machine::new();
    let hands = Hands::of(&machine.simulator);
    machine.clock(&hands);
    machine.profile_app(SSO_PROFILE);
    machine.sso_cache("corp", 240, &REFRESHABLE.replace("sso-refresh", "used-refresh"));
    machine.simulator.inject(Route::OidcCreateToken, Fault::Hold, 1);
    let client = machine.client();
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| client.generate_token(&request()));
        assert!(machine.simulator.wait_for_held(1, std::time::Duration::from_secs(10)));
        hands.forward(300);
        machine.simulator.release();
        let error = ours.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CredentialsExpired, "{error}");
        assert!(error.message().contains("invalid_grant"), "{error}");
    });
    assert!(machine.simulator.requests_for(Route::SsoRoleCredentials).is_empty(), "an expired token is not sent");
}

#[test]
fn a_refreshed_token_that_has_expired_already_is_not_used() {
    let lifetime = std::time::Duration::ZERO;
    let mut machine =
        Machine::with(aws_simulator::SimulatorOptions { sso_access_token_lifetime: lifetime, ..Default::default() });
    machine.profile_app(SSO_PROFILE);
    machine.sso_cache("corp", -60, REFRESHABLE);
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::CredentialsExpired, "{error}");
    assert!(machine.simulator.requests_for(Route::SsoRoleCredentials).is_empty());
}

#[test]
fn a_token_is_used_to_its_end_when_its_registration_has_expired() {
    let mut machine = Machine::new();
    let hands = Hands::of(&machine.simulator);
    machine.clock(&hands);
    machine.profile_app(SSO_PROFILE);
    let registered = support::rfc3339(hands.now() - 60);
    machine.sso_cache("corp", 240, &format!(r#"{REFRESHABLE}, "registrationExpiresAt": "{registered}""#));
    machine.token();
    hands.forward(241);
    let error = machine.error();
    assert!(error.message().contains("registration has expired"), "{error}");
    assert_eq!(refreshes(&machine), 0);
}

#[test]
fn what_the_services_say_is_in_the_error() {
    let mut machine = Machine::new();
    machine.profile_app(SSO_PROFILE);
    machine.sso_cache("corp", -60, &REFRESHABLE.replace("sso-refresh", "used-refresh"));
    let error = machine.error();
    assert!(error.message().contains("invalid_grant: unknown or used refresh token"), "{error}");
    machine.sso_cache("corp", 8 * HOUR, "");
    machine.simulator.revoke_sso_access_tokens();
    let error = machine.error();
    for words in ["Session token not found or invalid", "sso_region is eu-central-1", "aws sso login --profile app"] {
        assert!(error.message().contains(words), "{error}");
    }
}

#[test]
fn a_portal_that_cannot_be_reached_is_reported_with_its_region() {
    let mut machine = Machine::new();
    machine.setting("timeout_ms", "1500");
    machine.profile_app(SSO_PROFILE);
    machine.sso_cache("corp", 8 * HOUR, "");
    machine.set("AWS_ENDPOINT_URL_SSO", "http://127.0.0.1:1");
    let error = machine.error();
    assert!(error.message().contains("sso_region eu-central-1: the SSO portal at http://127.0.0.1:1: "), "{error}");
}

#[test]
fn the_command_to_log_in_quotes_the_name_of_the_profile() {
    let mut machine = Machine::new();
    machine.config(&SSO_PROFILE.replace("[profile app]", "[profile \"Acme Corp\"]"));
    machine.set("AWS_PROFILE", "Acme Corp");
    let error = machine.error();
    assert!(error.message().ends_with("run: aws sso login --profile 'Acme Corp'"), "{error}");
}

#[test]
fn a_profile_that_contradicts_its_session_is_refused_as_by_the_aws_cli() {
    let mut machine = Machine::new();
    machine.profile_app(&SSO_PROFILE.replacen("sso_account_id", "sso_region = us-east-1\nsso_account_id", 1));
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert!(error.message().contains("us-east-1") && error.message().contains("eu-central-1"), "{error}");
}

#[test]
fn a_cache_that_is_no_ordinary_file_or_has_no_end_is_refused_at_once() {
    let refused = |prepare: &dyn Fn(&std::path::Path), words: &str| {
        let mut machine = Machine::new();
        machine.profile_app(SSO_PROFILE);
        let path = machine.sso_cache("corp", 8 * HOUR, "");
        fs::remove_file(&path).unwrap();
        prepare(&path);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
        assert!(error.message().contains(path.to_str().unwrap()) && error.message().contains(words), "{error}");
    };
    refused(&|path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()), "a pipe");
    refused(&|path| std::os::unix::fs::symlink("/dev/zero", path).unwrap(), "a device");
    refused(&|path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap(), "larger than 1 MiB");
    refused(&|path| fs::create_dir(path).unwrap(), "directory");
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
