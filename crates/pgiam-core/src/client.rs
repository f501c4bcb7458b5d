//! The client: settings and cached credentials in, a token out.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::aws_api::AwsSession;
use crate::config::Config;
use crate::config::environment::Environment;
use crate::config::region_name;
use crate::config::settings::Settings;
use crate::credentials::asking::{MfaPrompt, without_asking};
use crate::credentials::cache::{self, CachedCredentials, Usability};
#[cfg(not(all(test, feature = "model")))]
use crate::credentials::chain;
use crate::credentials::{Context, Provided};
use crate::error::{Error, ErrorKind, invalid_argument};
use crate::log::{Level, Log};
use crate::net::http;
use crate::region::{self, Region, RegionSource};
use crate::sync::lossy_cache::LossyCache;
use crate::sync::primitives::{ArcSwap, ArcSwapOption, AtomicI64};
use crate::sync::single_flight::{Poll, SingleFlight};
use crate::test_hooks::reached;
use crate::time::{Clock, Day, Deadline, Moment, rfc3339, unix_seconds};
use crate::token::request::{CheckedRequest, TokenRequest};
use crate::token::template::{PreparedToken, Token};
// The models have a source of their own in place of the real ones.
#[cfg(all(test, feature = "model"))]
use model_tests::chain;

/// Settings and cached credentials. Share one among threads: after the first call a token costs about a microsecond,
/// without a lock and without the network.
///
/// The environment and the profile files are read when the client is made and again by [`Client::refresh`]. The files are
/// also read again by a call that needs them and finds that they could not be read before, or that they have changed
/// while there were no credentials yet or only static keys from them (checked every 30 seconds).
///
/// After `fork` the child continues with the cached credentials; it takes no inherited lock and uses no inherited
/// connection.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    mfa_prompt: Option<MfaPrompt>,
    snapshot: ArcSwap<Snapshot>,
    /// The region of the last token for which credentials were fetched: the default region for fetches that no token is
    /// asked of. Its source is not used: another type here would cost two kilobytes of code.
    token_region: ArcSwapOption<Region>,
    instance_region: ArcSwapOption<Region>,
    /// Seconds that the wall clock is ahead of the monotonic one, when credentials were last fetched: a clock that was
    /// set since then is an event for the log.
    wall_clock_ahead: AtomicI64,
    credentials_flight: SingleFlight<Arc<CachedCredentials>>,
    region_flight: SingleFlight<Arc<Region>>,
    files_flight: SingleFlight<Arc<Config>>,
}

/// A configuration, the cached credentials, and the tokens prepared from both. When one of the two is replaced, the
/// prepared tokens start empty.
struct Snapshot {
    config: Arc<Config>,
    credentials: Option<Arc<CachedCredentials>>,
    /// Whether the credentials were fetched under this very configuration.
    credentials_are_current: bool,
    prepared: LossyCache<PreparedToken>,
}

/// What a call does when something must be fetched.
#[derive(Clone, Copy)]
enum Waiting {
    /// Waits for it, until a deadline.
    Until(Deadline),
    /// Leaves it to a background thread.
    Never,
}

/// Why credentials are fetched.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// There are none that can sign at once. Static keys can, after a check of their files.
    NotUsable,
    /// They end soon.
    RefreshDue,
    /// [`Client::refresh`] was called.
    AskedFor,
}

impl Reason {
    fn describe(self) -> &'static str {
        match self {
            Self::NotUsable => "none can be used",
            Self::RefreshDue => "the cached ones expire soon; in the background",
            Self::AskedFor => "a refresh was asked for",
        }
    }
}

/// What [`Client::explain`] found.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The sources that were asked, in order, and what each said.
    pub steps: Vec<(&'static str, String)>,
    /// The credentials found, or why there are none.
    pub outcome: Result<FoundCredentials, Error>,
    /// The region for host names that have none, and where it came from.
    pub region: Result<(String, RegionSource), Error>,
}

