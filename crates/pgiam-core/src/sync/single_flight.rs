//! One fetch at a time, shared by all callers that wait for it, and safe across `fork`.
//!
//! A child of `fork` has one thread: a lock that another thread of the parent had locked stays locked in the child for
//! ever. So the shared state carries the identity of the process that made it; a child that finds another identity puts a
//! new state in its place by compare-and-swap and never touches the inherited lock. No lock is kept during a fetch.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::sync::primitives::{
    ArcSwap, Condvar, Mutex, MutexGuard, ProcessIdentity, now, process_identity, spawn_without_signals,
};
use crate::test_hooks::reached;
use crate::time::Deadline;

type Outcome<T> = Result<T, Error>;

/// A failure that nobody has polled for so long is not news: the source may work again.
const FAILURE_IS_NEWS_FOR: Duration = Duration::from_secs(2);

/// A caller with less time left does not fetch again.
const WORTH_A_FETCH: Duration = Duration::from_millis(500);

/// Runs at most one fetch of a `T` at a time.
pub(crate) struct SingleFlight<T>(ArcSwap<Shared<T>>);

struct Shared<T> {
    process: ProcessIdentity,
    state: Mutex<State<T>>,
    finished: Condvar,
}

struct State<T> {
    running: bool,
    /// When the fetch that is running, or that ran last, must end, if a caller that waits runs it.
    ends: Option<Deadline>,
    /// How many fetches have finished. A waiter compares it to distinguish its own fetch from an earlier one.
    finished: u64,
    outcome: Option<Outcome<T>>,
    /// A failure that the next poll reports, and when it happened.
    unreported: Option<(Instant, Error)>,
    failures: u32,
    not_before: Option<Instant>,
}

/// What a caller that does not wait gets.
#[derive(Debug)]
pub(crate) enum Poll<T> {
    Ready(T),
    Pending,
    Failed(Error),
}

/// What becomes of a failure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OnFailure {
    Return,
    /// The next poll reports it.
    KeepForPoll,
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    pub(crate) fn new() -> Self {
        Self(ArcSwap::from_pointee(Shared::new()))
    }

    /// The value if it is `ready`; else the outcome of the fetch that is running, or of `fetch`, run on this thread. All
    /// callers that wait for one fetch get the same outcome, except that a caller with more time fetches again after
    /// another caller's time was up. `ready` is asked under the lock, since a fetch may have just finished.
    pub(crate) fn run(
        &self,
        deadline: Deadline,
        ready: impl Fn() -> Option<T>,
        fetch: impl FnOnce() -> Outcome<T>,
    ) -> Outcome<T> {
        loop {
            let shared = self.shared();
            let mut state = shared.lock();
            reached("run: locked");
            if let Some(value) = ready() {
                return Ok(value);
            }
            if !state.running {
                state.running = true;
                state.ends = Some(deadline);
                drop(state);
                return shared.run(OnFailure::Return, fetch);
            }
            let ends = state.ends;
            let outcome = shared.wait(state, deadline);
            let timed_out = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Timeout);
            let was_cut_off = timed_out && ends.is_some_and(|ends| ends.remaining().is_none());
            if !was_cut_off || deadline.remaining().is_none_or(|left| left < WORTH_A_FETCH) {
                return outcome;
            }
        }
    }

    /// Never waits: where the value is not `ready`, starts `fetch` on a background thread, unless one is running or one
    /// has just failed. A failure is reported once.
    pub(crate) fn poll(
        &self,
        ready: impl Fn() -> Option<T>,
        fetch: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Poll<T> {
        let shared = self.shared();
        // Another thread keeps the lock for a moment only, but it may be interrupted in that moment.
        let Some(mut state) = shared.try_lock() else { return Poll::Pending };
        reached("poll: locked");
        if let Some(value) = ready() {
            return Poll::Ready(value);
        }
        if let Some((happened, error)) = state.unreported.take()
            && now().duration_since(happened) < FAILURE_IS_NEWS_FOR
        {
            let back_off = Duration::from_secs(1 << state.failures.clamp(1, 6).saturating_sub(1));
            state.not_before = Some(now() + back_off.mul_f64(0.5 + fastrand::f64() / 2.0));
            return Poll::Failed(error);
        }
        if state.running || state.not_before.is_some_and(|moment| now() < moment) {
            return Poll::Pending;
        }
        (state.running, state.ends) = (true, None);
        drop(state);
        match shared.start(OnFailure::KeepForPoll, fetch) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Failed(error),
        }
    }

    /// Starts `fetch` on a background thread, unless a fetch is running. Its failure is not reported. An error: no thread
    /// can be started; the caller goes on with what is cached, and a later call tries again.
    pub(crate) fn spawn(&self, fetch: impl FnOnce() -> Outcome<T> + Send + 'static) -> Result<(), Error> {
        let shared = self.shared();
        let Some(mut state) = shared.try_lock() else { return Ok(()) };
        reached("spawn: locked");
        if state.running {
            return Ok(());
        }
        state.running = true;
        drop(state);
        shared.start(OnFailure::Return, fetch)
    }

    /// The state that belongs to this process.
    fn shared(&self) -> Arc<Shared<T>> {
        let shared = self.0.load_full();
        if shared.process == process_identity() {
            return shared;
        }
        // Whichever thread wins, the state that is there now belongs to this process.
        self.0.compare_and_swap(&shared, Arc::new(Shared::new()));
        self.0.load_full()
    }
}

