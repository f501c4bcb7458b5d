//! The token itself: what `aws rds generate-db-auth-token` and `aws dsql generate-db-connect-auth-token` print for the
//! same second, byte for byte, given a lower-case host.
//!
//! A token is host, port and a presigned query, in botocore's order. It lives 900 seconds, the most RDS accepts, or as
//! long as the credentials that signed it, whichever ends first.

use std::fmt;

use zeroize::Zeroizing;

use crate::config::settings::Service;
use crate::credentials::SigningCredentials;
use crate::database_endpoint::{self, EndpointKind};
use crate::error::{Error, invalid_argument};
use crate::region::RegionSource;
use crate::sigv4::{self, PresignedRequest, SigningKey};
use crate::time::SigningTime;

/// Seconds that a token is valid for.
pub const LIFETIME_SECONDS: i64 = 900;

/// A password for one endpoint, port, region and user, good for at most 15 minutes. `Debug` does not show it, and its
/// memory is wiped when it is dropped.
pub struct Token {
    pub(crate) text: Zeroizing<String>,
    pub(crate) expires_at: i64,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) region: String,
    pub(crate) region_source: RegionSource,
    pub(crate) endpoint_recognized: bool,
}

impl Token {
    /// The token: the password to give to libpq.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
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
        &self.host
    }

    /// The port as signed.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The region signed for.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
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
    /// The token itself, for an owner who wipes it. It has room for one more byte.
    #[must_use]
    pub fn into_text(mut self) -> Zeroizing<String> {
        std::mem::take(&mut self.text)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("text", &"** redacted **")
            .field("expires_at", &self.expires_at)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

/// What to sign, checked.
pub(crate) struct Target<'a> {
    pub(crate) host: std::borrow::Cow<'a, str>,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    pub(crate) is_dsql: bool,
}

impl<'a> Target<'a> {
    pub(crate) fn check(host: &'a str, port: i32, user: &'a str, service: Service) -> Result<Self, Error> {
        let host = database_endpoint::normalize(host)?;
        let is_dsql = match service {
            Service::Rds => false,
            Service::Dsql => true,
            Service::Auto => {
                database_endpoint::refuse_addresses(&host)?;
                matches!(database_endpoint::classify(&host), EndpointKind::Dsql { .. })
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
        Ok(Self { host, port, user, is_dsql })
    }

    pub(crate) fn service(&self) -> &'static str {
        if self.is_dsql { "dsql" } else { "rds-db" }
    }

    /// Signs. `key` must be of the same day, region and service.
    pub(crate) fn presign(
        &self,
        region: &str,
        credentials: &SigningCredentials,
        key: &SigningKey,
        time: SigningTime,
    ) -> Zeroizing<String> {
        let mut port_digits = [0; 5];
        let port = decimal(self.port, &mut port_digits);
        let action = match (self.is_dsql, self.user) {
            (false, _) => "connect",
            (true, "admin") => "DbConnectAdmin",
            (true, _) => "DbConnect",
        };
        let service = self.service();
        let access_key_id = credentials.encoded_access_key_id();
        let session_token = credentials.encoded_session_token();

        // Room for everything and for the NUL that the C ABI adds, so that the text is written in one allocation.
        let mut text = Zeroizing::new(String::with_capacity(
            512 + self.host.len()
                + 3 * self.user.len()
                + access_key_id.len()
                + region.len()
                + session_token.map_or(0, str::len),
        ));
        text.push_str(&self.host);
        if !self.is_dsql {
            text.push(':');
            text.push_str(port);
        }
        let host_end = text.len();
        text.push_str("/?");
        let query_start = text.len();
        text.push_str("Action=");
        text.push_str(action);
        if !self.is_dsql {
            text.push_str("&DBUser=");
            sigv4::percent_encode_into(&mut text, self.user);
        }
        text.push_str("&X-Amz-Algorithm=");
        text.push_str(sigv4::ALGORITHM);
        text.push_str("&X-Amz-Credential=");
        text.push_str(access_key_id);
        text.push_str("%2F");
        text.push_str(time.date());
        text.push_str("%2F");
        text.push_str(region);
        text.push_str("%2F");
        text.push_str(service);
        text.push_str("%2Faws4_request&X-Amz-Date=");
        text.push_str(time.as_str());
        text.push_str("&X-Amz-Expires=900");

        let signature = PresignedRequest {
            // Port 443 is the default of https and stays out of the signed header, as in the AWS CLI.
            host: if self.port == 443 { &self.host } else { &text[..host_end] },
            query: &text[query_start..],
            encoded_session_token: session_token,
            time,
            region,
            service,
        }
        .sign(key);

        text.push_str("&X-Amz-SignedHeaders=host");
        if let Some(token) = session_token {
            text.push_str("&X-Amz-Security-Token=");
            text.push_str(token);
        }
        text.push_str("&X-Amz-Signature=");
        text.push_str(std::str::from_utf8(&signature).unwrap_or_default());
        text
    }
}

fn decimal(mut number: u16, digits: &mut [u8; 5]) -> &str {
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return std::str::from_utf8(&digits[start..]).unwrap_or_default();
        }
    }
}
