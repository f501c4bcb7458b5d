//! HTTP for the credential sources: blocking, small responses, one deadline, no redirects, no proxy unless given.
//!
//! An [`Http`] belongs to one fetch and is dropped with it: within the fetch a connection is used again if the server
//! allows, and none remains open for a forked child to inherit. TLS is set up only for an https address.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use once_cell::race::OnceBox;
use serde_json::Value;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::http::header::HeaderValue;
use ureq::http::uri::Authority;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, RustlsConnector, TcpConnector};
use ureq::{Agent, Proxy, ProxyProtocol};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, reason, service_words};
use crate::net::bounded::{BoundedConnector, Note, Progress, Stage};
pub(crate) use crate::net::resolve::AddressRule;
use crate::net::resolve::{BoundedResolver, ResolveError};
use crate::net::{tls, xml};
use crate::secret::Secret;
use crate::time::{Clock, Deadline, parse_http_date};

/// The largest body that is read. The largest real one, of STS, has a few KiB.
const MAX_BODY: u64 = 256 * 1024;

/// The room for a body that does not state its length: such come in chunks, from services behind a proxy.
const UNSTATED_BODY: u64 = 16 * 1024;

/// Bytes that are read or written at a time. The head of a response must fit in, and each header of a request.
const BUFFER: usize = 16 * 1024;

/// A connection pool for one fetch.
pub(crate) struct Http {
    agent: Agent,
    deadline: Deadline,
    progress: Progress,
    proxy: Option<Proxy>,
    tls: Option<TlsConfig>,
}

/// One request. Header values must not contain control characters.
pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) url: &'a str,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
}

/// A response of any status. The body may contain secrets and is wiped.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// The service's clock, in Unix seconds: its `Date` header.
    pub(crate) date: Option<i64>,
    /// The secrets of the request, which no message repeats.
    sent: Vec<Secret>,
}

/// How long the stages of one request may take, within the fetch's deadline.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) read: Duration,
}

/// Why there is no response to work with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) class: FailureClass,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FailureClass {
    /// No connection: refused, unreachable, name not found.
    NotConnected,
    /// No connection within the time limit.
    ConnectTimeout,
    /// Connected, but no complete response within the time limit.
    AnswerTimeout,
    /// The connection broke, or the response is not HTTP.
    Broken,
    /// The service or the proxy is throttling or failing.
    Outage,
    /// This process or machine has no file descriptor or memory left for a connection.
    NoResources,
    /// The response is larger than any real one.
    TooLarge,
    /// A redirect, which is never followed.
    Redirected,
    /// TLS failed, or the server's certificate is not trusted.
    NotTrusted,
    /// The proxy refuses the connection.
    ProxyRefused,
    /// The address or a header cannot be sent.
    BadRequest,
}

impl Failure {
    fn new(class: FailureClass, message: impl Into<String>) -> Self {
        Self { class, message: message.into() }
    }

    /// The service's own word for throttling or an outage.
    pub(crate) fn outage(response: &Response) -> Self {
        let message = format!("the service is throttling or failing: {}", response.describe());
        Self::new(FailureClass::Outage, message)
    }

    /// Whether the same request may succeed a moment later.
    pub(crate) fn is_outage(&self) -> bool {
        use FailureClass::{BadRequest, NotTrusted, ProxyRefused, Redirected, TooLarge};
        !matches!(self.class, TooLarge | Redirected | NotTrusted | ProxyRefused | BadRequest)
    }

    /// What failed, for a message.
    pub(crate) fn describe(&self) -> &str {
        &self.message
    }

    /// The error of a source of credentials, which `source` names.
    pub(crate) fn into_error(self, source: &str) -> Error {
        let kind = match self.class {
            FailureClass::ConnectTimeout | FailureClass::AnswerTimeout => ErrorKind::Timeout,
            FailureClass::BadRequest => ErrorKind::InvalidConfiguration,
            FailureClass::NoResources => ErrorKind::Internal,
            _ => ErrorKind::Provider,
        };
        let error = Error::new(kind, format!("{source}: {}", self.message));
        if self.is_outage() { error.source_unavailable() } else { error }
    }
}

