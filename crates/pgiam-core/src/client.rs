//! The hall: settings and the credential cache in, a token out.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::config::Config;
use crate::config::environment::Environment;
use crate::config::settings::Settings;
use crate::credentials::cache::{Cache, Fetch, Held};
use crate::credentials::{Context, Provided, chain};
use crate::database_endpoint;
use crate::error::Error;
use crate::flight::{Flight, Poll};
use crate::region::{self, Located, RegionSource};
use crate::time::{Clock, Deadline, unix_seconds};
use crate::token::{Target, Token};

/// What a token is for.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest<'a> {
    /// The endpoint's name, as the server knows itself. Lower-cased; one trailing dot is dropped.
    pub host: &'a str,
    /// The port, 1 to 65535.
    pub port: i32,
    /// The region; `None` or empty: found (see [`crate::region`]).
    pub region: Option<&'a str>,
    /// The database user, as in `CREATE USER`.
    pub user: &'a str,
}

/// Settings and credentials. Share one among threads: after the first call a token costs a few microseconds, without a
/// lock and without the network.
///
/// The environment and the profile files are read once, when the client is made, and again at [`Client::refresh`].
///
/// After `fork` the child goes on with what the client holds; no inherited lock is taken and no inherited connection
/// used.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    config: ArcSwap<Config>,
    credentials: Arc<Cache>,
    instance_region: ArcSwapOption<String>,
    region_flight: Arc<Flight<Arc<String>>>,
}

/// What [`Client::explain`] found.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The sources looked at, in order, and what each said.
    pub steps: Vec<(&'static str, String)>,
    /// The credentials that serve, or why none do.
    pub outcome: Result<Serving, Error>,
    /// The region for names that carry none, and where it came from.
    pub region: Result<(String, RegionSource), Error>,
}

/// The credentials in use, without their secrets.
#[derive(Clone, Debug)]
pub struct Serving {
    /// The place in the chain.
    pub source: &'static str,
    /// How they were come by.
    pub by: String,
    /// Whose they are, when the source told: an ARN, or a role and an account.
    pub identity: Option<String>,
    /// The access key's id.
    pub access_key_id: String,
    /// When they end, in Unix seconds; `None` for keys without an end.
    pub expires_at: Option<i64>,
}

/// Makes a [`Client`] whose surroundings are given instead of read from the process.
#[derive(Debug, Default)]
pub struct ClientBuilder {
    settings: Settings,
    clock: Clock,
    environment: Option<Environment>,
}

impl ClientBuilder {
    /// The client's own settings.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The wall clock to sign by.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The environment to use instead of the process'. It is kept at [`Client::refresh`].
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = Some(environment);
        self
    }

    /// Reads the profile files and makes the client. What is wrong with them is told by the first call that needs them.
    #[must_use]
    pub fn build(self) -> Client {
        Client {
            inner: Arc::new(Inner {
                clock: self.clock,
                config: ArcSwap::from_pointee(Config::read(self.settings, self.environment)),
                credentials: Cache::new(),
                instance_region: ArcSwapOption::empty(),
                region_flight: Arc::new(Flight::new()),
            }),
        }
    }
}

impl Fetch for Inner {
    fn fetch(&self, deadline: Deadline) -> Result<Provided, Error> {
        self.fetch_with_trail(deadline, &mut Vec::new())
    }

    fn new_deadline(&self) -> Deadline {
        Deadline::after(self.config.load().settings.timeout())
    }

    fn files_changed(&self) -> bool {
        self.config.load().files_changed()
    }

    fn read_files_again(&self) {
        let again = self.config.load().read_files_again();
        self.config.store(Arc::new(again));
    }

    #[inline]
    fn now(&self) -> i64 {
        self.clock.now()
    }
}

