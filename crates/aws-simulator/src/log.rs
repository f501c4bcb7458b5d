//! What was asked of the simulator: every request except those to its control paths, in the order of arrival.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::faults::Fault;
use crate::http::{self, Request};
use crate::route::{Route, Service};
use crate::sync::{lock, wait_until};
use crate::time::unix_milliseconds;

/// One request, as it came in and as it was answered.
#[derive(Debug, Clone)]
pub struct LoggedRequest {
    /// Counts from 1 over the simulator's life; [`Simulator::clear_requests`](crate::Simulator::clear_requests) does
    /// not set it back.
    pub number: u64,
    /// The service asked.
    pub service: Service,
    /// What was asked of it.
    pub route: Route,
    /// `GET`, `PUT`, `POST`, …
    pub method: String,
    /// The request target as received: path and query, or a whole URL when the client took the simulator for a proxy.
    pub target: String,
    /// The path alone.
    pub path: String,
    /// All headers in order, names as received.
    pub headers: Vec<(String, String)>,
    /// The body, read as UTF-8.
    pub body: String,
    /// The connection it came in on, counted from 1: equal numbers mean that a connection was used again.
    pub connection: u64,
    /// When it had been read, by the simulator's clock.
    pub time: SystemTime,
    /// When it had been read, by the machine's monotonic clock.
    pub instant: Instant,
    /// The status of the answer; `None` while it is not answered, and for good when a fault withholds the answer.
    pub status: Option<u16>,
    /// The fault that met it.
    pub fault: Option<Fault>,
}

impl LoggedRequest {
    /// The first header of that name, in whatever case.
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
    /// Enters a request that has been read; the number it gets is its name in [`Log::answered`].
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

    /// Notes the status before the answer is sent, so that whoever has the answer finds it in the log.
    pub(crate) fn answered(&self, number: u64, status: u16) {
        let mut state = lock(&self.state);
        if let Some(entry) = state.entries.iter_mut().rfind(|entry| entry.number == number) {
            entry.status = Some(status);
        }
    }

    pub(crate) fn entries(&self) -> Vec<LoggedRequest> {
        lock(&self.state).entries.clone()
    }

    pub(crate) fn clear(&self) {
        lock(&self.state).entries.clear();
    }

    pub(crate) fn wait_for(&self, count: usize, timeout: Duration) -> bool {
        wait_until(&self.state, &self.changed, timeout, |state| state.entries.len() >= count)
    }
}