impl Response {
    /// The service's time in Unix seconds; this machine's, if the service did not say it.
    pub(crate) fn time(&self, clock: &Clock) -> i64 {
        self.date.unwrap_or_else(|| clock.now())
    }

    /// Whether the service is throttling or failing, so that the same request may succeed a moment later.
    pub(crate) fn is_outage(&self) -> bool {
        self.status == 429 || self.status >= 500
    }

    /// The status and the service's own words, as in `HTTP 403: AccessDenied: …`.
    pub(crate) fn describe(&self) -> String {
        match (self.status, self.words()) {
            (status, words) if words.is_empty() => format!("HTTP {status}"),
            (status, words) => format!("HTTP {status}: {words}"),
        }
    }

    /// The code and message in the body, fit for a message and without anything secret that was sent; empty if there
    /// are none.
    pub(crate) fn words(&self) -> String {
        let sent: Vec<&str> = self.sent.iter().map(Secret::expose).collect();
        service_words(&said(&self.body), &sent)
    }

    /// The error code in the body of a response that is an error.
    pub(crate) fn error_code(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.body);
        let [code, _] = code_and_message(text.trim_start())?;
        code.filter(|_| self.status >= 400)
    }
}

/// A URL for messages: without a user name, a password, and the query, each of which may be secret.
pub(crate) fn shown(url: &str) -> &str {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    url.rsplit_once('@').map_or(url, |(_, host)| host)
}

/// Why a configured URL with this authority is refused. A password with a slash in it ends the authority: what is left
/// looks like a port.
pub(crate) fn authority_fault(authority: &Authority) -> Option<&'static str> {
    if authority.as_str().contains('@') {
        Some("has a user name or password")
    } else if authority.host().is_empty() {
        Some("has no host")
    } else if authority.as_str().len() > authority.host().len() && authority.port_u16().is_none() {
        Some("has a port that is not a number")
    } else {
        None
    }
}

/// Why a configured endpoint is not a URL that paths can be added to.
pub(crate) fn endpoint_fault(url: &str) -> Option<&'static str> {
    let Ok(uri) = url.parse::<Uri>() else { return Some("is not a URL") };
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), Some(authority)) => {
            authority_fault(authority).or_else(|| uri.query().map(|_| "has a query"))
        }
        _ => Some("is not a URL that begins with http:// or https://"),
    }
}

/// The error text in a body: code and message of XML or JSON, the title of a page, or plain text.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start();
    let Some(parts) = code_and_message(text) else { return text.to_owned() };
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() && text.starts_with('<') { title(text).to_owned() } else { parts.join(": ") }
}

/// The code and the message of an error in XML or JSON; `None`: it is neither.
fn code_and_message(text: &str) -> Option<[Option<String>; 2]> {
    if text.starts_with('<') {
        let texts = xml::texts(text, ["Code", "Message"]).unwrap_or_default();
        return Some(texts.map(|text| text.map(|text| text.to_string())));
    }
    if text.starts_with(['{', '[']) {
        // Only these members: others may be secrets.
        // From bytes, as everywhere: a parser of texts would be a second one in the library.
        let document: Value = serde_json::from_slice(text.as_bytes()).unwrap_or_default();
        let first = |names: [&str; 4]| names.into_iter().find_map(|name| document[name].as_str());
        let code = first(["Code", "code", "__type", "error"]).map(|code| code.rsplit('#').next().unwrap_or(code));
        let message = first(["Message", "message", "error_description", "errorMessage"]);
        return Some([code, message].map(|text| text.map(str::to_owned)));
    }
    None
}

