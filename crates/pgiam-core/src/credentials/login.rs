//! `aws login`: the session that the AWS CLI cached, with credentials of 15 minutes, and its refresh at the sign-in service.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "Login credentials provider", and botocore's `LoginCredentialFetcher`. The
//! cache file is named by the SHA-256 of `login_session`. Less than five minutes before their expiry the credentials are
//! refreshed with a refresh token and a proof by the session's key ([`dpop`](super::dpop)).

use aws_credential_types::Credentials;
use sha2::{Digest, Sha256};

use crate::config::profile_files::Profile;
use crate::credentials::cached_session::{CachedSession, Kind, expires_at};
use crate::credentials::document::{Document, LOGIN};
use crate::credentials::dpop::DpopKey;
use crate::credentials::service_region::ServiceRegion;
use crate::credentials::{Context, Provided, Source};
use crate::error::Error;
use crate::net::aws_endpoint::{AwsService, Endpoint};
use crate::time::{Deadline, unix_seconds};

pub(crate) const KIND: Kind = Kind {
    name: "login session",
    command: "aws login",
    directory: ".aws/login/cache",
    refresh_ahead: 5 * 60,
    end: |document| credentials(document).ok()?.expiry().map(unix_seconds),
    must_be_cached: true,
};

const PATH: &str = "/v1/token";
/// The AWS CLI cannot read a file without it, and the service does not answer it.
const ACCOUNT: &str = "accountId";

pub(crate) fn provide(context: &Context<'_>, profile: &Profile) -> Result<Provided, Error> {
    let name = profile.get("login_session").unwrap_or_default();
    // As in the AWS CLI, `$NAME` and a leading `~` are expanded.
    let environment = &context.config.environment;
    let directory = environment.get("AWS_LOGIN_CACHE_DIRECTORY");
    let directory = directory.map(|directory| environment.expand_home(&environment.expand_variables(directory)));
    let path = KIND.path(context, directory, &Sha256::digest(name))?;
    let session = CachedSession { kind: &KIND, profile, path };
    let renew = |document: &mut Document, deadline| renew(context, &session, document, deadline);
    Ok(Provided {
        credentials: credentials(&session.current(context, &renew)?)?,
        source: Source::Profile,
        // The AWS CLI names a session by the ARN of who logged in.
        identity: Some(name.to_owned()),
        by: format!("login session of profile {:?}", profile.name()),
    })
}

pub(crate) fn credentials(document: &Document) -> Result<Credentials, Error> {
    document.clone().take_object("accessToken")?.credentials(&LOGIN, "login")
}

/// Asks the sign-in service for new credentials.
fn renew(
    context: &Context<'_>,
    session: &CachedSession<'_>,
    document: &mut Document,
    deadline: Deadline,
) -> Result<(), Error> {
    let need = |member: &str| {
        let missing = || session.log_in_again(&format!("{} has no {member}", session.path.display()));
        document.text(member).ok_or_else(missing)
    };
    let (client_id, refresh_token, key) = (need("clientId")?, need("refreshToken")?, need("dpopKey")?);
    let key = DpopKey::from_pem(key).ok_or_else(|| {
        session.log_in_again(&format!("the dpopKey in {} is not a private key of P-256", session.path.display()))
    })?;
    let body =
        Document::of(&[("clientId", client_id), ("grantType", "refresh_token"), ("refreshToken", refresh_token)]);
    let region = region(context, session.profile, document);
    let endpoint = Endpoint::new(AwsService::SignIn, context.config, &region.name, deadline)?;
    let proof = key.proof(&format!("{}{PATH}", endpoint.url()), context.clock.now())?;
    let headers = [("content-type", "application/json"), ("dpop", proof.expose())];
    let response = endpoint
        .ask("POST", PATH, &headers, &body.to_json(), |_| false)
        // A region that does not exist looks like a name that cannot be resolved.
        .map_err(|error| error.context(&format!("{} {}", region.origin, region.name)))?;
    let fault = |error: Error| endpoint.fault(error.message());
    let now = response.time(context.clock);
    let answer = Document::parse("the response", response.body.clone());
    match Verdict::of(response.status, answer.as_ref().ok().and_then(|answer| answer.text("error"))) {
        Verdict::Granted => answer.and_then(|answer| update(document, answer, now)).map_err(fault),
        refused => Err(refusal(refused, session, endpoint.fault(&response.describe()))),
    }
}

/// The region of the login, which sessions of older versions of the AWS CLI do not name; else the configured one.
fn region(context: &Context<'_>, profile: &Profile, document: &Document) -> ServiceRegion {
    match document.text("signInRegion") {
        Some(region) => ServiceRegion { name: region.to_ascii_lowercase(), origin: "signInRegion".into() },
        None => ServiceRegion::configured(context, Some(profile))
            .unwrap_or_else(|| ServiceRegion { name: "us-east-1".into(), origin: "the default region".into() }),
    }
}

fn refusal(verdict: Verdict, session: &CachedSession<'_>, words: Error) -> Error {
    let advice = match verdict {
        Verdict::SessionEnded => return session.log_in_again(words.message()),
        Verdict::NotPermitted => {
            "whoever logged in needs the permission signin:CreateOAuth2Token (the managed policy \
             SignInLocalDevelopmentAccess has it); then run"
        }
        Verdict::Rejected => "check this machine's clock and the region, or run",
        Verdict::Granted | Verdict::Failed => return words,
    };
    Error::new(words.kind(), format!("{words}; {advice}: {}", session.log_in_command()))
}

/// What a response of the sign-in service means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Granted,
    /// Only a person can continue it.
    SessionEnded,
    NotPermitted,
    /// The request: a wrong clock or region, or a damaged cache file.
    Rejected,
    Failed,
}

impl Verdict {
    fn of(status: u16, error: Option<&str>) -> Self {
        match (status, error) {
            (200, _) => Self::Granted,
            (400..500, Some("INSUFFICIENT_PERMISSIONS")) => Self::NotPermitted,
            // The first two are those that the AWS CLI knows, the others are OAuth's.
            (
                400..500,
                Some(
                    "TOKEN_EXPIRED"
                    | "USER_CREDENTIALS_CHANGED"
                    | "AUTHCODE_EXPIRED"
                    | "invalid_grant"
                    | "invalid_client",
                ),
            ) => Self::SessionEnded,
            (400..500, _) => Self::Rejected,
            _ => Self::Failed,
        }
    }
}

/// Puts what the service answered into the document; what is not known to this program stays as it is.
pub(crate) fn update(document: &mut Document, mut answer: Document, now: i64) -> Result<(), Error> {
    let mut token = answer.take_object("accessToken")?;
    token.set("expiresAt", &expires_at(&answer, now)?);
    token.credentials(&LOGIN, "login")?;
    if let Ok(old) = document.clone().take_object("accessToken")
        && let Some(account) = old.text(ACCOUNT)
    {
        token.set(ACCOUNT, account);
    }
    document.set_object("accessToken", token);
    if let Some(next) = answer.text("refreshToken") {
        document.set("refreshToken", next);
    }
    Ok(())
}
