//! What a token is asked for, and the check of it.

use std::borrow::Cow;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::config::settings::Service;
use crate::error::{Error, invalid_argument};
use crate::token::endpoint::{self, EndpointKind, quoted};

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
