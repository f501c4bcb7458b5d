//! CloudWatch metrics (`GetMetricStatistics`, query protocol) and CloudWatch Logs (`FilterLogEvents`, JSON). Shapes from
//! the two API references.

use serde_json::{Value, json};

use crate::http::{Request, Response};
use crate::route::Route;
use crate::services::query::{Permission, QueryService, authorize, element};
use crate::state::{Call, State};
use crate::time::{iso8601, unix_seconds};
use crate::{ACCOUNT_ID, random};

const CLOUDWATCH: QueryService = QueryService {
    name: "monitoring",
    version: "2010-08-01",
    namespace: "http://monitoring.amazonaws.com/doc/2010-08-01/",
    region: None,
};

const FILTER_LOG_EVENTS: &str = "Logs_20140328.FilterLogEvents";

pub(crate) fn route(request: &Request) -> Option<Route> {
    if CLOUDWATCH.is_asked(request) {
        return Some(Route::CloudWatch);
    }
    request.header("x-amz-target").is_some_and(|target| target.starts_with("Logs_20140328.")).then_some(Route::Logs)
}

pub(crate) fn metrics(state: &State, request: &Request, call: &Call) -> Response {
    let action = request.form_parameter("Action").unwrap_or_default();
    if let Err(refused) = CLOUDWATCH.authorize(state, request, call, &format!("cloudwatch:{action}"), "*") {
        return *refused;
    }
    if action != "GetMetricStatistics" {
        return CLOUDWATCH.error(400, "InvalidAction", &format!("Could not find operation {action}"));
    }
    let asked = |parameter: &str| request.form_parameter(parameter).unwrap_or_default();
    let (name, identifier) = (asked("MetricName"), asked("Dimensions.member.1.Value"));
    let settings = state.settings();
    let found = settings.account.metrics.iter().filter(|metric| metric.name == name && metric.identifier == identifier);
    let points: String = found
        .map(|metric| {
            let point = element("Timestamp", &iso8601(call.now)) + &element("Sum", &metric.sum.to_string());
            format!("<member>{point}<Unit>Count</Unit></member>")
        })
        .collect();
    CLOUDWATCH.result(&action, &format!("<Datapoints>{points}</Datapoints>{}", element("Label", &name)))
}

pub(crate) fn logs(state: &State, request: &Request, call: &Call) -> Response {
    let input: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let group = input["logGroupName"].as_str().unwrap_or_default();
    let region = state.options.region.as_str();
    let resource = format!("arn:aws:logs:{region}:{ACCOUNT_ID}:log-group:{group}:log-stream:*");
    let needed = Permission { service: "logs", region, permission: "logs:FilterLogEvents", resource: &resource };
    if let Err((status, code, message)) = authorize(state, request, call, &needed) {
        let code = if code == "AccessDenied" { "AccessDeniedException" } else { code.as_str() };
        return error(status.min(400), code, &message);
    }
    if request.header("x-amz-target") != Some(FILTER_LOG_EVENTS) {
        return error(400, "UnknownOperationException", "only FilterLogEvents is simulated");
    }
    let settings = state.settings();
    let mut found = settings.account.log_events.iter().filter(|event| event.group == group).peekable();
    if found.peek().is_none() {
        return error(400, "ResourceNotFoundException", "The specified log group does not exist.");
    }
    let pattern = input["filterPattern"].as_str().unwrap_or_default().trim_matches('"');
    let since = input["startTime"].as_i64().unwrap_or(0) / 1000;
    let time = |time: Option<i64>| time.unwrap_or(unix_seconds(call.now) - 60);
    let events: Vec<Value> = found
        .filter(|event| time(event.time) >= since && event.message.contains(pattern))
        .map(|event| {
            json!({
                "eventId": random::request_id(),
                "logStreamName": "stream",
                "message": event.message,
                "timestamp": time(event.time) * 1000,
            })
        })
        .collect();
    Response::json(200, &json!({"events": events, "searchedLogStreams": []}))
}

fn error(status: u16, kind: &str, message: &str) -> Response {
    Response::json(status, &json!({"__type": kind, "message": message})).with_header("x-amzn-ErrorType", kind)
}
