//! When cached credentials may be used, when they are renewed, and what a failed renewal means. Decisions only: the client
//! stores the credentials and makes the fetches.
//!
//! | when | what happens |
//! |---|---|
//! | nothing cached, or expired | one caller fetches, the others wait for that fetch and share its outcome |
//! | within min(15 min, a quarter of the lifetime) before expiry, or up to a third of that time earlier, at random | callers get the cached ones at once; one background refresh runs; a failure backs off and nobody sees it |
//! | expired, and the source of the instance or container is down | the cached ones are used for 5 to 15 minutes more, then the source is asked again, as the SDKs do (botocore, smithy-rs `imds`) |
//! | keys from files, without expiry | a call that finds the last check of the files 30 s or more ago checks them before it signs |
//!
//! The wall clock can be wrong and be set right again. What lasts a number of seconds from now (back-offs, extensions,
//! checks) goes by the monotonic clock alone. Credentials end when their expiration time has come or when they have been
//! cached for as long as they were to live, whichever is first.

use std::sync::atomic::Ordering;

use aws_credential_types::Credentials;

use crate::credentials::{Provided, Source};
use crate::error::Error;
use crate::sync::primitives::{AtomicI64, AtomicU32};
use crate::time::{Moment, unix_seconds};

// Seconds.
/// As long as a token lives: credentials that last longer do not shorten one.
const LONGEST_WINDOW: i64 = 900;
const FIRST_BACK_OFF: i64 = 30;
const LONGEST_BACK_OFF: i64 = 300;
const FILES_CHECKED_EVERY: i64 = 30;
/// For so long a caller that does not wait is sent away while a background thread checks the files. After that the file
/// system hangs, and the cached keys are used.
const CHECK_MAY_TAKE: i64 = 2;
const EXTENSION: std::ops::Range<i64> = 300..901;

/// Credentials with what is known about their time.
pub(crate) struct CachedCredentials {
    credentials: Credentials,
    source: Source,
    identity: Option<String>,
    expiry: Expiry,
    /// Seconds before the end at which a background refresh is due.
    window: i64,
    /// Monotonic seconds before which no background refresh starts. Moved ahead by whoever starts one.
    next_refresh: AtomicI64,
    failures: AtomicU32,
    files: Option<FileCheck>,
}

#[derive(Clone, Copy)]
enum Expiry {
    Never,
    /// The time the source gave, and the monotonic time at which it comes if the wall clock was right at the fetch.
    At {
        unix_seconds: i64,
        monotonic: i64,
    },
    /// Used beyond the expiration time, until a monotonic time.
    Extended {
        monotonic: i64,
    },
}

/// When the files that static keys came from were checked, in monotonic seconds.
struct FileCheck {
    last: AtomicI64,
    /// When the check that is running on a background thread was asked for; [`NOT_RUNNING`].
    running_since: AtomicI64,
}

const NOT_RUNNING: i64 = i64::MIN;

/// What to do with cached credentials at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usability {
    /// Sign.
    Fresh,
    /// Sign, and start a background refresh.
    RefreshDue,
    /// Check the files, then sign.
    FilesUnchecked,
    /// Fetch, then sign.
    Expired,
}

impl CachedCredentials {
    fn new(provided: Provided, now: Moment, before: Option<&Self>) -> Self {
        let Provided { credentials, source, identity, .. } = provided;
        let expiry = match credentials.expiry().map(unix_seconds) {
            None => Expiry::Never,
            // Handed out after their end: the source itself cannot reach what renews it.
            Some(end) if end <= now.unix_seconds => extension(now),
            Some(end) => {
                let monotonic = now.monotonic_seconds.saturating_add(end.saturating_sub(now.unix_seconds));
                Expiry::At { unix_seconds: end, monotonic }
            }
        };
        let lifetime = expiry.remaining(now);
        // The source had nothing newer: asking again at once would not help.
        let is_stale = before.is_some_and(|before| before.expiry.is_not_before(expiry));
        let wait = if is_stale { back_off(0, lifetime) } else { 0 };
        // Keys of a profile that never end are static keys of a file, or the output of a process that a file names.
        let from_files = source == Source::Profile && matches!(expiry, Expiry::Never);
        Self {
            credentials,
            source,
            identity,
            expiry,
            window: if matches!(expiry, Expiry::At { .. }) { refresh_window(lifetime) } else { 0 },
            next_refresh: AtomicI64::new(now.monotonic_seconds.saturating_add(wait)),
            failures: AtomicU32::new(0),
            files: from_files.then(|| FileCheck::new(now)),
        }
    }

