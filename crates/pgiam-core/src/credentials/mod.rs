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

use aws_credential_types::Credentials;

use crate::config::Config;
use crate::error::Error;
use crate::time::Deadline;

/// What a provider works with.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a Config,
    pub(crate) deadline: Deadline,
    pub(crate) now: i64,
    /// The region of the token that the credentials are for, if one was asked for: the default region of STS and other
    /// AWS services.
    pub(crate) token_region: Option<&'a str>,
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
