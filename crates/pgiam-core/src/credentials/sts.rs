//! Security Token Service: AssumeRole, signed with other credentials, and AssumeRoleWithWebIdentity, which needs none.
//!
//! Rules: the STS API reference. Throttling is reported as HTTP 400 with the code `Throttling`.

use std::path::Path;

use aws_credential_types::Credentials;
use zeroize::Zeroizing;

use crate::config::profile_files::Profile;
use crate::credentials::service_region::ServiceRegion;
use crate::credentials::{Context, Provided, Source};
use crate::error::{Error, invalid_configuration, reason};
use crate::net::aws_endpoint::{AwsService, Endpoint};
use crate::net::aws_signature::Signer;
use crate::net::http::Response;
use crate::net::partition::Partition;
use crate::net::xml;
use crate::percent_encoding::percent_encode;
use crate::secret::Secret;
use crate::sys;
use crate::time::{parse_rfc3339, system_time};

/// The largest web identity token file that is read. STS takes 20,000 characters.
const MAX_TOKEN_FILE: usize = 64 * 1024;

/// A role to assume. Texts are as configured.
pub(crate) struct Role<'a> {
    pub(crate) arn: &'a str,
    pub(crate) session_name: Option<&'a str>,
    pub(crate) external_id: Option<&'a str>,
    pub(crate) duration_seconds: Option<&'a str>,
    /// The ARN or the serial number of the MFA device whose code the role requires.
    pub(crate) mfa_serial: Option<&'a str>,
    /// The profile whose endpoint settings and region apply.
    pub(crate) profile: Option<&'a Profile>,
}

/// Checks all that can be checked of a role before any service is asked, the one with the source credentials included.
pub(crate) fn check(context: &Context<'_>, role: &Role<'_>) -> Result<(), Error> {
    let partition = partition_of_role(role.arn)?;
    if let Some(name) = role.session_name {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        if !(2..=64).contains(&name.len()) || !name.bytes().all(allowed) {
            return Err(invalid_configuration(format!(
                "role session name {name:?} is not 2 to 64 letters, digits and characters of _+=,.@-"
            )));
        }
    }
    if let Some(seconds) = role.duration_seconds
        && !seconds.parse::<u32>().is_ok_and(|seconds| (900..=43_200).contains(&seconds))
    {
        return Err(invalid_configuration(format!(
            "duration_seconds {seconds:?} is not a number of seconds from 900 to 43200"
        )));
    }
    let region = region(context, role);
    let of_region = Partition::of_region(&region.name).id;
    match Partition::of_id(partition) {
        Some(partition) if partition.id != of_region => Err(invalid_configuration(format!(
            "role {} is in the partition {}, and STS would be asked in {} ({}), which is in {of_region}; correct the role \
             or the region",
            role.arn, partition.id, region.name, region.origin
        ))),
        // A partition newer than this table: STS will tell.
        _ => Ok(()),
    }
}

/// Assumes a role with the credentials of `base`, and with the code of its MFA device if it has one.
pub(crate) fn assume_role(
    context: &Context<'_>,
    role: &Role<'_>,
    base: &Credentials,
    mfa_code: Option<&Secret>,
) -> Result<Provided, Error> {
    check(context, role)?;
    let region = region(context, role);
    let endpoint = endpoint(context, role, &region)?;
    let mut form = form(Action::AssumeRole, role, context.now);
    if let Some(external_id) = role.external_id {
        push(&mut form, "ExternalId", external_id);
    }
    if let (Some(device), Some(code)) = (role.mfa_serial, mfa_code) {
        push(&mut form, "SerialNumber", device);
        push(&mut form, "TokenCode", code.expose());
    }
    // A person may have been asked since the fetch began.
    let signer = Signer { credentials: base, service: "sts", region: &region.name, now: context.clock.now() };
    let headers = signer.headers(&format!("{}/", endpoint.url()), &[CONTENT_TYPE], &form)?;
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.expose())).chain([CONTENT_TYPE]).collect();
    let response = endpoint.ask("POST", "/", &headers, form.as_bytes(), is_throttled)?;
    read(&endpoint, role, Action::AssumeRole, &response)
}

/// Assumes a role with the token in a file, which is read at every fetch because other programs renew it.
pub(crate) fn assume_role_with_web_identity(
    context: &Context<'_>,
    role: &Role<'_>,
    token_file: &str,
) -> Result<Provided, Error> {
    check(context, role)?;
    let token = sys::read_bounded(Path::new(token_file), MAX_TOKEN_FILE)
        .and_then(Secret::from_utf8)
        .map_err(|error| invalid_configuration(format!("web identity token file {token_file}: {}", reason(&error))))?;
    let text = token.expose().trim();
    if text.is_empty() {
        return Err(invalid_configuration(format!("web identity token file {token_file} is empty")));
    }
    let endpoint = endpoint(context, role, &region(context, role))?;
    let mut form = form(Action::AssumeRoleWithWebIdentity, role, context.now);
    push(&mut form, "WebIdentityToken", text);
    // The API reference's code for an outage of the identity provider.
    let is_outage = |response: &Response| {
        is_throttled(response) || response.error_code().as_deref() == Some("IDPCommunicationError")
    };
    let response = endpoint.ask("POST", "/", &[CONTENT_TYPE], form.as_bytes(), is_outage)?;
    read(&endpoint, role, Action::AssumeRoleWithWebIdentity, &response)
}

const CONTENT_TYPE: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[derive(Clone, Copy)]
enum Action {
    AssumeRole,
    AssumeRoleWithWebIdentity,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::AssumeRole => "AssumeRole",
            Self::AssumeRoleWithWebIdentity => "AssumeRoleWithWebIdentity",
        }
    }
}