/// The title of an HTML page.
fn title(page: &str) -> &str {
    let from = |text: &str| text.to_ascii_lowercase().find("<title>").map(|at| at + "<title>".len());
    let Some(start) = from(page) else { return "" };
    page[start..].split('<').next().unwrap_or_default()
}

/// The secrets in a request: headers and members of the body that are named as one.
fn secrets_of(request: &Request<'_>) -> Vec<Secret> {
    let is_secret = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["token", "secret", "code", "authorization", "dpop"].iter().any(|word| name.contains(word))
            && name != "x-aws-ec2-metadata-token-ttl-seconds"
    };
    // A signature is of no use to who reads it, and the words in it are what a service complains of.
    let of_headers = request
        .headers
        .iter()
        .filter(|(name, value)| is_secret(name) && !value.starts_with("AWS4-"))
        .flat_map(|(_, value)| value.split_ascii_whitespace())
        .filter(|word| !["Bearer", "Basic"].contains(word));
    let body = std::str::from_utf8(request.body).unwrap_or_default();
    let of_form = body.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| is_secret(name));
    let mut secrets: Vec<Secret> =
        of_headers.chain(of_form.map(|(_, value)| value)).map(|value| Secret::new(value.to_owned())).collect();
    if let Ok(Value::Object(members)) = serde_json::from_slice(body.as_bytes()) {
        secrets.extend(members.into_iter().filter(|(name, _)| is_secret(name)).filter_map(|(_, value)| match value {
            Value::String(text) => Some(Secret::new(text)),
            _ => None,
        }));
    }
    secrets
}

/// A header's value that is wiped when the request and all that has a copy of it is dropped.
fn header_value(text: &str) -> Result<HeaderValue, ureq::http::Error> {
    let bytes = Bytes::from_owner(Zeroizing::new(text.as_bytes().to_vec()));
    Ok(HeaderValue::from_maybe_shared(bytes)?)
}

/// Makes ureq's configuration, once for the process.
///
/// Whoever makes a client calls this: ureq reads the proxy variables of the live environment when it makes a
/// configuration, though they are replaced here, and later another thread may be changing them.
pub(crate) fn prepare() {
    base_config();
}

fn base_config() -> &'static Config {
    static BASE: OnceBox<Config> = OnceBox::new();
    BASE.get_or_init(|| {
        let config = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("pgiam/", env!("CARGO_PKG_VERSION")))
            .accept("*/*")
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            // Less than the buffer: a full one would read as the end of the connection.
            .max_response_header_size(BUFFER - 1)
            .build();
        Box::new(config)
    })
}

impl Http {
    /// Directly to the server, whatever proxies the environment names. Plain HTTP.
    pub(crate) fn without_proxy(deadline: Deadline) -> Self {
        Self::build(deadline, None)
    }

    /// Through a proxy if one is given. Plain HTTP.
    pub(crate) fn through_proxy(deadline: Deadline, proxy: Option<Proxy>) -> Self {
        Self { proxy, ..Self::build(deadline, None) }
    }

    /// Directly to the server, and to no address that `rule` forbids: every address that a name resolves to is judged,
    /// and only what was judged is connected to.
    pub(crate) fn to_addresses(deadline: Deadline, rule: AddressRule) -> Self {
        Self::build(deadline, Some(rule))
    }

    /// Over TLS, through a proxy if one is given.
    pub(crate) fn over_tls(deadline: Deadline, proxy: Option<Proxy>, roots: RootCerts) -> Self {
        let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(tls::provider()).build();
        Self { proxy, tls: Some(tls), ..Self::build(deadline, None) }
    }

    fn build(deadline: Deadline, rule: Option<AddressRule>) -> Self {
        let progress = Progress::default();
        let note = |stage| Note { stage, progress: progress.clone() };
        let connector =
            ().chain(ConnectProxyConnector::default())
                .chain(note(Stage::Tunnelled))
                .chain(TcpConnector::default())
                .chain(note(Stage::Connected))
                .chain(RustlsConnector::default())
                .chain(BoundedConnector { deadline, progress: progress.clone() });
        let agent = Agent::with_parts(base_config().clone(), connector, BoundedResolver { rule });
        Self { agent, deadline, progress, proxy: None, tls: None }
    }

