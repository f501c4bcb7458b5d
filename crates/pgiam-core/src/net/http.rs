//! HTTP as the credential sources need it: blocking, small answers, one deadline, no redirects, no proxy unless given.
//!
//! TLS is set up only when an https address is asked.
//!
//! An [`Http`] belongs to one fetch and is dropped with it: within the fetch a connection is used again if the server
//! allows, and none is left open for a forked child to inherit. Literal addresses are not looked up, so no resolver
//! thread is started for the link-local services.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, NextTimeout, RustlsConnector};
use ureq::{Agent, Proxy};
use zeroize::Zeroizing;

use crate::net::socket::SocketConnector;
use crate::net::tls;
use crate::time::Deadline;

/// The most that is read of an answer; the largest real one, of STS, has a few KiB.
const MAX_BODY: u64 = 256 * 1024;

/// The same where the answer does not tell: such answers come in chunks, from services behind a proxy.
const UNTOLD_BODY: u64 = 16 * 1024;

/// Bytes that are read or written at a time. The head of an answer must fit in, and each header of a request.
const BUFFER: usize = 16 * 1024;

/// The same for instance metadata, whose heads are short: fewer pages to clear for a fetch.
const SMALL_BUFFER: usize = 4 * 1024;

/// A connection pool for one fetch.
pub(crate) struct Http {
    agent: Agent,
    deadline: Deadline,
    /// Whether the request under way has reached a peer: of two time-outs that end together ureq reports either.
    reached: Arc<AtomicBool>,
}

/// Whether an address may be connected to.
pub(crate) type AddressRule = fn(IpAddr) -> bool;

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

/// How long the stages of one request may take, within the fetch's deadline.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) read: Duration,
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
    /// TLS could not be agreed on, or the server's certificate is not trusted.
    NotTrusted,
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
            Self::NotTrusted => "TLS failed: the server's certificate is not trusted (AWS_CA_BUNDLE names the trust \
                                 store to use instead of the system's)"
                .into(),
            Self::BadRequest(why) => format!("the request cannot be sent: {why}"),
        }
    }
}

impl Http {
    /// Straight to the server, whatever proxies the environment names. Plain HTTP.
    pub(crate) fn without_proxy(deadline: Deadline) -> Self {
        Self::build(deadline, LiteralFirst::default(), None, None, BUFFER)
    }

    /// As [`Http::without_proxy`], for instance metadata.
    pub(crate) fn to_instance_metadata(deadline: Deadline) -> Self {
        Self::build(deadline, LiteralFirst::default(), None, None, SMALL_BUFFER)
    }

    /// Straight to the server, and to no address that `rule` forbids: every address that a name resolves to is judged,
    /// and only what was judged is connected to.
    pub(crate) fn to_addresses(deadline: Deadline, rule: AddressRule) -> Self {
        Self::build(deadline, LiteralFirst { rule: Some(rule), ..LiteralFirst::default() }, None, None, BUFFER)
    }

    /// Over TLS, through a proxy if one is given. `Err`: the proxy's address makes no sense.
    pub(crate) fn over_tls(deadline: Deadline, proxy: Option<&str>, roots: RootCerts) -> Result<Self, Failure> {
        let proxy = match proxy {
            None => None,
            // The address may hold a password and is not repeated.
            Some(address) => Some(
                Proxy::new(address)
                    .map_err(|_| Failure::BadRequest("the proxy's address is not like http://proxy:3128".into()))?,
            ),
        };
        let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(tls::provider()).build();
        Ok(Self::build(deadline, LiteralFirst::default(), proxy, Some(tls), BUFFER))
    }