/// The partition in a role's ARN, `arn:PARTITION:iam::ACCOUNT:role/NAME`.
fn partition_of_role(arn: &str) -> Result<&str, Error> {
    let is_account = |account: &str| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    match arn.splitn(6, ':').collect::<Vec<_>>()[..] {
        ["arn", partition, "iam", "", account, resource]
            if is_account(account)
                && resource.strip_prefix("role/").is_some_and(|name| !name.is_empty() && !name.ends_with('/'))
                && !arn.contains(|c: char| c.is_control() || c.is_whitespace()) =>
        {
            Ok(partition)
        }
        _ => Err(invalid_configuration(format!("role_arn {arn:?} is not like arn:aws:iam::123456789012:role/NAME"))),
    }
}

/// The region STS is asked in: the configured one, else the default of the role's partition.
fn region(context: &Context<'_>, role: &Role<'_>) -> ServiceRegion {
    ServiceRegion::configured(context, role.profile).unwrap_or_else(|| {
        let partition = partition_of_role(role.arn).ok().and_then(Partition::of_id);
        let name = partition.map_or("us-east-1", |partition| partition.default_region).to_owned();
        ServiceRegion { name, origin: "the default".to_owned() }
    })
}

fn endpoint(context: &Context<'_>, role: &Role<'_>, region: &ServiceRegion) -> Result<Endpoint, Error> {
    Endpoint::new(AwsService::Sts, context.config, role.profile, &region.name, context.deadline)
}

fn form(action: Action, role: &Role<'_>, now: i64) -> Zeroizing<String> {
    let mut form = Zeroizing::new(String::with_capacity(4096));
    form.push_str("Version=2011-06-15");
    push(&mut form, "Action", action.name());
    push(&mut form, "RoleArn", role.arn);
    match role.session_name {
        Some(name) => push(&mut form, "RoleSessionName", name),
        None => push(&mut form, "RoleSessionName", &format!("pgiam-{now}")),
    }
    if let Some(seconds) = role.duration_seconds {
        push(&mut form, "DurationSeconds", seconds);
    }
    form
}

fn push(form: &mut String, name: &str, value: &str) {
    form.push('&');
    form.push_str(name);
    form.push('=');
    form.push_str(&percent_encode(value));
}

fn is_throttled(response: &Response) -> bool {
    response.status == 400 && response.error_code().is_some_and(|code| code.starts_with("Throttl"))
}

const MFA_ADVICE: &str = "; check mfa_serial, and enter the code that the device shows now: each code works once";

/// What to do after an error code of STS.
fn advice(action: Action, code: &str) -> &'static str {
    use Action::{AssumeRole, AssumeRoleWithWebIdentity};
    match (action, code) {
        (AssumeRole, "AccessDenied") => {
            "; the role's trust policy must allow the caller (with the external id, if it requires one), and the caller's \
             own policies must allow sts:AssumeRole for this role"
        }
        (AssumeRoleWithWebIdentity, "AccessDenied") => {
            "; the role's trust policy must allow sts:AssumeRoleWithWebIdentity for the token's OIDC provider, and its \
             conditions on aud and sub must match the token"
        }
        (AssumeRoleWithWebIdentity, "InvalidIdentityToken" | "IDPRejectedClaim") => {
            "; IAM must have an OIDC provider for the token's issuer in the role's account, with the token's aud as an \
             audience"
        }
        (AssumeRoleWithWebIdentity, "ExpiredToken" | "ExpiredTokenException") => {
            "; the token in the file has expired, and the program that writes the file has not renewed it"
        }
        (AssumeRole, "ExpiredToken" | "ExpiredTokenException") => {
            "; the credentials that the role is assumed with have expired"
        }
        (_, "InvalidClientTokenId" | "UnrecognizedClientException") => {
            "; the access key is not known there: check key and region"
        }
        (_, "SignatureDoesNotMatch") => "; the secret access key or this machine's clock is wrong",
        (_, "RegionDisabledException") => "; activate STS for this region in the account settings of IAM",
        _ => "",
    }
}

fn read(endpoint: &Endpoint, role: &Role<'_>, action: Action, response: &Response) -> Result<Provided, Error> {
    let fault = |what: &str| endpoint.fault(&format!("{} for {}: {what}", action.name(), role.arn));
    if response.status != 200 {
        let (words, code) = (response.describe(), response.error_code().unwrap_or_default());
        let advice = if words.contains("MultiFactorAuthentication") { MFA_ADVICE } else { advice(action, &code) };
        return Err(fault(&format!("{words}{advice}")));
    }
    let text = std::str::from_utf8(&response.body).map_err(|_| fault("the response is not UTF-8"))?;
    const NAMES: [&str; 5] = ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "Arn"];
    let texts = xml::texts(text, NAMES).map_err(fault)?;
    let [id, secret, token, expiration, arn] = &texts;
    let need = |text: &Option<Zeroizing<String>>, name: &str| {
        let text = text.as_ref().map(|text| text.as_str()).filter(|text| !text.is_empty());
        text.map(str::to_owned).ok_or_else(|| fault(&format!("the response is missing {name}")))
    };
    let expiration = Zeroizing::new(need(expiration, "Expiration")?);
    let expiration = parse_rfc3339(&expiration).ok_or_else(|| fault("the Expiration in the response is not a time"))?;
    Ok(Provided {
        credentials: Credentials::new(
            need(id, "AccessKeyId")?,
            need(secret, "SecretAccessKey")?,
            Some(need(token, "SessionToken")?),
            Some(system_time(expiration)),
            "sts",
        ),
        source: Source::Profile,
        identity: Some(arn.as_ref().map_or_else(|| role.arn.to_owned(), |arn| arn.to_string())),
        by: format!("{} at {}", action.name(), endpoint.url()),
    })
}
