//! The hall: settings and the credential cache in, a token out.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::config::Config;
use crate::config::environment::Environment;
use crate::config::settings::Settings;
use crate::credentials::cache::{Cache, Fetch, Held};
use crate::credentials::{Context, Provided, chain};
use crate::error::Error;
use crate::region::{self, Located, RegionSource};
use crate::sync::lossy_cache::LossyCache;
use crate::sync::single_flight::{Poll, SingleFlight};
use crate::time::{Clock, Deadline, unix_seconds};
use crate::token::{CheckedRequest, Target, Token, TokenRequest};

/// Settings and credentials. Share one among threads: after the first call a token costs about a microsecond, without a
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
    known: ArcSwap<Known>,
    credentials: Arc<Cache>,
    instance_region: ArcSwapOption<String>,
    /// The region of the last token that needed credentials: where AWS services are asked by default.
    token_region: ArcSwapOption<String>,
    region_flight: Arc<SingleFlight<Arc<String>>>,
}

/// What was configured, and for what tokens were asked under that configuration.
struct Known {
    config: Config,
    targets: LossyCache<Target>,
}

impl Known {
    fn new(config: Config) -> Self {
        Self { config, targets: LossyCache::new() }
    }

    /// The target of a request that was checked, remembered from then on.
    fn target(&self, checked: &CheckedRequest<'_>, region: &str, source: RegionSource) -> Arc<Target> {
        let (request, number) = (checked.request(), checked.request().number());
        self.targets.find(number, |target| target.is_for(request), Arc::clone).unwrap_or_else(|| {
            let target = Arc::new(Target::new(checked, region, source));
            // Another thread may have remembered the same meanwhile.
            self.targets.keep(number, &target, |kept| !kept.is_for(request));
            target
        })
    }
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
                known: ArcSwap::from_pointee(Known::new(Config::read(self.settings, self.environment))),
                credentials: Cache::new(),
                instance_region: ArcSwapOption::empty(),
                token_region: ArcSwapOption::empty(),
                region_flight: Arc::new(SingleFlight::new()),
            }),
        }
    }
}

impl Fetch for Inner {
    fn fetch(&self, deadline: Deadline) -> Result<Provided, Error> {
        self.fetch_with_trail(deadline, &mut Vec::new())
    }

    fn new_deadline(&self) -> Deadline {
        Deadline::after(self.known.load().config.settings.timeout())
    }

    fn files_changed(&self) -> bool {
        self.known.load().config.files_changed()
    }

    fn read_files_again(&self) {
        let again = self.known.load().config.read_files_again();
        self.known.store(Arc::new(Known::new(again)));
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
        match self.inner.sign_prepared(request) {
            Some(token) => Ok(token),
            None => self.inner.generate_token(request),
        }
    }

    /// As [`Client::generate_token`], but never waits. `Ok(None)`: a fetch has been started beside; ask again, not
    /// sooner than 20 ms. A failed fetch is reported once and then tried again after a back-off of 1 to 32 s.
    ///
    /// # Errors
    ///
    /// As [`Client::generate_token`].
    #[inline(never)]
    pub fn try_generate_token(&self, request: &TokenRequest<'_>) -> Result<Option<Token>, Error> {
        match self.inner.sign_prepared(request) {
            Some(token) => Ok(Some(token)),
            None => self.inner.try_generate_token(request),
        }
    }

    /// Looks at the sources in their order, now, and tells what each said and which one serves: for people who wonder
    /// why. Never a secret. What the client holds is not touched.
    #[must_use]
    pub fn explain(&self) -> Explanation {
        let mut trail = Vec::new();
        let outcome = self.inner.fetch_with_trail(self.inner.new_deadline(), &mut trail);
        let known = self.inner.known.load_full();
        let deadline = Deadline::after(known.config.settings.timeout());
        let region =
            region::without_endpoint(&known.config, deadline).map_err(|error| chain::without_repetition(error, &trail));
        Explanation {
            steps: trail.into_iter().map(|step| (step.source, step.said)).collect(),
            outcome: outcome.map(|provided| Serving {
                source: provided.source.name(),
                by: provided.by,
                identity: provided.identity,
                access_key_id: provided.credentials.access_key_id().to_owned(),
                expires_at: provided.credentials.expiry().map(unix_seconds),
            }),
            region,
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
        let before = inner.known.load_full();
        let deadline = Deadline::after(before.config.settings.timeout());
        // Before the new configuration is there: nothing may remember the old region under it.
        inner.instance_region.store(None);
        inner.known.store(Arc::new(Known::new(before.config.read_everything_again())));
        inner.credentials.refresh(inner, deadline)
    }
}

impl Inner {
    /// The warm path: a token for a target that is known by credentials that are held. `None`: something is missing.
    #[inline]
    fn sign_prepared(self: &Arc<Self>, request: &TokenRequest<'_>) -> Option<Token> {
        let sign = |target: &Arc<Target>| {
            let now = self.clock.now();
            self.credentials.warm(now, |held| {
                let token = target.sign_prepared(&held.signing, held.expires_at(), now)?;
                if held.claim_refresh(now) {
                    self.refresh_beside();
                }
                Some(token)
            })
        };
        self.known.load().targets.find(request.number(), |target| target.is_for(request), sign)?
    }

