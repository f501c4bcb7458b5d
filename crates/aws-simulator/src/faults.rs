//! The faults, their queue, and those that come at random.
//!
//! A fault is injected for a route and a number of requests. Every request takes the oldest fault whose route covers
//! it, so that a test can inject a sequence: 503 twice, then a hang, then normal responses again.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::random;
use crate::route::Route;
use crate::sync::lock;

/// A fault. Faults that replace the content run no service code: no credentials are issued, no token is used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The connection is reset without a response: for [`Route::Any`] immediately after it was accepted; for another
    /// route after the request has been read, because the route is not known earlier.
    Refuse,
    /// The request is read and never answered.
    HangBeforeAnswer,
    /// Half of the response head is sent, then nothing.
    HangInHeader,
    /// The response head is sent, then nothing.
    HangAfterHeader,
    /// The response head and half of the body are sent, then nothing.
    HangInBody,
    /// The normal response, sent after a call of [`Simulator::release`](crate::Simulator::release).
    Hold,
    /// The normal response, sent after a delay.
    Delay {
        /// The delay. In JSON: `duration_ms`.
        #[serde(rename = "duration_ms", with = "milliseconds")]
        duration: Duration,
    },
    /// The head in one write, then the body byte by byte.
    Drip {
        /// The pause before each byte. In JSON: `interval_ms`.
        #[serde(rename = "interval_ms", with = "milliseconds")]
        interval: Duration,
    },
    /// Head and body byte by byte.
    DripHeader {
        /// The pause before each byte. In JSON: `interval_ms`.
        #[serde(rename = "interval_ms", with = "milliseconds")]
        interval: Duration,
    },
    /// The head and half of the body, then the connection is reset.
    Reset,
    /// The normal response, with the body sent in two writes a few milliseconds apart.
    SplitBody,
    /// `Content-Length` is that of the whole body, half of it is sent, then the connection is closed normally.
    Truncate,
    /// This status, with a short text as body.
    Status(u16),
    /// This status and this body.
    StatusWithBody(u16, String),
    /// 200 with a page of HTML, as from a captive portal.
    NonJson,
    /// 200 with well-formed XML that is not the expected document.
    WrongXml,
    /// 200 with an empty body.
    Empty,
    /// 200 with a body of this many bytes.
    Huge(usize),
    /// 200 with a body that does not end until the client closes the connection.
    Endless,
    /// 200 with a part that does not end until the client closes the connection.
    EndlessPart {
        /// The part.
        part: Part,
        /// The pause before each piece of it; 0: as fast as the client reads. In JSON: `interval_ms`.
        #[serde(rename = "interval_ms", with = "milliseconds")]
        interval: Duration,
    },
    /// 200 with this many headers.
    Headers(usize),
    /// 200 with JSON, or XML where the service has that, nested this deeply.
    Nested(usize),
    /// This status (301, 302, 307, 308), with this `Location`.
    Redirect(u16, String),
    /// The normal response, except that the credentials in it expired an hour ago.
    ExpiredCredentials,
    /// The service's clock is wrong by this many seconds: in the `Date` header, in every expiration that it writes,
    /// and when it verifies signatures and tokens.
    ClockOff(i64),
    /// The service's own throttling response: for STS, 400 with the code `Throttling`.
    Throttling,
    /// An STS error document with this status and code.
    StsError(u16, String),
}

/// A part of a response of which there can be too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Headers.
    Headers,
    /// The value of one header.
    HeaderValue,
    /// `103 Early Hints` before the response.
    InterimResponses,
    /// The extension of a chunk, which follows its length.
    ChunkExtension,
    /// Chunks of one byte.
    Chunks,
    /// Headers after the last chunk.
    Trailers,
}

impl Part {
    /// How the response begins, and the piece that is repeated.
    pub(crate) fn pieces(self) -> (&'static str, &'static str) {
        match self {
            Self::Headers => ("HTTP/1.1 200 OK\r\n", "X-Filler: 0123456789\r\n"),
            Self::HeaderValue => ("HTTP/1.1 200 OK\r\nX-Filler: ", "0123456789"),
            Self::InterimResponses => ("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
            Self::ChunkExtension => ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "name=value;"),
            Self::Chunks => ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\n \r\n"),
            Self::Trailers => {
                ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X-Filler: 0123456789\r\n")
            }
        }
    }
}

/// The number of requests to which a fault applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// That many.
    Count(u32),
    /// All, until [`Simulator::clear_faults`](crate::Simulator::clear_faults).
    Forever,
}

impl From<u32> for Times {
    fn from(count: u32) -> Self {
        Self::Count(count)
    }
}

/// The queue of injected faults.
#[derive(Default)]
pub(crate) struct Faults {
    queue: Mutex<Vec<Waiting>>,
    at_random: Mutex<Vec<Possible>>,
}

/// A fault that one in so many requests of a route gets.
struct Possible {
    route: Route,
    fault: Fault,
    one_in: u32,
}

