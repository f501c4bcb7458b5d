//! The Security Token Service over its query protocol: AssumeRole and GetCallerIdentity verify the caller's signature,
//! AssumeRoleWithWebIdentity verifies the web identity token. Parameters, limits and error codes from the STS API
//! Reference.

use std::io;
use std::time::Duration;

use crate::ACCOUNT_ID;
use crate::credentials::Credentials;
use crate::http::{Request, Response};
use crate::route::Route;
use crate::services::query::{QueryService, escape};
use crate::sigv4::{self, Expected};
use crate::state::{Call, State};
use crate::time::iso8601;

const STS: QueryService = QueryService {
    name: "sts",
    version: "2011-06-15",
    namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
    region: None,
};
const DEFAULT_DURATION: u64 = 3600;
/// The longest session for a role that is assumed with a role's credentials.
const LONGEST_CHAINED_DURATION: u64 = 3600;

pub(crate) fn route(request: &Request) -> Option<Route> {
    if request.path != "/" || request.method != "POST" {
        return None;
    }
    Some(match request.form_parameter("Action").as_deref() {
        Some("AssumeRole") => Route::StsAssumeRole,
        Some("AssumeRoleWithWebIdentity") => Route::StsWebIdentity,
        Some("GetCallerIdentity") => Route::StsCallerIdentity,
        _ => Route::Sts,
    })
}

pub(crate) fn answer(state: &State, request: &Request, call: &Call) -> io::Result<Response> {
    if request.form_parameter("Version").as_deref() != Some(STS.version) || call.route == Route::Sts {
        let action = request.form_parameter("Action").unwrap_or_default();
        return Ok(error(
            400,
            "InvalidAction",
            &format!("Could not find operation {action} for version {}", STS.version),
        ));
    }
    match call.route {
        Route::StsAssumeRole => assume_role(state, request, call),
        Route::StsWebIdentity => assume_role_with_web_identity(state, request, call),
        _ => Ok(caller_identity(state, request, call)),
    }
}

fn assume_role(state: &State, request: &Request, call: &Call) -> io::Result<Response> {
    let caller = match caller(state, request, call) {
        Ok(caller) => caller,
        Err(refused) => return Ok(*refused),
    };
    let session = match RoleSession::of(request) {
        Ok(session) => session,
        Err(message) => return Ok(error(400, "ValidationError", &message)),
    };
    let chained = caller.principal.contains(":assumed-role/");
    if chained && session.seconds > LONGEST_CHAINED_DURATION {
        return Ok(error(
            400,
            "ValidationError",
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
        ));
    }
    let external_id = state.settings().external_id.clone();
    if external_id.is_some() && request.form_parameter("ExternalId") != external_id {
        return Ok(error(
            403,
            "AccessDenied",
            &format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {}",
                caller.principal, session.role_arn
            ),
        ));
    }
    if let Err(message) = check_mfa(state, request) {
        return Ok(error(403, "AccessDenied", message));
    }
    let credentials = session.issue(state, call)?;
    let content = format!("{}{}", credentials_element(&credentials, call), session.user_element());
    Ok(result("AssumeRole", &content))
}

/// Verifies the code of an MFA device, and uses it up.
fn check_mfa(state: &State, request: &Request) -> Result<(), &'static str> {
    let given = (request.form_parameter("SerialNumber"), request.form_parameter("TokenCode"));
    match (&mut state.settings().mfa, given) {
        (None, (None, None)) => Ok(()),
        (Some(mfa), (Some(serial), Some(code))) if mfa.serial == serial => {
            if mfa.code.as_ref() == Some(&code) {
                mfa.code = None;
                Ok(())
            } else {
                Err("MultiFactorAuthentication failed with invalid MFA one time pass code.")
            }
        }
        (_, (Some(_), Some(_))) => Err("MultiFactorAuthentication failed, unable to validate MFA code."),
        _ => Err("MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."),
    }
}

fn assume_role_with_web_identity(state: &State, request: &Request, call: &Call) -> io::Result<Response> {
    let session = match RoleSession::of(request) {
        Ok(session) => session,
        Err(message) => return Ok(error(400, "ValidationError", &message)),
    };
    let Some(token) = request.form_parameter("WebIdentityToken") else {
        return Ok(error(
            400,
            "ValidationError",
            "1 validation error detected: Value null at 'webIdentityToken' failed to satisfy constraint: Member must \
             not be null",
        ));
    };
    if token != state.settings().web_identity_token {
        return Ok(error(
            400,
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for the given token",
        ));
    }
    let credentials = session.issue(state, call)?;
    let content = format!(
        "<SubjectFromWebIdentityToken>system:serviceaccount:default:app</SubjectFromWebIdentityToken>\
         <Audience>sts.amazonaws.com</Audience>{}{}\
         <Provider>arn:aws:iam::{ACCOUNT_ID}:oidc-provider/oidc.example.com</Provider>",
        session.user_element(),
        credentials_element(&credentials, call),
    );
    Ok(result("AssumeRoleWithWebIdentity", &content))
}

