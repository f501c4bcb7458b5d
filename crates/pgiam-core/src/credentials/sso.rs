//! IAM Identity Center (SSO): the token that `aws sso login` left in the cache, refreshed if it can be, exchanged for a
//! role's credentials.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "IAM Identity Center credential provider". The cache file is named by the
//! SHA-1 of the session's name, in the older form by that of the start URL. A refreshed token replaces the file whole,
//! with mode 0600, as the CLI does, so that both go on with it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_credential_types::Credentials;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use zeroize::Zeroizing;

use crate::config::profile_files::Profile;
use crate::credentials::{Context, Provided, Source};
use crate::error::{Error, ErrorKind, invalid_configuration};
use crate::net::aws_endpoint::{AwsService, Endpoint};
use crate::net::http::Response;
use crate::percent_encoding::percent_encode;
use crate::secret::Secret;
use crate::sys;
use crate::time::{Deadline, parse_rfc3339, rfc3339, system_time};

/// Seconds before its end at which a token is refreshed, as in the SDKs.
const REFRESH_AHEAD: i64 = 300;

/// What a profile says of SSO, its session's section counted in.
struct Session<'a> {
    profile: &'a Profile,
    region: &'a str,
    account_id: &'a str,
    role_name: &'a str,
    cache_key: &'a str,
    /// Only the newer form has tokens that can be refreshed.
    can_refresh: bool,
}

/// A token that `aws sso login` or a refresh left. The whole document is kept: a refresh changes what it must and no more.
struct Cached {
    token: Secret,
    ends: i64,
    document: Value,
}

pub(crate) fn provide(context: &Context<'_>, profile: &Profile) -> Result<Provided, Error> {
    let session = Session::of(context, profile)?;
    let path = cache_path(context, session.cache_key)?;
    let token = session.token(context, &path)?;
    let endpoint = Endpoint::new(AwsService::Sso, context.config, Some(profile), session.region, context.deadline)?;
    let (role, account) = (percent_encode(session.role_name), percent_encode(session.account_id));
    let query = format!("/federation/credentials?role_name={}&account_id={}", *role, *account);
    let response = endpoint.ask("GET", &query, &[("x-amz-sso_bearer_token", token.expose())], b"", |_| false)?;
    let what = format!("role {} of account {}", session.role_name, session.account_id);
    let fault = |why: &str| endpoint.fault(&format!("{what}: {why}"));
    match response.status {
        200 => {}
        401 => return Err(session.log_in_again("the portal does not accept the session's token")),
        403 | 404 => {
            return Err(fault(&format!(
                "HTTP {}: you have no access to this role; check sso_account_id and sso_role_name",
                response.status
            )));
        }
        status => return Err(fault(&format!("HTTP {status}"))),
    }
    let document: Value = serde_json::from_slice(&response.body).map_err(|_| fault("the answer is not JSON"))?;
    let credentials = &document["roleCredentials"];
    let text = |name: &str| {
        credentials[name]
            .as_str()
            .filter(|text| !text.is_empty())
            .ok_or_else(|| fault(&format!("the answer has no {name}")))
    };
    let expiration = credentials["expiration"].as_i64().ok_or_else(|| fault("the answer has no expiration"))?;
    Ok(Provided {
        credentials: Credentials::new(
            text("accessKeyId")?,
            text("secretAccessKey")?,
            Some(text("sessionToken")?.to_owned()),
            Some(system_time(expiration / 1000)),
            "sso",
        ),
        source: Source::Profile,
        identity: Some(what),
        by: format!("SSO of profile {:?}", profile.name()),
    })
}

