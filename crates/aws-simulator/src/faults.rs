//! The faults, the routes they are tied to, and the queue they wait in.
//!
//! A fault is injected for a route and a number of times. Every request takes the oldest fault whose route covers it,
//! so faults injected one after the other play like a script: twice 503, then a hang, then good answers again.

use std::sync::Mutex;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::http::{Request, Response};
use crate::sync::lock;
use crate::{container, imds, sso, sts};

/// What a request asks for; also what a fault is tied to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// Every request except those to the simulator's own control paths. Never the route of a request.
    Any,
    /// Every request to the instance metadata service. As the route of a request: a metadata path not listed here.
    Imds,
    /// `PUT /latest/api/token`
    ImdsToken,
    /// `GET /latest/meta-data/iam/security-credentials/`
    ImdsRoleList,
    /// `GET /latest/meta-data/iam/security-credentials/ROLE`
    ImdsCredentials,
    /// `GET /latest/meta-data/iam/info`
    ImdsInfo,
    /// `GET /latest/meta-data/placement/region`
    ImdsRegion,
    /// `GET /latest/dynamic/instance-identity/document`
    ImdsIdentityDocument,
    /// The container credentials endpoint: `/v2/credentials/…`, `/v1/credentials`, `/get-credentials`.
    Container,
    /// Every request to STS. As the route of a request: an action not listed here.
    Sts,
    /// STS, `Action=AssumeRole`
    StsAssumeRole,
    /// STS, `Action=AssumeRoleWithWebIdentity`
    StsWebIdentity,
    /// STS, `Action=GetCallerIdentity`
    StsCallerIdentity,
    /// `GET /federation/credentials` of the SSO portal
    SsoRoleCredentials,
    /// `POST /token` of SSO OIDC
    OidcCreateToken,
    /// The simulator's own paths, `/simulator/…`. No fault touches them.
    Control,
    /// A path that belongs to no service.
    Other,
}

/// The service that a request was for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Service {
    /// The instance metadata service, version 2.
    Imds,
    /// The container credentials endpoint of ECS and EKS Pod Identity.
    Container,
    /// The Security Token Service.
    Sts,
    /// The SSO portal.
    Sso,
    /// SSO OIDC.
    SsoOidc,
    /// The simulator itself.
    Control,
    /// None of them.
    Unknown,
}

impl Route {
    pub(crate) fn of(request: &Request) -> Self {
        if request.path.starts_with("/simulator/") {
            return Self::Control;
        }
        imds::route(request)
            .or_else(|| container::route(request))
            .or_else(|| sso::route(request))
            .or_else(|| sts::route(request))
            .unwrap_or(Self::Other)
    }

    /// The service this route belongs to.
    pub fn service(self) -> Service {
        match self {
            Self::Imds
            | Self::ImdsToken
            | Self::ImdsRoleList
            | Self::ImdsCredentials
            | Self::ImdsInfo
            | Self::ImdsRegion
            | Self::ImdsIdentityDocument => Service::Imds,
            Self::Container => Service::Container,
            Self::Sts | Self::StsAssumeRole | Self::StsWebIdentity | Self::StsCallerIdentity => Service::Sts,
            Self::SsoRoleCredentials => Service::Sso,
            Self::OidcCreateToken => Service::SsoOidc,
            Self::Control => Service::Control,
            Self::Any | Self::Other => Service::Unknown,
        }
    }

    /// Whether a fault tied to `self` meets a request of route `request`.
    fn covers(self, request: Self) -> bool {
        match self {
            Self::Any => request != Self::Control,
            Self::Imds | Self::Sts => request.service() == self.service(),
            Self::Control => false,
            _ => self == request,
        }
    }
}

/// What goes wrong. Those that replace the content run no service code: no credentials are issued, no token is spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The connection is reset without an answer. Tied to [`Route::Any`], at once after it was accepted; tied to
    /// another route, when the request has been read, for only then its route is known.
    Refuse,
    /// The request is read and never answered.
    HangBeforeAnswer,
    /// Half of the answer's head is sent, then nothing.
    HangInHeader,
    /// The answer's head is sent, then nothing.
    HangAfterHeader,
    /// The answer's head and half of its body are sent, then nothing.
    HangInBody,
    /// The answer waits until [`Simulator::release`](crate::Simulator::release) lets it go, then it is a good one.
    Hold,
    /// The answer comes late by this much, then it is a good one.
    Delay {
        /// How late. In JSON: `duration_ms`.
        #[serde(rename = "duration_ms", with = "milliseconds")]
        duration: Duration,
    },
    /// The head at once, then the body byte by byte.
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
    /// The body comes in two writes, a few milliseconds apart. A good answer all the same.
    SplitBody,
    /// `Content-Length` promises the whole body, half of it is sent, then the connection is closed in good order.
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
    /// 200 with a body that does not end until the client hangs up.
    Endless,
    /// This status (301, 302, 307, 308), with this `Location`.
    Redirect(u16, String),
    /// A good answer, except that the credentials in it expired an hour ago.
    ExpiredCredentials,
    /// The service's clock is off by this many seconds: the `Date` header, every expiry it writes, and the judgement
    /// of signatures and tokens.
    ClockOff(i64),
    /// Throttled in the words of the service asked: STS answers 400 with code `Throttling`.
    Throttling,
    /// An STS error document with this status and code.
    StsError(u16, String),
}