/// Credentials without their secrets.
#[derive(Clone, Debug)]
pub struct FoundCredentials {
    /// The source.
    pub source: &'static str,
    /// How they were obtained.
    pub by: String,
    /// Whose they are, when the source said so: an ARN, or a role and an account.
    pub identity: Option<String>,
    /// The access key's id.
    pub access_key_id: String,
    /// When they end, in Unix seconds; `None` for keys without an end.
    pub expires_at: Option<i64>,
}

/// Makes a [`Client`] with a clock and an environment of the caller's.
#[derive(Debug, Default)]
pub struct ClientBuilder {
    settings: Settings,
    clock: Clock,
    environment: Option<Environment>,
    mfa_prompt: Option<MfaPrompt>,
}

impl ClientBuilder {
    /// The client's settings.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The clock to use instead of the computer's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The environment to use instead of the process'. [`Client::refresh`] keeps it.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Asks a person for the code of an MFA device, given the device's ARN or serial number, when a profile with
    /// `mfa_serial` is used. It is called on the thread that fetches the credentials, never by a background refresh, and
    /// may take its time. Without it such a profile is an error.
    #[must_use]
    pub fn mfa_prompt(mut self, ask: impl Fn(&str) -> io::Result<String> + Send + Sync + 'static) -> Self {
        self.mfa_prompt = Some(MfaPrompt(Arc::new(ask)));
        self
    }

    /// Reads the profile files and makes the client. An error in them is returned by the first call that needs them.
    #[must_use]
    pub fn build(self) -> Client {
        http::prepare();
        let config = Config::read(self.settings, self.environment);
        let wall_clock_ahead = AtomicI64::new(wall_clock_ahead(self.clock.moment()));
        Client {
            inner: Arc::new(Inner {
                clock: self.clock,
                mfa_prompt: self.mfa_prompt,
                wall_clock_ahead,
                snapshot: ArcSwap::from_pointee(Snapshot::new(Arc::new(config), None)),
                token_region: ArcSwapOption::empty(),
                instance_region: ArcSwapOption::empty(),
                credentials_flight: SingleFlight::new(),
                region_flight: SingleFlight::new(),
                files_flight: SingleFlight::new(),
            }),
        }
    }
}

