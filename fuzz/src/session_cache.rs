//! The cache files of `aws sso login` and `aws login`: one byte that chooses, a cache file, an answer of the service to a
//! refresh.
//!
//! A token can be sent as a header; a refresh changes no member that the answer does not have; messages are fixed.

use pgiam_core::fuzz_hooks::{Form, dpop_proof, login_cache, login_refreshed, sso_cache};
use pgiam_core::parse_rfc3339;
use serde_json::Value;

use crate::credentials_document::{check, is_fixed};
use crate::parts;

const NOW: i64 = 1_767_319_445;
const NAMES: [&str; 5] = ["accessKeyId", "secretAccessKey", "sessionToken", "expiresAt", "accountId"];

pub fn run(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let [cache, answer] = parts(rest);
    if choice % 2 == 0 { sso(cache) } else { login(cache, answer) }
}

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

fn sso(cache: &[u8]) {
    match sso_cache(cache) {
        Ok((token, end)) => {
            let theirs = value(cache);
            let visible = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
            assert_eq!(token.as_deref(), theirs["accessToken"].as_str().filter(visible));
            let expires = theirs["expiresAt"].as_str().and_then(parse_rfc3339);
            assert_eq!(end, token.and(expires));
        }
        Err(message) => assert!(is_fixed(&message, NAMES), "{message}"),
    }
}

fn login(cache: &[u8], answer: &[u8]) {
    match login_cache(cache) {
        Ok((Ok(keys), end)) => {
            let token = value(cache)["accessToken"].to_string();
            check(Form::Login, &keys, NAMES, token.as_bytes());
            assert_eq!(end, keys.expires);
        }
        Ok((Err(message), end)) => {
            assert!(is_fixed(&message, NAMES) || message == "the response is missing accessToken", "{message}");
            assert_eq!(end, None);
        }
        Err(message) => assert!(is_fixed(&message, NAMES), "{message}"),
    }
    if let Some(pem) = value(cache)["dpopKey"].as_str()
        && let Some(proof) = dpop_proof(pem, "https://eu-central-1.signin.aws.amazon.com/v1/token", NOW)
    {
        let proof = proof.expect("a key signs");
        assert!(proof.split('.').count() == 3 && proof.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    match login_refreshed(cache, answer, NOW) {
        Ok(renewed) => check_refreshed(&value(cache), &value(answer), &value(renewed.as_bytes())),
        Err(message) => {
            let other = ["accessToken", "expiresIn"].map(|name| format!("the response is missing {name}"));
            assert!(is_fixed(&message, NAMES) || other.contains(&message), "{message}");
        }
    }
}

fn check_refreshed(before: &Value, answer: &Value, after: &Value) {
    let members = |value: &Value| value.as_object().cloned().unwrap_or_default();
    for (name, value) in members(before) {
        if !["accessToken", "refreshToken"].contains(&name.as_str()) {
            assert_eq!(after[&name], value, "{name}");
        }
    }
    let refresh_token = answer["refreshToken"].as_str().filter(|text| !text.is_empty());
    match refresh_token {
        Some(token) => assert_eq!(after["refreshToken"], token),
        None => assert_eq!(after["refreshToken"], before["refreshToken"]),
    }
    let account = before["accessToken"]["accountId"].as_str().filter(|text| !text.is_empty());
    assert!(account.is_none_or(|account| after["accessToken"]["accountId"] == account));
    let end = after["accessToken"]["expiresAt"].as_str().and_then(parse_rfc3339).expect("a time");
    let lifetime = answer["expiresIn"].as_i64().expect("a number");
    // A lifetime outside the years 0 to 9999 is clamped.
    let expected = NOW.saturating_add(lifetime);
    assert!(end == expected || !(-62_135_596_800..=253_402_300_799).contains(&expected), "{end} {expected}");
    let keys = login_cache(after.to_string().as_bytes()).expect("an object").0.expect("credentials");
    assert_eq!(Some(keys.id.as_str()), answer["accessToken"]["accessKeyId"].as_str());
}
