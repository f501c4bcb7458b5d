//! The order of the sources: environment, profile, (web identity and container endpoint,) instance metadata.
//!
//! *Not configured* goes on to the next source; *configured and failing* stops with an error that names the source.

use crate::credentials::{Context, Outcome, Provided, Source, environment, imds, profile};
use crate::error::{Error, ErrorKind, invalid_configuration};
use crate::time::unix_seconds;

/// Variables of sources that this version does not take. A program that has them runs in a container with a role of its
/// own and must not end up with its machine's.
const NOT_TAKEN: [&str; 3] =
    ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];

type Provider = fn(&Context<'_>) -> Outcome;

const SOURCES: [(Source, Provider); 3] = [
    (Source::Environment, environment::provide),
    (Source::Profile, profile::provide),
    (Source::InstanceMetadata, imds::provide),
];

pub(crate) fn provide(context: &Context<'_>) -> Result<Provided, Error> {
    let mut trail = Vec::with_capacity(SOURCES.len());
    for (source, provide) in SOURCES {
        if source == Source::InstanceMetadata
            && let Some(variable) = NOT_TAKEN.iter().find(|variable| context.config.environment.get(variable).is_some())
        {
            return Err(invalid_configuration(format!(
                "{variable} is set, and this version of pgiam does not support that source; export the credentials \
                 into the environment instead (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN)"
            )));
        }
        match provide(context) {
            Outcome::Provided(provided) => return accept(provided, context.now),
            Outcome::NotConfigured(why) => trail.push(format!("{}: {why}", source.name())),
            Outcome::Failed(error) if error.kind() == ErrorKind::NoCredentials => {
                trail.push(format!("{}: {}", source.name(), error.message()));
                let failed = Error::new(ErrorKind::NoCredentials, no_credentials(&trail));
                return Err(if error.is_source_unavailable() { failed.source_unavailable() } else { failed });
            }
            Outcome::Failed(error) => {
                let named = Error::new(error.kind(), format!("{}: {}", source.name(), error.message()));
                return Err(if error.is_source_unavailable() { named.source_unavailable() } else { named });
            }
        }
    }
    Err(Error::new(ErrorKind::NoCredentials, no_credentials(&trail)))
}

fn no_credentials(trail: &[String]) -> String {
    format!("no credentials: {}", trail.join("; "))
}

/// Expired credentials are of no use, except where the cache may serve them on.
fn accept(provided: Provided, now: i64) -> Result<Provided, Error> {
    let credentials = &provided.credentials;
    if let Some(expiry) = credentials.expiry().map(unix_seconds)
        && expiry <= now
        && !provided.source.may_be_extended()
    {
        return Err(Error::new(
            ErrorKind::CredentialsExpired,
            format!(
                "{}: the credentials {} expired {} seconds ago; renew them, or correct this machine's clock",
                provided.source.name(),
                credentials.access_key_id(),
                now - expiry
            ),
        ));
    }
    // No real key has one; this one was pasted wrong.
    for (what, value) in
        [("access key id", Some(credentials.access_key_id())), ("session token", credentials.session_token())]
    {
        if value.is_some_and(|value| value.chars().any(|c| c.is_control())) {
            return Err(invalid_configuration(format!(
                "{}: the {what} has a control character",
                provided.source.name()
            )));
        }
    }
    Ok(provided)
}
