//! The token itself: what `aws rds generate-db-auth-token` and `aws dsql generate-db-connect-auth-token` print for the
//! same second, byte for byte, given a lower-case host.
//!
//! A token is host, port and a presigned query, in botocore's order. It lives 900 seconds, the most RDS accepts, or as
//! long as the credentials that signed it, whichever ends first.

pub mod endpoint;
pub(crate) mod sigv4;

use std::borrow::Cow;
use std::fmt;
use std::hash::Hasher;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHasher;
use zeroize::Zeroizing;

use crate::config::Config;
use crate::config::settings::Service;
use crate::credentials::{SigningCredentials, Template};
use crate::error::{Error, invalid_argument};
use crate::percent_encoding::percent_encode;
use crate::region::{self, Located, RegionSource};
use crate::time::{Day, TimeOfDay};
use crate::token::endpoint::EndpointKind;
use crate::token::sigv4::{ALGORITHM, DayRequest, DaySigner, EMPTY_BODY};

/// Seconds that a token is valid for.
pub const LIFETIME_SECONDS: i64 = 900;

/// A password for one endpoint, port, region and user, good for at most 15 minutes. `Debug` does not show it, and its
/// memory is wiped when it is dropped.
pub struct Token {
    /// ASCII.
    text: Zeroizing<Vec<u8>>,
    expires_at: i64,
    host: Range<usize>,
    port: u16,
    region: Range<usize>,
    region_source: RegionSource,
    endpoint_recognized: bool,
}

impl Token {
    /// The token: the password to give to libpq.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// When the server stops accepting it for new logins, in Unix seconds: 15 minutes after signing, or the end of the
    /// credentials, whichever comes first.
    #[must_use]
    pub fn expires_at(&self) -> i64 {
        self.expires_at
    }

    /// The host as signed: lower-case, without a trailing dot.
    #[must_use]
    pub fn host(&self) -> &str {
        self.as_str().get(self.host.clone()).unwrap_or_default()
    }

    /// The port as signed.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The region signed for.
    #[must_use]
    pub fn region(&self) -> &str {
        self.as_str().get(self.region.clone()).unwrap_or_default()
    }

    /// Where the region came from.
    #[must_use]
    pub fn region_source(&self) -> RegionSource {
        self.region_source
    }

    /// Whether the host is an endpoint name of RDS, Aurora or DSQL. A token for another name (a CNAME, a load balancer)
    /// is accepted only by a server that knows itself by it.
    #[must_use]
    pub fn endpoint_recognized(&self) -> bool {
        self.endpoint_recognized
    }
}

impl Token {
    /// The token itself, ASCII, for an owner who wipes it. It has room for one more byte, and no more.
    #[must_use]
    #[inline]
    pub fn into_bytes(mut self) -> Zeroizing<Vec<u8>> {
        std::mem::take(&mut self.text)
    }

    /// As [`Token::into_bytes`], as text.
    #[must_use]
    pub fn into_text(self) -> Zeroizing<String> {
        let bytes = std::mem::take(&mut *self.into_bytes());
        Zeroizing::new(String::from_utf8(bytes).unwrap_or_default())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("text", &"** redacted **")
            .field("expires_at", &self.expires_at)
            .field("host", &self.host())
            .field("port", &self.port)
            .field("region", &self.region())
            .finish_non_exhaustive()
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest<'a> {
    /// The endpoint's name, as the server knows itself. Lower-cased; one trailing dot is dropped.
    pub host: &'a str,
    /// The port, 1 to 65535.
    pub port: i32,
    /// The region; `None` or empty: found (see [`crate::region`]).
    pub region: Option<&'a str>,
    /// The database user, as in `CREATE USER`.
    pub user: &'a str,
}

impl TokenRequest<'_> {
    /// Tells requests apart, most of the time.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        let mut hasher = FxHasher::default();
        hasher.write(self.host.as_bytes());
        hasher.write(self.user.as_bytes());
        hasher.finish()
    }
}

/// A request that was checked. The region is not known yet.
pub(crate) struct CheckedRequest<'a> {
    request: TokenRequest<'a>,
    host: Cow<'a, str>,
    port: u16,
    is_dsql: bool,
}

impl<'a> CheckedRequest<'a> {
    pub(crate) fn check(request: TokenRequest<'a>, service: Service) -> Result<Self, Error> {
        let TokenRequest { port, user, .. } = request;
        let host = endpoint::normalize(request.host)?;
        let is_dsql = match service {
            Service::Rds => false,
            Service::Dsql => true,
            Service::Auto => {
                endpoint::refuse_addresses(&host)?;
                matches!(endpoint::classify(&host), EndpointKind::Dsql { .. })
            }
        };
        let port = u16::try_from(port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| invalid_argument(format!("port {port} is outside 1 to 65535")))?;
        if user.is_empty() {
            return Err(invalid_argument("user is empty; pass the database user that was granted rds_iam"));
        }
        if let Some(control) = user.chars().find(|character| character.is_control()) {
            return Err(invalid_argument(format!("user {user:?} has the control character {control:?}")));
        }
        Ok(Self { request, host, port, is_dsql })
    }