impl Client {
    /// A client with these settings, in the process' environment. Nothing is fetched yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::builder().settings(settings).build()
    }

    /// A builder, for a client that does not use the process' environment or clock.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A fresh token. Waits for credentials if none are cached, at most the `timeout_ms` setting (default 10 s; instance
    /// metadata alone 2 s).
    ///
    /// # Errors
    ///
    /// Every kind but `WouldBlock`; the message names the source and what to do.
    pub fn generate_token(&self, request: &TokenRequest<'_>) -> Result<Token, Error> {
        self.inner.token_until(request, None)
    }

    /// Like [`Client::generate_token`], but waits until `deadline` instead of for the `timeout_ms` setting: for several
    /// tokens that are needed together.
    ///
    /// # Errors
    ///
    /// As [`Client::generate_token`].
    pub fn generate_token_until(&self, request: &TokenRequest<'_>, deadline: Deadline) -> Result<Token, Error> {
        self.inner.token_until(request, Some(deadline))
    }

    /// Like [`Client::generate_token`], but never waits. `Ok(None)`: a fetch is running on a background thread; ask again,
    /// not sooner than 20 ms. A failed fetch is reported once; the next one starts after a pause of 0.5 to 32 s, during which
    /// this is `Ok(None)` too.
    ///
    /// # Errors
    ///
    /// As [`Client::generate_token`]; `Internal` also when no thread can be started for the fetch.
    pub fn try_generate_token(&self, request: &TokenRequest<'_>) -> Result<Option<Token>, Error> {
        self.inner.token(request, || Waiting::Never)
    }

    /// The region for host names that have none, by the settings, the environment or the profile; the instance metadata is
    /// not asked.
    #[must_use]
    pub fn configured_region(&self) -> Option<String> {
        region::configured(&self.inner.current_config()).ok().flatten().map(|region| region.name.clone())
    }

    /// Queries each source in order and reports the results, without secrets. What the client has cached stays as it is;
    /// if it has no credentials yet, it uses those found.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        self.explain_in_region(None)
    }

    /// Like [`Client::explain`], for a token in this region: STS and the other services of AWS are asked there unless
    /// the configuration names another. `None` or empty: the configured region.
    #[must_use]
    pub fn explain_in_region(&self, region: Option<&str>) -> Explanation {
        let inner = &self.inner;
        let config = inner.current_config();
        let deadline = inner.new_deadline();
        let given = region.filter(|region| !region.is_empty());
        let located = match given {
            Some(region) => region_name::check(region)
                .map(|()| Some(Region::new(region, RegionSource::Argument)))
                .map_err(|why| invalid_argument(format!("region: {why}"))),
            None => region::configured(&config),
        };
        let token_region = match &located {
            Ok(Some(region)) => Some(region.name.clone()),
            _ => inner.token_region.load().as_ref().map(|region| region.name.clone()),
        };
        let mut trail = Vec::new();
        let outcome = inner.provide(&config, token_region.as_deref(), deadline, &mut trail).map(|provided| {
            let found = FoundCredentials::of(&provided);
            inner.use_if_first(&config, provided);
            found
        });
        let region = located
            .and_then(|located| match located {
                Some(region) => Ok(region),
                None => region::from_instance_metadata(&config, inner.new_deadline()),
            })
            .map_err(|error| chain::without_repetition(error, &trail));
        Explanation {
            steps: trail.into_iter().map(|step| (step.source, step.said)).collect(),
            outcome,
            region: region.map(|region| (region.name, region.source)),
        }
    }

    /// Calls of AWS services in a region, with the credentials that tokens for that region are signed with.
    #[must_use]
    pub fn aws_session(&self, region: &str) -> AwsSession {
        let (inner, credentials_region) = (Arc::clone(&self.inner), region.to_owned());
        let credentials = move || {
            let waiting = Waiting::Until(inner.new_deadline());
            let found = inner.credentials(&credentials_region, waiting)?;
            found.map(|found| found.credentials().clone()).ok_or_else(|| internal("a call that waits was not answered"))
        };
        AwsSession::new(self.inner.current_config(), self.inner.clock.clone(), region, credentials)
    }

    /// Reads the environment and the profile files again and fetches credentials now. If that fails, the cached
    /// credentials stay in use. Do not change the environment in another thread meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Client::generate_token`].
    pub fn refresh(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let deadline = inner.new_deadline();
        inner.instance_region.store(None);
        let again = inner.snapshot.load().config.read_everything_again();
        inner.replace_config(again);
        let region = inner.token_region.load_full();
        // A fetch that is running began with the old configuration: wait for its end, then fetch again.
        let mut own = false;
        loop {
            let fetch = || {
                own = true;
                inner.fetch_credentials(Reason::AskedFor, region.as_ref().map(|region| region.name.as_str()), deadline)
            };
            let outcome = inner.credentials_flight.run(deadline, || None, fetch);
            if own || deadline.remaining().is_none() {
                return outcome.map(drop);
            }
        }
    }
}

impl FoundCredentials {
    fn of(provided: &Provided) -> Self {
        Self {
            source: provided.source.name(),
            by: provided.by.clone(),
            identity: provided.identity.clone(),
            access_key_id: provided.credentials.access_key_id().to_owned(),
            expires_at: provided.credentials.expiry().map(unix_seconds),
        }
    }
}

impl Snapshot {
    fn new(config: Arc<Config>, credentials: Option<Arc<CachedCredentials>>) -> Self {
        Self { config, credentials, credentials_are_current: false, prepared: LossyCache::new() }
    }

