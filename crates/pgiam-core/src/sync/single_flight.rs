//! One fetch at a time, shared by all who wait for it, and safe across `fork`.
//!
//! A child of `fork` has one thread: a lock that another thread held in the parent stays locked in it for ever. So the
//! state of a flight carries the id of the process that made it, and a child that finds another id puts a new state in
//! its place by compare-and-swap and never touches the inherited lock. The swap itself takes no lock.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::error::{Error, ErrorKind};
use crate::sys;
use crate::test_hooks::passing;
use crate::time::Deadline;

type Outcome<T> = Result<T, Error>;

/// What fetches a `T` that many wait for.
pub(crate) struct SingleFlight<T> {
    leg: ArcSwap<Leg<T>>,
}

struct Leg<T> {
    process: u32,
    state: Mutex<State<T>>,
    landed: Condvar,
}

struct State<T> {
    flying: bool,
    /// Counts landings, so that a waiter knows its own flight's outcome from a later one's.
    landings: u64,
    outcome: Option<Outcome<T>>,
    /// A failure of a flight beside, not yet told to anyone.
    untold: Option<Error>,
    failures: u32,
    not_before: Option<Instant>,
}

impl<T> Leg<T> {
    fn new() -> Self {
        Self {
            process: sys::process_id(),
            state: Mutex::new(State {
                flying: false,
                landings: 0,
                outcome: None,
                untold: None,
                failures: 0,
                not_before: None,
            }),
            landed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // A panic while the lock is held leaves the state whole: every write below is a single assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lands the flight even if the fetch panics, so that no waiter hangs.
struct Airborne<'a, T: Clone> {
    leg: &'a Leg<T>,
    outcome: Option<Outcome<T>>,
    beside: bool,
}

impl<T: Clone> Drop for Airborne<'_, T> {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or_else(|| {
            Err(Error::new(ErrorKind::Internal, "a fetch of credentials ended by a panic; please report this"))
        });
        let mut state = self.leg.lock();
        passing("landing: locked");
        match &outcome {
            Ok(_) => {
                state.failures = 0;
                state.not_before = None;
                state.untold = None;
            }
            Err(error) => {
                state.failures = state.failures.saturating_add(1);
                if self.beside {
                    state.untold = Some(error.clone());
                }
            }
        }
        state.outcome = Some(outcome);
        state.landings += 1;
        state.flying = false;
        drop(state);
        self.leg.landed.notify_all();
    }
}

/// The answer of a caller who does not wait.
pub(crate) enum Poll<T> {
    Ready(T),
    Pending,
    Failed(Error),
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    pub(crate) fn new() -> Self {
        Self { leg: ArcSwap::from_pointee(Leg::new()) }
    }

    /// The state of this very process.
    fn leg(&self) -> Arc<Leg<T>> {
        let leg = self.leg.load_full();
        if leg.process == sys::process_id() {
            return leg;
        }
        // Whoever wins, the state now there belongs to this process.
        self.leg.compare_and_swap(&leg, Arc::new(Leg::new()));
        self.leg.load_full()
    }

    /// Waits for the flight under way or flies itself; all who wait get the same outcome. `ready` is asked again under
    /// the lock, since a flight may have landed just before.
    pub(crate) fn wait(
        &self,
        deadline: Deadline,
        ready: impl Fn() -> Option<T>,
        fetch: impl FnOnce() -> Outcome<T>,
    ) -> Outcome<T> {
        let leg = self.leg();
        let mut state = leg.lock();
        passing("wait: locked");
        if let Some(value) = ready() {
            return Ok(value);
        }
        if state.flying {
            return Self::await_landing(&leg, state, deadline);
        }
        state.flying = true;
        drop(state);
        Self::fly(&leg, false, fetch)
    }

