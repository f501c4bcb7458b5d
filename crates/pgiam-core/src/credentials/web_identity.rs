//! Web identities: a file with a token of another identity provider, which STS exchanges for a role's credentials.
//!
//! Configured in the environment (EKS, and OIDC in CI) or in a profile. Rules: botocore's
//! `AssumeRoleWithWebIdentityProvider`; a variable wins over the property of the profile in use, and counts only where no
//! profile is given to the client.

use crate::config::Config;
use crate::config::profile_files::Profile;
use crate::credentials::sts::{self, Role};
use crate::credentials::{Context, Outcome, Provided, Source};
use crate::error::{Error, invalid_configuration};

const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";
const ARN: &str = "AWS_ROLE_ARN";
const SESSION_NAME: &str = "AWS_ROLE_SESSION_NAME";

/// Whether the environment has a token file that counts.
pub(crate) fn is_in_environment(config: &Config) -> bool {
    config.settings.profile().is_none() && config.environment.get(TOKEN_FILE).is_some()
}

/// Credentials by the token file of the environment.
pub(crate) fn from_environment(context: &Context<'_>) -> Outcome {
    let config = context.config;
    let Some(token_file) = config.environment.get(TOKEN_FILE) else {
        return Outcome::NotConfigured(format!("{TOKEN_FILE} not set"));
    };
    if config.settings.profile().is_some() {
        return Outcome::NotConfigured("skipped because a profile is given".into());
    }
    // What the environment leaves out is taken from the profile in use.
    let profile = config.profile().ok().flatten();
    let property = |name| profile.and_then(|profile| profile.get(name));
    let Some(arn) = config.environment.get(ARN).or_else(|| property("role_arn")) else {
        return Outcome::Failed(invalid_configuration(format!(
            "{TOKEN_FILE} is set and {ARN} is not; set it to the role to assume"
        )));
    };
    let role = Role {
        arn,
        session_name: config.environment.get(SESSION_NAME).or_else(|| property("role_session_name")),
        external_id: None,
        duration_seconds: None,
        mfa_serial: None,
        profile,
    };
    let provided = assume(context, &role, token_file);
    provided.map(|provided| Outcome::Provided(Provided { source: Source::WebIdentity, ..provided })).into()
}

/// Credentials by the token file of a profile.
pub(crate) fn from_profile(context: &Context<'_>, profile: &Profile) -> Result<Provided, Error> {
    const PROPERTY: &str = "web_identity_token_file";
    let config = context.config;
    let is_in_use = config.settings.profile().is_none() && config.profile_name().0 == profile.name();
    let variable = |name| config.environment.get(name).filter(|_| is_in_use);
    let arn = variable(ARN).or_else(|| profile.get("role_arn")).ok_or_else(|| {
        invalid_configuration(format!(
            "{} has {PROPERTY} and no role_arn; set it to the role to assume",
            profile.place(PROPERTY)
        ))
    })?;
    let role = Role {
        arn,
        session_name: variable(SESSION_NAME).or_else(|| profile.get("role_session_name")),
        external_id: None,
        duration_seconds: profile.get("duration_seconds"),
        mfa_serial: None,
        profile: Some(profile),
    };
    assume(context, &role, profile.get(PROPERTY).unwrap_or_default())
}

fn assume(context: &Context<'_>, role: &Role<'_>, token_file: &str) -> Result<Provided, Error> {
    let path = context.config.environment.expand_home(token_file);
    sts::assume_role_with_web_identity(context, role, &path.to_string_lossy())
}
