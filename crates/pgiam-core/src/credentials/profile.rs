//! The profile in use: keys that stand in the config or credentials file.

use aws_credential_types::Credentials;

use crate::config::profile_files::Profile;
use crate::credentials::{Context, Outcome, Provided, Source};
use crate::error::{Error, invalid_configuration};

/// Ways to get credentials that a profile can name and that this version does not take. Going on to the next source
/// instead would sign in as somebody else.
const NOT_TAKEN: [&str; 8] = [
    "role_arn",
    "source_profile",
    "credential_source",
    "web_identity_token_file",
    "credential_process",
    "sso_session",
    "sso_start_url",
    "login_session",
];

pub(crate) fn provide(context: &Context<'_>) -> Outcome {
    provide_or_fail(context).into()
}

fn provide_or_fail(context: &Context<'_>) -> Result<Outcome, Error> {
    let files = context.config.files()?;
    let (name, named_by) = context.config.profile_name();
    let Some(profile) = files.profile(name) else {
        return match named_by {
            Some(named_by) => Err(invalid_configuration(format!(
                "profile {name:?}, named by {named_by}, is not in {}",
                files.looked_at()
            ))),
            None => Ok(Outcome::NotConfigured(format!("no profile \"default\" in {}", files.looked_at()))),
        };
    };
    if let Some(property) = NOT_TAKEN.iter().find(|property| profile.get(property).is_some()) {
        return Err(invalid_configuration(format!(
            "{}: profile {name:?} gets its credentials by {property}, which this version of pgiam does not support; \
             export them into the environment instead (aws configure export-credentials --profile {name} --format env)",
            profile.file_of(property)
        )));
    }
    let (id, secret) = match (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
        (Some(id), Some(secret)) => (id, secret),
        (None, None) => {
            return Ok(Outcome::NotConfigured(format!("profile {name:?} has no aws_access_key_id")));
        }
        (Some(_), None) => return Err(half(profile, "aws_access_key_id", "aws_secret_access_key")),
        (None, Some(_)) => return Err(half(profile, "aws_secret_access_key", "aws_access_key_id")),
    };
    Ok(Outcome::Provided(Provided {
        credentials: Credentials::new(id, secret, profile.get("aws_session_token").map(str::to_owned), None, "profile"),
        source: Source::Profile,
    }))
}

fn half(profile: &Profile, set: &str, unset: &str) -> Error {
    invalid_configuration(format!(
        "{}: profile {:?} has {set} and no {unset}; give both or neither",
        profile.file_of(set),
        profile.name()
    ))
}