fn caller_identity(state: &State, request: &Request, call: &Call) -> Response {
    let caller = match caller(state, request, call) {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let account = caller.principal.split(':').nth(4).unwrap_or(ACCOUNT_ID);
    result(
        "GetCallerIdentity",
        &format!(
            "<Arn>{}</Arn><UserId>{}</UserId><Account>{}</Account>",
            escape(&caller.principal),
            escape(&caller.access_key_id),
            escape(account)
        ),
    )
}

/// The credentials that signed the request, or the error response.
fn caller(state: &State, request: &Request, call: &Call) -> Result<Credentials, Box<Response>> {
    let expected = Expected { service: "sts", region: &state.options.region, now: call.now };
    sigv4::verify(request, &expected, |id| state.keys.find(id))
        .map_err(|refusal| Box::new(error(refusal.status, refusal.code, &refusal.message)))
}

/// The requested session.
struct RoleSession {
    role_arn: String,
    partition: String,
    account: String,
    /// The role's name without its path.
    role: String,
    name: String,
    seconds: u64,
}

impl RoleSession {
    fn of(request: &Request) -> Result<Self, String> {
        let role_arn = request.form_parameter("RoleArn").unwrap_or_default();
        let parts: Vec<&str> = role_arn.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts[..] else {
            return Err(format!("{role_arn} is invalid"));
        };
        let role = resource
            .strip_prefix("role/")
            .and_then(|path| path.rsplit('/').next())
            .filter(|role| !role.is_empty())
            .ok_or_else(|| format!("{role_arn} is invalid"))?;
        if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!("{role_arn} is invalid"));
        }

        let name = request.form_parameter("RoleSessionName").unwrap_or_default();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        if !(2..=64).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(format!(
                "1 validation error detected: Value '{name}' at 'roleSessionName' failed to satisfy constraint: \
                 Member must satisfy regular expression pattern: [\\w+=,.@-]*, and have 2 to 64 characters"
            ));
        }

        let seconds = match request.form_parameter("DurationSeconds") {
            None => DEFAULT_DURATION,
            Some(text) => text.parse().ok().filter(|seconds| (900..=43_200).contains(seconds)).ok_or_else(|| {
                format!(
                    "1 validation error detected: Value '{text}' at 'durationSeconds' failed to satisfy \
                         constraint: Member must have value between 900 and 43200"
                )
            })?,
        };
        Ok(Self {
            partition: partition.to_owned(),
            account: account.to_owned(),
            role: role.to_owned(),
            role_arn,
            name,
            seconds,
        })
    }

    fn arn(&self) -> String {
        format!("arn:{}:sts::{}:assumed-role/{}/{}", self.partition, self.account, self.role, self.name)
    }

    fn issue(&self, state: &State, call: &Call) -> io::Result<Credentials> {
        let lifetime = Duration::from_secs(self.seconds);
        state.issue_to(self.arn(), lifetime, call.now).make(None)
    }

    fn user_element(&self) -> String {
        format!(
            "<AssumedRoleUser><AssumedRoleId>AROAEXAMPLEEXAMPLE234:{}</AssumedRoleId><Arn>{}</Arn></AssumedRoleUser>",
            escape(&self.name),
            escape(&self.arn())
        )
    }
}

fn credentials_element(credentials: &Credentials, call: &Call) -> String {
    let expiration = call.expiration(credentials.expiration);
    format!(
        "<Credentials><AccessKeyId>{}</AccessKeyId><SecretAccessKey>{}</SecretAccessKey>\
         <SessionToken>{}</SessionToken><Expiration>{}</Expiration></Credentials>",
        credentials.access_key_id,
        credentials.secret_access_key,
        credentials.session_token.as_deref().unwrap_or(""),
        expiration.map(iso8601).unwrap_or_default()
    )
}

fn result(action: &str, content: &str) -> Response {
    STS.result(action, content)
}

/// An error document of STS.
pub(crate) fn error(status: u16, code: &str, message: &str) -> Response {
    STS.error(status, code, message)
}