impl Client {
    /// A client with these settings, in the process' environment. Nothing is fetched yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self::builder().settings(settings).build()
    }

    /// A client in surroundings of one's own.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// A fresh token. Waits for credentials if none are held, at most the `timeout_ms` setting (default 10 s; instance
    /// metadata alone 2 s).
    ///
    /// # Errors
    ///
    /// Every kind but `WouldBlock`; the message names the source and what to do.
    #[inline]
    pub fn generate_token(&self, request: &TokenRequest<'_>) -> Result<Token, Error> {
        let inner = &self.inner;
        let config = inner.config.load();
        let host = database_endpoint::normalize(request.host)?;
        let target = Target::check(&host, request.port, request.user, config.settings.service())?;
        // One for the region and the credentials together; it begins with the first that is waited for.
        let mut deadline = None;
        let found;
        let region = match region::locate(&host, target.kind, request.region, &config)? {
            Located::Known(region, source) => (region, source),
            Located::AskInstanceMetadata => {
                found = inner.wait_for_region(*deadline.get_or_insert_with(|| inner.new_deadline()))?;
                (found.as_str(), RegionSource::InstanceMetadata)
            }
        };
        if let Some(token) = inner.sign_warm(&target, region) {
            return Ok(token);
        }
        let held = inner.wait_for_credentials(deadline.unwrap_or_else(|| inner.new_deadline()))?;
        // Time has passed.
        Ok(target.sign(region, &held.signing, held.expires_at(), inner.clock.now()))
    }

    /// As [`Client::generate_token`], but never waits. `Ok(None)`: a fetch has been started beside; ask again, not
    /// sooner than 20 ms. A failed fetch is reported once and then tried again after a back-off of 1 to 32 s.
    ///
    /// # Errors
    ///
    /// As [`Client::generate_token`].
    #[inline(never)]
    pub fn try_generate_token(&self, request: &TokenRequest<'_>) -> Result<Option<Token>, Error> {
        let inner = &self.inner;
        let config = inner.config.load();
        let host = database_endpoint::normalize(request.host)?;
        let target = Target::check(&host, request.port, request.user, config.settings.service())?;
        let found;
        let region = match region::locate(&host, target.kind, request.region, &config)? {
            Located::Known(region, source) => (region, source),
            Located::AskInstanceMetadata => {
                match inner.poll_region() {
                    Poll::Ready(region) => found = region,
                    Poll::Pending => return Ok(None),
                    Poll::Failed(error) => return Err(error),
                }
                (found.as_str(), RegionSource::InstanceMetadata)
            }
        };
        if let Some(token) = inner.sign_warm(&target, region) {
            return Ok(Some(token));
        }
        let now = inner.clock.now();
        match inner.credentials.poll(inner, now) {
            Poll::Ready(held) => Ok(Some(target.sign(region, &held.signing, held.expires_at(), now))),
            Poll::Pending => Ok(None),
            Poll::Failed(error) => Err(error),
        }
    }

    /// Looks at the sources in their order, now, and tells what each said and which one serves: for people who wonder
    /// why. Never a secret. What the client holds is not touched.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let mut trail = Vec::new();
        let outcome = self.inner.fetch_with_trail(self.inner.new_deadline(), &mut trail);
        let config = self.inner.config.load_full();
        let deadline = Deadline::after(config.settings.timeout());
        Explanation {
            steps: trail.into_iter().map(|step| (step.source, step.said)).collect(),
            outcome: outcome.map(|provided| Serving {
                source: provided.source.name(),
                by: provided.by,
                identity: provided.identity,
                access_key_id: provided.credentials.access_key_id().to_owned(),
                expires_at: provided.credentials.expiry().map(unix_seconds),
            }),
            region: region::without_endpoint(&config, deadline),
        }
    }

    /// Reads the environment and the profile files again and fetches credentials now. Credentials that are held stay in
    /// use if that fails. Do not change the environment in another thread meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Client::generate_token`].
    pub fn refresh(&self) -> Result<(), Error> {
        let inner = &self.inner;
        let before = inner.config.load_full();
        let deadline = Deadline::after(before.settings.timeout());
        inner.config.store(Arc::new(before.read_everything_again()));
        inner.instance_region.store(None);
        inner.credentials.refresh(inner, deadline)
    }
}

impl Inner {
    /// The warm path: a token by the credentials held. `None`: none are held.
    #[inline]
    fn sign_warm(self: &Arc<Self>, target: &Target<'_>, region: (&str, RegionSource)) -> Option<Token> {
        let now = self.clock.now();
        let (warm, refresh_is_due) = self.credentials.warm(now)?;
        let held = warm.held()?;
        let token = target.sign(region, &held.signing, held.expires_at(), now);
        if refresh_is_due {
            self.refresh_beside();
        }
        Some(token)
    }

    // The cold paths stand apart, so that they are compiled for size, and the warm one, which is inlined into its
    // callers, for speed (Cargo.toml).

    #[cold]
    fn refresh_beside(self: &Arc<Self>) {
        self.credentials.refresh_beside(self);
    }

    #[cold]
    fn wait_for_credentials(self: &Arc<Self>, deadline: Deadline) -> Result<Arc<Held>, Error> {
        self.credentials.wait(&**self, self.clock.now(), deadline)
    }

    #[cold]
    fn wait_for_region(&self, deadline: Deadline) -> Result<Arc<String>, Error> {
        self.region_flight.wait(deadline, || self.instance_region.load_full(), || self.fetch_region(deadline))
    }

    fn poll_region(self: &Arc<Self>) -> Poll<Arc<String>> {
        let fetcher = Arc::clone(self);
        self.region_flight
            .poll(|| self.instance_region.load_full(), move || fetcher.fetch_region(fetcher.new_deadline()))
    }

    fn fetch_with_trail(&self, deadline: Deadline, trail: &mut Vec<chain::Step>) -> Result<Provided, Error> {
        let config = self.config.load_full();
        let context = Context { deadline, now: self.clock.now(), config: &config };
        chain::provide(&context, trail)
    }

    fn fetch_region(&self, deadline: Deadline) -> Result<Arc<String>, Error> {
        let config = self.config.load_full();
        let region = Arc::new(region::from_instance_metadata(&config, deadline)?);
        self.instance_region.store(Some(Arc::clone(&region)));
        Ok(region)
    }
}
