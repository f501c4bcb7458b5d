//! The AWS services: routes a request to its service and returns the response.

mod cloudwatch;
mod container;
mod iam;
mod imds;
mod query;
mod rds;
pub(crate) mod signin;
mod sso;
mod sts;

use serde_json::json;

use crate::faults::Fault;
use crate::http::{Request, Response};
use crate::route::{Route, Service};
use crate::state::{Call, State};

/// The route of a request.
pub(crate) fn route(request: &Request) -> Route {
    if request.path.starts_with("/simulator/") {
        return Route::Control;
    }
    imds::route(request)
        .or_else(|| container::route(request))
        .or_else(|| sso::route(request))
        .or_else(|| signin::route(request))
        .or_else(|| rds::route(request))
        .or_else(|| iam::route(request))
        .or_else(|| cloudwatch::route(request))
        .or_else(|| sts::route(request))
        .unwrap_or(Route::Other)
}

/// The service's own response to a request.
pub(crate) fn answer(state: &State, request: &Request, call: &Call) -> Response {
    let answered = match call.route.service() {
        Service::Imds => imds::answer(state, request, call),
        Service::Container => container::answer(state, request, call),
        Service::Sts => sts::answer(state, request, call),
        Service::Sso | Service::SsoOidc => sso::answer(state, request, call),
        Service::SignIn => signin::answer(state, request, call),
        Service::Rds => Ok(rds::answer(state, request, call)),
        Service::Iam => Ok(iam::answer(state, request, call)),
        Service::CloudWatch => Ok(cloudwatch::metrics(state, request, call)),
        Service::Logs => Ok(cloudwatch::logs(state, request, call)),
        Service::Control | Service::Unknown => Ok(Response::text(404, "no such service\n")),
    };
    let mut response = answered
        .unwrap_or_else(|error| Response::text(500, format!("the simulator cannot write credentials: {error}\n")));
    if response.status == 200
        && let Some(body) = state.settings().bodies.get(&call.route)
    {
        response.body = body.clone().into_bytes();
    }
    response
}

/// The response of a fault that replaces the service's own.
pub(crate) fn replacement(fault: &Fault, route: Route) -> Option<Response> {
    Some(match fault {
        Fault::Status(status) => Response::text(*status, "simulated status\n"),
        Fault::StatusWithBody(status, body) => {
            let kind = match body.trim_start().bytes().next() {
                Some(b'{' | b'[') => "application/json",
                Some(b'<') => "text/xml",
                _ => "text/plain",
            };
            Response::new(*status, kind, body.as_bytes())
        }
        Fault::NonJson => {
            Response::new(200, "text/html", "<!DOCTYPE html><html><body>Please sign in to the network.</body></html>\n")
        }
        Fault::WrongXml => Response::new(
            200,
            "text/xml",
            "<?xml version=\"1.0\"?><Unexpected><Reply>nothing of use</Reply></Unexpected>\n",
        ),
        Fault::Empty => Response::text(200, ""),
        Fault::Huge(bytes) => Response::new(200, "application/json", vec![b' '; *bytes]),
        Fault::Endless | Fault::EndlessPart { .. } => Response::text(200, ""),
        Fault::Headers(count) => (0..*count)
            .fold(Response::text(200, ""), |response, number| response.with_header(&format!("X-{number}"), "y")),
        Fault::Nested(depth) => nested(route, *depth),
        Fault::Redirect(status, location) => Response::text(*status, "").with_header("Location", location.as_str()),
        Fault::Throttling => throttled(route),
        Fault::StsError(status, code) => sts::error(*status, code, "Simulated error."),
        _ => return None,
    })
}

fn nested(route: Route, depth: usize) -> Response {
    let (kind, open, close) = match route.service() {
        Service::Sts => ("text/xml", "<a>", "</a>"),
        _ => ("application/json", "{\"a\": ", "}"),
    };
    Response::new(200, kind, format!("{}{{}}{}", open.repeat(depth), close.repeat(depth)))
}

fn throttled(route: Route) -> Response {
    match route.service() {
        Service::Sts => sts::error(400, "Throttling", "Rate exceeded"),
        Service::Sso => sso::error(429, "TooManyRequestsException", "Rate exceeded"),
        Service::SsoOidc => Response::json(400, &json!({"error": "slow_down", "error_description": "Rate exceeded"}))
            .with_header("x-amzn-ErrorType", "SlowDownException"),
        Service::SignIn => signin::error(429, "TooManyRequestsError", "rate_exceeded", "Rate exceeded"),
        _ => Response::text(429, "Too many requests\n"),
    }
}
