//! IAM Identity Center (SSO): the access token that `aws sso login` cached, refreshed if necessary, is exchanged for the
//! credentials of a role.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "IAM Identity Center credential provider", and botocore's `tokens.py`. The
//! cache file is named by the SHA-1 of the session's name, in the older form by that of the start URL. A token is judged
//! at the moment when it is used: one that has expired, or that is damaged, is refreshed if that is possible.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::config::profile_files::Profile;
use crate::credentials::cached_session::{CachedSession, Kind, expires_at};
use crate::credentials::document::{self, Document};
use crate::credentials::{Context, Provided, Source};
use crate::error::{Error, invalid_configuration};
use crate::net::aws_endpoint::{AwsService, Endpoint};
use crate::net::http::Response;
use crate::percent_encoding::percent_encode;
use crate::time::{Deadline, parse_rfc3339};

pub(crate) const KIND: Kind = Kind {
    name: "SSO session",
    command: "aws sso login",
    directory: ".aws/sso/cache",
    refresh_ahead: 15 * 60,
    end: |document| access_token(document).and(document.text("expiresAt")).and_then(parse_rfc3339),
    must_be_cached: false,
};

/// The SSO settings of a profile, those of its session included.
struct Session<'a> {
    region: &'a str,
    account_id: &'a str,
    role_name: &'a str,
    cache_key: &'a str,
    /// Only the newer form has tokens that can be refreshed.
    can_refresh: bool,
}

pub(crate) fn provide(context: &Context<'_>, profile: &Profile) -> Result<Provided, Error> {
    let session = Session::of(context, profile)?;
    let name = digest(&SHA1_FOR_LEGACY_USE_ONLY, session.cache_key.as_bytes());
    let path = KIND.path(context, None, name.as_ref())?;
    let cached = CachedSession { kind: &KIND, profile, path };
    let renew = |document: &mut Document, deadline| session.renew(context, &cached, document, deadline);
    let document = cached.current(context, &renew)?;
    let token = access_token(&document).unwrap_or_default();
    let endpoint = session.endpoint(context, AwsService::Sso, context.deadline)?;
    let (role, account) = (percent_encode(session.role_name), percent_encode(session.account_id));
    let query = format!("/federation/credentials?role_name={}&account_id={}", *role, *account);
    let response = endpoint
        .ask("GET", &query, &[("x-amz-sso_bearer_token", token)], b"", |_| false)
        .map_err(|error| session.name_region(error))?;
    let what = format!("role {} of account {}", session.role_name, session.account_id);
    let fault = |why: &str| endpoint.fault(&format!("{what}: {why}"));
    match response.status {
        200 => {}
        401 => {
            let region = session.region;
            let why = format!("the portal does not accept its token ({}; sso_region is {region})", response.describe());
            return Err(cached.log_in_again(&why));
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
            region: need("sso_region")?,
            account_id: need("sso_account_id")?,
            role_name: need("sso_role_name")?,
            cache_key: name.map_or_else(|| need("sso_start_url"), Ok)?,
            can_refresh: section.is_some(),
        })
    }

    fn endpoint(&self, context: &Context<'_>, service: AwsService, deadline: Deadline) -> Result<Endpoint, Error> {
        Endpoint::new(service, context.config, self.region, deadline)
    }

    /// A region that does not exist looks like a name that cannot be resolved.
    fn name_region(&self, error: Error) -> Error {
        error.context(&format!("sso_region {}", self.region))
    }

    /// Asks OIDC for a new access token.
    fn renew(
        &self,
        context: &Context<'_>,
        session: &CachedSession<'_>,
        document: &mut Document,
        deadline: Deadline,
    ) -> Result<(), Error> {
        let cannot = |why: &str| session.log_in_again(&format!("its token has expired or is damaged, and {why}"));
        let parts = ["refreshToken", "clientId", "clientSecret"].map(|name| document.text(name));
        let ([Some(refresh_token), Some(client_id), Some(client_secret)], true) = (parts, self.can_refresh) else {
            return Err(cannot("cannot be refreshed"));
        };
        let registered_until = document.text("registrationExpiresAt").and_then(parse_rfc3339);
        if registered_until.is_some_and(|end| end <= context.clock.now()) {
            return Err(cannot("its client registration has expired"));
        }
        let body = Document::of(&[
            ("clientId", client_id),
            ("clientSecret", client_secret),
            ("grantType", "refresh_token"),
            ("refreshToken", refresh_token),
        ]);
        let endpoint = self.endpoint(context, AwsService::SsoOidc, deadline)?;
        let response = endpoint
            .ask("POST", "/token", &[("content-type", "application/json")], &body.to_json(), is_throttled)
            .map_err(|error| self.name_region(error))?;
        match response.status {
            200 => {}
            400..500 => return Err(cannot(&format!("could not be refreshed: {}", response.describe()))),
            _ => return Err(endpoint.fault(&response.describe())),
        }
        let fault = |error: Error| endpoint.fault(error.message());
        let now = response.time(context.clock);
        let answer = Document::parse("the response", response.body).map_err(fault)?;
        let token = access_token(&answer).ok_or_else(|| fault(answer.is_missing("accessToken")))?;
        let expires_at = expires_at(&answer, now).map_err(fault)?;
        document.set("accessToken", token);
        document.set("expiresAt", &expires_at);
        if let Some(next) = answer.text("refreshToken") {
            document.set("refreshToken", next);
        }
        Ok(())
    }
}

/// The access token in a document, if it can be sent as a header: visible ASCII characters only.
pub(crate) fn access_token(document: &Document) -> Option<&str> {
    document.text("accessToken").filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))
}

/// OIDC reports throttling with status 400.
fn is_throttled(response: &Response) -> bool {
    response.status == 400 && response.error_code().as_deref() == Some("slow_down")
}