impl<T: Clone + Send + Sync + 'static> Shared<T> {
    fn new() -> Self {
        let state = State {
            running: false,
            ends: None,
            finished: 0,
            outcome: None,
            unreported: None,
            failures: 0,
            not_before: None,
        };
        Self { process: process_identity(), state: Mutex::new(state), finished: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic while it is locked leaves a usable state: every write is a single assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, State<T>>> {
        match self.state.try_lock() {
            Ok(state) => Some(state),
            Err(TryLockError::Poisoned(state)) => Some(state.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn start(
        self: Arc<Self>,
        on_failure: OnFailure,
        fetch: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Result<(), Error> {
        let shared = Arc::clone(&self);
        spawn_without_signals(move || drop(shared.run(on_failure, fetch))).map_err(|error| {
            let error = Error::new(ErrorKind::Internal, format!("cannot start a background thread: {error}"));
            self.finish(Err(error.clone()), OnFailure::Return);
            error
        })
    }

    /// Runs a fetch and ends it for all who wait, also when it panics.
    fn run(&self, on_failure: OnFailure, fetch: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        reached("fetching");
        let outcome = catch_unwind(AssertUnwindSafe(fetch)).unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "internal error: pgiam panicked; please report this bug"))
        });
        self.finish(outcome.clone(), on_failure);
        outcome
    }

    fn finish(&self, outcome: Outcome<T>, on_failure: OnFailure) {
        let mut state = self.lock();
        reached("finish: locked");
        match &outcome {
            Ok(_) => {
                state.failures = 0;
                state.not_before = None;
                state.unreported = None;
            }
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                if on_failure == OnFailure::KeepForPoll {
                    state.unreported = Some((now(), error.clone()));
                }
            }
        }
        state.outcome = Some(outcome);
        state.finished += 1;
        state.running = false;
        drop(state);
        self.finished.notify_all();
    }

    fn wait(&self, mut state: MutexGuard<'_, State<T>>, deadline: Deadline) -> Outcome<T> {
        let finished_before = state.finished;
        reached("run: waiting");
        loop {
            if state.finished != finished_before
                && let Some(outcome) = &state.outcome
            {
                return outcome.clone();
            }
            let Some(left) = deadline.remaining() else {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "another thread's fetch did not finish within this call's time-out (setting timeout_ms)",
                )
                .source_unavailable());
            };
            state = self.finished.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(all(test, feature = "model"))]
#[path = "single_flight_model_tests.rs"]
mod model_tests;

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    #[test]
    fn a_fetch_that_panics_is_an_error_and_the_next_one_runs() {
        let flight = SingleFlight::<u32>::new();
        let error = flight.run(soon(), || None, || panic!("the fetch panics")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        assert_eq!(flight.run(soon(), || None, || Ok(7)), Ok(7));
    }

    #[test]
    fn a_caller_with_more_time_fetches_again_after_a_fetch_that_was_cut_off() {
        let time_out = || Error::new(ErrorKind::Timeout, "no answer");
        let cut_off = Deadline::after(Duration::ZERO);
        for (ends, deadline, again) in
            [(cut_off, soon(), true), (soon(), soon(), false), (cut_off, Deadline::after(WORTH_A_FETCH / 2), false)]
        {
            let flight = SingleFlight::<u32>::new();
            let shared = flight.shared();
            let mut state = shared.lock();
            (state.running, state.ends) = (true, Some(ends));
            let waits = std::sync::Barrier::new(2);
            let outcome = std::thread::scope(|scope| {
                let caller = scope.spawn(|| {
                    flight.run(
                        deadline,
                        || {
                            waits.wait();
                            None
                        },
                        || Ok(7),
                    )
                });
                drop(state);
                waits.wait();
                // The caller has the lock until it waits.
                shared.finish(Err(time_out()), OnFailure::Return);
                if again {
                    waits.wait();
                }
                caller.join().unwrap()
            });
            assert_eq!(outcome, if again { Ok(7) } else { Err(time_out()) });
        }
    }

    #[test]
    fn polling_does_not_wait_for_a_lock() {
        let flight = SingleFlight::<u32>::new();
        let shared = flight.shared();
        let locked = shared.lock();
        assert!(matches!(flight.poll(|| None, || Ok(1)), Poll::Pending));
        flight.spawn(|| Ok(1)).unwrap();
        drop(locked);
        assert!(!shared.lock().running);
    }

    #[test]
    fn a_failure_that_nobody_polled_for_seconds_is_not_reported_and_the_next_fetch_starts() {
        let flight = SingleFlight::<u32>::new();
        let fail = |happened| {
            let shared = flight.shared();
            let error = Error::new(ErrorKind::Provider, "down");
            shared.lock().unreported = Some((happened, error));
        };
        fail(Instant::now());
        assert!(matches!(flight.poll(|| None, || unreachable!()), Poll::Failed(_)));
        flight.shared().lock().not_before = None;
        fail(Instant::now().checked_sub(FAILURE_IS_NEWS_FOR).unwrap());
        assert!(matches!(flight.poll(|| None, || Ok(3)), Poll::Pending));
        // Waits for that fetch, unless it has finished.
        assert_eq!(flight.run(soon(), || None, || Ok(3)), Ok(3));
    }

    #[test]
    fn a_value_that_is_ready_is_not_fetched() {
        let flight = SingleFlight::new();
        assert_eq!(flight.run(soon(), || Some(1), || unreachable!()), Ok(1));
        assert!(matches!(flight.poll(|| Some(1), || unreachable!()), Poll::Ready(1)));
    }
}
