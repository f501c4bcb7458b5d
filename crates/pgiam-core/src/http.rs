//! HTTP as the credential sources need it: blocking, small answers, one deadline, no redirects, no proxy unless given.
//!
//! An [`Http`] belongs to one fetch and is dropped with it: within the fetch a connection is used again if the server
//! allows, and none is left open for a forked child to inherit. Literal addresses are not looked up, so no resolver
//! thread is started for the link-local services.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ureq::Agent;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use zeroize::Zeroizing;

use crate::time::Deadline;

/// The most that is read of an answer; the largest real one, of STS, has a few KiB.
const MAX_BODY: u64 = 256 * 1024;

/// A connection pool for one fetch.
pub(crate) struct Http {
    agent: Agent,
}

/// One request. Header values must not hold control characters.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// An answer of any status. The body may hold secrets and is wiped.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
}

/// How long the stages of one request may take, and all of it together.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) read: Duration,
    pub(crate) deadline: Deadline,
}

/// Why there is no answer. The text is fit for a message: addresses and the system's words only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection: refused, unreachable, name not found.
    NotConnected(String),
    /// No connection within the time allowed.
    ConnectTimeout,
    /// Connected, but no whole answer within the time allowed.
    AnswerTimeout,
    /// The connection broke, or what came is not HTTP.
    Broken(String),
    /// More came than any real answer has.
    TooLarge,
    /// The address or a header cannot be sent.
    BadRequest(String),
}

impl Failure {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::NotConnected(why) => format!("cannot connect: {why}"),
            Self::ConnectTimeout => "no connection within the time allowed".into(),
            Self::AnswerTimeout => "no whole answer within the time allowed".into(),
            Self::Broken(why) => format!("the connection broke: {why}"),
            Self::TooLarge => format!("the answer is larger than {} KiB", MAX_BODY / 1024),
            Self::BadRequest(why) => format!("the request cannot be sent: {why}"),
        }
    }
}

impl Http {
    /// Straight to the server, whatever proxies the environment names.
    pub(crate) fn without_proxy() -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("pgiam/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            .build();
        Self { agent: Agent::with_parts(config, DefaultConnector::default(), LiteralFirst::default()) }
    }

    /// Sends one request and reads its whole answer.
    pub(crate) fn send(&self, request: &Request<'_>, limits: Limits) -> Result<Response, Failure> {
        let Some(remaining) = limits.deadline.remaining() else {
            return Err(Failure::AnswerTimeout);
        };
        let mut builder = ureq::http::Request::builder().method(request.method).uri(request.url);
        for (name, value) in request.headers {
            builder = builder.header(*name, *value);
        }
        let built = builder.body(request.body).map_err(|error| Failure::BadRequest(error.to_string()))?;
        let configured = self
            .agent
            .configure_request(built)
            .timeout_global(Some(remaining))
            .timeout_connect(Some(limits.connect.min(remaining)))
            .timeout_recv_response(Some(limits.read.min(remaining)))
            .timeout_recv_body(Some(limits.read.min(remaining)))
            .build();
        let response = self.agent.run(configured).map_err(failure)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let body = body.with_config().limit(MAX_BODY).read_to_vec().map(Zeroizing::new).map_err(failure)?;
        Ok(Response { status, body })
    }
}

fn failure(error: ureq::Error) -> Failure {
    use std::io::ErrorKind as Io;
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => Failure::ConnectTimeout,
        ureq::Error::Timeout(_) => Failure::AnswerTimeout,
        ureq::Error::HostNotFound => Failure::NotConnected("the name is not known".into()),
        ureq::Error::ConnectionFailed => Failure::NotConnected("connection failed".into()),
        ureq::Error::BodyExceedsLimit(_) | ureq::Error::LargeResponseHeader(..) => Failure::TooLarge,
        ureq::Error::Io(error) => match error.kind() {
            Io::ConnectionRefused
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::AddrNotAvailable
            | Io::NetworkDown
            | Io::PermissionDenied => Failure::NotConnected(error.kind().to_string()),
            Io::TimedOut | Io::WouldBlock => Failure::AnswerTimeout,
            // The standard library has no kind for a failed name look-up; only its text tells.
            _ if error.to_string().starts_with("failed to lookup") => {
                Failure::NotConnected("the name cannot be resolved".into())
            }
            kind => Failure::Broken(kind.to_string()),
        },
        ureq::Error::BadUri(_) => Failure::BadRequest("the address is not a URL".into()),
        ureq::Error::Http(error) => Failure::BadRequest(error.to_string()),
        ureq::Error::Protocol(_) => Failure::Broken("the answer is not HTTP".into()),
        _ => Failure::Broken("the request failed".into()),
    }
}

/// Takes literal addresses as they are; looks other names up, on a thread, since the system's resolver knows no deadline.
#[derive(Debug, Default)]
struct LiteralFirst(DefaultResolver);

impl Resolver for LiteralFirst {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let literal: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
        match literal {
            Ok(address) => {
                let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
                let mut addresses = self.empty();
                addresses.push(SocketAddr::new(address, uri.port_u16().unwrap_or(default_port)));
                Ok(addresses)
            }
            Err(_) => self.0.resolve(uri, config, timeout),
        }
    }
}
