//! The profile in use, and what it composes: a role by another profile's credentials, by a source or by a web identity
//! token; SSO; keys that stand in the files; a process.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "Assume role credential provider" and the pages of the other kinds. A
//! profile that names itself as its source means its own keys, and so does a source profile that has keys beside a role.
//! A loop is an error that prints the loop.

use aws_credential_types::Credentials;

use crate::config::profile_files::Profile;
use crate::credentials::sts::Role;
use crate::credentials::{Context, Outcome, Provided, Source, container, environment, imds, process, sso, sts};
use crate::error::{Error, ErrorKind, invalid_configuration};

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
    match resolve(context, profile, &mut Vec::new())? {
        Some(provided) => Ok(Outcome::Provided(provided)),
        None => Ok(Outcome::NotConfigured(format!("profile {name:?} says nothing of credentials"))),
    }
}

/// The credentials of a profile; `None` when it configures none. `path` holds the profiles on the way here.
fn resolve<'a>(
    context: &Context<'a>,
    profile: &'a Profile,
    path: &mut Vec<&'a str>,
) -> Result<Option<Provided>, Error> {
    let is_source = !path.is_empty();
    path.push(profile.name());
    if is_source && let Some(keys) = keys(profile)? {
        return Ok(Some(keys));
    }
    if let Some(arn) = profile.get("role_arn") {
        return assume(context, profile, arn, path).map(Some);
    }
    if profile.get("web_identity_token_file").is_some() {
        return Err(invalid_configuration(format!(
            "{} has web_identity_token_file and no role_arn; set it to the role to become",
            place(profile, "web_identity_token_file")
        )));
    }
    if sso::is_configured(profile) {
        return sso::provide(context, profile).map(Some);
    }
    if let Some(keys) = keys(profile)? {
        return Ok(Some(keys));
    }
    if let Some(command) = profile.get("credential_process") {
        return process::provide(context, command, &place(profile, "credential_process")).map(Some);
    }
    if profile.get("login_session").is_some() {
        let name = profile.name();
        return Err(invalid_configuration(format!(
            "{} has a login_session, which pgiam cannot renew; let the AWS CLI hand out its credentials: add a profile \
             with credential_process = aws configure export-credentials --profile {name} --format process",
            place(profile, "login_session")
        )));
    }
    Ok(None)
}

fn assume<'a>(
    context: &Context<'a>,
    profile: &'a Profile,
    arn: &'a str,
    path: &mut Vec<&'a str>,
) -> Result<Provided, Error> {
    let here = || place(profile, "role_arn");
    if profile.get("mfa_serial").is_some() {
        return Err(invalid_configuration(format!(
            "{} has mfa_serial: a library cannot ask for a one-time code; get a session by hand (aws sts get-session-token) \
             or let the AWS CLI hand out its credentials: credential_process = aws configure export-credentials \
             --profile {} --format process",
            place(profile, "mfa_serial"),
            profile.name()
        )));
    }
    let role = Role {
        arn,
        session_name: profile.get("role_session_name"),
        external_id: profile.get("external_id"),
        duration_seconds: profile.get("duration_seconds"),
        profile: Some(profile),
    };
    sts::check(context, &role)?;
    let sources =
        [profile.get("source_profile"), profile.get("credential_source"), profile.get("web_identity_token_file")];
    match sources {
        [None, None, Some(file)] => sts::assume_role_with_web_identity(context, &role, file),
        [Some(source), None, None] => {
            let base = if source == profile.name() {
                keys(profile)?.ok_or_else(|| {
                    invalid_configuration(format!(
                        "{} names itself as source_profile and has no aws_access_key_id",
                        here()
                    ))
                })?
            } else {
                source_profile(context, profile, source, path)?
            };
            Ok(with_base(sts::assume_role(context, &role, &base.credentials)?, &base))
        }
        [None, Some(source), None] => {
            let base = credential_source(context, source, &here())?;
            Ok(with_base(sts::assume_role(context, &role, &base.credentials)?, &base))
        }
        [None, None, None] => Err(invalid_configuration(format!(
            "{} has role_arn and none of source_profile, credential_source and web_identity_token_file; add the one \
             whose credentials may assume the role",
            here()
        ))),
        _ => Err(invalid_configuration(format!(
            "{} has more than one of source_profile, credential_source and web_identity_token_file; keep one",
            here()
        ))),
    }
}

/// Tells the whole chain, the last role first.
fn with_base(assumed: Provided, base: &Provided) -> Provided {
    Provided { by: format!("{}, with {}", assumed.by, base.by), ..assumed }
}

fn source_profile<'a>(
    context: &Context<'a>,
    profile: &'a Profile,
    source: &'a str,
    path: &mut Vec<&'a str>,
) -> Result<Provided, Error> {
    if path.contains(&source) {
        return Err(invalid_configuration(format!(
            "{}: source_profile goes in a circle: {} -> {source}",
            profile.file_of("source_profile"),
            path.join(" -> ")
        )));
    }
    let files = context.config.files()?;
    let next = files.profile(source).ok_or_else(|| {
        invalid_configuration(format!(
            "{} names the source_profile {source:?}, which is not in {}",
            place(profile, "source_profile"),
            files.looked_at()
        ))
    })?;
    resolve(context, next, path)?.ok_or_else(|| {
        invalid_configuration(format!(
            "{} names the source_profile {source:?}, which says nothing of credentials",
            place(profile, "source_profile")
        ))
    })
}

fn credential_source(context: &Context<'_>, source: &str, here: &str) -> Result<Provided, Error> {
    let outcome = match source {
        "Environment" => environment::keys(context.config),
        "Ec2InstanceMetadata" => imds::provide(context),
        "EcsContainer" => container::provide(context),
        other => {
            return Err(invalid_configuration(format!(
                "{here}: credential_source {other:?} is not one of Environment, Ec2InstanceMetadata, EcsContainer"
            )));
        }
    };
    match outcome {
        Outcome::Provided(provided) => Ok(provided),
        Outcome::Failed(error) => Err(error.context(&format!("credential_source {source}"))),
        Outcome::NotConfigured(why) => {
            Err(Error::new(ErrorKind::NoCredentials, format!("{here}: credential_source {source}: {why}")))
        }
    }
}

/// Keys that stand in the profile.
fn keys(profile: &Profile) -> Result<Option<Provided>, Error> {
    const ID: &str = "aws_access_key_id";
    const SECRET: &str = "aws_secret_access_key";
    let half = |set: &str, unset: &str| {
        Err(invalid_configuration(format!("{} has {set} and no {unset}; give both or neither", place(profile, set))))
    };
    match (profile.get(ID), profile.get(SECRET)) {
        (None, None) => Ok(None),
        (Some(_), None) => half(ID, SECRET),
        (None, Some(_)) => half(SECRET, ID),
        (Some(id), Some(secret)) => Ok(Some(Provided {
            credentials: Credentials::new(
                id,
                secret,
                profile.get("aws_session_token").map(str::to_owned),
                None,
                "profile",
            ),
            source: Source::Profile,
            identity: None,
            by: format!("keys of {}", place(profile, ID)),
        })),
    }
}

/// Where a property stands, for messages.
fn place(profile: &Profile, property: &str) -> String {
    format!("{}: profile {:?}", profile.file_of(property), profile.name())
}
