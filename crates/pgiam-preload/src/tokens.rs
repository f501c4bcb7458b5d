//! The AWS side: tokens, and what is recognisably one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use pgiam_core::{Client, ErrorKind, Settings, TokenRequest};
use pgiam_libpq::own_settings::{self, Endpoint};
use zeroize::Zeroizing;

/// Whether the program waits for its connection or turns an event loop meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// `PQconnectdb` and its like: the client's own time-out.
    Blocking,
    /// `PQconnectStart` and its like: no longer than [`START_TIMEOUT_MS`], however many hosts there are.
    Bounded,
}

/// Milliseconds that a nonblocking connect may wait for credentials when none are held yet.
const START_TIMEOUT_MS: &str = "2000";
/// The variable that says otherwise.
const START_TIMEOUT_VARIABLE: &str = "PGIAM_START_TIMEOUT_MS";

/// Whose credentials sign, and how long a call may wait for them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    profile: Option<String>,
    wait: Wait,
}

/// One client for each, made outside and put in by compare-and-swap: no lock that a forked child could inherit.
static CLIENTS: ArcSwapOption<Vec<(Key, Client)>> = ArcSwapOption::const_empty();

fn client(profile: Option<&str>, wait: Wait) -> Result<Client, String> {
    let key = Key { profile: profile.map(str::to_owned), wait };
    let held = |clients: &Option<Arc<Vec<(Key, Client)>>>| {
        clients.as_ref()?.iter().find(|(known, _)| *known == key).map(|(_, client)| client.clone())
    };
    if let Some(client) = held(&CLIENTS.load_full()) {
        return Ok(client);
    }
    let mut settings = Settings::default();
    let mut set = |keyword: &str, value: &str| settings.set(keyword, value).map_err(|error| error.to_string());
    set("profile", profile.unwrap_or_default())?;
    if wait == Wait::Bounded {
        let given = std::env::var(START_TIMEOUT_VARIABLE).ok().filter(|value| !value.is_empty());
        set("timeout_ms", given.as_deref().unwrap_or(START_TIMEOUT_MS))
            .map_err(|error| format!("{START_TIMEOUT_VARIABLE}: {error}"))?;
    }
    let made = Client::new(settings);
    CLIENTS.rcu(|clients| {
        let mut all = clients.as_ref().map_or_else(Vec::new, |clients| clients.as_ref().clone());
        if held(clients).is_none() {
            all.push((key.clone(), made.clone()));
        }
        Some(Arc::new(all))
    });
    // Another thread may have been first: one client, one fetch.
    Ok(held(&CLIENTS.load_full()).unwrap_or(made))
}

/// Why there is no token.
pub(crate) struct Failure {
    pub(crate) why: String,
    /// The credentials are missing, which are the same for every host: to ask for the next one's token would only wait
    /// once more.
    pub(crate) of_credentials: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, of_credentials: false }
    }
}

/// A fresh token.
pub(crate) fn token(
    endpoint: &Endpoint,
    user: &str,
    region: Option<&str>,
    profile: Option<&str>,
    wait: Wait,
) -> Result<Zeroizing<String>, Failure> {
    let request = TokenRequest { host: &endpoint.host, port: i32::from(endpoint.port), region, user };
    let token = client(profile, wait)?.generate_token(&request).map_err(|error| {
        let bound = if wait == Wait::Bounded && error.kind() == ErrorKind::Timeout {
            format!(
                " (a connection that is started without waiting waits for them no longer than {START_TIMEOUT_VARIABLE})"
            )
        } else {
            String::new()
        };
        let of_credentials = matches!(
            error.kind(),
            ErrorKind::Timeout | ErrorKind::Provider | ErrorKind::NoCredentials | ErrorKind::CredentialsExpired
        );
        Failure { why: format!("{error}{bound}"), of_credentials }
    })?;
    Ok(token.into_text())
}

/// Whether a password is to be replaced: the word that asks for a token, or a token, which is perhaps an old one that
/// the program took from another connection of its own.
pub(crate) fn stands_for_a_token(password: &str) -> bool {
    password == own_settings::SENTINEL || is_token(password)
}

/// `HOST:PORT/?Action=connect&…` of RDS, `HOST/?Action=DbConnect…` of Aurora DSQL.
pub(crate) fn is_token(password: &str) -> bool {
    let Some((host, query)) = password.split_once("/?") else { return false };
    let actions = ["Action=connect&", "Action=DbConnect&", "Action=DbConnectAdmin&"];
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':'))
        && actions.iter().any(|action| query.starts_with(action))
        && query.contains("&X-Amz-Signature=")
}

/// A variable of the environment, as libpq reads its own: at each connection.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
