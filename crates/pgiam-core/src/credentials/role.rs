//! The profile in use, and its `role_arn`: the chain of profiles down to the first credentials, and then one role assumed
//! after the other.
//!
//! Rules: botocore's `AssumeRoleProvider`; AWS SDKs and Tools Reference Guide, "Assume role credential provider". A profile
//! that names itself as its source means its own keys, and so does a source profile that has both keys and a role. A
//! circle is an error that prints it. The chain is followed by iteration, so that a long one cannot exhaust the stack of
//! a small thread.

use std::time::Instant;

use crate::config::profile_files::Profile;
use crate::credentials::asking::{MfaPrompt, may_ask};
use crate::credentials::profile::{self, Own, Setting};
use crate::credentials::sts::{self, Role};
use crate::credentials::{Context, Outcome, Provided, container, environment, imds, web_identity};
use crate::error::{Error, ErrorKind, invalid_configuration};
use crate::secret::Secret;

/// The most profiles that one chain may have. Each role is a request to STS.
const LONGEST_CHAIN: usize = 100;

/// Credentials of the profile in use. A web identity of the environment comes after the profile's role and before all
/// else that a profile can have.
pub(crate) fn provide(context: &Context<'_>) -> Outcome {
    provide_or_fail(context).into()
}

fn provide_or_fail(context: &Context<'_>) -> Result<Outcome, Error> {
    let files = context.config.files()?;
    let (name, named_by) = context.config.profile_name();
    let Some(profile) = files.profile(name) else {
        let looked_at = files.looked_at_for_profile(name);
        return match named_by {
            Some(named_by) => {
                Err(invalid_configuration(format!("profile {name:?}, named by {named_by}, is not in {looked_at}")))
            }
            None => Ok(Outcome::NotConfigured(format!("no profile {name:?} in {looked_at}"))),
        };
    };
    match Setting::of(profile, false) {
        Setting::Nothing => {
            Ok(Outcome::NotConfigured(format!("profile {name:?} has {}", profile::describe_nothing(profile))))
        }
        Setting::Role => assume_chain(context, profile).map(Outcome::Provided),
        Setting::Own(_) if web_identity::is_in_environment(context.config) => Ok(Outcome::NotConfigured(format!(
            "profile {name:?} has no role to assume with other credentials, and AWS_WEB_IDENTITY_TOKEN_FILE wins over the \
             rest of it"
        ))),
        Setting::Own(own) => profile::provide(context, profile, own).map(Outcome::Provided),
    }
}

/// The credentials of a profile with `role_arn`.
fn assume_chain(context: &Context<'_>, profile: &Profile) -> Result<Provided, Error> {
    let chain = Chain::of(context, profile)?;
    let mut provided = chain.base.provide(context)?;
    for profile in chain.roles.into_iter().rev() {
        let role = role_of(context, profile)?;
        let mfa_code = role.mfa_serial.map(|device| mfa_code(context, profile, device)).transpose()?;
        let assumed = sts::assume_role(&context.after_asking(), &role, &provided.credentials, mfa_code.as_ref())?;
        // The whole chain, the last role first.
        provided = Provided { by: format!("{}, with {}", assumed.by, provided.by), ..assumed };
    }
    Ok(provided)
}

/// The profiles whose roles are assumed, the one in use first, and where the first credentials come from.
struct Chain<'a> {
    roles: Vec<&'a Profile>,
    base: Base<'a>,
}

enum Base<'a> {
    Profile(&'a Profile, Own),
    /// `credential_source` of a profile.
    Named(&'a str, &'a Profile),
}

impl<'a> Chain<'a> {
    fn of(context: &Context<'a>, profile: &'a Profile) -> Result<Self, Error> {
        let mut roles = Vec::new();
        let mut current = profile;
        loop {
            sts::check(context, &role_of(context, current)?)?;
            roles.push(current);
            let next = match source_of(current)? {
                RoleSource::Named(source) => return Ok(Self { roles, base: Base::Named(source, current) }),
                RoleSource::Profile(name) => source_profile(context, &roles, current, name)?,
            };
            match Setting::of(next, true) {
                Setting::Role if std::ptr::eq(next, current) => {
                    return Err(invalid_configuration(format!(
                        "{} names itself as source_profile and has no aws_access_key_id",
                        current.place("role_arn")
                    )));
                }
                Setting::Role => current = next,
                Setting::Nothing => {
                    return Err(invalid_configuration(format!(
                        "{} names the source_profile {:?}, which has {}",
                        current.place("source_profile"),
                        next.name(),
                        profile::describe_nothing(next)
                    )));
                }
                Setting::Own(own) => return Ok(Self { roles, base: Base::Profile(next, own) }),
            }
        }
    }
}