    /// Over connections that `connector` makes, which need no network.
    #[cfg(feature = "fuzz-hooks")]
    pub(crate) fn over<Out: ureq::unversioned::transport::Transport>(
        deadline: Deadline,
        connector: impl Connector<Out = Out>,
    ) -> Self {
        let progress = Progress::default();
        let connector = connector
            .chain(Note { stage: Stage::Connected, progress: progress.clone() })
            .chain(BoundedConnector { deadline, progress: progress.clone() });
        let agent = Agent::with_parts(base_config().clone(), connector, BoundedResolver { rule: None });
        Self { agent, deadline, progress, proxy: None, tls: None }
    }

    /// Sends one request and reads its whole response.
    pub(crate) fn send(&self, request: &Request<'_>, limits: Limits) -> Result<Response, Failure> {
        self.progress.reset();
        let Some(remaining) = self.deadline.remaining() else {
            return Err(self.failure(ureq::Error::Timeout(ureq::Timeout::Global)));
        };
        let mut builder = ureq::http::Request::builder().method(request.method).uri(request.url);
        for (name, value) in request.headers {
            builder = builder.header(*name, header_value(value).map_err(|error| self.failure(error.into()))?);
        }
        let built = builder.body(request.body).map_err(|error| self.failure(error.into()))?;
        if self.tls.is_none() && is_https(request.url) {
            return Err(Failure::new(
                FailureClass::BadRequest,
                "the address is https, and only plain http is used here",
            ));
        }
        let mut configured = self
            .agent
            .configure_request(built)
            .proxy(self.proxy.clone())
            .timeout_global(Some(remaining))
            .timeout_connect(Some(limits.connect.min(remaining)))
            .timeout_recv_response(Some(limits.read.min(remaining)))
            .timeout_recv_body(Some(limits.read.min(remaining)));
        if let Some(tls) = &self.tls {
            configured = configured.tls_config(tls.clone());
        }
        let response = self.agent.run(configured.build()).map_err(|error| self.failure(error))?;
        let status = response.status().as_u16();
        if (300..400).contains(&status) {
            let message = format!("HTTP {status}: redirects are not followed; check the endpoint and the proxy");
            return Err(Failure::new(FailureClass::Redirected, message));
        }
        let date = response.headers().get("date").and_then(|date| parse_http_date(date.to_str().ok()?));
        let answer = response.into_body();
        // Room for all of it: growing would leave copies of secrets behind.
        let length = answer.content_length().unwrap_or(UNSTATED_BODY).min(MAX_BODY);
        let mut body = Zeroizing::new(Vec::with_capacity(usize::try_from(length + 1).unwrap_or(0)));
        let mut reader = answer.into_with_config().limit(MAX_BODY).reader();
        reader.read_to_end(&mut body).map_err(|error| self.failure(error.into()))?;
        Ok(Response { status, body, date, sent: secrets_of(request) })
    }

