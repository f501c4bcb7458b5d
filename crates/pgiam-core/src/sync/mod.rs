//! Sharing between threads, safe across `fork`: one fetch at a time, and a bounded, lock-free cache.

pub(crate) mod lossy_cache;
pub(crate) mod primitives;
pub(crate) mod single_flight;
