//! Security Token Service: AssumeRole, signed with other credentials, and AssumeRoleWithWebIdentity, which needs none.
//!
//! Rules: the STS API reference. Throttling comes as HTTP 400 with the code `Throttling`.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::config::profile_files::Profile;
use crate::credentials::{Context, Provided, Source};
use crate::error::{Error, ErrorKind, invalid_configuration};
use crate::net::aws_endpoint::{AwsService, Endpoint};
use crate::net::http::Response;
use crate::percent_encoding::percent_encode;
use crate::secret::Secret;
use crate::time::{parse_rfc3339, system_time};

/// A role to become. Texts are as configured.
pub(crate) struct Role<'a> {
    pub(crate) arn: &'a str,
    pub(crate) session_name: Option<&'a str>,
    pub(crate) external_id: Option<&'a str>,
    pub(crate) duration_seconds: Option<&'a str>,
    /// The profile whose endpoint settings and region count.
    pub(crate) profile: Option<&'a Profile>,
}

/// Becomes a role by the credentials of `base`.
pub(crate) fn assume_role(context: &Context<'_>, role: &Role<'_>, base: &Credentials) -> Result<Provided, Error> {
    let region = region(context.config, role.profile)?;
    let endpoint = endpoint(context, role, &region)?;
    let mut form = form("AssumeRole", role, context.now)?;
    if let Some(external_id) = role.external_id {
        push(&mut form, "ExternalId", external_id);
    }
    let headers = signed_headers(&endpoint, &form, base, &region, context.now)?;
    let headers: Vec<(&str, &str)> =
        headers.iter().map(|(name, value)| (name.as_str(), value.expose())).chain([CONTENT_TYPE]).collect();
    let response = endpoint.ask("POST", "/", &headers, form.as_bytes(), is_throttled)?;
    read(&endpoint, role, "AssumeRole", &response)
}

/// Becomes a role by the token in a file, which is read at every fetch: whoever provides it renews it in place.
pub(crate) fn assume_role_with_web_identity(
    context: &Context<'_>,
    role: &Role<'_>,
    token_file: &str,
) -> Result<Provided, Error> {
    let token = std::fs::read_to_string(token_file)
        .map(Secret::new)
        .map_err(|error| invalid_configuration(format!("web identity token file {token_file}: {}", error.kind())))?;
    let text = token.expose().trim();
    if text.is_empty() {
        return Err(invalid_configuration(format!("web identity token file {token_file} is empty")));
    }
    let region = region(context.config, role.profile)?;
    let endpoint = endpoint(context, role, &region)?;
    let mut form = form("AssumeRoleWithWebIdentity", role, context.now)?;
    push(&mut form, "WebIdentityToken", text);
    // The identity provider's own outage, as the API reference says of this code.
    let busy =
        |response: &Response| is_throttled(response) || code_of(response).as_deref() == Some("IDPCommunicationError");
    let response = endpoint.ask("POST", "/", &[CONTENT_TYPE], form.as_bytes(), busy)?;
    read(&endpoint, role, "AssumeRoleWithWebIdentity", &response)
}

const CONTENT_TYPE: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// The region STS is asked in: the client's, the environment's or the profile's; else us-east-1, where the old global
/// endpoint is.
fn region(config: &Config, profile: Option<&Profile>) -> Result<String, Error> {
    let environment = &config.environment;
    let of_profile_in_use = || config.profile().ok().flatten().and_then(|profile| profile.get("region"));
    Ok(config
        .settings
        .region()
        .or_else(|| environment.get("AWS_REGION"))
        .or_else(|| environment.get("AWS_DEFAULT_REGION"))
        .or_else(|| profile?.get("region"))
        .or_else(of_profile_in_use)
        .unwrap_or("us-east-1")
        .to_owned())
}

fn endpoint(context: &Context<'_>, role: &Role<'_>, region: &str) -> Result<Endpoint, Error> {
    Endpoint::new(AwsService::Sts, context.config, role.profile, region, context.deadline)
}

fn form(action: &str, role: &Role<'_>, now: i64) -> Result<Zeroizing<String>, Error> {
    if !role.arn.starts_with("arn:") || role.arn.len() < 20 || role.arn.chars().any(|c| c.is_control() || c == ' ') {
        return Err(invalid_configuration(format!(
            "role_arn {:?} is not like arn:aws:iam::123456789012:role/NAME",
            role.arn
        )));
    }
    let mut form = Zeroizing::new(String::with_capacity(4096));
    form.push_str("Version=2011-06-15");
    push(&mut form, "Action", action);
    push(&mut form, "RoleArn", role.arn);
    match role.session_name {
        Some(name) => push(&mut form, "RoleSessionName", name),
        None => push(&mut form, "RoleSessionName", &format!("pgiam-{now}")),
    }
    if let Some(seconds) = role.duration_seconds {
        if !seconds.parse::<u32>().is_ok_and(|seconds| (900..=43_200).contains(&seconds)) {
            return Err(invalid_configuration(format!(
                "duration_seconds {seconds:?} is not a number of seconds from 900 to 43200"
            )));
        }
        push(&mut form, "DurationSeconds", seconds);
    }
    Ok(form)
}

