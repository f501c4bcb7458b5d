//! AWS credentials: one file per source, `chain` to order them, `cache` to keep them fresh.
//!
//! The type is the SDKs' own, [`aws_credential_types::Credentials`], which wipes itself and hides its secrets from
//! `Debug`.

pub(crate) mod asking;
pub(crate) mod cache;
mod cached_session;
pub(crate) mod chain;
mod container;
pub(crate) mod document;
pub(crate) mod dpop;
mod environment;
mod imds;
mod keys;
pub(crate) mod login;
pub(crate) mod process;
mod profile;
mod role;
mod service_region;
pub(crate) mod sso;
mod sts;
mod web_identity;

use std::cell::Cell;
use std::time::Duration;

use aws_credential_types::Credentials;

use crate::config::Config;
use crate::credentials::asking::MfaPrompt;
use crate::error::Error;
use crate::time::{Clock, Deadline};

/// What a provider gets.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) deadline: Deadline,
    /// The region of the token that the credentials are for, if one was asked for: the default region of STS and other
    /// AWS services.
    pub(crate) token_region: Option<&'a str>,
    /// Read when the time is needed: a source may take minutes, when a person is asked.
    pub(crate) clock: &'a Clock,
    /// Asks a person for the code of an MFA device; `None` in a library.
    pub(crate) mfa_prompt: Option<&'a MfaPrompt>,
    /// How long it took to ask a person, or programs that could. This time does not count against the deadline.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::Settings;

    #[test]
    fn the_time_that_a_person_took_does_not_count_against_the_deadline() {
        let config = Config::read(Settings::default(), Some(std::iter::empty::<(String, String)>().collect()));
        let context = Context {
            config: &config,
            deadline: Deadline::after(Duration::from_secs(10)),
            token_region: None,
            clock: &Clock::fixed(0),
            mfa_prompt: None,
            asked: Cell::new(Duration::from_secs(3600)),
        };
        let left = |context: &Context<'_>| context.deadline.remaining().unwrap_or_default().as_secs();
        assert!(left(&context) <= 10);
        // Also for the second role that follows.
        for _ in 0..2 {
            assert!((3600..=3610).contains(&left(&context.after_asking())));
        }
    }
}
