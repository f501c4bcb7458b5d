//! The credentials endpoint inside containers: that of ECS (`/v2/credentials/ID`) and that of EKS Pod Identity
//! (`/v1/credentials`; other implementations use `/get-credentials`). If a token is configured, the `Authorization`
//! header must be equal to it.

use std::io;

use serde_json::json;

use crate::ACCOUNT_ID;
use crate::http::{Request, Response};
use crate::route::Route;
use crate::state::{CONTAINER_ROLE, Call, State};
use crate::time::iso8601;

pub(crate) fn route(request: &Request) -> Option<Route> {
    let path = request.path.as_str();
    (path.starts_with("/v2/credentials/")
        || path == "/v1/credentials"
        || path == "/get-credentials"
        || path.starts_with("/get-credentials/"))
    .then_some(Route::Container)
}

pub(crate) fn answer(state: &State, request: &Request, call: &Call) -> io::Result<Response> {
    if request.method != "GET" {
        return Ok(failure(405, "MethodNotAllowed", "only GET is allowed"));
    }
    let expected = state.settings().container_token.clone();
    if let Some(expected) = expected
        && request.header("authorization") != Some(&expected)
    {
        return Ok(failure(401, "AccessDeniedException", "the Authorization header is absent or wrong"));
    }
    let credentials = state.task.current(state.issue_for_container(call.now))?;
    let expiration = call.expiration(credentials.expiration);
    Ok(Response::json(
        200,
        &json!({
            "RoleArn": format!("arn:aws:iam::{ACCOUNT_ID}:role/{CONTAINER_ROLE}"),
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.session_token,
            "Expiration": expiration.map(iso8601),
        }),
    ))
}

fn failure(status: u16, code: &str, message: &str) -> Response {
    Response::json(status, &json!({"code": code, "message": message}))
}
