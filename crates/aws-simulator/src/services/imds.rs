//! The instance metadata service, version 2 only: a session token first, then metadata with credentials and region.
//! Rules from the EC2 User Guide, "Use the Instance Metadata Service": a missing or expired token is 401, a token
//! request without a valid lifetime is 400, one that came through a forwarding proxy is 403.

use std::io;
use std::time::Duration;

use serde_json::json;

use crate::http::{Request, Response};
use crate::route::Route;
use crate::state::{Call, State};
use crate::time::iso8601;
use crate::{ACCOUNT_ID, INSTANCE_ID};

const TOKEN_PATH: &str = "/latest/api/token";
const CREDENTIALS_PATH: &str = "/latest/meta-data/iam/security-credentials";
const INFO_PATH: &str = "/latest/meta-data/iam/info";
const REGION_PATH: &str = "/latest/meta-data/placement/region";
const IDENTITY_PATH: &str = "/latest/dynamic/instance-identity/document";

const TTL_HEADER: &str = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds";
const LONGEST_TTL: u64 = 21_600;

pub(crate) fn route(request: &Request) -> Option<Route> {
    let path = request.path.as_str();
    if !path.starts_with("/latest/") {
        return None;
    }
    let below_credentials = path.strip_prefix(CREDENTIALS_PATH);
    Some(match (path, below_credentials) {
        (TOKEN_PATH, _) => Route::ImdsToken,
        (INFO_PATH, _) => Route::ImdsInfo,
        (REGION_PATH, _) => Route::ImdsRegion,
        (IDENTITY_PATH, _) => Route::ImdsIdentityDocument,
        (_, Some("" | "/")) => Route::ImdsRoleList,
        (_, Some(role)) if role.starts_with('/') => Route::ImdsCredentials,
        _ => Route::Imds,
    })
}

pub(crate) fn answer(state: &State, request: &Request, call: &Call) -> io::Result<Response> {
    let response =
        if call.route == Route::ImdsToken { token(state, request, call) } else { metadata(state, request, call)? };
    Ok(response.with_header("Server", "EC2ws"))
}

fn token(state: &State, request: &Request, call: &Call) -> Response {
    if request.method != "PUT" {
        return failure(405, "Method Not Allowed").with_header("Allow", "OPTIONS, PUT");
    }
    if request.header("x-forwarded-for").is_some() {
        return failure(403, "Forbidden");
    }
    let ttl = request
        .header(TTL_HEADER)
        .and_then(|text| text.parse().ok())
        .filter(|seconds| (1..=LONGEST_TTL).contains(seconds));
    let Some(ttl) = ttl else {
        return failure(400, "Bad Request");
    };
    let token = state.imds_tokens.issue(call.now, Duration::from_secs(ttl));
    Response::text(200, token).with_header(TTL_HEADER, ttl.to_string())
}

fn metadata(state: &State, request: &Request, call: &Call) -> io::Result<Response> {
    let seconds_left =
        request.header("x-aws-ec2-metadata-token").and_then(|token| state.imds_tokens.seconds_left(token, call.now));
    let Some(seconds_left) = seconds_left else {
        return Ok(failure(401, "Unauthorized"));
    };
    if request.method != "GET" {
        return Ok(failure(405, "Method Not Allowed").with_header("Allow", "OPTIONS, GET"));
    }
    let role = state.settings().role.clone();
    let response = match (call.route, role) {
        (Route::ImdsRegion, _) => Response::text(200, state.options.region.as_str()),
        (Route::ImdsIdentityDocument, _) => identity_document(state, call),
        (Route::ImdsRoleList, Some(role)) => Response::text(200, role),
        (Route::ImdsInfo, Some(role)) => info(&role, call),
        (Route::ImdsCredentials, Some(role)) if request.path[CREDENTIALS_PATH.len()..].trim_matches('/') == role => {
            credentials(state, call)?
        }
        _ => failure(404, "Not Found"),
    };
    Ok(response.with_header(TTL_HEADER, seconds_left.to_string()))
}

fn credentials(state: &State, call: &Call) -> io::Result<Response> {
    let credentials = state.instance.current(state.issue_for_instance(call.now))?;
    let expiration = call.expiration(credentials.expiration);
    Ok(pretty(&json!({
        "Code": "Success",
        "LastUpdated": iso8601(call.now),
        "Type": "AWS-HMAC",
        "AccessKeyId": credentials.access_key_id,
        "SecretAccessKey": credentials.secret_access_key,
        "Token": credentials.session_token,
        "Expiration": expiration.map(iso8601),
    })))
}

fn info(role: &str, call: &Call) -> Response {
    pretty(&json!({
        "Code": "Success",
        "LastUpdated": iso8601(call.now),
        "InstanceProfileArn": format!("arn:aws:iam::{ACCOUNT_ID}:instance-profile/{role}"),
        "InstanceProfileId": "AIPAEXAMPLEEXAMPLE234",
    }))
}

fn identity_document(state: &State, call: &Call) -> Response {
    let region = &state.options.region;
    pretty(&json!({
        "accountId": ACCOUNT_ID,
        "architecture": "x86_64",
        "availabilityZone": format!("{region}a"),
        "imageId": "ami-0123456789abcdef0",
        "instanceId": INSTANCE_ID,
        "instanceType": "t3.micro",
        "pendingTime": iso8601(call.now),
        "privateIp": "10.0.0.10",
        "region": region,
        "version": "2017-09-30",
    }))
}

/// The service sends JSON with line breaks, as text/plain; clients must accept it.
fn pretty(value: &serde_json::Value) -> Response {
    Response::text(200, format!("{value:#}"))
}

fn failure(status: u16, title: &str) -> Response {
    Response::new(
        status,
        "text/html",
        format!(
            "<?xml version=\"1.0\" encoding=\"iso-8859-1\"?>\n<html><head><title>{status} - {title}</title></head>\
             <body><h1>{status} - {title}</h1></body></html>\n"
        ),
    )
}