    /// Credentials that can sign at once.
    fn usable_credentials(&self, now: Moment) -> Option<Arc<CachedCredentials>> {
        self.credentials.as_ref().filter(|credentials| credentials.is_usable(now)).cloned()
    }

    /// Credentials that have not ended, though their files should be checked first.
    fn unexpired_credentials(&self, now: Moment) -> Option<&Arc<CachedCredentials>> {
        self.credentials.as_ref().filter(|credentials| credentials.usability(now) != Usability::Expired)
    }
}

impl Inner {
    /// `None`: until the `timeout_ms` setting has passed.
    fn token_until(self: &Arc<Self>, request: &TokenRequest<'_>, deadline: Option<Deadline>) -> Result<Token, Error> {
        let waiting = || Waiting::Until(deadline.unwrap_or_else(|| self.new_deadline()));
        let token = self.token(request, waiting)?;
        token.ok_or_else(|| internal("a call that waits was not answered"))
    }

    /// One algorithm for callers that wait and callers that do not. `None`: a caller that does not wait has to ask again.
    fn token(
        self: &Arc<Self>,
        request: &TokenRequest<'_>,
        waiting: impl FnOnce() -> Waiting,
    ) -> Result<Option<Token>, Error> {
        if let Some(token) = self.sign_prepared(request) {
            return Ok(Some(token));
        }
        let waiting = waiting();
        let config = Arc::clone(&self.snapshot.load().config);
        let checked = CheckedRequest::check(*request, config.settings.service())?;
        let Some(region) = self.region(&checked, waiting)? else { return Ok(None) };
        let Some(credentials) = self.credentials(&region.name, waiting)? else { return Ok(None) };
        let region = if Arc::ptr_eq(&config, &self.snapshot.load().config) {
            region
        } else {
            // The files were read again on the way, and may name another region.
            let Some(region) = self.region(&checked, waiting)? else { return Ok(None) };
            region
        };
        if let Some(identity) = credentials.identity() {
            region::check_partition(identity, &region.name)?;
        }
        self.prepare_and_sign(&checked, &region, &credentials).map(Some)
    }

    /// A token that was prepared, by credentials that can sign at once.
    fn sign_prepared(self: &Arc<Self>, request: &TokenRequest<'_>) -> Option<Token> {
        let snapshot = self.snapshot.load();
        let credentials = snapshot.credentials.as_ref()?;
        let now = self.clock.moment();
        let usability = credentials.usability(now);
        if matches!(usability, Usability::Expired | Usability::FilesUnchecked) {
            return None;
        }
        let token = snapshot.prepared.find(request.hash(), |prepared| {
            if prepared.is_for(request) { prepared.sign(now.unix_seconds, credentials.remaining(now)) } else { None }
        })?;
        if usability == Usability::RefreshDue {
            self.refresh_in_background(credentials, now);
        }
        if snapshot.config.log.is_on(Level::Debug) {
            log_token(&snapshot.config.log, &token, request.user, credentials);
        }
        Some(token)
    }

    fn prepare_and_sign(
        &self,
        checked: &CheckedRequest<'_>,
        region: &Region,
        credentials: &Arc<CachedCredentials>,
    ) -> Result<Token, Error> {
        let (request, now) = (checked.request(), self.clock.moment());
        let (day, _) = Day::at(now.unix_seconds);
        let prepared = PreparedToken::new(checked, region, credentials.credentials(), day);
        let token = prepared
            .sign(now.unix_seconds, credentials.remaining(now))
            .ok_or_else(|| internal("a token was prepared for another day"))?;
        let snapshot = self.snapshot.load();
        if snapshot.config.log.is_on(Level::Debug) {
            log_token(&snapshot.config.log, &token, request.user, credentials);
        }
        if snapshot.credentials.as_ref().is_some_and(|current| Arc::ptr_eq(current, credentials)) {
            let size = prepared.size();
            snapshot.prepared.insert(request.hash(), prepared, size, |other| other.is_for(request));
        }
        Ok(token)
    }

