//! Decides whether a token is accepted. There is one check for each reason for which RDS refuses a token.
//!
//! A check reads only its own field, and the signature is computed from the token's own fields. So a token with one
//! error is refused by one check and accepted without that check. In this way a test shows that every check exists and
//! that no two checks overlap.

use std::fmt;

use serde::Deserialize;

use crate::credentials::CredentialStore;
use crate::token::{Token, equal_in_constant_time};

/// How far in the future the date of a token may be, because clocks differ.
const CLOCK_SKEW_SECONDS: i64 = 5 * 60;
/// RDS refuses tokens with a longer lifetime.
const LONGEST_EXPIRES_SECONDS: i64 = 15 * 60;
/// The maximum length of a client's text in the log.
const LONGEST_QUOTE: usize = 200;

macro_rules! checks {
    ($($(#[$attribute:meta])* $variant:ident $name:literal)*) => {
        /// A check of a token. The log has its name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
        pub enum Check {
            $($(#[$attribute])* #[serde(rename = $name)] $variant,)*
        }

        impl Check {
            /// All checks, in their order.
            pub const ALL: &[Check] = &[$(Check::$variant),*];

            /// The name in the log.
            pub fn name(self) -> &'static str {
                match self {
                    $(Check::$variant => $name,)*
                }
            }
        }
    };
}

checks! {
    /// The format is `HOST:PORT/?QUERY` with every required parameter, none repeated, all parsable.
    Format "format"
    /// `AWS4-HMAC-SHA256`.
    Algorithm "algorithm"
    /// The scope's day is that of `X-Amz-Date`.
    CredentialDate "credential_date"
    /// The scope's region is the server's.
    Region "region"
    /// The scope's service is the server's.
    Service "service"
    /// The scope ends in `aws4_request`.
    Terminator "terminator"
    /// The host is exactly the server's.
    Host "host"
    /// The port is the server's; DSQL tokens have none.
    Port "port"
    /// `connect`; for DSQL `DbConnect`, and `DbConnectAdmin` for the user `admin`.
    Action "action"
    /// `DBUser` is the user that logs in; DSQL tokens have none.
    User "user"
    /// `host` is the only signed header.
    SignedHeaders "signed_headers"
    /// 1 to 900 seconds.
    ExpiresLimit "expires_limit"
    /// The date is at most five minutes in the future.
    NotYetValid "not_yet_valid"
    /// `X-Amz-Date` plus `X-Amz-Expires` is not past.
    Expired "expired"
    /// The token is not older than the server allows, even if it has not expired.
    TokenAge "token_age"
    /// The access key is known.
    AccessKey "access_key"
    /// The session token is the one issued with the access key, or absent if there was none. Empty is not absent.
    SessionToken "session_token"
    /// The credentials that signed it have not expired.
    CredentialsExpired "credentials_expired"
    /// `rds-db:connect` is allowed for this user.
    Policy "policy"
    /// The signature matches the secret key and the token.
    Signature "signature"
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The enabled checks: all, except those that a test disables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    left_out: Vec<Check>,
}

impl Checks {
    /// Every check.
    pub fn all() -> Self {
        Self::default()
    }

    /// Disables a check. Without [`Check::AccessKey`] an unknown key passes the checks that need its credential.
    #[must_use]
    pub fn without(mut self, check: Check) -> Self {
        self.left_out.push(check);
        self
    }

    fn include(&self, check: Check) -> bool {
        !self.left_out.contains(&check)
    }
}

/// The service that the server simulates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Service {
    /// Amazon RDS and Aurora.
    #[default]
    #[serde(rename = "rds-db")]
    RdsDb,
    /// Aurora DSQL.
    #[serde(rename = "dsql")]
    Dsql,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Service::RdsDb => "rds-db",
            Service::Dsql => "dsql",
        }
    }

    fn required_parameters(self) -> &'static [&'static str] {
        const DSQL: &[&str] = &[
            "Action",
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-SignedHeaders",
            "X-Amz-Signature",
        ];
        const RDS_DB: &[&str] = &[
            "Action",
            "DBUser",
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-SignedHeaders",
            "X-Amz-Signature",
        ];
        match self {
            Service::RdsDb => RDS_DB,
            Service::Dsql => DSQL,
        }
    }
}

/// The server's own settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The endpoint's name, which is not the name of the computer on which the server runs.
    pub host: String,
    /// The port of the endpoint.
    pub port: u16,
    /// The region of the endpoint.
    pub region: String,
    /// The service for which tokens must be signed.
    pub service: Service,
    /// The maximum age of a token in seconds, so that tests do not wait 15 minutes for one to expire.
    pub max_token_age_seconds: Option<u64>,
}

/// The login is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The access key id of the token.
    pub access_key_id: String,
    /// The principal of the key; `None` only if [`Check::AccessKey`] is disabled.
    pub principal: Option<String>,
}

/// The login is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The first check that failed.
    pub check: Check,
    /// The value found and the value expected. Never a secret, a signature or a session token.
    pub detail: String,
    /// The access key id of the token, if it has one.
    pub access_key_id: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.check, self.detail)
    }
}

impl std::error::Error for Refused {}