    fn failure(&self, error: ureq::Error) -> Failure {
        use ureq::Error as E;
        let proxy = self.proxy.as_ref().map(label);
        match (error, self.progress.stage(), proxy) {
            (E::ConnectProxyFailed(text), _, Some(proxy)) => proxy_failure(&proxy, &text),
            (E::Timeout(_), Stage::Connecting, proxy) => {
                let to = proxy.map(|proxy| format!(" to the proxy {proxy}")).unwrap_or_default();
                Failure::new(FailureClass::ConnectTimeout, format!("no connection{to} within the time limit"))
            }
            (E::Timeout(_), Stage::Connected, Some(proxy)) => {
                let message = format!("the proxy {proxy} did not answer within the time limit");
                Failure::new(FailureClass::AnswerTimeout, message)
            }
            (E::Timeout(_), ..) => {
                Failure::new(FailureClass::AnswerTimeout, "no complete response within the time limit")
            }
            (E::Io(error), Stage::Connecting, proxy) => {
                let class =
                    if lacks_resources(&error) { FailureClass::NoResources } else { FailureClass::NotConnected };
                let to = proxy.map(|proxy| format!(" to the proxy {proxy}")).unwrap_or_default();
                Failure::new(class, format!("cannot connect{to}: {}", reason(&error)))
            }
            (E::Io(error), Stage::Connected, Some(proxy)) if rustls_error(&error).is_none() => {
                let message = format!("the connection to the proxy {proxy} broke: {}", reason(&error));
                Failure::new(FailureClass::Broken, message)
            }
            (E::Io(error), ..) => match rustls_error(&error) {
                Some(error) => tls_failure(error),
                None if lacks_resources(&error) => Failure::new(FailureClass::NoResources, reason(&error)),
                None => Failure::new(FailureClass::Broken, format!("the connection broke: {}", reason(&error))),
            },
            (E::Rustls(error), ..) => tls_failure(&error),
            (E::Tls(why), ..) => Failure::new(FailureClass::NotTrusted, format!("TLS failed: {why}")),
            (E::Other(error), _, proxy) => match (error.downcast_ref(), proxy) {
                (Some(error @ ResolveError::Forbidden), _) => Failure::new(FailureClass::BadRequest, error.to_string()),
                (Some(error), Some(proxy)) => {
                    Failure::new(FailureClass::NotConnected, format!("the proxy {proxy}: {error}"))
                }
                (Some(error), None) => Failure::new(FailureClass::NotConnected, error.to_string()),
                (None, _) => Failure::new(FailureClass::Broken, "the request failed"),
            },
            (E::BodyExceedsLimit(_), ..) => too_large("the response", MAX_BODY),
            // No line of it fits into the buffer.
            (E::BodyStalled, ..) => too_large("a chunk's header in the response", BUFFER as u64),
            (E::LargeResponseHeader(..), ..) => too_large("the head of the response", BUFFER as u64),
            (E::BadUri(_), ..) => Failure::new(FailureClass::BadRequest, "the address is not a URL"),
            (E::Http(error), ..) => {
                Failure::new(FailureClass::BadRequest, format!("the request cannot be sent: {error}"))
            }
            (E::Protocol(error), ..) => match error.to_string() {
                error if error.contains("too many headers") => {
                    Failure::new(FailureClass::TooLarge, "the response has more than 128 headers")
                }
                error => Failure::new(FailureClass::Broken, format!("the response is not HTTP: {error}")),
            },
            _ => Failure::new(FailureClass::Broken, "the request failed"),
        }
    }
}

/// Whether a URL is https, in any case of the letters.
pub(crate) fn is_https(url: &str) -> bool {
    url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"))
}

/// A proxy from a URL such as `http://proxy.example.com:3128`; `None` for anything else, and for SOCKS.
pub(crate) fn proxy(url: &str) -> Option<Proxy> {
    Proxy::new(url).ok().filter(|proxy| {
        matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https) && !proxy.host().is_empty()
    })
}

/// The proxy for a message, without its user name and password.
fn label(proxy: &Proxy) -> String {
    format!("{}:{}", proxy.host(), proxy.port())
}

fn too_large(what: &str, most: u64) -> Failure {
    Failure::new(FailureClass::TooLarge, format!("{what} is larger than {} KiB", most / 1024))
}

