//! AWS credentials: one file per source, `chain` to order them, `cache` to keep them fresh.
//!
//! The type is the SDKs' own, [`aws_credential_types::Credentials`], which wipes itself and hides its secrets from
//! `Debug`.

pub(crate) mod cache;
pub(crate) mod chain;
mod container;
mod document;
mod environment;
mod imds;
mod keys;
pub(crate) mod process;
mod profile;
mod role;
mod sso;
mod sts;
mod web_identity;

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::error::Error;
use crate::percent_encoding::percent_encode;
use crate::sync::lossy_cache::LossyCache;
use crate::time::{Clock, Day, Deadline, TimeOfDay};
use crate::token::sigv4::{DaySigner, SigningKey};

/// What a provider gets.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) deadline: Deadline,
    pub(crate) now: i64,
    /// The region of the token that the credentials are for, if one was asked for: the default region of STS and other
    /// AWS services.
    pub(crate) token_region: Option<&'a str>,
    /// The clock that `now` was read from, for a source that takes its time.
    pub(crate) clock: &'a Clock,
    /// How long programs took that could ask a person. This time does not count against the deadline.
    pub(crate) asked: Cell<Duration>,
}

impl Context<'_> {
    /// The context for what follows a source that may have asked a person: the deadline is later by that time.
    pub(crate) fn after_asking(&self) -> Self {
        Self { deadline: self.deadline.later(self.asked.get()), asked: Cell::default(), ..*self }
    }
}

/// A provider's answer. *Not configured* lets the chain go on; *failed* stops it, so that a program with a broken role
/// never signs as the machine it runs on.
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

/// Credentials and their origin.
pub(crate) struct Provided {
    pub(crate) credentials: Credentials,
    pub(crate) source: Source,
    /// Whose they are, where the source says so: an ARN, or a role and an account.
    pub(crate) identity: Option<String>,
    /// What they were obtained from, for people; never a secret.
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
    /// The role of the client's own settings.
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

    /// Whether expired credentials may still be used while the source is down, as the SDKs do for sources that the
    /// machine itself provides.
    pub(crate) fn may_be_extended(self) -> bool {
        matches!(self, Self::InstanceMetadata | Self::Container)
    }
}

/// Credentials made ready for signing: the parts of a token that do not change are encoded once, and what was prepared for
/// the targets of a day, the signing keys in it, is kept with the credentials and wiped with them.
pub(crate) struct SigningCredentials {
    credentials: Credentials,
    encoded_access_key_id: Zeroizing<String>,
    encoded_session_token: Option<Zeroizing<String>>,
    templates: LossyCache<Template>,
}

/// The token of one day for one target, without the time of day and the signature.
pub(crate) struct Template {
    /// The target's number.
    pub(crate) target: u64,
    pub(crate) day: Day,
    pub(crate) region: String,
    pub(crate) service: &'static str,
    /// Where the region stands in the text.
    pub(crate) region_at: usize,
    /// The text up to the time of day, and what follows up to the signature.
    pub(crate) before_time: String,
    pub(crate) after_time: Zeroizing<String>,
    pub(crate) signer: DaySigner,
}

impl Template {
    /// The whole token. One allocation, of the length it will have with the NUL that the C ABI adds: growing or shrinking
    /// would leave a copy of the token behind.
    #[inline]
    pub(crate) fn sign(&self, time: TimeOfDay) -> Zeroizing<Vec<u8>> {
        let signature = self.signer.sign(time);
        let parts = [self.before_time.as_bytes(), time.digits(), self.after_time.as_bytes(), &signature];
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut text = Zeroizing::new(Vec::with_capacity(length + 1));
        parts.into_iter().for_each(|part| text.extend_from_slice(part));
        text
    }
}

impl SigningCredentials {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            encoded_access_key_id: percent_encode(credentials.access_key_id()),
            // An empty session token is none: an empty parameter would be refused.
            encoded_session_token: credentials.session_token().filter(|token| !token.is_empty()).map(percent_encode),
            credentials,
            templates: LossyCache::new(),
        }
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    pub(crate) fn encoded_access_key_id(&self) -> &str {
        &self.encoded_access_key_id
    }

    pub(crate) fn encoded_session_token(&self) -> Option<&str> {
        self.encoded_session_token.as_ref().map(|token| token.as_str())
    }

    /// Calls `sign` with the template of a target and the time of day, if there is one for this second's day.
    #[inline]
    pub(crate) fn with_template<T>(
        &self,
        target: u64,
        now: i64,
        sign: impl FnOnce(&Template, TimeOfDay) -> T,
    ) -> Option<T> {
        let sign = |template: &Arc<Template>| Some(sign(template, template.day.time(now)?));
        self.templates.find(target, |template| template.target == target, sign)?
    }

    /// The signing key of a day, region and service: one that is kept, or a new one.
    pub(crate) fn signing_key(&self, day: &Day, region: &str, service: &'static str) -> SigningKey {
        let of_these = |kept: &Template| kept.day == *day && kept.region == region && kept.service == service;
        self.templates
            .find_anywhere(|kept| of_these(kept).then(|| kept.signer.key().clone()))
            .unwrap_or_else(|| SigningKey::derive(self.credentials.secret_access_key(), day, region, service))
    }

    /// Keeps a template in the place of those of other days.
    pub(crate) fn keep(&self, template: &Arc<Template>) {
        let stays = |kept: &Template| kept.day == template.day && kept.target != template.target;
        self.templates.keep(template.target, template, stays);
    }
}