    pub(crate) fn request(&self) -> &TokenRequest<'a> {
        &self.request
    }

    fn kind(&self) -> EndpointKind<'_> {
        endpoint::classify(&self.host)
    }

    /// Finds the region, as far as that needs no network.
    pub(crate) fn locate<'b>(&'b self, config: &'b Config) -> Result<Located<'b>, Error> {
        region::locate(&self.host, self.kind(), self.request.region, config)
    }
}

/// What to sign for, and for which request: one that comes again need not be checked again.
pub(crate) struct Target {
    /// No other target of this process has it.
    number: u64,
    asked_host: String,
    asked_port: i32,
    asked_region: Option<String>,
    host: String,
    port: u16,
    user: String,
    region: String,
    region_source: RegionSource,
    is_dsql: bool,
    endpoint_recognized: bool,
}

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

impl Target {
    pub(crate) fn new(checked: &CheckedRequest<'_>, region: &str, region_source: RegionSource) -> Self {
        let TokenRequest { host, port, region: asked_region, user } = checked.request;
        Self {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            asked_host: host.to_owned(),
            asked_port: port,
            asked_region: asked_region.map(str::to_owned),
            host: checked.host.to_string(),
            port: checked.port,
            user: user.to_owned(),
            region: region.to_owned(),
            region_source,
            is_dsql: checked.is_dsql,
            endpoint_recognized: checked.kind() != EndpointKind::Unknown,
        }
    }

    /// Whether this is what the request asks for.
    #[inline]
    pub(crate) fn is_for(&self, request: &TokenRequest<'_>) -> bool {
        self.asked_port == request.port
            && self.asked_host == request.host
            && self.user == request.user
            && self.asked_region.as_deref() == request.region
    }

    /// A token by what these credentials have ready for this target; `None`: nothing. `ends`: when the credentials do, in
    /// Unix seconds.
    #[inline]
    pub(crate) fn sign_prepared(&self, credentials: &SigningCredentials, ends: i64, now: i64) -> Option<Token> {
        credentials.with_template(self.number, now, |template, time| self.token(template, time, ends, now))
    }

    /// A token by these credentials, which have it ready from then on.
    pub(crate) fn sign(&self, credentials: &SigningCredentials, ends: i64, now: i64) -> Token {
        self.sign_prepared(credentials, ends, now).unwrap_or_else(|| {
            let (day, time) = Day::at(now);
            let template = Arc::new(self.template(credentials, day));
            credentials.keep(&template);
            self.token(&template, time, ends, now)
        })
    }

    #[inline]
    fn token(&self, template: &Template, time: TimeOfDay, ends: i64, now: i64) -> Token {
        Token {
            text: template.sign(time),
            expires_at: now.saturating_add(LIFETIME_SECONDS).min(ends),
            host: 0..self.host.len(),
            port: self.port,
            region: template.region_at..template.region_at + self.region.len(),
            region_source: self.region_source,
            endpoint_recognized: self.endpoint_recognized,
        }
    }

    /// The text of the day's tokens, and what signs them.
    fn template(&self, credentials: &SigningCredentials, day: Day) -> Template {
        let (host, region) = (self.host.as_str(), self.region.as_str());
        let service = if self.is_dsql { "dsql" } else { "rds-db" };
        let action = match (self.is_dsql, self.user.as_str()) {
            (false, _) => "connect",
            (true, "admin") => "DbConnectAdmin",
            (true, _) => "DbConnect",
        };
        let (mut address, mut user) = (host.to_owned(), String::new());
        if !self.is_dsql {
            address.push_str(&format!(":{}", self.port));
            user.push_str("&DBUser=");
            user.push_str(&percent_encode(&self.user));
        }
        // Port 443 is the default of https and stays out of the signed header, as in the AWS CLI.
        let signed_host = if self.port == 443 { host } else { &address };
        let key_id = credentials.encoded_access_key_id();
        let (token_parameter, session_token) = match credentials.encoded_session_token() {
            Some(token) => ("&X-Amz-Security-Token=", token),
            None => ("", ""),
        };
        let date = day.as_str();

        let before_region = [
            "Action=",
            action,
            &user,
            "&X-Amz-Algorithm=",
            ALGORITHM,
            "&X-Amz-Credential=",
            key_id,
            "%2F",
            date,
            "%2F",
        ]
        .concat();
        let after_region = [region, "%2F", service, "%2Faws4_request&X-Amz-Date=", date, "T"].concat();
        let expires = "Z&X-Amz-Expires=900";
        // The text has botocore's order; what is signed has the parameters sorted.
        let signed_headers = "&X-Amz-SignedHeaders=host";
        let request = DayRequest {
            before_time: &["GET\n/\n", &before_region, &after_region],
            after_time: &[
                expires,
                token_parameter,
                session_token,
                signed_headers,
                "\nhost:",
                signed_host,
                "\n\nhost\n",
                EMPTY_BODY,
            ],
            day: &day,
            region,
            service,
        };
        Template {
            target: self.number,
            region: self.region.clone(),
            service,
            region_at: address.len() + "/?".len() + before_region.len(),
            before_time: [&address, "/?", &before_region, &after_region].concat(),
            after_time: Zeroizing::new(
                [expires, signed_headers, token_parameter, session_token, "&X-Amz-Signature="].concat(),
            ),
            signer: DaySigner::new(credentials.signing_key(&day, region, service), &request),
            day,
        }
    }
}
