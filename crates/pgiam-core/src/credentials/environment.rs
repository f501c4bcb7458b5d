//! Keys in the environment: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SECURITY_TOKEN` or `AWS_SESSION_TOKEN` (in
//! this order, as in the AWS CLI) and `AWS_CREDENTIAL_EXPIRATION`. Skipped when a profile is given to the client;
//! `AWS_PROFILE` does not skip them.

use crate::config::Config;
use crate::credentials::keys::Keys;
use crate::credentials::{Context, Outcome, Provided, Source};
use crate::error::{Error, invalid_configuration};
use crate::time::{parse_rfc3339, system_time};

const ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";

pub(crate) fn provide(context: &Context<'_>) -> Outcome {
    if context.config.settings.profile().is_some() {
        return Outcome::NotConfigured("skipped because a profile is given".into());
    }
    keys(context.config)
}

/// The environment's keys, also for a profile whose `credential_source` they are.
pub(crate) fn keys(config: &Config) -> Outcome {
    keys_or_error(config).into()
}

fn keys_or_error(config: &Config) -> Result<Outcome, Error> {
    let environment = &config.environment;
    // As in the AWS CLI, the key id decides.
    let (access_key_id, secret_access_key) = match (environment.get(ID), environment.get(SECRET)) {
        (Some(id), Some(secret)) => (id, secret),
        (None, None) => return Ok(Outcome::NotConfigured(format!("{ID} not set"))),
        (None, Some(_)) => return Ok(Outcome::NotConfigured(format!("{ID} not set, but {SECRET} is"))),
        (Some(_), None) => {
            return Err(invalid_configuration(format!("{ID} is set and {SECRET} is not; set both or neither")));
        }
    };
    let session_token = environment.get("AWS_SECURITY_TOKEN").or_else(|| environment.get("AWS_SESSION_TOKEN"));
    let expiry = match environment.get("AWS_CREDENTIAL_EXPIRATION") {
        None => None,
        Some(text) => Some(parse_rfc3339(text).map(system_time).ok_or_else(|| {
            invalid_configuration(format!(
                "AWS_CREDENTIAL_EXPIRATION: {text:?} is not a time like 2026-01-02T03:04:05Z"
            ))
        })?),
    };
    let credentials = Keys { access_key_id, secret_access_key, session_token, expiry }
        .credentials("environment")
        .map_err(|why| invalid_configuration(format!("{ID} and {SECRET}: {why}")))?;
    Ok(Outcome::Provided(Provided { credentials, source: Source::Environment, identity: None, by: ID.into() }))
}