/// The profile that another names as its source.
fn source_profile<'a>(
    context: &Context<'a>,
    before: &[&'a Profile],
    profile: &'a Profile,
    name: &str,
) -> Result<&'a Profile, Error> {
    let files = context.config.files()?;
    let next = files.profile(name).ok_or_else(|| {
        invalid_configuration(format!(
            "{} names the source_profile {name:?}, which is not in {}",
            profile.place("source_profile"),
            files.looked_at_for_profile(name)
        ))
    })?;
    let names = |most: usize| before.iter().take(most).map(|profile| profile.name()).collect::<Vec<_>>().join(" -> ");
    if name != profile.name() && before.iter().any(|profile| profile.name() == name) {
        return Err(invalid_configuration(format!(
            "{}: source_profile goes in a circle: {} -> {name}",
            profile.file_of("source_profile"),
            names(LONGEST_CHAIN)
        )));
    }
    if before.len() >= LONGEST_CHAIN {
        return Err(invalid_configuration(format!(
            "{}: more than {LONGEST_CHAIN} profiles are chained by source_profile, beginning with {}",
            profile.file_of("source_profile"),
            names(3)
        )));
    }
    Ok(next)
}

enum RoleSource<'a> {
    Profile(&'a str),
    Named(&'a str),
}

fn source_of(profile: &Profile) -> Result<RoleSource<'_>, Error> {
    let here = || profile.place("role_arn");
    match (profile.get("source_profile"), profile.get("credential_source")) {
        (Some(name), None) => Ok(RoleSource::Profile(name)),
        (None, Some(source)) => Ok(RoleSource::Named(source)),
        (None, None) => Err(invalid_configuration(format!(
            "{} has role_arn and none of source_profile, credential_source and web_identity_token_file; add the one \
             whose credentials may assume the role",
            here()
        ))),
        (Some(_), Some(_)) => Err(invalid_configuration(format!(
            "{} has more than one of source_profile and credential_source; keep one",
            here()
        ))),
    }
}

/// The role of a profile that has one. If it needs the code of an MFA device, there must be somebody to ask.
fn role_of<'a>(context: &Context<'_>, profile: &'a Profile) -> Result<Role<'a>, Error> {
    let mfa_serial = profile.get("mfa_serial");
    if mfa_serial.is_some() {
        mfa_prompt(context, profile)?;
    }
    Ok(Role {
        arn: profile.get("role_arn").unwrap_or_default(),
        session_name: profile.get("role_session_name"),
        external_id: profile.get("external_id"),
        duration_seconds: profile.get("duration_seconds"),
        mfa_serial,
        profile: Some(profile),
    })
}

/// Asks for a code. The time that this takes does not count against the deadline.
fn mfa_code(context: &Context<'_>, profile: &Profile, device: &str) -> Result<Secret, Error> {
    let prompt = mfa_prompt(context, profile)?;
    let started = Instant::now();
    let code = prompt.code(device);
    context.asked.set(context.asked.get() + started.elapsed());
    code.map_err(|error| error.context("mfa_serial").context(&profile.place("mfa_serial")))
}

fn mfa_prompt<'a>(context: &Context<'a>, profile: &Profile) -> Result<&'a MfaPrompt, Error> {
    context.mfa_prompt.filter(|_| may_ask()).ok_or_else(|| {
        invalid_configuration(format!(
            "{} has mfa_serial, and the code can only be asked for by the program pgiam in the foreground of a terminal; \
             elsewhere get a session first (aws sts get-session-token), or use a profile with credential_process = aws \
             configure export-credentials --profile {} --format process",
            profile.place("mfa_serial"),
            profile.name()
        ))
    })
}

impl Base<'_> {
    fn provide(&self, context: &Context<'_>) -> Result<Provided, Error> {
        let (source, profile) = match self {
            Self::Profile(profile, own) => return profile::provide(context, profile, *own),
            Self::Named(source, profile) => (*source, *profile),
        };
        let here = profile.place("credential_source");
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
}
