//! One profile: which of its settings gives the credentials, in the AWS CLI's order, and the providers behind those that
//! need no other profile (`role` has the chains of roles).
//!
//! Rules: botocore's `credentials.py`; AWS SDKs and Tools Reference Guide, the pages of the providers.

use crate::config::grammar::FileKind;
use crate::config::profile_files::Profile;
use crate::credentials::keys::Keys;
use crate::credentials::{Context, Provided, Source, login, process, sso, web_identity};
use crate::error::{Error, invalid_configuration};

/// What a profile gets its credentials from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// `role_arn`, with the credentials of another profile or source.
    Role,
    Own(Own),
    /// It has no credential settings.
    Nothing,
}

/// A setting that needs no other profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    WebIdentity,
    Sso,
    /// Keys in one of the two files.
    Keys(FileKind),
    LoginSession,
    Process,
}

const ID: &str = "aws_access_key_id";
const SECRET: &str = "aws_secret_access_key";

impl Setting {
    /// The first setting in the AWS CLI's order. A profile that is the source of another uses its keys rather than its
    /// role.
    pub(crate) fn of(profile: &Profile, is_source: bool) -> Self {
        let has = |property| profile.get(property).is_some();
        // As in the AWS CLI, the key id decides.
        let has_key_in = |file| profile.get_in(file, ID).is_some();
        let has_keys = has_key_in(FileKind::Credentials) || has_key_in(FileKind::Config);
        if has("web_identity_token_file") {
            Self::Own(Own::WebIdentity)
        } else if has("role_arn") && !(is_source && has_keys) {
            Self::Role
        } else if has("sso_account_id") || has("sso_role_name") {
            Self::Own(Own::Sso)
        } else if has_key_in(FileKind::Credentials) {
            Self::Own(Own::Keys(FileKind::Credentials))
        } else if has("login_session") {
            Self::Own(Own::LoginSession)
        } else if has("credential_process") {
            Self::Own(Own::Process)
        } else if has_key_in(FileKind::Config) {
            Self::Own(Own::Keys(FileKind::Config))
        } else {
            Self::Nothing
        }
    }
}

/// What a profile without credential settings has instead.
pub(crate) fn describe_nothing(profile: &Profile) -> String {
    match [FileKind::Credentials, FileKind::Config].into_iter().find(|file| profile.get_in(*file, SECRET).is_some()) {
        Some(file) => format!("no credential settings: {} has {SECRET} and no {ID}", profile.place_in(file)),
        None => "no credential settings".to_owned(),
    }
}

/// Credentials of a profile by a setting of its own.
pub(crate) fn provide(context: &Context<'_>, profile: &Profile, own: Own) -> Result<Provided, Error> {
    match own {
        Own::WebIdentity => web_identity::from_profile(context, profile),
        Own::Sso => sso::provide(context, profile),
        Own::Keys(file) => keys(profile, file),
        Own::LoginSession => login::provide(context, profile),
        Own::Process => {
            let command = profile.get("credential_process").unwrap_or_default();
            process::provide(context, command, &profile.place("credential_process"))
        }
    }
}

/// The keys in one file. The session token is of the same file; the AWS CLI asks the older name first.
fn keys(profile: &Profile, file: FileKind) -> Result<Provided, Error> {
    let place = profile.place_in(file);
    let get = |property| profile.get_in(file, property);
    let access_key_id = get(ID).unwrap_or_default();
    let secret_access_key = get(SECRET)
        .ok_or_else(|| invalid_configuration(format!("{place} has {ID} and no {SECRET}; give both or neither")))?;
    let session_token = get("aws_security_token").or_else(|| get("aws_session_token"));
    let credentials = Keys { access_key_id, secret_access_key, session_token, expiry: None }
        .credentials("profile")
        .map_err(|why| invalid_configuration(format!("{place}: {why}")))?;
    Ok(Provided { credentials, source: Source::Profile, identity: None, by: format!("keys of {place}") })
}