    /// Flies anew: a flight under way is waited for, its outcome ignored.
    pub(crate) fn anew(&self, deadline: Deadline, fetch: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let leg = self.leg();
        let mut state = leg.lock();
        passing("anew: locked");
        while state.flying {
            let Some(left) = deadline.remaining() else { return Err(waited_too_long()) };
            state = leg.landed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.flying = true;
        drop(state);
        Self::fly(&leg, false, fetch)
    }

    /// Never waits. Starts a flight beside when none is under way and none has failed a moment ago; a failure is told
    /// once.
    pub(crate) fn poll(
        self: &Arc<Self>,
        ready: impl Fn() -> Option<T>,
        fetch: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Poll<T> {
        let leg = self.leg();
        let mut state = leg.lock();
        passing("poll: locked");
        if let Some(value) = ready() {
            return Poll::Ready(value);
        }
        if let Some(error) = state.untold.take() {
            let back_off = Duration::from_secs(1 << state.failures.clamp(1, 6).saturating_sub(1));
            state.not_before = Some(Instant::now() + back_off.mul_f64(0.5 + fastrand::f64() / 2.0));
            return Poll::Failed(error);
        }
        if state.flying || state.not_before.is_some_and(|moment| Instant::now() < moment) {
            return Poll::Pending;
        }
        state.flying = true;
        drop(state);
        match Self::fly_beside(&leg, true, fetch) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Failed(error),
        }
    }

    /// Starts a flight beside the callers, who go on with what they hold. Its failure is told to nobody. When a flight
    /// is under way already nothing is done; when there is no thread to be had, `fetch` runs right here.
    pub(crate) fn beside(self: &Arc<Self>, fetch: impl FnOnce() -> Outcome<T> + Send + 'static) {
        let leg = self.leg();
        let mut state = leg.lock();
        passing("beside: locked");
        if state.flying {
            return;
        }
        state.flying = true;
        drop(state);
        let once = Arc::new(Mutex::new(Some(fetch)));
        let theirs = Arc::clone(&once);
        let take = move |from: &Mutex<Option<_>>| {
            let mut place = from.lock().unwrap_or_else(PoisonError::into_inner);
            passing("beside: taking the work");
            place.take()
        };
        let taken = {
            let leg = Arc::clone(&leg);
            sys::spawn_without_signals(move || {
                if let Some(fetch) = take(&theirs) {
                    drop(Self::fly(&leg, false, fetch));
                }
            })
        };
        if taken.is_err()
            && let Some(fetch) = take(&once)
        {
            drop(Self::fly(&leg, false, fetch));
        }
    }

    fn fly_beside(leg: &Arc<Leg<T>>, beside: bool, fetch: impl FnOnce() -> Outcome<T> + Send + 'static) -> Outcome<()> {
        let theirs = Arc::clone(leg);
        sys::spawn_without_signals(move || drop(Self::fly(&theirs, beside, fetch))).map_err(|error| {
            let error = Error::new(ErrorKind::Internal, format!("cannot start a thread to fetch beside: {error}"));
            drop(Airborne { leg, outcome: Some(Err(error.clone())), beside: false });
            error
        })
    }

    fn fly(leg: &Leg<T>, beside: bool, fetch: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let mut airborne = Airborne { leg, outcome: None, beside };
        passing("in the air");
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(fetch)).unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "a fetch of credentials ended by a panic; please report this"))
        });
        airborne.outcome = Some(outcome.clone());
        outcome
    }

    fn await_landing(leg: &Leg<T>, mut state: MutexGuard<'_, State<T>>, deadline: Deadline) -> Outcome<T> {
        let boarded = state.landings;
        passing("wait: boarded");
        loop {
            if state.landings != boarded
                && let Some(outcome) = &state.outcome
            {
                return outcome.clone();
            }
            let Some(left) = deadline.remaining() else { return Err(waited_too_long()) };
            state = leg.landed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn waited_too_long() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "another thread's fetch did not end within this call's time-out (setting timeout_ms)",
    )
    .source_unavailable()
}
