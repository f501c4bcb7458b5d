//! Locks that outlive a panicking test thread, and the gate at which answers wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Locks, even when a thread panicked with the lock held: every value here is whole at every moment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where connection threads wait: for time to pass, or to be released. The simulator's end opens it for good.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    stopped: bool,
    releases: u64,
    held: usize,
}

impl Gate {
    pub(crate) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// Lets go everything that waits in [`Gate::hold`] now.
    pub(crate) fn release(&self) {
        lock(&self.state).releases += 1;
        self.changed.notify_all();
    }

    /// Waits for the next release; false when the simulator ended instead.
    pub(crate) fn hold(&self) -> bool {
        let mut state = lock(&self.state);
        let seen = state.releases;
        state.held += 1;
        self.changed.notify_all();
        while !state.stopped && state.releases == seen {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.held -= 1;
        !state.stopped
    }

    /// Whether `count` answers were held at once before the time was over.
    pub(crate) fn wait_for_held(&self, count: usize, timeout: Duration) -> bool {
        wait_until(&self.state, &self.changed, timeout, |state| state.held >= count)
    }

    /// Lets time pass; false when the simulator ended meanwhile.
    pub(crate) fn pause(&self, duration: Duration) -> bool {
        !wait_until(&self.state, &self.changed, duration, |state| state.stopped)
    }
}

/// Waits until `condition` holds or the time is over, and tells which.
pub(crate) fn wait_until<T>(
    mutex: &Mutex<T>,
    changed: &Condvar,
    timeout: Duration,
    condition: impl Fn(&T) -> bool,
) -> bool {
    let deadline = Instant::now() + timeout;
    let mut state = lock(mutex);
    loop {
        if condition(&state) {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        state = changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
    }
}
