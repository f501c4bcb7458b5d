//! AWS credentials: a file a source, `chain` to order them, `cache` to keep them fresh.
//!
//! The type is the SDKs' own, [`aws_credential_types::Credentials`], which wipes itself and hides its secrets from
//! `Debug`.

pub(crate) mod cache;
pub(crate) mod chain;
mod container;
mod environment;
mod imds;
mod process;
mod profile;
mod sso;
mod sts;

use arc_swap::ArcSwapOption;
use aws_credential_types::Credentials;
use std::sync::Arc;

use crate::config::Config;
use crate::error::Error;
use crate::secret::Secret;
use crate::sigv4::{self, SigningKey};
use crate::time::Deadline;

/// What a provider works with.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) deadline: Deadline,
    pub(crate) now: i64,
}

/// A provider's answer. *Not configured* lets the chain go on; *failed* stops it, so that a program with a broken role
/// never ends up as the machine it runs on.
pub(crate) enum Outcome {
    Provided(Provided),
    NotConfigured(String),
    Failed(Error),
}

impl From<Result<Outcome, Error>> for Outcome {
    fn from(result: Result<Outcome, Error>) -> Self {
        result.unwrap_or_else(Self::Failed)
    }
}

/// Credentials and what the cache needs to know of where they came from.
pub(crate) struct Provided {
    pub(crate) credentials: Credentials,
    pub(crate) source: Source,
    /// Whose they are, when the source told: an ARN, or a role and an account.
    pub(crate) identity: Option<String>,
    /// How they were come by, for people; never a secret.
    pub(crate) by: String,
}

/// A place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Environment,
    Profile,
    WebIdentity,
    Container,
    InstanceMetadata,
    /// The role that the client itself was told to assume.
    Role,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Profile => "profile",
            Self::WebIdentity => "web identity",
            Self::Container => "container",
            Self::InstanceMetadata => "instance metadata",
            Self::Role => "role_arn",
        }
    }

    /// Whether credentials past their end may be served on while the source is down, as the SDKs do for sources that the
    /// machine itself provides.
    pub(crate) fn may_be_extended(self) -> bool {
        matches!(self, Self::InstanceMetadata | Self::Container)
    }
}

/// Credentials made ready for signing: the parts of a token that do not change are encoded once, and the day's signing
/// key is kept with the credentials and wiped with them.
pub(crate) struct SigningCredentials {
    credentials: Credentials,
    encoded_access_key_id: String,
    encoded_session_token: Option<Secret>,
    key: ArcSwapOption<DayKey>,
}

struct DayKey {
    date: [u8; 8],
    region: String,
    service: &'static str,
    key: SigningKey,
}

impl SigningCredentials {
    pub(crate) fn new(credentials: Credentials) -> Self {
        let encoded = |text: &str| {
            let mut encoded = String::with_capacity(sigv4::percent_encoded_length(text));
            sigv4::percent_encode_into(&mut encoded, text);
            encoded
        };
        Self {
            encoded_access_key_id: encoded(credentials.access_key_id()),
            // An empty session token is none: an empty parameter would be refused.
            encoded_session_token: credentials
                .session_token()
                .filter(|token| !token.is_empty())
                .map(|token| Secret::new(encoded(token))),
            credentials,
            key: ArcSwapOption::empty(),
        }
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    #[inline]
    pub(crate) fn encoded_access_key_id(&self) -> &str {
        &self.encoded_access_key_id
    }

    #[inline]
    pub(crate) fn encoded_session_token(&self) -> Option<&str> {
        self.encoded_session_token.as_ref().map(Secret::expose)
    }

    /// Calls `sign` with the signing key of a day (`YYYYMMDD`), region and service: the one kept, or a new one that is
    /// kept from then on.
    #[inline]
    pub(crate) fn with_key<T>(
        &self,
        date: &str,
        region: &str,
        service: &'static str,
        sign: impl FnOnce(&SigningKey) -> T,
    ) -> T {
        let kept = self.key.load();
        if let Some(day) = &*kept
            && day.date == date.as_bytes()
            && day.region == region
            && day.service == service
        {
            return sign(&day.key);
        }
        let key = SigningKey::derive(self.credentials.secret_access_key(), date, region, service);
        let mut day = DayKey { date: [0; 8], region: region.to_owned(), service, key };
        if let Some(date) = date.as_bytes().first_chunk() {
            day.date = *date;
        }
        let day = Arc::new(day);
        self.key.store(Some(Arc::clone(&day)));
        sign(&day.key)
    }
}
