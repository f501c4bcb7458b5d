//! The JSON documents of the credential sources, and the one reader of the credentials in them.
//!
//! `credential_process`, the container endpoint, instance metadata, SSO and `aws login` hand out the same values under
//! different names ([`Members`]). What is read is wiped: the bytes, and every string of the parsed document when it is dropped.

use std::io;

use aws_credential_types::Credentials;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, ErrorKind};
use crate::time::{from_milliseconds, parse_rfc3339, system_time};

/// A JSON object from a credential source. Its strings are wiped when it is dropped.
#[derive(Clone)]
pub(crate) struct Document {
    value: Value,
    /// What it is, for messages: "the response", "the output".
    what: &'static str,
}

/// The names of the credentials in a document.
pub(crate) struct Members {
    access_key_id: &'static str,
    secret_access_key: &'static str,
    session_token: &'static str,
    expiration: &'static str,
    expiration_format: TimeFormat,
    account_id: &'static str,
    /// Whether the session token and the expiration may be missing: keys of a user have neither.
    may_be_permanent: bool,
}

enum TimeFormat {
    /// `2026-01-02T03:04:05Z` and what else [`parse_rfc3339`] reads.
    Text,
    /// A number of milliseconds since 1970.
    Milliseconds,
}

/// What a `credential_process` prints.
pub(crate) const PROCESS: Members = Members {
    access_key_id: "AccessKeyId",
    secret_access_key: "SecretAccessKey",
    session_token: "SessionToken",
    expiration: "Expiration",
    expiration_format: TimeFormat::Text,
    account_id: "AccountId",
    may_be_permanent: true,
};

/// What instance metadata and the container endpoint answer.
pub(crate) const METADATA: Members = Members { session_token: "Token", may_be_permanent: false, ..PROCESS };

/// `roleCredentials` in the response of the SSO portal.
pub(crate) const SSO: Members = Members {
    access_key_id: "accessKeyId",
    secret_access_key: "secretAccessKey",
    session_token: "sessionToken",
    expiration: "expiration",
    expiration_format: TimeFormat::Milliseconds,
    account_id: "accountId",
    may_be_permanent: false,
};

/// `accessToken` in the cache of `aws login`.
pub(crate) const LOGIN: Members = Members { expiration: "expiresAt", expiration_format: TimeFormat::Text, ..SSO };

impl Document {
    /// Parses a JSON object. `what` names it in messages: "the response".
    pub(crate) fn parse(what: &'static str, bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        Self::from_value(what, serde_json::from_slice(&bytes).unwrap_or_default())
            .ok_or_else(|| Error::new(ErrorKind::Provider, format!("{what} contains no JSON object")))
    }

    /// An object of strings.
    pub(crate) fn of(members: &[(&str, &str)]) -> Self {
        let mut document = Self { value: Value::Null, what: "the request" };
        for (name, text) in members {
            document.set(name, text);
        }
        document
    }

    fn from_value(what: &'static str, value: Value) -> Option<Self> {
        let document = Self { value, what };
        document.value.is_object().then_some(document)
    }