    /// The same credentials, used for some minutes more.
    fn extended(&self, now: Moment) -> Self {
        Self {
            credentials: self.credentials.clone(),
            source: self.source,
            identity: self.identity.clone(),
            expiry: extension(now),
            window: 0,
            next_refresh: AtomicI64::new(0),
            failures: AtomicU32::new(0),
            files: None,
        }
    }

    pub(crate) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// For how many seconds they are used past their expiration time; `None`: it has not come, as far as is known.
    pub(crate) fn extended_for(&self, now: Moment) -> Option<i64> {
        matches!(self.expiry, Expiry::Extended { .. }).then(|| self.remaining(now))
    }

    /// Whose they are, when the source said so.
    pub(crate) fn identity(&self) -> Option<&str> {
        self.identity.as_deref()
    }

    pub(crate) fn usability(&self, now: Moment) -> Usability {
        let remaining = self.remaining(now);
        if remaining <= 0 {
            Usability::Expired
        } else if self.files.as_ref().is_some_and(|files| files.is_due(now)) {
            Usability::FilesUnchecked
        } else if remaining <= self.window && self.next_refresh.load(Ordering::Relaxed) <= now.monotonic_seconds {
            Usability::RefreshDue
        } else {
            Usability::Fresh
        }
    }

    /// Whether they can sign at once.
    pub(crate) fn is_usable(&self, now: Moment) -> bool {
        matches!(self.usability(now), Usability::Fresh | Usability::RefreshDue)
    }

    /// Seconds until they end; `i64::MAX` for never.
    pub(crate) fn remaining(&self, now: Moment) -> i64 {
        self.expiry.remaining(now)
    }

    /// Whether this caller is the one to start the refresh that is due. Moves the next one ahead.
    pub(crate) fn claim_refresh(&self, now: Moment) -> bool {
        let due = self.next_refresh.load(Ordering::Relaxed);
        let wait = back_off(self.failures.load(Ordering::Relaxed), self.remaining(now));
        let next = now.monotonic_seconds.saturating_add(wait);
        due <= now.monotonic_seconds
            && self.next_refresh.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Notes that the files were checked.
    pub(crate) fn files_checked(&self, now: Moment) {
        if let Some(files) = &self.files {
            files.last.store(now.monotonic_seconds, Ordering::Relaxed);
            files.running_since.store(NOT_RUNNING, Ordering::Relaxed);
        }
    }

    /// Whether the check of the files that is running takes too long, so that a caller that does not wait uses these.
    pub(crate) fn check_takes_too_long(&self, now: Moment) -> bool {
        let Some(files) = &self.files else { return false };
        let now = now.monotonic_seconds;
        let since = match files.running_since.compare_exchange(NOT_RUNNING, now, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => now,
            Err(since) => since,
        };
        now.saturating_sub(since) >= CHECK_MAY_TAKE
    }
}

/// What is cached after a fetch. On failure what is cached stays, unless it is extended.
pub(crate) fn after_fetch(
    outcome: Result<Provided, Error>,
    before: Option<&CachedCredentials>,
    now: Moment,
) -> Result<CachedCredentials, Error> {
    match (outcome, before) {
        (Ok(provided), before) => Ok(CachedCredentials::new(provided, now, before)),
        // Never for fresh credentials, only for those that ended while the source is down.
        (Err(error), Some(before))
            if error.is_source_unavailable() && before.source.may_be_extended() && before.remaining(now) <= 0 =>
        {
            Ok(before.extended(now))
        }
        (Err(error), before) => {
            if let Some(before) = before {
                before.failures.fetch_add(1, Ordering::Relaxed);
            }
            Err(error)
        }
    }
}

impl Expiry {
    fn remaining(self, now: Moment) -> i64 {
        match self {
            Self::Never => i64::MAX,
            Self::At { unix_seconds, monotonic } => {
                let by_wall_clock = unix_seconds.saturating_sub(now.unix_seconds);
                by_wall_clock.min(monotonic.saturating_sub(now.monotonic_seconds))
            }
            Self::Extended { monotonic } => monotonic.saturating_sub(now.monotonic_seconds),
        }
    }