fn push(form: &mut String, name: &str, value: &str) {
    form.push('&');
    form.push_str(name);
    form.push('=');
    form.push_str(&percent_encode(value));
}

fn signed_headers(
    endpoint: &Endpoint,
    body: &str,
    base: &Credentials,
    region: &str,
    now: i64,
) -> Result<Vec<(String, Secret)>, Error> {
    let internal = || Error::new(ErrorKind::Internal, "the request to STS cannot be signed; please report this");
    let identity = base.clone().into();
    let time: SystemTime = system_time(now);
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(time)
        .settings(SigningSettings::default())
        .build()
        .map_err(|_| internal())?
        .into();
    let url = format!("{}/", endpoint.url());
    let request = SignableRequest::new("POST", &url, [CONTENT_TYPE].into_iter(), SignableBody::Bytes(body.as_bytes()))
        .map_err(|_| internal())?;
    let (instructions, _) = sign(request, &parameters).map_err(|_| internal())?.into_parts();
    let (headers, _) = instructions.into_parts();
    Ok(headers.iter().map(|header| (header.name().to_owned(), Secret::new(header.value().to_owned()))).collect())
}

fn is_throttled(response: &Response) -> bool {
    response.status == 400 && code_of(response).is_some_and(|code| code.starts_with("Throttl"))
}

/// The error code of an answer: a fixed word, safe to repeat. Its message is not.
fn code_of(response: &Response) -> Option<String> {
    if response.status < 400 {
        return None;
    }
    let text = std::str::from_utf8(&response.body).ok()?;
    let document = roxmltree::Document::parse(text).ok()?;
    let code = document.descendants().find(|node| node.has_tag_name_anywhere("Code"))?.text()?;
    (code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')).then(|| code.to_owned())
}

/// Elements by local name, whatever their namespace.
trait LocalName {
    fn has_tag_name_anywhere(&self, name: &str) -> bool;
}

impl LocalName for roxmltree::Node<'_, '_> {
    fn has_tag_name_anywhere(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

fn read(endpoint: &Endpoint, role: &Role<'_>, action: &str, response: &Response) -> Result<Provided, Error> {
    let what = format!("{action} for {}", role.arn);
    if response.status != 200 {
        let code = code_of(response).unwrap_or_else(|| "no code".into());
        let advice = match code.as_str() {
            "AccessDenied" => {
                "; the role's trust policy must name who asks (and its external id, if it wants one), and \
                               their own policy must allow sts:AssumeRole"
            }
            "ExpiredToken" | "ExpiredTokenException" => "; the credentials or the token it was asked with have expired",
            "InvalidIdentityToken" => "; the token in the file is not for this role's identity provider",
            "InvalidClientTokenId" | "UnrecognizedClientException" => {
                "; the access key is not known there: check key and region"
            }
            "SignatureDoesNotMatch" => "; the secret access key is wrong, or this machine's clock is",
            "RegionDisabledException" => "; switch STS on for this region in IAM's account settings",
            _ => "",
        };
        return Err(endpoint.fault(&format!("{what}: HTTP {} ({code}){advice}", response.status)));
    }
    let fault = |why: &str| endpoint.fault(&format!("{what}: {why}"));
    let text = std::str::from_utf8(&response.body).map_err(|_| fault("the answer is not UTF-8"))?;
    let document = roxmltree::Document::parse(text).map_err(|_| fault("the answer is not XML"))?;
    let found =
        |name: &str| document.descendants().find(|node| node.has_tag_name_anywhere(name)).and_then(|node| node.text());
    let need = |name: &str| {
        found(name).filter(|text| !text.is_empty()).ok_or_else(|| fault(&format!("no {name} in the answer")))
    };
    let expiration = parse_rfc3339(need("Expiration")?).ok_or_else(|| fault("Expiration is not a time"))?;
    Ok(Provided {
        credentials: Credentials::new(
            need("AccessKeyId")?,
            need("SecretAccessKey")?,
            Some(need("SessionToken")?.to_owned()),
            Some(system_time(expiration)),
            "sts",
        ),
        source: Source::Profile,
        identity: Some(found("Arn").map_or_else(|| role.arn.to_owned(), str::to_owned)),
        by: format!("{action} at {}", endpoint.url()),
    })
}
