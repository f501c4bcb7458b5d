//! Clients by profile, and tokens from them.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use pgiam_core::{Client, Error, ErrorKind, Level, Log, Settings, TokenRequest};
use zeroize::Zeroizing;

use crate::rules::Endpoint;

/// Whether a caller waits for credentials if none are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// As long as the client's own time limit: for `PQconnectdb` and the like.
    Blocking,
    /// At most `START_TIMEOUT_MS`, for all hosts of a connection together: for `PQconnectStart` and the like.
    Bounded,
    /// Not at all.
    Never,
}

/// Milliseconds that [`Wait::Bounded`] waits for credentials.
const START_TIMEOUT_MS: &str = "2000";
/// The variable that overrides it.
const START_TIMEOUT_VARIABLE: &str = "PGIAM_START_TIMEOUT_MS";

/// What a token is made for, and with whose credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// The endpoint to sign for.
    pub endpoint: Endpoint,
    /// The database user.
    pub user: &'a str,
    /// The region, if it is configured.
    pub region: Option<&'a str>,
    /// The profile, if it is configured.
    pub profile: Option<&'a str>,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoToken {
    /// With [`Wait::Never`]: credentials are being fetched in the background.
    NotYet,
    /// There is none for this host.
    Failed(String),
    /// There are no credentials, for any host; asking again for the next host would only wait once more.
    NoCredentials(String),
}

/// A fresh token for a connection. The log says for which, or why there is none.
///
/// # Errors
///
/// [`NoToken`].
pub fn make(request: &Request<'_>, wait: Wait) -> Result<Zeroizing<String>, NoToken> {
    let made = make_unlogged(request, wait);
    let log = Log::of_process();
    if log.is_on(Level::Warn) {
        let Endpoint { host, port } = &request.endpoint;
        let user = request.user;
        match &made {
            Ok(_) => log.info(format_args!("connection of {user} gets a token for {host}:{port}")),
            Err(NoToken::NotYet) => {
                log.debug(format_args!("connection of {user} waits for a token for {host}:{port}: no credentials yet"));
            }
            Err(NoToken::Failed(why) | NoToken::NoCredentials(why)) => {
                log.warn(format_args!("connection of {user} gets no token for {host}:{port}: {why}"));
            }
        }
    }
    made
}

fn make_unlogged(request: &Request<'_>, wait: Wait) -> Result<Zeroizing<String>, NoToken> {
    let client = client(request.profile, wait == Wait::Bounded).map_err(|error| NoToken::Failed(error.to_string()))?;
    let Endpoint { host, port } = &request.endpoint;
    let request = TokenRequest { host, port: i32::from(*port), region: request.region, user: request.user };
    let token = match wait {
        Wait::Never => client.try_generate_token(&request),
        Wait::Blocking | Wait::Bounded => client.generate_token(&request).map(Some),
    };
    match token {
        Ok(Some(token)) => Ok(token.into_text()),
        Ok(None) => Err(NoToken::NotYet),
        Err(error) => Err(explained(&error, wait)),
    }
}

fn explained(error: &Error, wait: Wait) -> NoToken {
    let mut why = error.to_string();
    if wait == Wait::Bounded && error.kind() == ErrorKind::Timeout {
        why.push_str(&format!(
            " (a non-blocking connect waits for credentials no longer than {START_TIMEOUT_VARIABLE})"
        ));
    }
    match error.kind() {
        ErrorKind::Timeout | ErrorKind::Provider | ErrorKind::NoCredentials | ErrorKind::CredentialsExpired => {
            NoToken::NoCredentials(why)
        }
        _ => NoToken::Failed(why),
    }
}

/// Whose credentials sign, and whether a call may wait only [`START_TIMEOUT_MS`].
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    profile: Option<String>,
    bounded: bool,
}

/// One client for each key. A new one is made first and then added by compare-and-swap: a forked child inherits no
/// lock.
static CLIENTS: ArcSwapOption<Vec<(Key, Client)>> = ArcSwapOption::const_empty();

fn client(profile: Option<&str>, bounded: bool) -> Result<Client, Error> {
    let key = Key { profile: profile.map(str::to_owned), bounded };
    let known = |clients: &Option<Arc<Vec<(Key, Client)>>>| {
        clients.as_ref()?.iter().find(|(known, _)| *known == key).map(|(_, client)| client.clone())
    };
    if let Some(client) = known(&CLIENTS.load_full()) {
        return Ok(client);
    }
    let mut settings = Settings::default();
    settings.set("profile", profile.unwrap_or_default())?;
    if bounded {
        let given = std::env::var(START_TIMEOUT_VARIABLE).ok().filter(|value| !value.is_empty());
        settings
            .set("timeout_ms", given.as_deref().unwrap_or(START_TIMEOUT_MS))
            .map_err(|error| Error::new(error.kind(), format!("{START_TIMEOUT_VARIABLE}: {error}")))?;
    }
    let made = Client::new(settings);
    CLIENTS.rcu(|clients| {
        let mut all = clients.as_ref().map_or_else(Vec::new, |clients| clients.as_ref().clone());
        if known(clients).is_none() {
            all.push((key.clone(), made.clone()));
        }
        Some(Arc::new(all))
    });
    // Another thread may have added one first; both use that one, so that credentials are fetched once.
    Ok(known(&CLIENTS.load_full()).unwrap_or(made))
}