    // The cold paths stand apart, so that they are compiled for size, and the warm one, which is inlined into its
    // callers, for speed (Cargo.toml).

    #[cold]
    #[inline(never)]
    fn generate_token(self: &Arc<Self>, request: &TokenRequest<'_>) -> Result<Token, Error> {
        let known = self.known.load_full();
        let checked = CheckedRequest::check(*request, known.config.settings.service())?;
        // One for the region and the credentials together; it begins with the first that is waited for.
        let mut deadline = None;
        let found;
        let (region, source) = match checked.locate(&known.config)? {
            Located::Known(region, source) => (region, source),
            Located::AskInstanceMetadata => {
                found = self.wait_for_region(*deadline.get_or_insert_with(|| self.new_deadline()))?;
                (found.as_str(), RegionSource::InstanceMetadata)
            }
        };
        let target = known.target(&checked, region, source);
        if let Some(token) = self.sign_held(&target, self.clock.now()) {
            return Ok(token);
        }
        self.token_region.store(Some(Arc::new(region.to_owned())));
        let held = self.wait_for_credentials(deadline.unwrap_or_else(|| self.new_deadline()))?;
        // Time has passed.
        Ok(target.sign(&held.signing, held.expires_at(), self.clock.now()))
    }

    #[cold]
    #[inline(never)]
    fn try_generate_token(self: &Arc<Self>, request: &TokenRequest<'_>) -> Result<Option<Token>, Error> {
        let known = self.known.load_full();
        let checked = CheckedRequest::check(*request, known.config.settings.service())?;
        let found;
        let (region, source) = match checked.locate(&known.config)? {
            Located::Known(region, source) => (region, source),
            Located::AskInstanceMetadata => match self.poll_region() {
                Poll::Ready(region) => {
                    found = region;
                    (found.as_str(), RegionSource::InstanceMetadata)
                }
                Poll::Pending => return Ok(None),
                Poll::Failed(error) => return Err(error),
            },
        };
        let target = known.target(&checked, region, source);
        let now = self.clock.now();
        if let Some(token) = self.sign_held(&target, now) {
            return Ok(Some(token));
        }
        self.token_region.store(Some(Arc::new(region.to_owned())));
        match self.credentials.poll(self, now) {
            Poll::Ready(held) => Ok(Some(target.sign(&held.signing, held.expires_at(), now))),
            Poll::Pending => Ok(None),
            Poll::Failed(error) => Err(error),
        }
    }

    /// A token by the credentials held. `None`: none are.
    fn sign_held(self: &Arc<Self>, target: &Target, now: i64) -> Option<Token> {
        self.credentials.warm(now, |held| {
            let token = target.sign(&held.signing, held.expires_at(), now);
            if held.claim_refresh(now) {
                self.refresh_beside();
            }
            Some(token)
        })
    }

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
        let known = self.known.load_full();
        let region = self.token_region.load_full();
        let context = Context {
            deadline,
            now: self.clock.now(),
            config: &known.config,
            token_region: region.as_deref().map(String::as_str),
        };
        chain::provide(&context, trail)
    }

    fn fetch_region(&self, deadline: Deadline) -> Result<Arc<String>, Error> {
        let known = self.known.load_full();
        let region = Arc::new(region::from_instance_metadata(&known.config, deadline)?);
        self.instance_region.store(Some(Arc::clone(&region)));
        Ok(region)
    }
}
