//! The JSON documents of the credential sources: one reader for the credentials in them, and one for what a service says
//! when it refuses.
//!
//! `credential_process`, the container endpoint, instance metadata and SSO hand out the same five values under different
//! names ([`Members`]). What is read is wiped: the bytes, and every string of the parsed document when it is dropped.

use aws_credential_types::Credentials;
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, ErrorKind};
use crate::time::{from_milliseconds, parse_rfc3339, system_time};

/// A JSON object from a credential source. Its strings are wiped when it is dropped.
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
    may_be_permanent: false,
};

impl Document {
    /// Parses a JSON object. `what` names it in messages: "the response".
    pub(crate) fn parse(what: &'static str, bytes: Zeroizing<Vec<u8>>) -> Result<Self, Error> {
        let document = Self { value: serde_json::from_slice(&bytes).unwrap_or_default(), what };
        if document.value.is_object() { Ok(document) } else { Err(document.fault("is not a JSON object")) }
    }

    /// A string; `None` when it is missing, empty or not a string.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.value[name].as_str().filter(|text| !text.is_empty())
    }

    /// A whole number.
    pub(crate) fn number(&self, name: &str) -> Option<i64> {
        self.value[name].as_i64()
    }

    /// Replaces a string.
    pub(crate) fn set(&mut self, name: &str, text: &str) {
        self.value[name].zeroize();
        self.value[name] = text.into();
    }

    /// Takes a member that is an object out of the document.
    pub(crate) fn take(&mut self, name: &str) -> Result<Self, Error> {
        let value = self.value[name].take();
        let member = Self { value, what: self.what };
        if member.value.is_object() { Ok(member) } else { Err(self.is_missing(name)) }
    }

    pub(crate) fn to_json(&self) -> Zeroizing<String> {
        Zeroizing::new(self.value.to_string())
    }

    /// The credentials in the document, their expiry and account included. `provider` names the source in them.
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
        if let Some(account) = self.text("AccountId") {
            credentials = credentials.account_id(account);
        }
        Ok(credentials.build())
    }

    fn required(&self, name: &str) -> Result<&str, Error> {
        self.optional(name)?.ok_or_else(|| self.is_missing(name))
    }

    /// A string that may be missing. Anything else than a string is an error.
    fn optional(&self, name: &str) -> Result<Option<&str>, Error> {
        match &self.value[name] {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            _ => Err(self.fault(&format!("has a {name} that is not a string"))),
        }
    }

    /// Unix seconds.
    fn expiration(&self, members: &Members) -> Result<Option<i64>, Error> {
        let name = members.expiration;
        let (at, expected) = match (&self.value[name], &members.expiration_format) {
            (Value::Null, _) => return Ok(None),
            (value, TimeFormat::Text) => (value.as_str().and_then(parse_rfc3339), "a time like 2026-01-02T03:04:05Z"),
            (value, TimeFormat::Milliseconds) => {
                (value.as_i64().and_then(from_milliseconds), "a number of milliseconds since 1970")
            }
        };
        at.map(Some).ok_or_else(|| self.fault(&format!("has an {name} that is not {expected}")))
    }

    pub(crate) fn is_missing(&self, name: &str) -> Error {
        self.fault(&format!("is missing {name}"))
    }

    pub(crate) fn fault(&self, why: &str) -> Error {
        Error::new(ErrorKind::Provider, format!("{} {why}", self.what))
    }
}