impl<'a> Session<'a> {
    fn of(context: &'a Context<'_>, profile: &'a Profile) -> Result<Self, Error> {
        let need = |section: &'a Profile, property: &str, place: &str| {
            section.get(property).ok_or_else(|| {
                invalid_configuration(format!("{place} has no {property}; `aws configure sso` writes it"))
            })
        };
        let sso_property = ["sso_session", "sso_start_url", "sso_account_id", "sso_role_name"]
            .into_iter()
            .find(|property| profile.get(property).is_some())
            .unwrap_or_default();
        let place = profile.place(sso_property);
        let (section, cache_key, can_refresh) = match profile.get("sso_session") {
            Some(session) => {
                let files = context.config.files()?;
                let section = files.sso_session(session).ok_or_else(|| {
                    invalid_configuration(format!(
                        "{place} names the sso_session {session:?}, which is not in {}",
                        files.looked_at_for_sso_session(session)
                    ))
                })?;
                (section, session, true)
            }
            None => (profile, need(profile, "sso_start_url", &place)?, false),
        };
        Ok(Self {
            profile,
            region: need(section, "sso_region", &place)?,
            account_id: need(profile, "sso_account_id", &place)?,
            role_name: need(profile, "sso_role_name", &place)?,
            cache_key,
            can_refresh,
        })
    }

    fn log_in_again(&self, why: &str) -> Error {
        let name = self.profile.name();
        Error::new(
            ErrorKind::CredentialsExpired,
            format!("the SSO session of profile {name:?} is over: {why}; run: aws sso login --profile {name}"),
        )
    }

    /// The cached access token, refreshed when its end is near and it can be.
    fn token(&self, context: &Context<'_>, path: &Path) -> Result<Secret, Error> {
        let cached = self.cached(path)?;
        if context.now < cached.ends - REFRESH_AHEAD {
            return Ok(cached.token);
        }
        let still_good = context.now < cached.ends;
        // What still holds is used to its end, so there must be time left to use it.
        let deadline = match context.deadline.remaining() {
            Some(left) if still_good => context.deadline.at_most(left / 2),
            _ => context.deadline,
        };
        match self.refresh(context, path, &cached.document, deadline) {
            Ok(fresh) => Ok(fresh),
            Err(_) if still_good => Ok(cached.token),
            // A refresh token is good once: another process may have been first and left its fruit in the cache.
            Err(error) => match self.cached(path) {
                Ok(theirs) if context.now < theirs.ends => Ok(theirs.token),
                _ => Err(error),
            },
        }
    }

    /// The cache as it is.
    fn cached(&self, path: &Path) -> Result<Cached, Error> {
        let bytes = match fs::read(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(self.log_in_again("no token is in the cache"));
            }
            Err(error) => {
                return Err(invalid_configuration(format!("{}: {}", path.display(), error.kind())));
            }
        };
        let document: Value =
            serde_json::from_slice(&bytes).map_err(|_| self.log_in_again("the token in the cache cannot be read"))?;
        let token = document["accessToken"].as_str().filter(|token| is_token(token));
        let ends = document["expiresAt"].as_str().and_then(|text| parse_rfc3339(&text.replace("UTC", "Z")));
        let (Some(token), Some(ends)) = (token, ends) else {
            return Err(self.log_in_again("the token in the cache is incomplete"));
        };
        Ok(Cached { token: Secret::new(token.to_owned()), ends, document })
    }

    fn refresh(&self, context: &Context<'_>, path: &Path, cached: &Value, deadline: Deadline) -> Result<Secret, Error> {
        let text = |name: &str| cached[name].as_str().filter(|text| !text.is_empty());
        let (Some(refresh_token), Some(client_id), Some(client_secret)) =
            (text("refreshToken"), text("clientId"), text("clientSecret"))
        else {
            return Err(self.log_in_again("its token has expired"));
        };
        let registered = text("registrationExpiresAt")
            .and_then(|text| parse_rfc3339(&text.replace("UTC", "Z")))
            .is_none_or(|ends| context.now < ends);
        if !self.can_refresh || !registered {
            return Err(self.log_in_again("its token has expired"));
        }
        let endpoint = Endpoint::new(AwsService::SsoOidc, context.config, Some(self.profile), self.region, deadline)?;
        let body = Zeroizing::new(
            json!({
                "clientId": client_id, "clientSecret": client_secret,
                "grantType": "refresh_token", "refreshToken": refresh_token,
            })
            .to_string(),
        );
        let response =
            endpoint.ask("POST", "/token", &[("content-type", "application/json")], body.as_bytes(), is_throttled)?;
        if response.status != 200 {
            return Err(
                self.log_in_again(&format!("its token has expired and is not renewed (HTTP {})", response.status))
            );
        }
        let answer: Value =
            serde_json::from_slice(&response.body).map_err(|_| endpoint.fault("the answer is not JSON"))?;
        let (Some(token), Some(seconds)) =
            (answer["accessToken"].as_str().filter(|token| is_token(token)), answer["expiresIn"].as_i64())
        else {
            return Err(endpoint.fault("the answer has no accessToken and expiresIn"));
        };
        let mut renewed = cached.clone();
        renewed["accessToken"] = token.into();
        renewed["expiresAt"] = rfc3339(context.now.saturating_add(seconds)).into();
        if let Some(next) = answer["refreshToken"].as_str() {
            renewed["refreshToken"] = next.into();
        }
        // A token that cannot be kept is good all the same; the next process refreshes again.
        let _kept = replace(path, &Zeroizing::new(renewed.to_string()));
        Ok(Secret::new(token.to_owned()))
    }
}

/// OIDC's own word for throttling comes with status 400.
fn is_throttled(response: &Response) -> bool {
    response.status == 400
        && serde_json::from_slice::<Value>(&response.body).is_ok_and(|answer| answer["error"] == "slow_down")
}

/// A header's value: visible characters only.
fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| (0x21..0x7f).contains(&byte))
}

fn cache_path(context: &Context<'_>, key: &str) -> Result<PathBuf, Error> {
    let home = context
        .config
        .environment
        .get("HOME")
        .map(PathBuf::from)
        .or_else(sys::home_directory)
        .ok_or_else(|| invalid_configuration("HOME is not set: the SSO token cache cannot be found"))?;
    let mut name = String::with_capacity(45);
    for byte in Sha1::digest(key.as_bytes()) {
        name.push_str(&format!("{byte:02x}"));
    }
    Ok(home.join(".aws/sso/cache").join(name + ".json"))
}

/// Puts a new file in the place of the old one in one step.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
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
