//! The order of the sources, and the role of the client's own settings, which is assumed with what they provide.
//!
//! The order is the AWS CLI's (botocore's `create_credential_resolver`): keys of the environment; the profile's
//! `role_arn`; a web identity of the environment or of the profile; SSO; keys of the credentials file; login session;
//! process; keys of the config file; container endpoint; instance metadata. A profile is one source here: it is asked
//! before the environment's web identity, and leaves everything but a role to it.
//!
//! *Not configured* goes on to the next source; *configured and failing* stops with an error that names the source.

use crate::credentials::sts::{self, Role};
use crate::credentials::{Context, Outcome, Provided, Source, container, environment, imds, keys, role, web_identity};
use crate::error::{Error, ErrorKind, invalid_configuration, printable};
use crate::time::unix_seconds;

type Provider = fn(&Context<'_>) -> Outcome;

const SOURCES: [(Source, Provider); 5] = [
    (Source::Environment, environment::provide),
    (Source::Profile, role::provide),
    (Source::WebIdentity, web_identity::from_environment),
    (Source::Container, container::provide),
    (Source::InstanceMetadata, imds::provide),
];

/// One source that was asked, and its answer, in one printable line.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) source: &'static str,
    pub(crate) said: String,
}

impl Step {
    fn new(source: Source, said: &str) -> Self {
        Self { source: source.name(), said: printable(said).into_owned() }
    }

    fn used(source: Source, provided: &Provided) -> Self {
        Self::new(source, &format!("used: {}", provided.by))
    }
}

/// Credentials of the first source that is configured. `trail` receives the answer of each source.
pub(crate) fn provide(context: &Context<'_>, trail: &mut Vec<Step>) -> Result<Provided, Error> {
    let settings = &context.config.settings;
    let Some(arn) = settings.role_arn() else { return first(context, trail) };
    let role = Role {
        arn,
        session_name: settings.role_session_name(),
        external_id: settings.external_id(),
        duration_seconds: None,
        mfa_serial: None,
        profile: context.config.profile().ok().flatten(),
    };
    sts::check(context, &role).map_err(|error| error.context("setting role_arn"))?;
    let provided = first(context, trail)?;
    let assumed = sts::assume_role(&context.after_asking(), &role, &provided.credentials, None)
        .map_err(|error| error.context("setting role_arn"))
        .inspect_err(|error| trail.push(Step::new(Source::Role, error.message())))?;
    trail.push(Step::used(Source::Role, &assumed));
    accept(Provided { source: Source::Role, ..assumed }, context.now)
}

/// The error, with what a step has said already replaced by a reference to it.
pub(crate) fn without_repetition(error: Error, trail: &[Step]) -> Error {
    match trail.iter().find(|step| !step.said.is_empty() && error.message().contains(&step.said)) {
        Some(step) => Error::new(error.kind(), error.message().replace(&step.said, "as above")),
        None => error,
    }
}

fn first(context: &Context<'_>, trail: &mut Vec<Step>) -> Result<Provided, Error> {
    for (source, provide) in SOURCES {
        match provide(context) {
            Outcome::Provided(provided) => {
                trail.push(Step::used(source, &provided));
                return accept(provided, context.now);
            }
            Outcome::NotConfigured(why) => trail.push(Step::new(source, &why)),
            Outcome::Failed(error) => {
                trail.push(Step::new(source, error.message()));
                // The last of the chain, and this is not an EC2 instance: no source failed, but none is configured.
                if source == Source::InstanceMetadata && error.kind() == ErrorKind::NoCredentials {
                    let none = no_credentials(trail);
                    return Err(if error.is_source_unavailable() { none.source_unavailable() } else { none });
                }
                let error = error.context(source.name());
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

/// Refuses credentials that have expired, except where the cache may still use them, and those that cannot work.
fn accept(provided: Provided, now: i64) -> Result<Provided, Error> {
    let credentials = &provided.credentials;
    let source = provided.source.name();
    if let Some(expiry) = credentials.expiry().map(unix_seconds)
        && expiry <= now
        && !provided.source.may_be_extended()
    {
        return Err(Error::new(
            ErrorKind::CredentialsExpired,
            format!(
                "{source}: the credentials {} expired {} seconds ago; renew them, or correct this machine's clock",
                credentials.access_key_id(),
                now - expiry
            ),
        ));
    }
    keys::check(credentials).map_err(|why| invalid_configuration(format!("{source}: {}: {why}", provided.by)))?;
    let one_line = |text: String| printable(&text).into_owned();
    Ok(Provided { by: one_line(provided.by), identity: provided.identity.map(one_line), ..provided })
}