impl Fault {
    /// The answer that takes the place of the service's own, for faults in the content.
    pub(crate) fn replacement(&self, route: Route) -> Option<Response> {
        Some(match self {
            Self::Status(status) => Response::text(*status, "simulated status\n"),
            Self::StatusWithBody(status, body) => {
                let kind = match body.trim_start().bytes().next() {
                    Some(b'{' | b'[') => "application/json",
                    Some(b'<') => "text/xml",
                    _ => "text/plain",
                };
                Response::new(*status, kind, body.as_bytes())
            }
            Self::NonJson => Response::new(
                200,
                "text/html",
                "<!DOCTYPE html><html><body>Please sign in to the network.</body></html>\n",
            ),
            Self::WrongXml => Response::new(
                200,
                "text/xml",
                "<?xml version=\"1.0\"?><Unexpected><Reply>nothing of use</Reply></Unexpected>\n",
            ),
            Self::Empty => Response::text(200, ""),
            Self::Huge(bytes) => Response::new(200, "application/json", vec![b' '; *bytes]),
            Self::Endless => Response::text(200, ""),
            Self::Redirect(status, location) => Response::text(*status, "").with_header("Location", location.as_str()),
            Self::Throttling => throttled(route),
            Self::StsError(status, code) => sts::error(*status, code, "Simulated error."),
            _ => return None,
        })
    }
}

fn throttled(route: Route) -> Response {
    match route.service() {
        Service::Sts => sts::error(400, "Throttling", "Rate exceeded"),
        Service::Sso => sso::error(429, "TooManyRequestsException", "Rate exceeded"),
        Service::SsoOidc => Response::json(400, &json!({"error": "slow_down", "error_description": "Rate exceeded"}))
            .with_header("x-amzn-ErrorType", "SlowDownException"),
        _ => Response::text(429, "Too many requests\n"),
    }
}

/// How many requests a fault meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Times {
    /// That many, then it is used up.
    Count(u32),
    /// All, until [`Simulator::clear_faults`](crate::Simulator::clear_faults).
    Forever,
}

impl From<u32> for Times {
    fn from(count: u32) -> Self {
        Self::Count(count)
    }
}

/// The faults that wait for requests.
#[derive(Default)]
pub(crate) struct Faults {
    queue: Mutex<Vec<Waiting>>,
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

    pub(crate) fn clear(&self) {
        lock(&self.queue).clear();
    }

    /// The fault for a request of this route, if one waits.
    pub(crate) fn take(&self, route: Route) -> Option<Fault> {
        self.take_where(|waiting| waiting.route.covers(route), |_| true)
    }

    /// Whether a connection that has just been accepted is to be reset.
    pub(crate) fn refuses_connection(&self) -> bool {
        self.take_where(|waiting| waiting.route == Route::Any, |waiting| waiting.fault == Fault::Refuse).is_some()
    }

    /// Takes the oldest fault that `concerns` the matter, provided that it `applies`.
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
    fn faults_play_in_the_order_of_their_injection() {
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
    fn a_fault_for_any_route_leaves_the_control_paths_alone() {
        let faults = Faults::default();
        faults.inject(Route::Any, Fault::Empty, Times::Forever);
        assert_eq!(faults.take(Route::Control), None);
        assert_eq!(faults.take(Route::Other), Some(Fault::Empty));
    }

    #[test]
    fn every_fault_survives_its_way_through_json() {
        let tick = Duration::from_millis(7);
        for (fault, text) in [
            (Fault::Refuse, r#""refuse""#),
            (Fault::Drip { interval: tick }, r#"{"drip":{"interval_ms":7}}"#),
            (Fault::Status(503), r#"{"status":503}"#),
            (Fault::Redirect(301, "/x".to_owned()), r#"{"redirect":[301,"/x"]}"#),
        ] {
            assert_eq!(serde_json::to_string(&fault).unwrap(), text);
            assert_eq!(serde_json::from_str::<Fault>(text).unwrap(), fault);
        }
    }
}
