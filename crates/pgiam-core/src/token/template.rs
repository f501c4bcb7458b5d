//! The token, and the prepared token: all of a request's token that stays the same for a day.
//!
//! To sign is then to hash the time of day and what follows it, and to join the texts. A prepared token belongs to the
//! configuration and the credentials it was made from and is dropped with them; what is secret in it is wiped.

use std::fmt;
use std::ops::Range;

use aws_credential_types::Credentials;
use zeroize::Zeroizing;

use crate::percent_encoding::percent_encode;
use crate::region::{Region, RegionSource};
use crate::time::Day;
use crate::token::request::{CheckedRequest, TokenRequest};
use crate::token::sigv4::{ALGORITHM, DaySigner, EMPTY_BODY, Scope};

/// Seconds that a token is valid for.
pub const LIFETIME_SECONDS: i64 = 900;

/// A password for one endpoint, port, region and user, valid for at most 15 minutes. `Debug` does not show it, and its
/// memory is wiped when it is dropped.
pub struct Token {
    /// ASCII.
    text: Zeroizing<Vec<u8>>,
    expires_at: i64,
    facts: Facts,
}

/// What a token says about itself. The ranges are places in its text.
#[derive(Clone)]
struct Facts {
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
        self.as_str().get(self.facts.host.clone()).unwrap_or_default()
    }

    /// The port as signed.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.facts.port
    }

    /// The region it was signed for.
    #[must_use]
    pub fn region(&self) -> &str {
        self.as_str().get(self.facts.region.clone()).unwrap_or_default()
    }

    /// Where the region came from.
    #[must_use]
    pub fn region_source(&self) -> RegionSource {
        self.facts.region_source
    }

    /// Whether the host is an endpoint name of RDS, Aurora or DSQL. No server of AWS accepts a token for another name, such
    /// as a CNAME or a load balancer.
    #[must_use]
    pub fn endpoint_recognized(&self) -> bool {
        self.facts.endpoint_recognized
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
            .field("port", &self.port())
            .field("region", &self.region())
            .finish_non_exhaustive()
    }
}

/// The token of one day for one request, without the time of day and the signature.
pub(crate) struct PreparedToken {
    request: OwnedRequest,
    facts: Facts,
    day: Day,
    signer: DaySigner,
    /// The token's text up to the time of day.
    before_time: String,
    /// `&X-Amz-Security-Token=…`, or nothing.
    session_parameter: Zeroizing<String>,
    /// The canonical request behind the query.
    after_query: String,
}

/// A request as it was made: a second one that is equal need not be checked again.
struct OwnedRequest {
    host: String,
    port: i32,
    region: Option<String>,
    user: String,
}

// The rest of the query after the time of day, in which the session token is last in the text (botocore's order) and in
// the middle in what is signed (sorted).
const EXPIRES: &str = "Z&X-Amz-Expires=900";
const SIGNED_HEADERS: &str = "&X-Amz-SignedHeaders=host";

impl PreparedToken {
    pub(crate) fn new(checked: &CheckedRequest<'_>, region: &Region, credentials: &Credentials, day: Day) -> Self {
        let request = checked.request();
        let service = if checked.is_dsql() { "dsql" } else { "rds-db" };
        let (address, query) = if checked.is_dsql() {
            let action = if request.user == "admin" { "DbConnectAdmin" } else { "DbConnect" };
            (checked.host().to_owned(), format!("Action={action}"))
        } else {
            let user = percent_encode(request.user);
            (format!("{}:{}", checked.host(), checked.port()), format!("Action=connect&DBUser={}", *user))
        };
        // Port 443 is the default of https and not part of the signed header, as in the AWS CLI.
        let signed_host = if checked.port() == 443 { checked.host() } else { &address };
        let (date, key_id) = (day.as_str(), percent_encode(credentials.access_key_id()));
        let before_region = format!("{query}&X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={}%2F{date}%2F", *key_id);
        let after_region = format!("%2F{service}%2Faws4_request&X-Amz-Date={date}T");
        let query = [&before_region, region.name.as_str(), &after_region].concat();
        let region_at = address.len() + "/?".len() + before_region.len();
        let scope = Scope { region: &region.name, service };
        Self {
            signer: DaySigner::new(credentials.secret_access_key(), &day, scope, &["GET\n/\n", &query]),
            before_time: [&address, "/?", &query].concat(),
            session_parameter: session_parameter(credentials),
            after_query: format!("\nhost:{signed_host}\n\nhost\n{EMPTY_BODY}"),
            facts: Facts {
                host: 0..checked.host().len(),
                port: checked.port(),
                region: region_at..region_at + region.name.len(),
                region_source: region.source,
                endpoint_recognized: checked.is_recognized(),
            },
            request: OwnedRequest::new(request),
            day,
        }
    }

    /// Whether this is the token that the request asks for.
    pub(crate) fn is_for(&self, request: &TokenRequest<'_>) -> bool {
        self.request.is(request)
    }

    /// Bytes of memory.
    pub(crate) fn size(&self) -> usize {
        let OwnedRequest { host, user, region, .. } = &self.request;
        let texts = [&self.before_time, &*self.session_parameter, &self.after_query, host, user];
        let length: usize = texts.iter().map(|text| text.len()).sum();
        size_of::<Self>() + length + region.as_ref().map_or(0, String::len)
    }

    /// The token at a second of its day, by credentials that last so many seconds more; `None` on another day.
    pub(crate) fn sign(&self, now: i64, credentials_last: i64) -> Option<Token> {
        let time = self.day.time(now)?;
        let session = self.session_parameter.as_str();
        let signature = self.signer.sign(time, &[EXPIRES, session, SIGNED_HEADERS, &self.after_query]);
        let parts = [&self.before_time, time.as_str(), EXPIRES, SIGNED_HEADERS, session, "&X-Amz-Signature="];
        // One allocation that has room for the NUL of the C ABI: growing would leave a copy of the token behind.
        let length: usize = parts.iter().map(|part| part.len()).sum::<usize>() + signature.len() + 1;
        let mut text = Zeroizing::new(Vec::with_capacity(length));
        parts.iter().for_each(|part| text.extend_from_slice(part.as_bytes()));
        text.extend_from_slice(&signature);
        let expires_at = now.saturating_add(LIFETIME_SECONDS.min(credentials_last));
        Some(Token { text, expires_at, facts: self.facts.clone() })
    }
}

/// The parameter of the session token. An empty session token is none: an empty parameter would be refused.
fn session_parameter(credentials: &Credentials) -> Zeroizing<String> {
    const NAME: &str = "&X-Amz-Security-Token=";
    let Some(token) = credentials.session_token().filter(|token| !token.is_empty()) else {
        return Zeroizing::default();
    };
    let token = percent_encode(token);
    let mut parameter = Zeroizing::new(String::with_capacity(NAME.len() + token.len()));
    parameter.push_str(NAME);
    parameter.push_str(&token);
    parameter
}

impl OwnedRequest {
    fn new(request: &TokenRequest<'_>) -> Self {
        let TokenRequest { host, port, region, user } = *request;
        Self { host: host.to_owned(), port, region: region.map(str::to_owned), user: user.to_owned() }
    }

    fn is(&self, request: &TokenRequest<'_>) -> bool {
        self.port == request.port
            && self.host == request.host
            && self.user == request.user
            && self.region.as_deref() == request.region
    }
}