    /// A string; `None` when it is missing, empty or not a string.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.value[name].as_str().filter(|text| !text.is_empty())
    }

    /// A whole number; `None` when it is missing or anything else.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.value[name].as_i64()
    }

    /// Replaces a string.
    pub(crate) fn set(&mut self, name: &str, text: &str) {
        wipe(&mut self.value[name]);
        self.value[name] = text.into();
    }

    /// Replaces a member by an object.
    pub(crate) fn set_object(&mut self, name: &str, mut object: Self) {
        wipe(&mut self.value[name]);
        self.value[name] = object.value.take();
    }

    /// Takes a member that is an object out of the document.
    pub(crate) fn take_object(&mut self, name: &str) -> Result<Self, Error> {
        Self::from_value(self.what, self.value[name].take()).ok_or_else(|| self.is_missing(name))
    }

    pub(crate) fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let mut text = WipedText::default();
        // Writing to memory does not fail, and every member's name is a string.
        serde_json::to_writer(&mut text, &self.value).ok();
        text.0
    }

    /// The credentials in the document with their expiry and account. `provider` becomes their provider name.
    pub(crate) fn credentials(&self, members: &Members, provider: &'static str) -> Result<Credentials, Error> {
        let mut credentials = Credentials::builder()
            .access_key_id(self.required(members.access_key_id)?)
            .secret_access_key(self.required(members.secret_access_key)?)
            .provider_name(provider);
        match self.optional(members.session_token)? {
            Some(token) => credentials = credentials.session_token(token),
            None if members.may_be_permanent => {}
            None => return Err(self.is_missing(members.session_token)),
        }
        match self.expiration(members)? {
            Some(at) => credentials = credentials.expiry(system_time(at)),
            None if members.may_be_permanent => {}
            None => return Err(self.is_missing(members.expiration)),
        }
        if let Some(account) = self.text(members.account_id) {
            credentials = credentials.account_id(account);
        }
        Ok(credentials.build())
    }

    fn required(&self, name: &str) -> Result<&str, Error> {
        self.optional(name)?.ok_or_else(|| self.is_missing(name))
    }

    /// A string that may be missing, `null` or empty. Any other value is an error.
    fn optional(&self, name: &str) -> Result<Option<&str>, Error> {
        match &self.value[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            _ => Err(self.fault(&format!("has no string as {name}"))),
        }
    }

    /// Unix seconds. `None`: missing or `null`, which means never.
    fn expiration(&self, members: &Members) -> Result<Option<i64>, Error> {
        let value = &self.value[members.expiration];
        let (at, expected) = match (value, &members.expiration_format) {
            (Value::Null, _) => return Ok(None),
            (_, TimeFormat::Text) => (value.as_str().and_then(parse_rfc3339), "a time like 2026-01-02T03:04:05Z"),
            (_, TimeFormat::Milliseconds) => {
                (value.as_i64().and_then(from_milliseconds), "a number of milliseconds since 1970")
            }
        };
        at.map(Some).ok_or_else(|| self.fault(&format!("has an {} that is not {expected}", members.expiration)))
    }

    /// The error for a member that is not there: "the response is missing AccessKeyId".
    pub(crate) fn is_missing(&self, name: &str) -> Error {
        self.fault(&format!("is missing {name}"))
    }

    /// An error about the document: "the response …".
    pub(crate) fn fault(&self, why: &str) -> Error {
        Error::new(ErrorKind::Provider, format!("{} {why}", self.what))
    }
}

impl Drop for Document {
    fn drop(&mut self) {
        wipe(&mut self.value);
    }
}

/// A text in memory that leaves no copy behind when it grows.
#[derive(Default)]
struct WipedText(Zeroizing<Vec<u8>>);

impl io::Write for WipedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.0.len() + bytes.len();
        if length > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(2 * length));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Overwrites every string in a value. The depth is bounded: the parser refuses more than 128 levels.
fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = r#""AccessKeyId": "AKIDEXAMPLE", "SecretAccessKey": "planted-secret""#;
    const SESSION: &str = r#""Token": "planted-token", "Expiration": "2026-01-02T03:04:05+0100""#;

    fn read(members: &Members, text: &str) -> Result<Credentials, Error> {
        let bytes = Zeroizing::new(text.as_bytes().to_vec());
        Document::parse("the response", bytes)?.credentials(members, "tests")
    }

    fn refused(members: &Members, text: &str) -> String {
        let error = read(members, text).unwrap_err();
        assert!(!error.message().contains("planted"), "{error}");
        error.message().to_owned()
    }

    #[test]
    fn all_three_forms_of_the_document_are_read() {
        let process = format!(r#"{{"Version": 1, {KEYS}, "AccountId": "123456789012", "x": [{{"y": "z"}}]}}"#);
        let process = read(&PROCESS, &process).unwrap();
        assert_eq!(process.secret_access_key(), "planted-secret");
        assert_eq!((process.session_token(), process.expiry()), (None, None));
        assert_eq!(process.account_id().unwrap().as_str(), "123456789012");

        let metadata = read(&METADATA, &format!("{{{KEYS}, {SESSION}}}")).unwrap();
        assert_eq!(metadata.session_token(), Some("planted-token"));
        assert_eq!(metadata.expiry(), Some(system_time(1_767_319_445)));

        let sso = read(
            &SSO,
            r#"{"accessKeyId": "A", "secretAccessKey": "s", "sessionToken": "t", "expiration": 1767319445999}"#,
        );
        assert_eq!(sso.unwrap().expiry(), Some(system_time(1_767_319_445)));
    }

    #[test]
    fn an_empty_or_null_session_token_and_a_null_expiration_are_none() {
        for none in ["null", "\"\""] {
            let text = format!(r#"{{{KEYS}, "SessionToken": {none}, "Expiration": null}}"#);
            let credentials = read(&PROCESS, &text).unwrap();
            assert_eq!((credentials.session_token(), credentials.expiry()), (None, None));
        }
    }

    #[test]
    fn the_last_of_repeated_members_counts_as_in_the_aws_cli() {
        let credentials = read(&PROCESS, &format!(r#"{{"AccessKeyId": "FIRST", {KEYS}}}"#)).unwrap();
        assert_eq!(credentials.access_key_id(), "AKIDEXAMPLE");
    }

    #[test]
    fn a_missing_member_is_named() {
        for (text, missing) in [
            ("{}", "AccessKeyId"),
            (r#"{"AccessKeyId": "", "SecretAccessKey": "planted"}"#, "AccessKeyId"),
            (r#"{"AccessKeyId": "A"}"#, "SecretAccessKey"),
            (r#"{"AccessKeyId": "A", "SecretAccessKey": "planted"}"#, "Token"),
            (r#"{"AccessKeyId": "A", "SecretAccessKey": "planted", "Token": "planted"}"#, "Expiration"),
        ] {
            assert_eq!(refused(&METADATA, text), format!("the response is missing {missing}"));
        }
        assert_eq!(refused(&SSO, "{}"), "the response is missing accessKeyId");
    }

    #[test]
    fn an_expiration_that_is_not_a_time_is_an_error_and_never_means_never() {
        for expiration in ["1767319445", "1767319445.5", "false", "[]", "{}", "\"\"", "\"planted\"", "\"1767319445\""] {
            let text = format!(r#"{{{KEYS}, "Token": "t", "Expiration": {expiration}}}"#);
            for members in [&PROCESS, &METADATA] {
                assert!(refused(members, &text).contains("has an Expiration that is not a time"), "{expiration}");
            }
        }
        for expiration in ["\"2026-01-02T03:04:05Z\"", "9223372036854775807", "-1e300", "1.5", "\"1\""] {
            let text = format!(
                r#"{{"accessKeyId": "A", "secretAccessKey": "s", "sessionToken": "t", "expiration": {expiration}}}"#
            );
            assert!(refused(&SSO, &text).contains("has an expiration that is not a number"), "{expiration}");
        }
    }

    #[test]
    fn values_of_another_type_and_what_is_no_object_are_refused() {
        assert_eq!(
            refused(&PROCESS, r#"{"AccessKeyId": 1, "SecretAccessKey": "planted"}"#),
            "the response has no string as AccessKeyId"
        );
        let nested = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep = format!(r#"{{{KEYS}, "x": {nested}}}"#);
        for text in ["", "planted", "[]", "\"planted\"", "null", &nested, &deep] {
            assert_eq!(refused(&PROCESS, text), "the response contains no JSON object");
        }
    }

    #[test]
    fn the_strings_of_a_document_are_wiped() {
        let mut value: Value = serde_json::json!({"a": "planted", "b": [{"c": "planted"}]});
        wipe(&mut value);
        assert!(!value.to_string().contains("planted"));
    }
}
