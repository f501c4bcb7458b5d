//! The token itself: what `aws rds generate-db-auth-token` and `aws dsql generate-db-connect-auth-token` print for the
//! same second, byte for byte, given a lower-case host.
//!
//! A token is host, port and a presigned query, in botocore's order. It lives 900 seconds, the most RDS accepts, or as
//! long as the credentials that signed it, whichever ends first.

pub mod endpoint;
pub(crate) mod sigv4;
pub(crate) mod template;

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use zeroize::Zeroizing;

use crate::config::settings::Service;
use crate::error::{Error, invalid_argument};
use crate::region::RegionSource;
use crate::token::endpoint::{EndpointKind, quoted};

/// Seconds that a token is valid for.
pub const LIFETIME_SECONDS: i64 = 900;

/// A password for one endpoint, port, region and user, valid for at most 15 minutes. `Debug` does not show it, and its
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

    /// The region it was signed for.
    #[must_use]
    pub fn region(&self) -> &str {
        self.as_str().get(self.region.clone()).unwrap_or_default()
    }

    /// Where the region came from.
    #[must_use]
    pub fn region_source(&self) -> RegionSource {
        self.region_source
    }

    /// Whether the host is an endpoint name of RDS, Aurora or DSQL. No server of AWS accepts a token for another name, such
    /// as a CNAME or a load balancer.
    #[must_use]
    pub fn endpoint_recognized(&self) -> bool {
        self.endpoint_recognized
    }

    /// The token's bytes, ASCII, without a copy. The vector has room for exactly one more byte, the NUL of a C string.
    #[must_use]
    pub fn into_bytes(mut self) -> Zeroizing<Vec<u8>> {
        std::mem::take(&mut self.text)
    }

    /// The token as text, without a copy.
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
    /// The endpoint's name. Case and one trailing dot do not matter.
    pub host: &'a str,
    /// The port, 1 to 65535.
    pub port: i32,
    /// The region of the database; `None` or empty: from the endpoint's name, else from the configuration.
    pub region: Option<&'a str>,
    /// The database user, as in `CREATE USER`.
    pub user: &'a str,
}

impl TokenRequest<'_> {
    /// A hash that few other requests have.
    pub(crate) fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.host, self.user).hash(&mut hasher);
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
            return Err(invalid_argument(format!("user {} has the control character {control:?}", quoted(user))));
        }
        Ok(Self { request, host, port, is_dsql })
    }

    pub(crate) fn request(&self) -> &TokenRequest<'a> {
        &self.request
    }

    /// The host to sign for.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn is_dsql(&self) -> bool {
        self.is_dsql
    }

    pub(crate) fn kind(&self) -> EndpointKind<'_> {
        endpoint::classify(&self.host)
    }

    pub(crate) fn is_recognized(&self) -> bool {
        self.kind() != EndpointKind::Unknown
    }
}
