//! Tokens that the services issue and accept: session tokens of the metadata service, and tokens of SSO.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::credentials::PLANTED;
use crate::options::SimulatorOptions;
use crate::random;
use crate::sync::lock;
use crate::time::unix_seconds;

/// The session tokens that were issued, and when each expires.
#[derive(Default)]
pub(crate) struct SessionTokens {
    ends: Mutex<HashMap<String, SystemTime>>,
}

impl SessionTokens {
    pub(crate) fn issue(&self, now: SystemTime, ttl: Duration) -> String {
        let token = format!("{}==", random::base64(54));
        lock(&self.ends).insert(token.clone(), now + ttl);
        token
    }

    /// Whole seconds until a token expires; `None` if the token is unknown or has expired.
    pub(crate) fn seconds_left(&self, token: &str, now: SystemTime) -> Option<i64> {
        let end = *lock(&self.ends).get(token)?;
        (now < end).then(|| unix_seconds(end) - unix_seconds(now))
    }

    /// Revokes every token issued so far.
    pub(crate) fn revoke(&self) {
        lock(&self.ends).clear();
    }
}

/// The tokens that are valid now.
pub(crate) struct SsoTokens {
    state: Mutex<TokenState>,
}

struct TokenState {
    /// Access tokens and when they expire; the configured one never does.
    access: HashMap<String, Option<SystemTime>>,
    /// Each use of a refresh token replaces it, so that a client that keeps the old one gets an error.
    refresh: String,
}

impl SsoTokens {
    pub(crate) fn new(options: &SimulatorOptions) -> Self {
        Self {
            state: Mutex::new(TokenState {
                access: HashMap::from([(options.sso_access_token.clone(), None)]),
                refresh: options.sso_refresh_token.clone(),
            }),
        }
    }

    /// Revokes every access token issued so far; the refresh token stays valid.
    pub(crate) fn revoke_access(&self) {
        lock(&self.state).access.clear();
    }

    pub(crate) fn accepts(&self, access_token: &str, now: SystemTime) -> bool {
        lock(&self.state).access.get(access_token).is_some_and(|end| end.is_none_or(|end| now < end))
    }

    /// A new access token and the next refresh token; `None` if `refresh_token` is not the current one.
    pub(crate) fn refresh(&self, refresh_token: &str, end: SystemTime) -> Option<(String, String)> {
        let mut state = lock(&self.state);
        if state.refresh != refresh_token {
            return None;
        }
        let access = format!("aoa{PLANTED}{}", random::base64(120));
        let refresh = format!("aor{PLANTED}{}", random::base64(120));
        state.access.insert(access.clone(), Some(end));
        state.refresh.clone_from(&refresh);
        Some((access, refresh))
    }
}