struct Waiting {
    route: Route,
    fault: Fault,
    times: Times,
}

impl Faults {
    pub(crate) fn inject(&self, route: Route, fault: Fault, times: Times) {
        lock(&self.queue).push(Waiting { route, fault, times });
    }

    pub(crate) fn inject_at_random(&self, route: Route, fault: Fault, one_in: u32) {
        lock(&self.at_random).push(Possible { route, fault, one_in });
    }

    pub(crate) fn clear(&self) {
        lock(&self.queue).clear();
        lock(&self.at_random).clear();
    }

    /// Takes the fault for a request of this route, if there is one.
    pub(crate) fn take(&self, route: Route) -> Option<Fault> {
        self.take_where(|waiting| waiting.route.covers(route), |_| true).or_else(|| self.draw(route))
    }

    fn draw(&self, route: Route) -> Option<Fault> {
        let at_random = lock(&self.at_random);
        let drawn = at_random.iter().find(|possible| possible.route.covers(route) && random::one_in(possible.one_in));
        drawn.map(|possible| possible.fault.clone())
    }

    /// Whether to reset a connection that has just been accepted.
    pub(crate) fn refuses_connection(&self) -> bool {
        self.take_where(|waiting| waiting.route == Route::Any, |waiting| waiting.fault == Fault::Refuse).is_some()
    }

    /// Takes the oldest fault for which `concerns` is true, if `applies` is true for it too.
    fn take_where(&self, concerns: impl Fn(&Waiting) -> bool, applies: impl Fn(&Waiting) -> bool) -> Option<Fault> {
        let mut queue = lock(&self.queue);
        queue.retain(|waiting| waiting.times != Times::Count(0));
        let at = queue.iter().position(concerns)?;
        if !applies(&queue[at]) {
            return None;
        }
        let fault = queue[at].fault.clone();
        if let Times::Count(left) = &mut queue[at].times {
            *left -= 1;
        }
        Some(fault)
    }
}

mod milliseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Duration, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(value.as_millis() as u64)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
        u64::deserialize(input).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_apply_in_the_order_of_injection() {
        let faults = Faults::default();
        faults.inject(Route::ImdsToken, Fault::Status(503), Times::Count(2));
        faults.inject(Route::Imds, Fault::Empty, Times::Count(1));
        assert_eq!(faults.take(Route::Container), None);
        assert_eq!(faults.take(Route::ImdsToken), Some(Fault::Status(503)));
        assert_eq!(faults.take(Route::ImdsToken), Some(Fault::Status(503)));
        assert_eq!(faults.take(Route::ImdsToken), Some(Fault::Empty));
        assert_eq!(faults.take(Route::ImdsToken), None);
    }

    #[test]
    fn a_fault_at_random_applies_to_its_share_of_the_requests_and_after_those_in_the_queue() {
        let faults = Faults::default();
        faults.inject_at_random(Route::Imds, Fault::Status(500), 10);
        faults.inject_at_random(Route::Imds, Fault::Truncate, 10);
        faults.inject(Route::Imds, Fault::Empty, Times::Count(1));
        assert_eq!(faults.take(Route::ImdsToken), Some(Fault::Empty));
        let taken: Vec<_> = (0..10_000).filter_map(|_| faults.take(Route::ImdsToken)).collect();
        for fault in [Fault::Status(500), Fault::Truncate] {
            let count = taken.iter().filter(|taken| **taken == fault).count();
            assert!((700..1300).contains(&count), "{count} times {fault:?}");
        }
        assert_eq!(faults.take(Route::Container), None);
        faults.clear();
        assert!((0..100).all(|_| faults.take(Route::ImdsToken).is_none()));
    }

    #[test]
    fn a_fault_for_any_route_does_not_apply_to_the_control_api() {
        let faults = Faults::default();
        faults.inject(Route::Any, Fault::Empty, Times::Forever);
        assert_eq!(faults.take(Route::Control), None);
        assert_eq!(faults.take(Route::Other), Some(Fault::Empty));
    }

    #[test]
    fn every_fault_is_the_same_after_serialization_to_json() {
        let tick = Duration::from_millis(7);
        for (fault, text) in [
            (Fault::Refuse, r#""refuse""#),
            (Fault::Drip { interval: tick }, r#"{"drip":{"interval_ms":7}}"#),
            (
                Fault::EndlessPart { part: Part::HeaderValue, interval: tick },
                r#"{"endless_part":{"part":"header_value","interval_ms":7}}"#,
            ),
            (Fault::Status(503), r#"{"status":503}"#),
            (Fault::Redirect(301, "/x".to_owned()), r#"{"redirect":[301,"/x"]}"#),
        ] {
            assert_eq!(serde_json::to_string(&fault).unwrap(), text);
            assert_eq!(serde_json::from_str::<Fault>(text).unwrap(), fault);
        }
    }
}
