use std::time::Duration;

use aws_simulator::{Credentials, Route, Service};
use serde_json::json;

use crate::support::*;

const LIST_PATH: &str = "/latest/meta-data/iam/security-credentials/";

#[test]
fn a_client_gets_a_token_then_the_role_then_its_credentials() {
    let simulator = start();
    assert_eq!(metadata(&simulator, LIST_PATH).text(), "app-server-role");
    let document = metadata(&simulator, ROLE_PATH).json();
    let issued = simulator.instance_credentials();
    assert_eq!(
        document,
        json!({
            "Code": "Success",
            "LastUpdated": "2026-01-31T12:00:00Z",
            "Type": "AWS-HMAC",
            "AccessKeyId": issued.access_key_id,
            "SecretAccessKey": issued.secret_access_key,
            "Token": issued.session_token,
            "Expiration": "2026-01-31T18:00:00Z",
        })
    );
    assert_eq!(issued.principal, "arn:aws:sts::123456789012:assumed-role/app-server-role/i-0123456789abcdef0");
}

#[test]
fn keys_have_the_format_of_real_ones() {
    let simulator = start_with(|options| options.session_token_length = 2500);
    let issued = simulator.instance_credentials();
    assert_eq!(issued.access_key_id.len(), 20);
    assert!(issued.access_key_id.starts_with("ASIA"));
    assert_eq!(issued.secret_access_key.len(), 40);
    let token = issued.session_token.expect("temporary credentials");
    assert_eq!(token.len(), 2500);
    assert!(token.ends_with("/+="), "a token needs escaping in a URL");
}

#[test]
fn the_response_has_the_lifetime_of_the_session_token() {
    let simulator = start();
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds";
    let answer = request(&simulator, "PUT", "/latest/api/token", &[(ttl, "60")], "");
    assert_eq!(answer.header(ttl), Some("60"));
    let token = ("X-aws-ec2-metadata-token", answer.text());
    simulator.set_clock_offset(59);
    let answer = request(&simulator, "GET", REGION_PATH, &[token], "");
    assert_eq!((answer.status, answer.header(ttl)), (200, Some("1")));
    simulator.set_clock_offset(60);
    assert_eq!(request(&simulator, "GET", REGION_PATH, &[token], "").status, 401);
}

#[test]
fn a_session_token_needs_a_lifetime_between_one_second_and_six_hours() {
    let simulator = start();
    let ttl = "X-aws-ec2-metadata-token-ttl-seconds";
    for (value, status) in [("0", 400), ("1", 200), ("21600", 200), ("21601", 400), ("x", 400)] {
        let answer = request(&simulator, "PUT", "/latest/api/token", &[(ttl, value)], "");
        assert_eq!(answer.status, status, "{value}");
    }
    assert_eq!(request(&simulator, "PUT", "/latest/api/token", &[], "").status, 400);
    assert_eq!(request(&simulator, "GET", "/latest/api/token", &[(ttl, "60")], "").status, 405);
}

#[test]
fn a_session_token_request_through_a_forwarding_proxy_is_refused_with_403() {
    let simulator = start();
    let headers = [("X-aws-ec2-metadata-token-ttl-seconds", "60"), ("X-Forwarded-For", "10.0.0.1")];
    let answer = request(&simulator, "PUT", "/latest/api/token", &headers, "");
    assert_eq!(answer.status, 403);
}

#[test]
fn a_request_without_a_session_token_is_refused_with_401() {
    let simulator = start();
    for path in [LIST_PATH, ROLE_PATH, REGION_PATH, "/latest/meta-data/"] {
        assert_eq!(request(&simulator, "GET", path, &[], "").status, 401, "{path}");
    }
    let unknown = [("X-aws-ec2-metadata-token", "unknown")];
    assert_eq!(request(&simulator, "GET", REGION_PATH, &unknown, "").status, 401);
}

#[test]
fn a_revoked_session_token_is_refused_with_401() {
    let simulator = start();
    let token = imds_token(&simulator);
    let headers = [("X-aws-ec2-metadata-token", token.as_str())];
    assert_eq!(request(&simulator, "GET", REGION_PATH, &headers, "").status, 200);
    simulator.revoke_imds_tokens();
    assert_eq!(request(&simulator, "GET", REGION_PATH, &headers, "").status, 401);
}

#[test]
fn region_and_identity_document_name_the_configured_region() {
    let simulator = start_with(|options| options.region = "us-west-2".to_owned());
    assert_eq!(metadata(&simulator, REGION_PATH).text(), "us-west-2");
    let document = metadata(&simulator, "/latest/dynamic/instance-identity/document").json();
    assert_eq!(document["region"], "us-west-2");
    assert_eq!(document["availabilityZone"], "us-west-2a");
}

#[test]
fn the_info_document_names_the_instance_profile() {
    let simulator = start();
    let document = metadata(&simulator, "/latest/meta-data/iam/info").json();
    assert_eq!(document["InstanceProfileArn"], "arn:aws:iam::123456789012:instance-profile/app-server-role");
}

