//! The order of the sources: environment, profile, web identity, container endpoint, instance metadata; and the role that
//! the client itself was told to assume with what they give.
//!
//! *Not configured* goes on to the next source; *configured and failing* stops with an error that names the source.

use crate::credentials::sts::{self, Role};
use crate::credentials::{Context, Outcome, Provided, Source, container, environment, imds, profile};
use crate::error::{Error, ErrorKind, invalid_configuration};
use crate::time::unix_seconds;

type Provider = fn(&Context<'_>) -> Outcome;

const SOURCES: [(Source, Provider); 5] = [
    (Source::Environment, environment::provide),
    (Source::Profile, profile::provide),
    (Source::WebIdentity, sts::web_identity_from_environment),
    (Source::Container, container::provide),
    (Source::InstanceMetadata, imds::provide),
];

/// One source that was looked at, and what it said.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) source: &'static str,
    pub(crate) said: String,
}

/// Credentials of the first source that is configured. `trail` receives what each source said.
pub(crate) fn provide(context: &Context<'_>, trail: &mut Vec<Step>) -> Result<Provided, Error> {
    let settings = &context.config.settings;
    let Some(arn) = settings.role_arn() else { return first(context, trail) };
    let role = Role {
        arn,
        session_name: settings.role_session_name(),
        external_id: settings.external_id(),
        duration_seconds: None,
        profile: context.config.profile().ok().flatten(),
    };
    sts::check(context, &role).map_err(|error| error.context("setting role_arn"))?;
    let provided = first(context, trail)?;
    let assumed = sts::assume_role(context, &role, &provided.credentials)
        .map_err(|error| error.context("setting role_arn"))
        .inspect_err(|error| trail.push(Step { source: "role_arn", said: error.message().to_owned() }))?;
    trail.push(Step { source: "role_arn", said: format!("serves, by {}", assumed.by) });
    accept(Provided { source: Source::Role, ..assumed }, context.now)
}

fn first(context: &Context<'_>, trail: &mut Vec<Step>) -> Result<Provided, Error> {
    for (source, provide) in SOURCES {
        let name = source.name();
        match provide(context) {
            Outcome::Provided(provided) => {
                trail.push(Step { source: name, said: format!("serves, by {}", provided.by) });
                return accept(provided, context.now);
            }
            Outcome::NotConfigured(why) => trail.push(Step { source: name, said: why }),
            Outcome::Failed(error) => {
                trail.push(Step { source: name, said: error.message().to_owned() });
                // The last of the chain, and nobody is there: that is no failure of a source but the lack of one.
                if source == Source::InstanceMetadata && error.kind() == ErrorKind::NoCredentials {
                    let none = no_credentials(trail);
                    return Err(if error.is_source_unavailable() { none.source_unavailable() } else { none });
                }
                let error = error.context(name);
                let last = source == Source::InstanceMetadata && error.kind() == ErrorKind::Provider;
                return Err(if last { error.context("no other source of credentials is configured") } else { error });
            }
        }
    }
    Err(no_credentials(trail))
}

fn no_credentials(trail: &[Step]) -> Error {
    let steps: Vec<String> = trail.iter().map(|step| format!("{}: {}", step.source, step.said)).collect();
    Error::new(ErrorKind::NoCredentials, format!("no credentials: {}", steps.join("; ")))
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
