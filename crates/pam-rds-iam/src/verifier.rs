//! Decides whether a token lets a user in: what RDS is known to refuse, one check a fault.
//!
//! A check looks at its own field and at nothing else, and the signature is computed from what the token says of
//! itself. So a token with one fault is refused by one check, and accepted when that check is left out. That is what
//! lets a test show that every check is there and that none is covered by another.

use std::fmt;

use serde::Deserialize;

use crate::credentials::CredentialStore;
use crate::token::{Token, equal_in_constant_time};

/// How far in the future a token may be dated, for the sake of clocks that differ.
const CLOCK_SKEW_SECONDS: i64 = 5 * 60;
/// RDS refuses tokens that claim to be good for longer.
const LONGEST_EXPIRES_SECONDS: i64 = 15 * 60;
/// What of a client's text may come into the log.
const LONGEST_QUOTE: usize = 200;

macro_rules! checks {
    ($($(#[$attribute:meta])* $variant:ident $name:literal)*) => {
        /// What a token is checked for. The name is what the log prints.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
        pub enum Check {
            $($(#[$attribute])* #[serde(rename = $name)] $variant,)*
        }

        impl Check {
            /// All of them, in the order in which a token is checked.
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
    /// `HOST:PORT/?QUERY`, every parameter that is needed, none twice, all readable.
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
    /// The host is the server's, letter by letter.
    Host "host"
    /// The port is the server's; DSQL tokens have none.
    Port "port"
    /// `connect`; for DSQL `DbConnect`, and `DbConnectAdmin` for the user `admin`.
    Action "action"
    /// `DBUser` is the user that logs in; DSQL tokens have none.
    User "user"
    /// `host` and nothing else is signed.
    SignedHeaders "signed_headers"
    /// 1 to 900 seconds.
    ExpiresLimit "expires_limit"
    /// Not dated more than five minutes ahead.
    NotYetValid "not_yet_valid"
    /// `X-Amz-Date` plus `X-Amz-Expires` is not past.
    Expired "expired"
    /// Not older than the server allows, whatever the token says.
    TokenAge "token_age"
    /// The access key is known.
    AccessKey "access_key"
    /// The session token is the one issued with the access key, or absent if there was none. Empty is not absent.
    SessionToken "session_token"
    /// The credentials that signed are still valid.
    CredentialsExpired "credentials_expired"
    /// `rds-db:connect` is allowed for this user.
    Policy "policy"
    /// The signature is what the secret key makes of the rest.
    Signature "signature"
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The checks that are made: all, but for those a test leaves out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checks {
    left_out: Vec<Check>,
}

impl Checks {
    /// Every check.
    pub fn all() -> Self {
        Self::default()
    }

    /// These but that one. Without [`Check::AccessKey`] an unknown key passes the checks that need to know its owner.
    #[must_use]
    pub fn without(mut self, check: Check) -> Self {
        self.left_out.push(check);
        self
    }

    fn include(&self, check: Check) -> bool {
        !self.left_out.contains(&check)
    }
}

/// Which service the server plays.
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

/// What the server knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The endpoint's name, which is not the name of the machine the server runs on.
    pub host: String,
    /// The port of the endpoint.
    pub port: u16,
    /// The region of the endpoint.
    pub region: String,
    /// What tokens must be made for.
    pub service: Service,
    /// Refuses tokens older than that many seconds, so that a test need not wait 15 minutes for one to expire.
    pub max_token_age_seconds: Option<u64>,
}

/// The user may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Whose key signed.
    pub access_key_id: String,
    /// Whom the key speaks for; `None` only if [`Check::AccessKey`] is left out.
    pub principal: Option<String>,
}

/// The user may not, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The first check that failed.
    pub check: Check,
    /// What it saw and what it wanted. Never a secret, a signature or a session token.
    pub detail: String,
    /// As the token has it, if it has one.
    pub access_key_id: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.check, self.detail)
    }
}

impl std::error::Error for Refused {}

/// Whether `token` lets `pg_user` into `server` at `now`, in Unix seconds.
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
        let tell = |port: Option<&str>| port.map_or("no port".to_owned(), |port| format!("{port:?}"));
        let found = token.port.map(quote);
        format!("{} instead of {}", tell(found.as_deref()), tell(port.as_deref()))
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
            demand(Check::User, token.parameter("DBUser").is_none(), &|| "a DSQL token names no user".to_owned())?
        }
    }
    demand_equal(Check::SignedHeaders, token.text("X-Amz-SignedHeaders"), "host")?;

    demand(Check::ExpiresLimit, (1..=LONGEST_EXPIRES_SECONDS).contains(&token.expires), &|| {
        format!("{} s instead of 1 to {LONGEST_EXPIRES_SECONDS} s", token.expires)
    })?;
    let age = now.saturating_sub(token.date);
    demand(Check::NotYetValid, age >= -CLOCK_SKEW_SECONDS, &|| {
        format!("dated {} s ahead of the server's clock", -age)
    })?;
    demand(Check::Expired, token.date.saturating_add(token.expires) >= now, &|| {
        format!("made {age} s ago, good for {} s", token.expires)
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
            (Some(_), None) => "present, but the access key was issued without one",
            (None, _) => "absent, but the access key was issued with one",
            (Some(_), Some(_)) => "not the one issued with the access key",
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
        "not what the secret key makes of the rest of the token".to_owned()
    })?;
    Ok(Accepted { access_key_id, principal: Some(credential.principal) })
}

/// A client's text, short enough for a line of the log.
fn quote(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
