//! Clients by profile, and the tokens of one connection.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use once_cell::race::OnceBox;
use pgiam_core::token::endpoint;
use pgiam_core::{Client, Deadline, Error, ErrorKind, Level, Log, Settings, TokenRequest};
use zeroize::Zeroizing;

use crate::rules::Endpoint;

/// Whether a caller waits for credentials if none are cached. A limit is for all hosts of a connection together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// At most 10 seconds, and longer only for a program that asks a person: for `PQconnectdb` and the like.
    Blocking,
    /// At most `PGIAM_START_TIMEOUT_MS`, by default 2 seconds: for `PQconnectStart` and the like.
    Bounded,
    /// Not at all.
    Never,
}

/// How long [`Wait::Blocking`] waits for credentials.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long [`Wait::Bounded`] waits for credentials.
const START_TIMEOUT: Duration = Duration::from_secs(2);
/// The variable that overrides it.
const START_TIMEOUT_VARIABLE: &str = "PGIAM_START_TIMEOUT_MS";
const START_HINT: &str = " (a non-blocking connect waits for credentials no longer than PGIAM_START_TIMEOUT_MS)";

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
    /// There is no region for hosts whose names have none, or it could not be found in time.
    NoRegion(String),
    /// There are no credentials, for any host; asking again for the next host would only wait once more.
    NoCredentials(String),
}

/// What earlier requests of a connection found missing, so that later hosts do not wait for it again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unavailable {
    credentials: bool,
    region: bool,
}

impl Unavailable {
    /// Whether a request would only fail again.
    #[must_use]
    pub fn concerns(self, request: &Request<'_>) -> bool {
        self.credentials || (self.region && !request.names_region())
    }

    /// Notes why there is no token, and returns it in words.
    pub fn note(&mut self, failed: NoToken) -> String {
        match failed {
            NoToken::NotYet => "no credentials yet".to_owned(),
            NoToken::Failed(why) => why,
            NoToken::NoRegion(why) => {
                self.region = true;
                why
            }
            NoToken::NoCredentials(why) => {
                self.credentials = true;
                why
            }
        }
    }
}

/// Makes the tokens of one connection.
#[derive(Debug)]
pub struct TokenMaker {
    wait: Wait,
    /// By when all of them are made, or why that is not known.
    deadline: Result<Deadline, String>,
    /// Added to the message when the limit is reached.
    hint: &'static str,
}

impl TokenMaker {
    /// For connections that wait for credentials, or do not wait at all. The time limit begins now.
    #[must_use]
    pub fn new(may_wait: bool) -> Self {
        let wait = if may_wait { Wait::Blocking } else { Wait::Never };
        Self { wait, deadline: Ok(Deadline::after(TIMEOUT)), hint: "" }
    }

    /// For [`Wait::Bounded`]. The time limit begins now. Its own function: the C library does without it.
    #[must_use]
    pub fn bounded() -> Self {
        let deadline = start_timeout().map(|limit| Deadline::after(limit).firm());
        Self { wait: Wait::Bounded, deadline, hint: START_HINT }
    }

    /// A fresh token. The log says for which connection, or why there is none.
    ///
    /// # Errors
    ///
    /// [`NoToken`].
    pub fn make(&self, request: &Request<'_>) -> Result<Zeroizing<String>, NoToken> {
        let made = self.make_unlogged(request);
        let log = Log::of_process();
        if log.is_on(Level::Warn) {
            let Endpoint { host, port } = &request.endpoint;
            let user = request.user;
            match &made {
                Ok(_) => log.info(format_args!("connection of {user} gets a token for {host}:{port}")),
                Err(NoToken::NotYet) => {
                    log.debug(format_args!(
                        "connection of {user} waits for a token for {host}:{port}: no credentials yet"
                    ));
                }
                Err(NoToken::Failed(why) | NoToken::NoRegion(why) | NoToken::NoCredentials(why)) => {
                    log.warn(format_args!("connection of {user} gets no token for {host}:{port}: {why}"));
                }
            }
        }
        made
    }

