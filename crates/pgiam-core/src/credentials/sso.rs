//! IAM Identity Center (SSO): the access token that `aws sso login` cached, refreshed if necessary, is exchanged for the
//! credentials of a role.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "IAM Identity Center credential provider", and botocore's `tokens.py`. The
//! cache file is named by the SHA-1 of the session's name, in the older form by that of the start URL. A token is judged
//! at the moment when it is used: one that has expired, or that is damaged, is refreshed if that is possible, and after a
//! refresh that failed the old one is used if it has not expired meanwhile. A refreshed token replaces the file in one
//! step, with mode 0600, as the CLI does, so that both go on with it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::config::profile_files::Profile;
use crate::credentials::document::{self, Document};
use crate::credentials::{Context, Provided, Source};
use crate::error::{Error, ErrorKind, invalid_configuration, reason};
use crate::net::aws_endpoint::{AwsService, Endpoint};
use crate::net::http::Response;
use crate::percent_encoding::percent_encode;
use crate::secret::Secret;
use crate::sys;
use crate::time::{Deadline, parse_rfc3339, rfc3339};

/// Seconds before its expiry from which on a token is refreshed, as in the AWS CLI.
const REFRESH_AHEAD: i64 = 15 * 60;
/// Bytes. Cache files have a few KiB.
const MAX_CACHE_FILE: usize = 1024 * 1024;

/// The SSO settings of a profile, those of its session included.
struct Session<'a> {
    profile: &'a Profile,
    region: &'a str,
    account_id: &'a str,
    role_name: &'a str,
    cache_key: &'a str,
    /// Only the newer form has tokens that can be refreshed.
    can_refresh: bool,
}

/// An access token.
struct Token {
    text: Secret,
    /// Unix seconds.
    expires_at: i64,
}

/// What is in the cache. The whole document is kept, because a refresh leaves what it does not know as it is.
struct Cached {
    document: Document,
    /// `None`: it is missing or damaged, or its expiry is.
    token: Option<Token>,
}

pub(crate) fn provide(context: &Context<'_>, profile: &Profile) -> Result<Provided, Error> {
    let session = Session::of(context, profile)?;
    let path = cache_path(context, session.cache_key)?;
    let token = session.token(context, &path)?;
    let endpoint = session.endpoint(context, AwsService::Sso, context.deadline)?;
    let (role, account) = (percent_encode(session.role_name), percent_encode(session.account_id));
    let query = format!("/federation/credentials?role_name={}&account_id={}", *role, *account);
    let response = endpoint
        .ask("GET", &query, &[("x-amz-sso_bearer_token", token.expose())], b"", |_| false)
        .map_err(|error| session.name_region(error))?;
    let what = format!("role {} of account {}", session.role_name, session.account_id);
    let fault = |why: &str| endpoint.fault(&format!("{what}: {why}"));
    match response.status {
        200 => {}
        401 => {
            let region = session.region;
            let why = format!("the portal does not accept its token ({}; sso_region is {region})", response.describe());
            return Err(session.log_in_again(&why));
        }
        403 | 404 => {
            let why = response.describe();
            return Err(fault(&format!("{why}; you have no access to it: check sso_account_id and sso_role_name")));
        }
        _ => return Err(fault(&response.describe())),
    }
    let credentials = Document::parse("the response", response.body)
        .and_then(|mut document| document.take_object("roleCredentials"))
        .and_then(|document| document.credentials(&document::SSO, "sso"))
        .map_err(|error| fault(error.message()))?;
    Ok(Provided {
        credentials,
        source: Source::Profile,
        identity: Some(what),
        by: format!("SSO of profile {:?}", profile.name()),
    })
}

impl<'a> Session<'a> {
    fn of(context: &'a Context<'_>, profile: &'a Profile) -> Result<Self, Error> {
        let sso_property = ["sso_session", "sso_start_url", "sso_account_id", "sso_role_name"]
            .into_iter()
            .find(|property| profile.get(property).is_some())
            .unwrap_or_default();
        let place = profile.place(sso_property);
        let name = profile.get("sso_session");
        let section = match name {
            Some(name) => {
                let files = context.config.files()?;
                Some(files.sso_session(name).ok_or_else(|| {
                    invalid_configuration(format!(
                        "{place} names the sso_session {name:?}, which is not in {}",
                        files.looked_at_for_sso_session(name)
                    ))
                })?)
            }
            None => None,
        };
        let need = |property: &str| match (profile.get(property), section.and_then(|section| section.get(property))) {
            (Some(ours), Some(theirs)) if ours != theirs => Err(invalid_configuration(format!(
                "{place} has {property} = {ours}, and its sso-session has {property} = {theirs}; remove one of them"
            ))),
            (ours, theirs) => ours.or(theirs).ok_or_else(|| {
                invalid_configuration(format!("{place} has no {property}; `aws configure sso` writes it"))
            }),
        };
        Ok(Self {
            profile,
            region: need("sso_region")?,
            account_id: need("sso_account_id")?,
            role_name: need("sso_role_name")?,
            cache_key: name.map_or_else(|| need("sso_start_url"), Ok)?,
            can_refresh: section.is_some(),
        })
    }

    fn endpoint(&self, context: &Context<'_>, service: AwsService, deadline: Deadline) -> Result<Endpoint, Error> {
        Endpoint::new(service, context.config, Some(self.profile), self.region, deadline)
    }

    /// A region that does not exist looks like a name that cannot be resolved.
    fn name_region(&self, error: Error) -> Error {
        error.context(&format!("sso_region {}", self.region))
    }