    /// Whether both are times that a source gave, and the other is no later.
    fn is_not_before(self, other: Self) -> bool {
        match (self, other) {
            (Self::At { unix_seconds: own, .. }, Self::At { unix_seconds: other, .. }) => own >= other,
            _ => false,
        }
    }
}

impl FileCheck {
    fn new(now: Moment) -> Self {
        Self { last: AtomicI64::new(now.monotonic_seconds), running_since: AtomicI64::new(NOT_RUNNING) }
    }

    fn is_due(&self, now: Moment) -> bool {
        now.monotonic_seconds.saturating_sub(self.last.load(Ordering::Relaxed)) >= FILES_CHECKED_EVERY
    }
}

fn extension(now: Moment) -> Expiry {
    Expiry::Extended { monotonic: now.monotonic_seconds.saturating_add(fastrand::i64(EXTENSION)) }
}

/// Seconds before the end of credentials at which their refresh is due. Jittered, so that processes which were started
/// together do not renew together.
pub(crate) fn refresh_window(lifetime: i64) -> i64 {
    let shortest = LONGEST_WINDOW.min(lifetime / 4);
    shortest + fastrand::i64(0..=shortest / 3)
}

/// Seconds until the next try after `failures` failures, jittered; sooner when little time is left.
pub(crate) fn back_off(failures: u32, left: i64) -> i64 {
    let most = (FIRST_BACK_OFF << failures.min(8)).min(LONGEST_BACK_OFF);
    let jittered = most / 2 + fastrand::i64(0..=most / 2);
    jittered.min((left / 2).max(5))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::time::system_time;

    const START: i64 = 1_700_000_000;
    const HOUR: i64 = 3600;
    const YEAR: i64 = 365 * 24 * HOUR;

    /// `passed` seconds after the start, by a wall clock that is off by `off` seconds.
    fn at(passed: i64, off: i64) -> Moment {
        Moment { unix_seconds: START + passed + off, monotonic_seconds: 5000 + passed }
    }

    fn provided(source: Source, end: Option<i64>) -> Provided {
        let expiry = end.map(|end| system_time(START + end));
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, expiry, "test");
        Provided { credentials, source, identity: None, by: "a test".into() }
    }

    fn fetched(source: Source, end: i64, now: Moment) -> CachedCredentials {
        after_fetch(Ok(provided(source, Some(end))), None, now).unwrap()
    }

    fn source_down() -> Result<Provided, Error> {
        Err(Error::new(ErrorKind::Provider, "down").source_unavailable())
    }

    const SOURCES: [Source; 4] = [Source::Environment, Source::Profile, Source::Container, Source::InstanceMetadata];

    #[test]
    fn credentials_fetched_by_a_right_clock_end_in_time_however_the_clock_is_set() {
        for source in SOURCES {
            let cached = fetched(source, 6 * HOUR, at(0, 0));
            for off in [-2 * HOUR, 7 * HOUR, YEAR, -YEAR] {
                assert_eq!(cached.usability(at(6 * HOUR + 1, off)), Usability::Expired, "{source:?} {off}");
                // Right again.
                assert_eq!(cached.usability(at(HOUR, 0)), Usability::Fresh, "{source:?} {off}");
            }
        }
    }

    #[test]
    fn credentials_fetched_by_a_clock_that_is_behind_end_in_time_once_it_is_right() {
        for source in SOURCES {
            let cached = fetched(source, 6 * HOUR, at(0, -2 * HOUR));
            assert_eq!(cached.usability(at(6 * HOUR - 600, 0)), Usability::RefreshDue, "{source:?}");
            assert_eq!(cached.usability(at(6 * HOUR, 0)), Usability::Expired, "{source:?}");
        }
    }