    fn build(
        deadline: Deadline,
        resolver: LiteralFirst,
        proxy: Option<Proxy>,
        tls: Option<TlsConfig>,
        buffer: usize,
    ) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(proxy)
            .user_agent(concat!("pgiam/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            .input_buffer_size(buffer)
            .output_buffer_size(buffer);
        if let Some(tls) = tls {
            config = config.tls_config(tls);
        }
        let reached = Arc::new(AtomicBool::new(false));
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(SocketConnector { deadline, reached: Arc::clone(&reached) })
                .chain(RustlsConnector::default());
        Self { agent: Agent::with_parts(config.build(), connector, resolver), deadline, reached }
    }

    /// Sends one request and reads its whole answer.
    pub(crate) fn send(&self, request: &Request<'_>, limits: Limits) -> Result<Response, Failure> {
        let Some(remaining) = self.deadline.remaining() else {
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
        self.reached.store(false, Ordering::Relaxed);
        let response = self.agent.run(configured).map_err(|error| match error {
            ureq::Error::Timeout(_) if !self.reached.load(Ordering::Relaxed) => Failure::ConnectTimeout,
            error => failure(error),
        })?;
        let status = response.status().as_u16();
        let answer = response.into_body();
        // Room for all of it: growing would leave copies of secrets behind.
        let length = answer.content_length().unwrap_or(UNTOLD_BODY).min(MAX_BODY);
        let mut body = Zeroizing::new(Vec::with_capacity(usize::try_from(length + 1).unwrap_or(0)));
        let mut reader = answer.into_with_config().limit(MAX_BODY).reader();
        reader.read_to_end(&mut body).map_err(|error| failure(error.into()))?;
        Ok(Response { status, body })
    }
}

fn failure(error: ureq::Error) -> Failure {
    use std::io::ErrorKind as Io;
    match error {
        ureq::Error::Timeout(_) => Failure::AnswerTimeout,
        ureq::Error::HostNotFound => Failure::NotConnected("the name is not known".into()),
        ureq::Error::ConnectionFailed => Failure::NotConnected("connection failed".into()),
        ureq::Error::BodyExceedsLimit(_) | ureq::Error::LargeResponseHeader(..) => Failure::TooLarge,
        ureq::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(_)) => Failure::NotTrusted,
                _ => Failure::Broken("TLS could not be agreed on".into()),
            }
        }
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
        ureq::Error::BadUri(why) if why == FORBIDDEN_ADDRESS => Failure::BadRequest(why),
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => Failure::NotTrusted,
        ureq::Error::InvalidProxyUrl => Failure::BadRequest("the proxy's address is not a URL".into()),
        ureq::Error::BadUri(_) => Failure::BadRequest("the address is not a URL".into()),
        ureq::Error::Http(error) => Failure::BadRequest(error.to_string()),
        ureq::Error::Protocol(_) => Failure::Broken("the answer is not HTTP".into()),
        _ => Failure::Broken("the request failed".into()),
    }
}

/// Takes literal addresses as they are; looks other names up, on a thread, since the system's resolver knows no deadline.
#[derive(Debug, Default)]
struct LiteralFirst {
    names: DefaultResolver,
    rule: Option<AddressRule>,
}

impl Resolver for LiteralFirst {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().unwrap_or_default();
        let literal: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
        let addresses = match literal {
            Ok(address) => {
                let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
                let mut addresses = self.empty();
                addresses.push(SocketAddr::new(address, uri.port_u16().unwrap_or(default_port)));
                addresses
            }
            Err(_) => self.names.resolve(uri, config, timeout)?,
        };
        if let Some(rule) = self.rule
            && !addresses.iter().all(|address| rule(address.ip()))
        {
            return Err(ureq::Error::BadUri(FORBIDDEN_ADDRESS.into()));
        }
        Ok(addresses)
    }
}

const FORBIDDEN_ADDRESS: &str = "the name leads to an address that credentials are not asked from over plain http";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_judged_by_every_address_it_leads_to() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://localhost:{}/", listener.local_addr().unwrap().port());
        let second = Duration::from_secs(1);
        let limits = Limits { connect: second, read: second };
        let request = Request { method: "GET", url: &url, headers: &[], body: b"" };
        // As a name would be that leads elsewhere today: what the resolver says counts, at the time of the request.
        let outcome = Http::to_addresses(Deadline::after(second), |_| false).send(&request, limits);
        assert_eq!(outcome.err(), Some(Failure::BadRequest(FORBIDDEN_ADDRESS.into())));
        assert!(listener.accept().is_err(), "nothing was connected to");
    }
}