    fn log_in_again(&self, why: &str) -> Error {
        let name = self.profile.name();
        let quoted = shlex::try_quote(name).unwrap_or_default();
        Error::new(
            ErrorKind::CredentialsExpired,
            format!("the SSO session of profile {name:?} has ended: {why}; run: aws sso login --profile {quoted}"),
        )
    }

    /// An access token that has not expired: the cached one, or a refreshed one when its expiry is near.
    fn token(&self, context: &Context<'_>, path: &Path) -> Result<Secret, Error> {
        let now = || context.clock.now();
        let cached = self.cached(path)?;
        if let Some(token) = cached.valid(now().saturating_add(REFRESH_AHEAD)) {
            return Ok(token);
        }
        // If the cached token is to be used after a failed refresh, there must be time left to use it.
        let deadline = match context.deadline.remaining() {
            Some(left) if cached.valid(now()).is_some() => context.deadline.at_most(left / 2),
            _ => context.deadline,
        };
        let error = match self.refresh(context, path, &cached.document, deadline) {
            Ok(token) if now() < token.expires_at => return Ok(token.text),
            Ok(_) => self.log_in_again("its token was refreshed and has expired already; check this machine's clock"),
            Err(error) => error,
        };
        // A refresh token is good for one use: another process may have used it and replaced the file.
        let theirs = || self.cached(path).ok()?.valid(now());
        cached.valid(now()).or_else(theirs).ok_or(error)
    }

    fn cached(&self, path: &Path) -> Result<Cached, Error> {
        let bytes = sys::read_bounded(path, MAX_CACHE_FILE).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => self.log_in_again("there is no cached token"),
            _ => invalid_configuration(format!("SSO cache {}: {}", path.display(), reason(&error))),
        })?;
        let document = Document::parse("the cache file", bytes)
            .map_err(|error| self.log_in_again(&format!("{}: {}", path.display(), error.message())))?;
        let text = document.text("accessToken").filter(|text| is_header_value(text));
        let expires_at = document.text("expiresAt").and_then(parse_rfc3339);
        let token = text.zip(expires_at).map(|(text, expires_at)| Token { text: Secret::new(text.into()), expires_at });
        Ok(Cached { document, token })
    }

    /// Asks OIDC for a new access token and puts it into the cache.
    fn refresh(
        &self,
        context: &Context<'_>,
        path: &Path,
        cached: &Document,
        deadline: Deadline,
    ) -> Result<Token, Error> {
        let cannot = |why: &str| self.log_in_again(&format!("its token has expired or is damaged, and {why}"));
        let parts = ["refreshToken", "clientId", "clientSecret"].map(|name| cached.text(name));
        let ([Some(refresh_token), Some(client_id), Some(client_secret)], true) = (parts, self.can_refresh) else {
            return Err(cannot("cannot be refreshed"));
        };
        let registered_until = cached.text("registrationExpiresAt").and_then(parse_rfc3339);
        if registered_until.is_some_and(|end| end <= context.clock.now()) {
            return Err(cannot("its client registration has expired"));
        }
        let body = Zeroizing::new(
            json!({
                "clientId": client_id, "clientSecret": client_secret,
                "grantType": "refresh_token", "refreshToken": refresh_token,
            })
            .to_string(),
        );
        let endpoint = self.endpoint(context, AwsService::SsoOidc, deadline)?;
        let response = endpoint
            .ask("POST", "/token", &[("content-type", "application/json")], body.as_bytes(), is_throttled)
            .map_err(|error| self.name_region(error))?;
        match response.status {
            200 => {}
            400..500 => return Err(cannot(&format!("could not be refreshed: {}", response.describe()))),
            _ => return Err(endpoint.fault(&response.describe())),
        }
        let fault = |error: Error| endpoint.fault(error.message());
        let answer = Document::parse("the response", response.body).map_err(fault)?;
        let text = answer
            .text("accessToken")
            .filter(|text| is_header_value(text))
            .ok_or_else(|| fault(answer.is_missing("accessToken")))?;
        let lifetime = answer.number("expiresIn").ok_or_else(|| fault(answer.is_missing("expiresIn")))?;
        let token =
            Token { text: Secret::new(text.to_owned()), expires_at: context.clock.now().saturating_add(lifetime) };
        let mut renewed = cached.clone();
        renewed.set("accessToken", text);
        renewed.set("expiresAt", &rfc3339(token.expires_at));
        if let Some(next) = answer.text("refreshToken") {
            renewed.set("refreshToken", next);
        }
        // A token that cannot be cached is still valid; the next process refreshes again.
        let _written = replace(path, &renewed.to_json());
        Ok(token)
    }
}

impl Cached {
    /// The token, if it has not expired at that time.
    fn valid(&self, at: i64) -> Option<Secret> {
        self.token.as_ref().filter(|token| at < token.expires_at).map(|token| token.text.clone())
    }
}

/// OIDC reports throttling with status 400.
fn is_throttled(response: &Response) -> bool {
    response.status == 400
        && serde_json::from_slice::<serde_json::Value>(&response.body)
            .is_ok_and(|answer| answer["error"] == "slow_down")
}

/// Whether a text can be the value of a header: visible ASCII characters only.
fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn cache_path(context: &Context<'_>, key: &str) -> Result<PathBuf, Error> {
    let home = context
        .config
        .environment
        .home()
        .ok_or_else(|| invalid_configuration("HOME is not set, so that the SSO token cache cannot be found"))?;
    let name: String = Sha1::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(home.join(".aws/sso/cache").join(name + ".json"))
}

/// Replaces a file in one step.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension(format!("{}-{:08x}.tmp", sys::process_id(), fastrand::u32(..)));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        fs::remove_file(&temporary).ok();
    }
    written
}
