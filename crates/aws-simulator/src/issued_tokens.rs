//! Tokens that the services issued and accept: session tokens of the metadata service, and tokens of SSO.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use crate::credentials::PLANTED;
use crate::options::SimulatorOptions;
use crate::random;
use crate::sync::lock;
use crate::time::unix_seconds;

/// The session tokens given out, and when each ends.
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

    /// What is left of a token's life, in whole seconds; `None` when there is no such token any more.
    pub(crate) fn seconds_left(&self, token: &str, now: SystemTime) -> Option<i64> {
        let end = *lock(&self.ends).get(token)?;
        (now < end).then(|| unix_seconds(end) - unix_seconds(now))
    }

    /// No token given out so far is good any longer.
    pub(crate) fn revoke(&self) {
        lock(&self.ends).clear();
    }
}

/// The tokens that are good now.
pub(crate) struct SsoTokens {
    state: Mutex<TokenState>,
}

struct TokenState {
    /// Access tokens and their ends; the configured one has none.
    access: HashMap<String, Option<SystemTime>>,
    /// Each use of a refresh token puts a new one in its place, so that a client that keeps the old one is found out.
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

    /// No access token given so far is good any longer; the refresh token stays good.
    pub(crate) fn revoke_access(&self) {
        lock(&self.state).access.clear();
    }

    pub(crate) fn accepts(&self, access_token: &str, now: SystemTime) -> bool {
        lock(&self.state).access.get(access_token).is_some_and(|end| end.is_none_or(|end| now < end))
    }

    /// A new access token and the next refresh token; `None` when `refresh_token` is not the one that is due.
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
