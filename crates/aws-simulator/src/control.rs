//! The control API under `/simulator/`, for tests that run the simulator as a process: it reads the log, injects faults
//! and changes settings. Its requests are not logged, and faults do not apply to them.

use std::io;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::credentials::Credentials;
use crate::faults::{Fault, Times};
use crate::http::{Request, Response};
use crate::log::LoggedRequest;
use crate::route::Route;
use crate::state::State;
use crate::time::{from_unix_seconds, unix_seconds};

/// `POST /simulator/faults`. Without `times`, or with null, the fault applies until the faults are cleared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Injection {
    route: Route,
    fault: Fault,
    times: Option<u32>,
}

/// `POST /simulator/credentials`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Registration {
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<i64>,
    principal: Option<String>,
}

/// `POST /simulator/clock`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockOffset {
    offset_seconds: i64,
}

/// `POST /simulator/expiration`; null removes the fixed expiration.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expiration {
    expiration: Option<i64>,
}

pub(crate) fn answer(state: &State, request: &Request) -> Response {
    match respond(state, request) {
        Ok(value) => Response::json(200, &value),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Response::json(404, &json!({"error": "no such path and method"}))
        }
        Err(error) => Response::json(400, &json!({"error": error.to_string()})),
    }
}

fn respond(state: &State, request: &Request) -> io::Result<Value> {
    let path = request.path.strip_prefix("/simulator").unwrap_or("");
    match (request.method.as_str(), path) {
        ("GET", "/health") => Ok(json!({
            "status": "ok",
            "connections": state.connections.accepted(),
            "rotations": state.instance.rotations(),
        })),
        ("GET", "/requests") => {
            let entries = state.log.entries();
            Ok(entries.iter().map(LoggedRequest::to_json).collect())
        }
        ("DELETE", "/requests") => {
            state.log.clear();
            Ok(json!({}))
        }
        ("POST", "/faults") => inject(state, serde_json::from_slice(&request.body)?),
        ("DELETE", "/faults") => {
            state.faults.clear();
            Ok(json!({}))
        }
        ("POST", "/release") => {
            state.gate.release();
            Ok(json!({}))
        }
        ("POST", "/rotate") => {
            let credentials = state.rotate()?;
            Ok(json!({
                "access_key_id": credentials.access_key_id,
                "expiration": credentials.expiration.map(unix_seconds),
            }))
        }
        ("POST", "/credentials") => {
            let registration: Registration = serde_json::from_slice(&request.body)?;
            state.keys.record(&registration.into())?;
            Ok(json!({}))
        }
        ("POST", "/account") => {
            state.settings().account = serde_json::from_slice(&request.body)?;
            state.publish_policies()?;
            Ok(json!({}))
        }
        ("POST", "/clock") => {
            let offset: ClockOffset = serde_json::from_slice(&request.body)?;
            state.settings().clock_offset = offset.offset_seconds;
            Ok(json!({}))
        }
        ("POST", "/expiration") => {
            let wanted: Expiration = serde_json::from_slice(&request.body)?;
            state.set_expiration(wanted.expiration.map(from_unix_seconds))?;
            Ok(json!({}))
        }
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn inject(state: &State, injection: Injection) -> io::Result<Value> {
    let times = injection.times.map_or(Times::Forever, Times::Count);
    if injection.route == Route::Any && injection.fault == Fault::Refuse {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "refuse for every request would also block this control API: inject it for a route",
        ));
    }
    state.faults.inject(injection.route, injection.fault, times);
    Ok(json!({}))
}

impl From<Registration> for Credentials {
    fn from(registration: Registration) -> Self {
        Self {
            principal: registration
                .principal
                .unwrap_or_else(|| format!("arn:aws:iam::{}:user/registered", crate::ACCOUNT_ID)),
            access_key_id: registration.access_key_id,
            secret_access_key: registration.secret_access_key,
            session_token: registration.session_token,
            expiration: registration.expiration.map(from_unix_seconds),
        }
    }
}