    /// The region for a request.
    fn region(self: &Arc<Self>, checked: &CheckedRequest<'_>, waiting: Waiting) -> Result<Option<Arc<Region>>, Error> {
        let (host, kind, argument) = (checked.host(), checked.kind(), checked.request().region);
        let config = Arc::clone(&self.snapshot.load().config);
        let located = match region::locate(host, kind, argument, &config) {
            // It is in the files, and they could not be read when that was tried last.
            Err(error) if config.files().err().as_ref() == Some(&error) => {
                let ready = || None;
                let read = |inner: &Self, _| inner.readable_config();
                let Some(config) = self.obtain(&self.files_flight, waiting, ready, read)? else { return Ok(None) };
                region::locate(host, kind, argument, &config)?
            }
            located => located?,
        };
        if let Some(region) = located {
            return Ok(Some(Arc::new(region)));
        }
        let ready = || self.instance_region.load_full();
        self.obtain(&self.region_flight, waiting, ready, |inner, deadline| inner.fetch_region(deadline))
            .map_err(|error| region::explain_failure(error, host, kind))
    }

    /// Credentials that can sign at once, for a token in this region.
    fn credentials(self: &Arc<Self>, region: &str, waiting: Waiting) -> Result<Option<Arc<CachedCredentials>>, Error> {
        let now = self.clock.moment();
        let snapshot = self.snapshot.load_full();
        if let Some(credentials) = snapshot.usable_credentials(now) {
            if credentials.usability(now) == Usability::RefreshDue {
                self.refresh_in_background(&credentials, now);
            }
            return Ok(Some(credentials));
        }
        let ready = || self.snapshot.load().usable_credentials(now);
        let region = region.to_owned();
        let fetch = move |inner: &Self, deadline| inner.fetch_credentials(Reason::NotUsable, Some(&region), deadline);
        let outcome = self.obtain(&self.credentials_flight, waiting, ready, fetch);
        match (outcome, snapshot.unexpired_credentials(now)) {
            // Keys whose files cannot be checked in time, or not at all for lack of a thread.
            (Err(_), Some(cached)) => Ok(Some(Arc::clone(cached))),
            (Ok(None), Some(cached)) if cached.check_takes_too_long(now) => Ok(Some(Arc::clone(cached))),
            (outcome, _) => outcome,
        }
    }

