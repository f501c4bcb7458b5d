//! Keys in the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN` and
//! `AWS_CREDENTIAL_EXPIRATION`. Skipped when a profile is given to the client; `AWS_PROFILE` does not skip them.

use aws_credential_types::Credentials;

use crate::config::Config;
use crate::credentials::{Context, Outcome, Provided, Source};
use crate::error::invalid_configuration;
use crate::time::{parse_rfc3339, system_time};

pub(crate) fn provide(context: &Context<'_>) -> Outcome {
    if context.config.settings.profile().is_some() {
        return Outcome::NotConfigured("skipped, a profile is given".into());
    }
    keys(context.config)
}

/// The environment's keys, also for a profile whose `credential_source` they are.
pub(crate) fn keys(config: &Config) -> Outcome {
    let environment = &config.environment;
    let (id, secret) = match (environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) => (id, secret),
        (None, None) => return Outcome::NotConfigured("AWS_ACCESS_KEY_ID not set".into()),
        (Some(_), None) => return half("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        (None, Some(_)) => return half("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    };
    let expiry = match environment.get("AWS_CREDENTIAL_EXPIRATION") {
        None => None,
        Some(text) => match parse_rfc3339(text) {
            Some(seconds) => Some(system_time(seconds)),
            None => {
                return Outcome::Failed(invalid_configuration(format!(
                    "environment: AWS_CREDENTIAL_EXPIRATION: {text:?} is not a time like 2026-01-02T03:04:05Z"
                )));
            }
        },
    };
    Outcome::Provided(Provided {
        credentials: Credentials::new(
            id.trim(),
            secret.trim(),
            environment.get("AWS_SESSION_TOKEN").map(|token| token.trim().to_owned()),
            expiry,
            "environment",
        ),
        source: Source::Environment,
        identity: None,
        by: "AWS_ACCESS_KEY_ID".into(),
    })
}

fn half(set: &str, unset: &str) -> Outcome {
    Outcome::Failed(invalid_configuration(format!("environment: {set} is set and {unset} is not; set both or neither")))
}
