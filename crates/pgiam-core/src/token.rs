//! The token itself: what `aws rds generate-db-auth-token` and `aws dsql generate-db-connect-auth-token` print for the
//! same second, byte for byte, given a lower-case host.
//!
//! A token is host, port and a presigned query, in botocore's order. It lives 900 seconds, the most RDS accepts, or as
//! long as the credentials that signed it, whichever ends first.

use std::fmt;
use std::ops::Range;

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
    text: Zeroizing<String>,
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
        &self.text[self.host.clone()]
    }

    /// The port as signed.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The region signed for.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.text[self.region.clone()]
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
    /// The token itself, for an owner who wipes it. It has room for one more byte, and no more.
    #[must_use]
    #[inline]
    pub fn into_text(mut self) -> Zeroizing<String> {
        std::mem::take(&mut self.text)
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

/// What to sign, checked.
pub(crate) struct Target<'a> {
    pub(crate) host: &'a str,
    pub(crate) kind: EndpointKind<'a>,
    port: u16,
    user: &'a str,
    is_dsql: bool,
}

impl<'a> Target<'a> {
    /// `host` is normalized.
    #[inline]
    pub(crate) fn check(host: &'a str, port: i32, user: &'a str, service: Service) -> Result<Self, Error> {
        let kind = database_endpoint::classify(host);
        let is_dsql = match service {
            Service::Rds => false,
            Service::Dsql => true,
            Service::Auto => {
                database_endpoint::refuse_addresses(host)?;
                matches!(kind, EndpointKind::Dsql { .. })
            }
        };
        let port = u16::try_from(port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| invalid_argument(format!("port {port} is outside 1 to 65535")))?;
        if user.is_empty() {
            return Err(invalid_argument("user is empty; pass the database user that was granted rds_iam"));
        }
        let plain = user.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !plain && let Some(control) = user.chars().find(|character| character.is_control()) {
            return Err(invalid_argument(format!("user {user:?} has the control character {control:?}")));
        }
        Ok(Self { host, kind, port, user, is_dsql })
    }

    /// Signs with these credentials at `now`, in Unix seconds. `credentials_end` is when they end.
    #[inline]
    pub(crate) fn sign(
        &self,
        (region, region_source): (&str, RegionSource),
        credentials: &SigningCredentials,
        credentials_end: i64,
        now: i64,
    ) -> Token {
        let time = SigningTime::from_unix(now);
        let service = if self.is_dsql { "dsql" } else { "rds-db" };
        let (text, region) = credentials
            .with_key(time.date(), region, service, |key| self.presign(region, service, credentials, key, time));
        Token {
            text,
            expires_at: now.saturating_add(LIFETIME_SECONDS).min(credentials_end),
            host: 0..self.host.len(),
            port: self.port,
            region,
            region_source,
            endpoint_recognized: self.kind != EndpointKind::Unknown,
        }
    }

    /// The token's text, and where the region stands in it. `key` must be of the same day, region and service.
    #[inline]
    fn presign(
        &self,
        region: &str,
        service: &str,
        credentials: &SigningCredentials,
        key: &SigningKey,
        time: SigningTime,
    ) -> (Zeroizing<String>, Range<usize>) {
        let mut port_digits = [0; 5];
        let port = decimal(self.port, &mut port_digits);
        let (colon, port, user_parameter, user) =
            if self.is_dsql { ("", "", "", "") } else { (":", port, "&DBUser=", self.user) };
        let action = match (self.is_dsql, self.user) {
            (false, _) => "connect",
            (true, "admin") => "DbConnectAdmin",
            (true, _) => "DbConnect",
        };
        let (token_parameter, session_token) = match credentials.encoded_session_token() {
            Some(token) => ("&X-Amz-Security-Token=", token),
            None => ("", ""),
        };
        let host_part = [self.host, colon, port];
        let before_user = ["/?", "Action=", action, user_parameter];
        let before_region = [
            "&X-Amz-Algorithm=",
            sigv4::ALGORITHM,
            "&X-Amz-Credential=",
            credentials.encoded_access_key_id(),
            "%2F",
            time.date(),
            "%2F",
        ];
        let after_region = ["%2F", service, "%2Faws4_request&X-Amz-Date=", time.as_str(), "&X-Amz-Expires=900"];
        let unsigned = ["&X-Amz-SignedHeaders=host", token_parameter, session_token, "&X-Amz-Signature="];

        // One allocation, of the length it will have with the NUL that the C ABI adds: growing or shrinking would leave
        // a copy of the token behind.
        let length: usize = [&host_part[..], &before_user, &before_region, &after_region, &unsigned]
            .into_iter()
            .flatten()
            .map(|part| part.len())
            .sum();
        let encoded_user = sigv4::percent_encoded_length(user);
        let mut text = Zeroizing::new(String::with_capacity(length + encoded_user + region.len() + SIGNATURE + 1));
        host_part.into_iter().for_each(|part| text.push_str(part));
        let host_end = text.len();
        before_user.into_iter().for_each(|part| text.push_str(part));
        sigv4::percent_encode_into(&mut text, user);
        before_region.into_iter().for_each(|part| text.push_str(part));
        let region_at = text.len()..text.len() + region.len();
        text.push_str(region);
        after_region.into_iter().for_each(|part| text.push_str(part));

        let signature = PresignedRequest {
            // Port 443 is the default of https and stays out of the signed header, as in the AWS CLI.
            host: if self.port == 443 { self.host } else { &text[..host_end] },
            query: &text[host_end + "/?".len()..],
            encoded_session_token: credentials.encoded_session_token(),
            time,
            region,
            service,
        }
        .sign(key);
        unsigned.into_iter().for_each(|part| text.push_str(part));
        text.push_str(std::str::from_utf8(&signature).unwrap_or_default());
        (text, region_at)
    }
}

/// Digits of a signature.
const SIGNATURE: usize = 64;

#[inline]
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