#[test]
fn without_a_role_the_paths_of_roles_are_not_found() {
    let simulator = start_with(|options| options.role = None);
    for path in [LIST_PATH, ROLE_PATH, "/latest/meta-data/iam/info"] {
        assert_eq!(metadata(&simulator, path).status, 404, "{path}");
    }
    assert_eq!(metadata(&simulator, REGION_PATH).status, 200);
}

#[test]
fn another_role_and_the_extended_path_are_not_found() {
    let simulator = start();
    for path in [
        "/latest/meta-data/iam/security-credentials/other-role",
        "/latest/meta-data/iam/security-credentials-extended/",
        "/latest/meta-data/iam/security-credentials-extended/app-server-role",
    ] {
        assert_eq!(metadata(&simulator, path).status, 404, "{path}");
    }
}

#[test]
fn credentials_stay_the_same_until_five_minutes_before_they_expire() {
    let simulator = start();
    let first = simulator.instance_credentials();
    simulator.set_clock_offset(6 * 3600 - 301);
    assert_eq!(simulator.instance_credentials(), first);
    assert_eq!(simulator.rotations(), 0);
    simulator.set_clock_offset(6 * 3600 - 300);
    let second = simulator.instance_credentials();
    assert_ne!(second.access_key_id, first.access_key_id);
    assert_eq!(simulator.rotations(), 1);
}

#[test]
fn short_lived_credentials_are_replaced_after_three_quarters_of_their_lifetime() {
    let simulator = start_with(|options| options.lifetime = Duration::from_secs(60));
    let first = simulator.instance_credentials();
    simulator.set_clock_offset(44);
    assert_eq!(simulator.instance_credentials(), first);
    simulator.set_clock_offset(45);
    assert_ne!(simulator.instance_credentials(), first);
}

#[test]
fn a_rotation_replaces_the_credentials_immediately() {
    let simulator = start();
    let first = metadata(&simulator, ROLE_PATH).json();
    let rotated = simulator.rotate();
    let second = metadata(&simulator, ROLE_PATH).json();
    assert_ne!(first["AccessKeyId"], second["AccessKeyId"]);
    assert_eq!(second["AccessKeyId"], rotated.access_key_id);
    assert_eq!(simulator.rotations(), 1);
}

#[test]
fn a_pinned_expiration_does_not_advance() {
    let simulator = start();
    simulator.instance_credentials();
    simulator.set_expiration(Some(at(NOON - 60)));
    let first = metadata(&simulator, ROLE_PATH).json();
    assert_eq!(first["Expiration"], "2026-01-31T11:59:00Z");
    assert_eq!(simulator.rotations(), 0);
    simulator.rotate();
    let second = metadata(&simulator, ROLE_PATH).json();
    assert_eq!(second["Expiration"], first["Expiration"]);
    assert_ne!(second["AccessKeyId"], first["AccessKeyId"]);
    simulator.set_expiration(None);
    let third = metadata(&simulator, ROLE_PATH).json();
    assert_eq!(third["Expiration"], "2026-01-31T18:00:00Z");
}

#[test]
fn given_credentials_and_a_given_body_are_returned_unchanged() {
    let simulator = start();
    let mut given = Credentials::of_user("somebody");
    given.expiration = Some(at(NOON - 1));
    simulator.set_credentials(given.clone());
    let document = metadata(&simulator, ROLE_PATH).json();
    assert_eq!(document["AccessKeyId"], given.access_key_id);
    assert_eq!(document["Expiration"], "2026-01-31T11:59:59Z");

    let body = r#"{"Code": "AssumeRoleUnauthorizedAccess"}"#;
    simulator.set_body(Route::ImdsCredentials, Some(body));
    assert_eq!(metadata(&simulator, ROLE_PATH).text(), body);
    assert_eq!(request(&simulator, "GET", ROLE_PATH, &[], "").status, 401);
    simulator.set_body(Route::ImdsCredentials, None);
    assert_eq!(metadata(&simulator, ROLE_PATH).json(), document);
}

#[test]
fn the_log_has_every_request() {
    let simulator = start();
    metadata(&simulator, ROLE_PATH);
    let log = simulator.requests();
    let routes: Vec<Route> = log.iter().map(|entry| entry.route).collect();
    assert_eq!(routes, [Route::ImdsToken, Route::ImdsCredentials]);
    assert_eq!(log[0].method, "PUT");
    assert_eq!(log[0].header("x-aws-ec2-metadata-token-ttl-seconds"), Some("21600"));
    assert_eq!(log[1].path, ROLE_PATH);
    assert_eq!(log[1].service, Service::Imds);
    assert_eq!(log[1].status, Some(200));
    assert_eq!(log[1].time, at(NOON));
    assert_eq!((log[0].connection, log[1].connection), (1, 2));
    simulator.clear_requests();
    assert!(simulator.requests().is_empty());
}
