//! Credentials kept fresh: whoever has some never waits for the next.
//!
//! | when | what happens |
//! |---|---|
//! | nothing held, or expired | one caller fetches, the others wait for that fetch and share its outcome |
//! | within min(15 min, a quarter of the lifetime) before expiry | callers get the held ones at once; one refresh runs beside them; a failure backs off and nobody sees it |
//! | expired and the instance's own source is down | the held ones are served on for 5 to 15 minutes, then asked again, as the SDKs do (botocore, smithy-rs `imds`) |
//! | keys from files, without expiry | the files are looked at every 30 s at most, and read again when changed |
//!
//! The warm path is a load of one pointer: no lock, and the clock is read once.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use arc_swap::ArcSwapOption;

use crate::credentials::process::without_asking;
use crate::credentials::{Provided, SigningCredentials, Source};
use crate::error::Error;
use crate::sync::single_flight::{Poll, SingleFlight};
use crate::time::{Deadline, unix_seconds};

/// Seconds. A token lives as long, so a held credential that lasts longer cannot shorten one.
const WIDEST_WINDOW: i64 = 900;
const FIRST_BACK_OFF: i64 = 30;
const LONGEST_BACK_OFF: i64 = 300;
const FILES_LOOKED_AT_EVERY: i64 = 30;
const EXTENSION: std::ops::Range<i64> = 300..901;

/// Credentials with what is known of their time. Times are Unix seconds, `i64::MAX` for never.
pub(crate) struct Held {
    pub(crate) signing: SigningCredentials,
    source: Source,
    /// When the credentials end, an extension counted in.
    expires_at: i64,
    /// When the next refresh is due. Moved ahead by whoever starts one, so that exactly one does.
    refresh_at: AtomicI64,
    failures: AtomicU32,
}

impl Held {
    fn new(provided: Provided, now: i64, before: Option<&Held>) -> Self {
        let expiry = provided.credentials.expiry().map(unix_seconds);
        let (expires_at, refresh_at) = match expiry {
            None if provided.source == Source::Profile => (i64::MAX, now.saturating_add(FILES_LOOKED_AT_EVERY)),
            None => (i64::MAX, i64::MAX),
            // Handed out past their end: the source itself is cut off from what renews it. Served on, asked again later.
            Some(expiry) if expiry <= now => {
                let until = now + fastrand::i64(EXTENSION);
                (until, until)
            }
            Some(expiry) => {
                let window = WIDEST_WINDOW.min((expiry - now) / 4);
                let due = expiry - window;
                // The source gave nothing newer: asking again at once would not help.
                let stale = before.is_some_and(|before| before.expires_at >= expiry);
                (expiry, if stale { due.max(now + back_off(0, expiry - now)) } else { due })
            }
        };
        Self {
            signing: SigningCredentials::new(provided.credentials),
            source: provided.source,
            expires_at,
            refresh_at: AtomicI64::new(refresh_at),
            failures: AtomicU32::new(0),
        }
    }

    fn extended(&self, now: i64) -> Self {
        let until = now + fastrand::i64(EXTENSION);
        Self {
            signing: SigningCredentials::new(self.signing.credentials().clone()),
            source: self.source,
            expires_at: until,
            refresh_at: AtomicI64::new(until),
            failures: AtomicU32::new(0),
        }
    }

    /// Unix seconds; `i64::MAX` for credentials without an end.
    #[inline]
    pub(crate) fn expires_at(&self) -> i64 {
        self.expires_at
    }

    #[inline]
    fn is_valid(&self, now: i64) -> bool {
        now < self.expires_at
    }

