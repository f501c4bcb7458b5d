//! Locks that stay usable after a panic in a test thread, and the gate at which responses wait.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Locks a mutex even if a thread panicked while it had the lock: no value is ever left inconsistent.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Connection threads wait here for a delay or for a release. When the simulator stops, all waits end.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    stopped: bool,
    releases: u64,
    waiting: usize,
}

impl Gate {
    pub(crate) fn stop(&self) {
        lock(&self.state).stopped = true;
        self.changed.notify_all();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// Releases every thread that waits in [`Gate::hold`].
    pub(crate) fn release(&self) {
        lock(&self.state).releases += 1;
        self.changed.notify_all();
    }

    /// Waits for the next release; returns false if the simulator stops first.
    pub(crate) fn hold(&self) -> bool {
        let mut state = lock(&self.state);
        let seen = state.releases;
        state.waiting += 1;
        self.changed.notify_all();
        while !state.stopped && state.releases == seen {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        !state.stopped
    }

    /// Waits until `count` responses wait in [`Gate::hold`] at the same time; returns false after `timeout`.
    pub(crate) fn wait_for_held(&self, count: usize, timeout: Duration) -> bool {
        wait_until(&self.state, &self.changed, timeout, |state| state.waiting >= count)
    }

    /// Waits for a duration; returns false if the simulator stops first.
    pub(crate) fn pause(&self, duration: Duration) -> bool {
        !wait_until(&self.state, &self.changed, duration, |state| state.stopped)
    }
}

/// Waits until `condition` is true; returns false after the timeout.
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
