//! What threads share and wait with: locks, atomic numbers, replaceable pointers, threads, the monotonic clock and the
//! identity of the process.
//!
//! They are the standard library's, arc_swap's and the operating system's. The model tests
//! (`cargo test -p pgiam-core --features model --lib model_tests`) run the modules that import them from here on those of the
//! crate `shuttle`, which runs one thread at a time and tries thousands of orders: `primitives_for_tests.rs`.

#[cfg(not(all(test, feature = "model")))]
pub(crate) use real::*;

#[cfg(all(test, feature = "model"))]
#[path = "primitives_for_tests.rs"]
mod model;
#[cfg(all(test, feature = "model"))]
pub(crate) use model::*;

#[cfg(not(all(test, feature = "model")))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicI64, AtomicU32};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};

    pub(crate) use arc_swap::{ArcSwap, ArcSwapOption};

    pub(crate) use crate::sys::{ProcessIdentity, process_identity, spawn_without_signals};

    /// The moment, by the monotonic clock.
    pub(crate) fn now() -> std::time::Instant {
        std::time::Instant::now()
    }
}