/// The proxy's response to CONNECT is not 200; ureq's text has the status.
fn proxy_failure(proxy: &str, text: &str) -> Failure {
    let status = text.split(|c: char| !c.is_ascii_digit()).find_map(|digits| digits.parse().ok());
    let (class, advice) = match status {
        None => (FailureClass::Broken, ""),
        Some(407) => {
            (FailureClass::ProxyRefused, ": it needs a user name and password, as in http://USER:PASSWORD@HOST:PORT")
        }
        Some(429 | 500..) => (FailureClass::Outage, ": it cannot reach the service"),
        Some(_) => (FailureClass::ProxyRefused, ": its rules do not allow this host"),
    };
    let answer = status.map_or_else(|| "no HTTP status".to_owned(), |status: u16| format!("HTTP {status}"));
    Failure::new(class, format!("the proxy {proxy} answered CONNECT with {answer}{advice}"))
}

fn lacks_resources(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS))
}

fn rustls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn tls_failure(error: &rustls::Error) -> Failure {
    match error {
        rustls::Error::InvalidCertificate(why) => Failure::new(
            FailureClass::NotTrusted,
            format!(
                "TLS failed: the server's certificate is not trusted: {why} (AWS_CA_BUNDLE names the trust store to use \
                 instead of the system's)"
            ),
        ),
        other => Failure::new(FailureClass::Broken, format!("TLS failed: {other}")),
    }
}

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
        let failure = Http::to_addresses(Deadline::after(second), |_| false).send(&request, limits).err().unwrap();
        assert_eq!(failure.class, FailureClass::BadRequest);
        assert!(failure.describe().contains("credentials are not requested"), "{}", failure.describe());
        assert!(listener.accept().is_err(), "nothing was connected to");
    }

    fn words(body: &str, headers: &[(&str, &str)], sent: &str) -> String {
        let request = Request { method: "POST", url: "", headers, body: sent.as_bytes() };
        Response { status: 400, body: Zeroizing::new(body.into()), date: None, sent: secrets_of(&request) }.words()
    }

    #[test]
    fn the_services_own_words_are_found_in_every_form_they_come_in() {
        for (body, expected) in [
            (
                "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                 <Code>AccessDenied</Code><Message>Not &quot;allowed&quot;\n here</Message></Error></ErrorResponse>",
                "AccessDenied: Not \"allowed\" here",
            ),
            (
                r#"{"__type":"com.amazonaws.sso#UnauthorizedException","message":"Session token not found"}"#,
                "UnauthorizedException: Session token not found",
            ),
            (
                r#"{"error":"invalid_grant","error_description":"Invalid grant provided"}"#,
                "invalid_grant: Invalid grant provided",
            ),
            (r#"{"code":"AuthorizationError","message":"no association"}"#, "AuthorizationError: no association"),
            (r#"{"accessToken":"planted"}"#, ""),
            ("<!DOCTYPE html><html><HEAD><Title>403 - Forbidden</Title><style>a{}</style></html>", "403 - Forbidden"),
            ("<html><body>no title", ""),
            ("upstream connect error", "upstream connect error"),
            ("\u{1b}[2J", "[2J"),
        ] {
            assert_eq!(words(body, &[], ""), expected);
        }
    }

    #[test]
    fn a_service_that_echoes_what_was_sent_leaks_nothing() {
        let headers = [
            ("authorization", "Bearer planted-pod-token"),
            ("x-amz-security-token", "planted-session-token"),
            ("x-amz-sso_bearer_token", "planted-sso-token"),
            ("x-aws-ec2-metadata-token", "planted-imds-token"),
            ("x-aws-ec2-metadata-token-ttl-seconds", "21600"),
        ];
        for sent in [
            "Action=AssumeRoleWithWebIdentity&WebIdentityToken=planted-web-token&RoleArn=arn",
            r#"{"clientSecret":"planted-client-secret","refreshToken":"planted-refresh-token","grantType":"refresh_token"}"#,
        ] {
            let heard: Vec<&str> = headers.iter().map(|(_, value)| *value).chain([sent]).collect();
            let words = words(&format!("you sent {}", heard.join(" ")), &headers, sent);
            assert!(!words.contains("planted"), "{words}");
            assert!(words.contains("21600") && words.contains("you sent Bearer ["), "{words}");
        }
    }
}
