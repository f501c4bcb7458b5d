//! What surrounds our own work inside a program that does not know of us: no panic and no cancellation goes through it,
//! and `errno` is afterwards what it was.

use std::panic::{AssertUnwindSafe, catch_unwind};

unsafe extern "C" {
    // Not in the libc crate for every target. POSIX: sets the calling thread's cancelability and tells the former one.
    fn pthread_setcancelstate(state: i32, old_state: *mut i32) -> i32;
}

const PTHREAD_CANCEL_DISABLE: i32 = 1;

/// A cancelled thread would unwind through Rust frames, which aborts the process. Restored on the way out; a request
/// to cancel that came meanwhile is met at the program's next cancellation point.
pub(crate) struct CancellationDisabled(i32);

impl CancellationDisabled {
    pub(crate) fn new() -> Self {
        let mut before = 0;
        // SAFETY: writes `before`, which lives for the call; any state may be set at any time.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        Self(before)
    }
}

impl Drop for CancellationDisabled {
    fn drop(&mut self) {
        let mut ignored = 0;
        // SAFETY: as above.
        unsafe { pthread_setcancelstate(self.0, &raw mut ignored) };
    }
}

/// The program's `errno`, put back on the way out.
struct Errno(i32);

impl Errno {
    fn keep() -> Self {
        // SAFETY: each thread has its own errno; the pointer is valid for the thread's life.
        Self(unsafe { *libc::__errno_location() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as above; this is the same thread.
        unsafe { *libc::__errno_location() = self.0 };
    }
}

/// Runs work of our own; a panic gives `fallback`.
pub(crate) fn guarded<T>(fallback: T, work: impl FnOnce() -> T) -> T {
    let _errno = Errno::keep();
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(fallback)
}
