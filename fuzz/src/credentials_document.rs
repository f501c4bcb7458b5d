//! Credentials in JSON: one byte that chooses the form, and the document.
//!
//! What is read is what `serde_json` finds under the documented names; a message contains nothing of the document.

use pgiam_core::fuzz_hooks::{Form, Keys, credentials_document};
use pgiam_core::parse_rfc3339;
use serde_json::Value;

/// Form; the names of id, secret, session token, expiration and account.
const FORMS: [(Form, [&str; 5]); 4] = [
    (Form::Process, ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "AccountId"]),
    (Form::Metadata, ["AccessKeyId", "SecretAccessKey", "Token", "Expiration", "AccountId"]),
    (Form::Sso, ["accessKeyId", "secretAccessKey", "sessionToken", "expiration", "accountId"]),
    (Form::Login, ["accessKeyId", "secretAccessKey", "sessionToken", "expiresAt", "accountId"]),
];

pub fn run(data: &[u8]) {
    let Some((choice, document)) = data.split_first() else { return };
    let (form, names) = FORMS[usize::from(*choice) % FORMS.len()];
    match credentials_document(form, document) {
        Ok(keys) => check(form, &keys, names, document),
        Err(message) => assert!(is_fixed(&message, names), "{message:?}"),
    }
}

pub(crate) fn check(form: Form, keys: &Keys, names: [&str; 5], document: &[u8]) {
    let value: Value = serde_json::from_slice(document).expect("JSON");
    let text = |name: &str| value[name].as_str().filter(|text| !text.is_empty());
    let [id, secret, token, expiration, account] = names;
    assert_eq!((Some(keys.id.as_str()), Some(keys.secret.as_str())), (text(id), text(secret)));
    assert_eq!((keys.session_token.as_deref(), keys.account.as_deref()), (text(token), text(account)));
    let expires = match &value[expiration] {
        Value::String(text) => parse_rfc3339(text),
        Value::Number(number) => number.as_i64().map(|milliseconds| milliseconds.div_euclid(1000)),
        _ => None,
    };
    // Times before 1970 become 1970.
    assert_eq!(keys.expires, expires.map(|at| at.max(0)));
    assert!(form == Form::Process || (keys.session_token.is_some() && keys.expires.is_some()));
}

/// Whether a message is one of those that there are.
pub(crate) fn is_fixed(message: &str, names: [&str; 5]) -> bool {
    let Some(rest) = message.strip_prefix("the response ").or_else(|| message.strip_prefix("the output ")) else {
        return false;
    };
    let of_member = |name: &str| {
        [
            format!("is missing {name}"),
            format!("has no string as {name}"),
            format!("has an {name} that is not a time like 2026-01-02T03:04:05Z"),
            format!("has an {name} that is not a number of milliseconds since 1970"),
        ]
    };
    let version = r#"has no "Version": 1, the only version there is"#;
    [version, "contains no JSON object"].contains(&rest)
        || names.into_iter().flat_map(of_member).any(|known| known == rest)
}