    /// What is `ready`, or what `fetch` fetches: on this thread, or on a background thread for a caller that does not
    /// wait.
    fn obtain<T: Clone + Send + Sync + 'static>(
        self: &Arc<Self>,
        flight: &SingleFlight<T>,
        waiting: Waiting,
        ready: impl Fn() -> Option<T>,
        fetch: impl FnOnce(&Self, Deadline) -> Result<T, Error> + Send + 'static,
    ) -> Result<Option<T>, Error> {
        match waiting {
            Waiting::Until(deadline) => flight.run(deadline, ready, || fetch(self, deadline)).map(Some),
            Waiting::Never => {
                let inner = Arc::clone(self);
                match flight.poll(ready, move || fetch(&inner, inner.new_deadline())) {
                    Poll::Ready(value) => Ok(Some(value)),
                    Poll::Pending => Ok(None),
                    Poll::Failed(error) => Err(error),
                }
            }
        }
    }

    fn refresh_in_background(self: &Arc<Self>, credentials: &CachedCredentials, now: Moment) {
        if credentials.claim_refresh(now) {
            let inner = Arc::clone(self);
            let spawned = self.credentials_flight.spawn(move || {
                let region = inner.token_region.load_full();
                let region = region.as_ref().map(|region| region.name.as_str());
                without_asking(|| inner.fetch_credentials(Reason::RefreshDue, region, inner.new_deadline()))
            });
            if let Err(error) = spawned {
                let log = &self.snapshot.load().config.log;
                log.warn(format_args!("no refresh of the credentials, the cached ones stay in use: {error}"));
            }
        }
    }

    /// Fetches credentials and caches them. Static keys that only need a check of their files are kept if the files are
    /// unchanged, or if their new content gives no credentials now.
    fn fetch_credentials(
        &self,
        reason: Reason,
        region: Option<&str>,
        deadline: Deadline,
    ) -> Result<Arc<CachedCredentials>, Error> {
        let config = self.current_config();
        let snapshot = self.snapshot.load_full();
        let now = self.clock.moment();
        let unexpired = snapshot.unexpired_credentials(now).filter(|_| reason == Reason::NotUsable);
        if let Some(cached) = unexpired
            && snapshot.credentials_are_current
        {
            cached.files_checked(now);
            return Ok(Arc::clone(cached));
        }
        if let Some(region) = region {
            self.token_region.store(Some(Arc::new(Region::new(region, RegionSource::EndpointName))));
        }
        self.log_clock_step(&config.log, now);
        config.log.debug(format_args!("fetching credentials: {}", reason.describe()));
        let outcome = self.provide(&config, region, deadline, &mut Vec::new());
        let before = snapshot.credentials.as_deref().filter(|_| reason != Reason::AskedFor);
        let now_after = self.clock.moment();
        match cache::after_fetch(outcome, before, now_after) {
            Ok(credentials) => {
                log_extension(&config.log, &credentials, now_after);
                Ok(self.replace_credentials(&config, Arc::new(credentials)))
            }
            Err(error) => match unexpired {
                Some(cached) => {
                    config.log.warn(format_args!("the cached keys stay in use"));
                    // A file that is just being written is read again by the next call.
                    if !config.files_failed() {
                        cached.files_checked(now);
                    }
                    Ok(Arc::clone(cached))
                }
                None => Err(error),
            },
        }
    }

    fn provide(
        &self,
        config: &Config,
        token_region: Option<&str>,
        deadline: Deadline,
        trail: &mut Vec<chain::Step>,
    ) -> Result<Provided, Error> {
        let context = Context {
            config,
            deadline,
            token_region,
            clock: &self.clock,
            mfa_prompt: self.mfa_prompt.as_ref(),
            asked: Cell::default(),
        };
        let began = Instant::now();
        let outcome = chain::provide(&context, trail);
        log_fetch(&config.log, trail, &outcome, began);
        outcome
    }

    /// Logs that somebody set the clock since the last fetch: tokens signed by a wrong clock are refused.
    fn log_clock_step(&self, log: &Log, now: Moment) {
        let ahead = wall_clock_ahead(now);
        let step = ahead.saturating_sub(self.wall_clock_ahead.swap(ahead, Ordering::Relaxed));
        // Less is what time synchronization does all the time.
        if step.unsigned_abs() >= 30 {
            let direction = if step > 0 { "ahead" } else { "back" };
            log.warn(format_args!("the clock was set {} s {direction}", step.unsigned_abs()));
        }
    }

    fn fetch_region(&self, deadline: Deadline) -> Result<Arc<Region>, Error> {
        let (config, began) = (self.current_config(), Instant::now());
        let region = Arc::new(region::from_instance_metadata(&config, deadline)?);
        config.log.info(format_args!(
            "region {} from {}, fetched in {} ms",
            region.name,
            region.source.describe(),
            began.elapsed().as_millis()
        ));
        self.instance_region.store(Some(Arc::clone(&region)));
        Ok(region)
    }

    fn new_deadline(&self) -> Deadline {
        Deadline::after(self.snapshot.load().config.settings.timeout())
    }

    /// The configuration for a fetch. Its files are read again if they could not be read before or have changed. May wait
    /// for the file system.
    fn current_config(&self) -> Arc<Config> {
        reached("checking files");
        let snapshot = self.snapshot.load_full();
        let config = &snapshot.config;
        if config.files_failed() || config.files_changed() {
            let again = config.read_files_again();
            match again.files() {
                Ok(_) => config.log.info(format_args!("the profile files have changed and were read again")),
                Err(error) => config.log.warn(format_args!("{error}")),
            }
            self.replace_config(again)
        } else {
            Arc::clone(config)
        }
    }

    /// The configuration, if its files can be read now.
    fn readable_config(&self) -> Result<Arc<Config>, Error> {
        let config = self.current_config();
        config.files()?;
        Ok(config)
    }

    /// Puts a new configuration in the place of the old one. The credentials stay in use.
    fn replace_config(&self, config: Config) -> Arc<Config> {
        let config = Arc::new(config);
        self.snapshot.rcu(|old| Snapshot::new(Arc::clone(&config), old.credentials.clone()));
        config
    }

    /// Caches credentials if there are none: a person may have been asked for them.
    fn use_if_first(&self, config: &Arc<Config>, provided: Provided) {
        if self.snapshot.load().credentials.is_none()
            && let Ok(credentials) = cache::after_fetch(Ok(provided), None, self.clock.moment())
        {
            self.replace_credentials(config, Arc::new(credentials));
        }
    }

    /// Caches credentials that were fetched under a configuration.
    fn replace_credentials(&self, config: &Arc<Config>, credentials: Arc<CachedCredentials>) -> Arc<CachedCredentials> {
        self.snapshot.rcu(|old| Snapshot {
            credentials_are_current: Arc::ptr_eq(&old.config, config),
            ..Snapshot::new(Arc::clone(&old.config), Some(Arc::clone(&credentials)))
        });
        credentials
    }
}