    fn make_unlogged(&self, request: &Request<'_>) -> Result<Zeroizing<String>, NoToken> {
        let deadline = *self.deadline.as_ref().map_err(|why| NoToken::Failed(why.clone()))?;
        let client = client(request.profile).map_err(|error| NoToken::Failed(error.to_string()))?;
        let Endpoint { host, port } = &request.endpoint;
        let wanted = TokenRequest { host, port: i32::from(*port), region: request.region, user: request.user };
        let token = match self.wait {
            Wait::Never => client.try_generate_token(&wanted),
            Wait::Blocking | Wait::Bounded => client.generate_token_until(&wanted, deadline).map(Some),
        };
        match token {
            Ok(Some(token)) => Ok(token.into_text()),
            Ok(None) => Err(NoToken::NotYet),
            Err(error) => Err(self.explained(&error, request)),
        }
    }

    fn explained(&self, error: &Error, request: &Request<'_>) -> NoToken {
        let mut why = error.to_string();
        if error.kind() == ErrorKind::Timeout {
            why.push_str(self.hint);
        }
        match error.kind() {
            ErrorKind::NoRegion => NoToken::NoRegion(why),
            // Perhaps it was the region that took too long.
            ErrorKind::Timeout if !request.names_region() => NoToken::NoRegion(why),
            ErrorKind::Timeout | ErrorKind::Provider | ErrorKind::NoCredentials | ErrorKind::CredentialsExpired => {
                NoToken::NoCredentials(why)
            }
            _ => NoToken::Failed(why),
        }
    }
}

impl Request<'_> {
    /// Whether the region is given or is part of the host name, so that it is known without the network.
    #[must_use]
    pub fn names_region(&self) -> bool {
        let host = &self.endpoint.host;
        self.region.is_some() || (endpoint::is_recognized(host) && !endpoint::is_global_endpoint(host))
    }
}

fn start_timeout() -> Result<Duration, String> {
    let Some(text) = std::env::var_os(START_TIMEOUT_VARIABLE).filter(|text| !text.is_empty()) else {
        return Ok(START_TIMEOUT);
    };
    let text = text.to_string_lossy();
    match text.parse() {
        Ok(milliseconds @ 1..=3_600_000) => Ok(Duration::from_millis(milliseconds)),
        _ => Err(format!("{START_TIMEOUT_VARIABLE}: {text:?} is not a number of milliseconds from 1 to 3600000")),
    }
}

/// The client without a profile of its own. It and those in [`CLIENTS`] are made first and then stored by
/// compare-and-swap: a forked child inherits no lock. If two threads make one at the same time, one of the two is dropped
/// unused.
static DEFAULT_CLIENT: OnceBox<Client> = OnceBox::new();

/// A client of a profile.
#[derive(Clone)]
struct OfProfile {
    profile: String,
    client: Client,
}

/// The clients of profiles that connections name.
static CLIENTS: ArcSwapOption<Vec<OfProfile>> = ArcSwapOption::const_empty();

/// The client that uses the environment's profile.
pub fn default_client() -> &'static Client {
    DEFAULT_CLIENT.get_or_init(|| Box::new(Client::new(Settings::default())))
}

/// The one client of this process for a profile; all connections share its cached credentials.
fn client(profile: Option<&str>) -> Result<Client, Error> {
    let Some(profile) = profile else { return Ok(default_client().clone()) };
    let known = |clients: &Option<Arc<Vec<OfProfile>>>| {
        clients.as_ref()?.iter().find(|known| known.profile == profile).map(|known| known.client.clone())
    };
    if let Some(client) = known(&CLIENTS.load_full()) {
        return Ok(client);
    }
    let mut settings = Settings::default();
    settings.set("profile", profile)?;
    let made = Client::new(settings);
    CLIENTS.rcu(|clients| {
        let mut all = clients.as_ref().map_or_else(Vec::new, |clients| clients.as_ref().clone());
        if known(clients).is_none() {
            all.push(OfProfile { profile: profile.to_owned(), client: made.clone() });
        }
        Some(Arc::new(all))
    });
    // Another thread may have added one first; both use that one, so that credentials are fetched once.
    Ok(known(&CLIENTS.load_full()).unwrap_or(made))
}
