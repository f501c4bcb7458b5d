//! The SSO portal, which turns an access token into role credentials, and SSO OIDC, which turns a refresh token into a
//! new access token. Shapes and error names from the API references "IAM Identity Center Portal" and "IAM Identity
//! Center OIDC".

use std::io;

use serde_json::{Value, json};

use crate::http::{Request, Response};
use crate::route::Route;
use crate::state::{Call, State};
use crate::time::unix_milliseconds;

pub(crate) fn route(request: &Request) -> Option<Route> {
    match (request.method.as_str(), request.path.as_str()) {
        (_, "/federation/credentials") => Some(Route::SsoRoleCredentials),
        ("POST", "/token") => Some(Route::OidcCreateToken),
        _ => None,
    }
}

pub(crate) fn answer(state: &State, request: &Request, call: &Call) -> io::Result<Response> {
    if call.route == Route::OidcCreateToken {
        Ok(create_token(state, request, call))
    } else {
        role_credentials(state, request, call)
    }
}

fn role_credentials(state: &State, request: &Request, call: &Call) -> io::Result<Response> {
    if request.method != "GET" {
        return Ok(error(405, "InvalidRequestException", "Only GET is allowed"));
    }
    let parameters = (request.query_parameter("role_name"), request.query_parameter("account_id"));
    let (Some(role), Some(account)) = parameters else {
        return Ok(error(400, "InvalidRequestException", "role_name and account_id are required"));
    };
    let accepted =
        request.header("x-amz-sso_bearer_token").is_some_and(|token| state.sso_tokens.accepts(token, call.now));
    if !accepted {
        return Ok(error(401, "UnauthorizedException", "Session token not found or invalid"));
    }
    let principal = format!("arn:aws:sts::{account}:assumed-role/AWSReservedSSO_{role}_0123456789abcdef/user");
    let credentials = state.issue_to(principal, state.options.lifetime, call.now).make(None)?;
    let expiration = call.expiration(credentials.expiration);
    Ok(Response::json(
        200,
        &json!({"roleCredentials": {
            "accessKeyId": credentials.access_key_id,
            "secretAccessKey": credentials.secret_access_key,
            "sessionToken": credentials.session_token,
            "expiration": expiration.map(unix_milliseconds),
        }}),
    ))
}

/// An error response of the portal.
pub(crate) fn error(status: u16, kind: &str, message: &str) -> Response {
    Response::json(status, &json!({"message": message})).with_header("x-amzn-ErrorType", kind)
}

fn create_token(state: &State, request: &Request, call: &Call) -> Response {
    let Ok(input) = serde_json::from_slice::<Value>(&request.body) else {
        return oidc_error("InvalidRequestException", "invalid_request", "not JSON");
    };
    let field = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or("");
    if field("clientId") != state.options.sso_client_id || field("clientSecret") != state.options.sso_client_secret {
        return oidc_error("InvalidClientException", "invalid_client", "unknown client, or not its secret");
    }
    if field("grantType") != "refresh_token" {
        return oidc_error(
            "UnsupportedGrantTypeException",
            "unsupported_grant_type",
            "only refresh_token is simulated",
        );
    }
    let lifetime = state.options.sso_access_token_lifetime;
    let tokens = state.sso_tokens.refresh(field("refreshToken"), call.now + lifetime);
    let Some((access_token, refresh_token)) = tokens else {
        return oidc_error("InvalidGrantException", "invalid_grant", "unknown or used refresh token");
    };
    Response::json(
        200,
        &json!({
            "accessToken": access_token,
            "expiresIn": lifetime.as_secs(),
            "refreshToken": refresh_token,
            "tokenType": "Bearer",
        }),
    )
}

fn oidc_error(kind: &str, code: &str, description: &str) -> Response {
    Response::json(400, &json!({"error": code, "error_description": description})).with_header("x-amzn-ErrorType", kind)
}
