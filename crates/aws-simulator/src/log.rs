//! The log: every request except those to the control API, in order of arrival.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::faults::Fault;
use crate::http::{self, Request};
use crate::route::{Route, Service};
use crate::sync::{lock, wait_until};
use crate::time::unix_milliseconds;

/// One request and the status of its response.
#[derive(Debug, Clone)]
pub struct LoggedRequest {
    /// Counts from 1; [`Simulator::clear_requests`](crate::Simulator::clear_requests) does not reset it.
    pub number: u64,
    /// The service.
    pub service: Service,
    /// The route.
    pub route: Route,
    /// `GET`, `PUT`, `POST`, …
    pub method: String,
    /// The request target as received: path and query, or an absolute URL if the client used the simulator as a proxy.
    pub target: String,
    /// The path.
    pub path: String,
    /// All headers in order, names as received.
    pub headers: Vec<(String, String)>,
    /// The body, read as UTF-8.
    pub body: String,
    /// The number of its connection, from 1: requests with the same number used the same connection.
    pub connection: u64,
    /// When it was read, by the simulator's clock.
    pub time: SystemTime,
    /// When it was read, by the system's monotonic clock.
    pub instant: Instant,
    /// The status of the response; `None` until it is sent, and forever if a fault prevents the response.
    pub status: Option<u16>,
    /// The fault that was applied to it.
    pub fault: Option<Fault>,
}

impl LoggedRequest {
    /// The first header of that name, ignoring case.
    pub fn header(&self, name: &str) -> Option<&str> {
        http::find(&self.headers, name)
    }

    /// A parameter of a form-encoded body, decoded.
    pub fn form_parameter(&self, name: &str) -> Option<String> {
        http::pairs(&self.body).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "number": self.number,
            "service": self.service,
            "route": self.route,
            "method": self.method,
            "target": self.target,
            "path": self.path,
            "headers": self.headers,
            "body": self.body,
            "connection": self.connection,
            "time_ms": unix_milliseconds(self.time),
            "status": self.status,
            "fault": self.fault,
        })
    }
}

/// The requests so far.
#[derive(Default)]
pub(crate) struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    last_number: u64,
    entries: Vec<LoggedRequest>,
}

impl Log {
    /// Adds a request and returns its number, for [`Log::answered`].
    pub(crate) fn enter(
        &self,
        request: &Request,
        route: Route,
        fault: Option<&Fault>,
        connection: u64,
        time: SystemTime,
    ) -> u64 {
        let mut state = lock(&self.state);
        state.last_number += 1;
        let number = state.last_number;
        state.entries.push(LoggedRequest {
            number,
            service: route.service(),
            route,
            method: request.method.clone(),
            target: request.target.clone(),
            path: request.path.clone(),
            headers: request.headers.clone(),
            body: String::from_utf8_lossy(&request.body).into_owned(),
            connection,
            time,
            instant: Instant::now(),
            status: None,
            fault: fault.cloned(),
        });
        self.changed.notify_all();
        number
    }

    /// Records the status, before the response is sent: a client that has the response finds it in the log.
    pub(crate) fn answered(&self, number: u64, status: u16) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.entries.iter_mut().rfind(|entry| entry.number == number) {
            entry.status = Some(status);
        }
    }

    pub(crate) fn entries(&self) -> Vec<LoggedRequest> {
        lock(&self.state).entries.clone()
    }

    pub(crate) fn take(&self) -> Vec<LoggedRequest> {
        std::mem::take(&mut lock(&self.state).entries)
    }

    pub(crate) fn clear(&self) {
        lock(&self.state).entries.clear();
    }

    pub(crate) fn wait_for(&self, count: usize, timeout: Duration) -> bool {
        wait_until(&self.state, &self.changed, timeout, |state| state.entries.len() >= count)
    }
}