    #[test]
    fn credentials_fetched_by_a_clock_that_is_ahead_are_renewed_within_fifteen_minutes() {
        for source in [Source::Container, Source::InstanceMetadata] {
            for off in [7 * HOUR, YEAR] {
                let cached = fetched(source, 6 * HOUR, at(0, off));
                assert!(cached.is_usable(at(1, off)), "handed out after their end by this clock: used for a while");
                assert!((300..=900).contains(&cached.remaining(at(0, off))));
                assert_eq!(cached.usability(at(901, 0)), Usability::Expired, "{source:?} {off}");
            }
        }
    }

    #[test]
    fn an_extension_ends_by_the_monotonic_clock_whatever_the_wall_clock_says() {
        for source in [Source::Container, Source::InstanceMetadata] {
            for off in [-2 * HOUR, 7 * HOUR, YEAR] {
                let before = fetched(source, HOUR, at(0, 0));
                let extended = after_fetch(source_down(), Some(&before), at(HOUR, off.max(0))).unwrap();
                assert_eq!(extended.usability(at(HOUR + 1, 0)), Usability::Fresh);
                assert_eq!(extended.usability(at(HOUR + 901, 0)), Usability::Expired, "{source:?} {off}");
                assert_eq!(extended.usability(at(HOUR + 901, off)), Usability::Expired, "{source:?} {off}");
            }
        }
    }

    #[test]
    fn fresh_credentials_and_those_of_other_sources_are_never_extended() {
        for (source, passed) in [(Source::InstanceMetadata, 1), (Source::Profile, HOUR), (Source::Environment, HOUR)] {
            let before = fetched(source, HOUR, at(0, 0));
            assert!(after_fetch(source_down(), Some(&before), at(passed, 0)).is_err(), "{source:?}");
        }
    }

    #[test]
    fn refreshes_of_credentials_that_were_fetched_together_are_spread_over_a_third_of_the_window() {
        let starts = |lifetime| (0..1000).map(move |_| refresh_window(lifetime));
        for (lifetime, window) in [(900, 225..=300), (HOUR, 900..=1200), (6 * HOUR, 900..=1200)] {
            assert!(starts(lifetime).all(|start| window.contains(&start)), "{lifetime}");
            let spread = starts(lifetime).max().unwrap() - starts(lifetime).min().unwrap();
            assert!(spread > (window.end() - window.start()) * 9 / 10, "{lifetime}: {spread}");
        }
        assert!(starts(0).all(|start| start == 0));
    }

    #[test]
    fn one_caller_claims_a_refresh_and_the_next_comes_after_the_back_off_by_the_monotonic_clock() {
        let cached = fetched(Source::Environment, HOUR, at(0, 0));
        let in_window = HOUR - 800;
        assert_eq!(cached.usability(at(in_window, 0)), Usability::RefreshDue);
        assert!(cached.claim_refresh(at(in_window, 0)));
        assert!(!cached.claim_refresh(at(in_window, 0)));
        assert_eq!(cached.usability(at(in_window, 0)), Usability::Fresh);
        assert_eq!(cached.usability(at(in_window, 60)), Usability::Fresh, "a wall clock set ahead changes nothing");
        assert_eq!(cached.usability(at(in_window + 31, 0)), Usability::RefreshDue);
    }

    #[test]
    fn keys_from_files_are_checked_every_thirty_seconds_and_a_check_that_hangs_is_not_waited_for() {
        let cached = after_fetch(Ok(provided(Source::Profile, None)), None, at(0, 0)).unwrap();
        assert_eq!(cached.usability(at(29, YEAR)), Usability::Fresh);
        assert_eq!(cached.usability(at(30, 0)), Usability::FilesUnchecked);
        assert!(!cached.check_takes_too_long(at(1000, 0)), "it has just begun");
        assert!(!cached.check_takes_too_long(at(1001, 0)));
        assert!(cached.check_takes_too_long(at(1002, 0)));
        cached.files_checked(at(1003, 0));
        assert_eq!(cached.usability(at(1004, 0)), Usability::Fresh);
        assert!(!cached.check_takes_too_long(at(2000, 0)), "another one");
        let never = after_fetch(Ok(provided(Source::Environment, None)), None, at(0, 0)).unwrap();
        assert_eq!(never.usability(at(YEAR, 0)), Usability::Fresh, "keys of the environment have no files");
    }
}