    /// Whether this caller is the one to start the refresh that is due ([`Cache::refresh_beside`]). Moves the next one
    /// ahead.
    #[inline]
    pub(crate) fn claim_refresh(&self, now: i64) -> bool {
        let due = self.refresh_at.load(Ordering::Relaxed);
        if now < due {
            return false;
        }
        let wait = if self.expires_at == i64::MAX {
            FILES_LOOKED_AT_EVERY
        } else {
            back_off(self.failures.load(Ordering::Relaxed), self.expires_at - now)
        };
        self.refresh_at.compare_exchange(due, now.saturating_add(wait), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Seconds until the next try after `failures` failures, jittered; sooner when little time is left.
fn back_off(failures: u32, left: i64) -> i64 {
    let most = (FIRST_BACK_OFF << failures.min(8)).min(LONGEST_BACK_OFF);
    let jittered = most / 2 + fastrand::i64(0..=most / 2);
    jittered.min((left / 2).max(5))
}

/// What the cache asks of its owner: the source of credentials.
pub(crate) trait Fetch: Send + Sync + 'static {
    /// Fetches, until the deadline.
    fn fetch(&self, deadline: Deadline) -> Result<Provided, Error>;
    /// By when a fetch that nobody waits for must be over.
    fn new_deadline(&self) -> Deadline;
    /// Whether the files that keys without expiry came from have changed.
    fn files_changed(&self) -> bool;
    /// Reads those files again; the next fetch uses them.
    fn read_files_again(&self);
    /// Unix seconds.
    fn now(&self) -> i64;
}

/// The credentials of one client.
pub(crate) struct Cache {
    held: ArcSwapOption<Held>,
    flight: Arc<SingleFlight<Arc<Held>>>,
}

impl Cache {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { held: ArcSwapOption::empty(), flight: Arc::new(SingleFlight::new()) })
    }

    fn valid(&self, now: i64) -> Option<Arc<Held>> {
        self.held.load_full().filter(|held| held.is_valid(now))
    }

    /// Calls `sign` with valid credentials if there are some.
    #[inline]
    pub(crate) fn warm<T>(&self, now: i64, sign: impl FnOnce(&Held) -> Option<T>) -> Option<T> {
        let held = self.held.load();
        sign(held.as_ref().filter(|held| held.is_valid(now))?)
    }

    /// Valid credentials, waiting for them until the deadline if none are held.
    pub(crate) fn wait(&self, source: &impl Fetch, now: i64, deadline: Deadline) -> Result<Arc<Held>, Error> {
        self.flight.wait(deadline, || self.valid(now), || self.fetch(source, deadline))
    }

    /// Credentials fetched beside, where none are held.
    pub(crate) fn poll(self: &Arc<Self>, source: &Arc<impl Fetch>, now: i64) -> Poll<Arc<Held>> {
        let (cache, fetcher) = (Arc::clone(self), Arc::clone(source));
        self.flight.poll(|| self.valid(now), move || cache.fetch(&*fetcher, fetcher.new_deadline()))
    }

    /// Fetches now, whatever is held. On failure the held credentials stay.
    pub(crate) fn refresh(self: &Arc<Self>, source: &Arc<impl Fetch>, deadline: Deadline) -> Result<(), Error> {
        self.flight
            .anew(deadline, || {
                let held = Arc::new(Held::new(source.fetch(deadline)?, source.now(), None));
                self.held.store(Some(Arc::clone(&held)));
                Ok(held)
            })
            .map(drop)
    }

    fn fetch(&self, source: &impl Fetch, deadline: Deadline) -> Result<Arc<Held>, Error> {
        let before = self.held.load_full();
        let outcome = source.fetch(deadline);
        let now = source.now();
        let held = match (outcome, before) {
            (Ok(provided), before) => Held::new(provided, now, before.as_deref()),
            // Static stability: never for fresh credentials, only for those past their end while the source is down.
            (Err(error), Some(before))
                if error.is_source_unavailable() && before.source.may_be_extended() && !before.is_valid(now) =>
            {
                before.extended(now)
            }
            (Err(error), before) => {
                if let Some(before) = before {
                    before.failures.fetch_add(1, Ordering::Relaxed);
                }
                return Err(error);
            }
        };
        let held = Arc::new(held);
        self.held.store(Some(Arc::clone(&held)));
        Ok(held)
    }

    /// Starts the refresh that is due, beside the callers.
    pub(crate) fn refresh_beside(self: &Arc<Self>, source: &Arc<impl Fetch>) {
        let lasting = self.held.load().as_ref().is_some_and(|held| held.expires_at == i64::MAX);
        if lasting && !source.files_changed() {
            return;
        }
        let (cache, source) = (Arc::clone(self), Arc::clone(source));
        self.flight.beside(move || {
            if source.files_changed() {
                source.read_files_again();
            }
            without_asking(|| cache.fetch(&*source, source.new_deadline()))
        });
    }
}