/// Decides whether `token` is valid for `pg_user` on `server` at `now`, in Unix seconds.
pub fn verify(
    token: &str,
    pg_user: &str,
    server: &Server,
    credentials: &dyn CredentialStore,
    now: i64,
    checks: &Checks,
) -> Result<Accepted, Refused> {
    let token = Token::read(token, server.service.required_parameters());
    let scope = &token.scope;
    let access_key_id = quote(&scope.access_key_id);
    let demand = |check: Check, holds: bool, detail: &dyn Fn() -> String| {
        if holds || !checks.include(check) {
            return Ok(());
        }
        Err(Refused {
            check,
            detail: detail(),
            access_key_id: (!access_key_id.is_empty()).then(|| access_key_id.clone()),
        })
    };
    let demand_equal = |check: Check, found: &str, wanted: &str| {
        demand(check, found == wanted, &|| format!("{:?} instead of {wanted:?}", quote(found)))
    };

    demand(Check::Format, token.fault.is_none(), &|| token.fault.clone().unwrap_or_default())?;
    demand_equal(Check::Algorithm, token.text("X-Amz-Algorithm"), "AWS4-HMAC-SHA256")?;
    let day = token.text("X-Amz-Date").split('T').next().unwrap_or("");
    demand_equal(Check::CredentialDate, &scope.date, &quote(day))?;
    demand_equal(Check::Region, &scope.region, &server.region)?;
    demand_equal(Check::Service, &scope.service, server.service.name())?;
    demand_equal(Check::Terminator, &scope.terminator, "aws4_request")?;

    demand_equal(Check::Host, token.host, &server.host)?;
    let port = match server.service {
        Service::RdsDb => Some(server.port.to_string()),
        Service::Dsql => None,
    };
    demand(Check::Port, token.port == port.as_deref(), &|| {
        let show = |port: Option<&str>| port.map_or("no port".to_owned(), |port| format!("{port:?}"));
        let found = token.port.map(quote);
        format!("{} instead of {}", show(found.as_deref()), show(port.as_deref()))
    })?;
    let action = match (server.service, pg_user) {
        (Service::RdsDb, _) => "connect",
        (Service::Dsql, "admin") => "DbConnectAdmin",
        (Service::Dsql, _) => "DbConnect",
    };
    demand_equal(Check::Action, token.text("Action"), action)?;
    match server.service {
        Service::RdsDb => demand_equal(Check::User, token.text("DBUser"), pg_user)?,
        Service::Dsql => {
            demand(Check::User, token.parameter("DBUser").is_none(), &|| "a DSQL token has no DBUser".to_owned())?
        }
    }
    demand_equal(Check::SignedHeaders, token.text("X-Amz-SignedHeaders"), "host")?;

    demand(Check::ExpiresLimit, (1..=LONGEST_EXPIRES_SECONDS).contains(&token.expires), &|| {
        format!("{} s instead of 1 to {LONGEST_EXPIRES_SECONDS} s", token.expires)
    })?;
    let age = now.saturating_sub(token.date);
    demand(Check::NotYetValid, age >= -CLOCK_SKEW_SECONDS, &|| {
        format!("dated {} s in the future of the server's clock", -age)
    })?;
    demand(Check::Expired, token.date.saturating_add(token.expires) >= now, &|| {
        format!("made {age} s ago, valid for {} s", token.expires)
    })?;
    if let Some(oldest) = server.max_token_age_seconds {
        let oldest = i64::try_from(oldest).unwrap_or(i64::MAX);
        demand(Check::TokenAge, age <= oldest, &|| format!("made {age} s ago, this server allows {oldest} s"))?;
    }

    let found = credentials.find(&scope.access_key_id);
    let credential = match found {
        Ok(credential) => credential,
        Err(why) => {
            demand(Check::AccessKey, false, &|| why.clone())?;
            return Ok(Accepted { access_key_id, principal: None });
        }
    };
    let session_token = token.parameter("X-Amz-Security-Token");
    let as_issued = match (session_token, &credential.session_token) {
        (None, None) => true,
        (Some(found), Some(issued)) => equal_in_constant_time(found.as_bytes(), issued.as_bytes()),
        _ => false,
    };
    demand(Check::SessionToken, as_issued, &|| {
        match (session_token, &credential.session_token) {
            (Some(""), _) => "present and empty",
            (Some(_), None) => "present, but the access key has none",
            (None, _) => "absent, but the access key has one",
            (Some(_), Some(_)) => "not that of the access key",
        }
        .to_owned()
    })?;
    if let Some(expiration) = credential.expiration {
        demand(Check::CredentialsExpired, now < expiration, &|| {
            format!("the credentials expired {} s ago", now - expiration)
        })?;
    }
    if let Some(allowed) = &credential.allowed_users {
        let is_allowed = allowed.iter().any(|user| user == pg_user);
        demand(Check::Policy, is_allowed, &|| format!("rds-db:connect is not allowed for {:?}", quote(pg_user)))?;
    }
    demand(Check::Signature, token.is_signed_with(&credential.secret_access_key), &|| {
        "the signature does not match the secret key and the token".to_owned()
    })?;
    Ok(Accepted { access_key_id, principal: Some(credential.principal) })
}

/// A client's text, truncated for the log.
fn quote(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