fn wall_clock_ahead(now: Moment) -> i64 {
    now.unix_seconds.saturating_sub(now.monotonic_seconds)
}

/// Not on the fast path: a token is logged at `debug` only.
#[cold]
#[inline(never)]
fn log_token(log: &Log, token: &Token, user: &str, credentials: &CachedCredentials) {
    log.debug(format_args!(
        "token for {}:{}, user {user}, region {} ({}), key id {}, expires {}",
        token.host(),
        token.port(),
        token.region(),
        token.region_source().describe(),
        credentials.credentials().access_key_id(),
        rfc3339(token.expires_at())
    ));
}

/// Logs the sources that were asked, and the credentials found or why there are none.
fn log_fetch(log: &Log, trail: &[chain::Step], outcome: &Result<Provided, Error>, began: Instant) {
    for step in trail {
        log.debug(format_args!("{}: {}", step.source, step.said));
    }
    let milliseconds = began.elapsed().as_millis();
    match outcome {
        Ok(Provided { credentials, source, identity, by }) => {
            let identity = identity.as_ref().map(|identity| format!(", {identity}")).unwrap_or_default();
            let end = credentials.expiry().map(|end| format!("expire {}", rfc3339(unix_seconds(end))));
            log.info(format_args!(
                "credentials from {}: {by}{identity}, key id {}, {}, fetched in {milliseconds} ms",
                source.name(),
                credentials.access_key_id(),
                end.as_deref().unwrap_or("do not expire")
            ));
        }
        Err(error) => log.warn(format_args!("no credentials fetched, after {milliseconds} ms: {error}")),
    }
}

fn log_extension(log: &Log, credentials: &CachedCredentials, now: Moment) {
    if let Some(seconds) = credentials.extended_for(now) {
        log.warn(format_args!(
            "the credentials with key id {} have expired and are used for {seconds} s more, then the source is asked again",
            credentials.credentials().access_key_id()
        ));
    }
}

fn internal(message: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("internal error: {message}; please report this bug"))
}

#[cfg(all(test, feature = "model"))]
#[path = "client_model_tests.rs"]
mod model_tests;
