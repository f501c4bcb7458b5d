//! What every function called from C does first and last: it disables thread cancellation, catches panics and keeps
//! `errno`. And the allocator of the libraries, which overwrites what is freed.
//!
//! glibc ends a cancelled thread by unwinding its stack. Rust aborts the process when that passes a frame that has
//! something to drop or that must not unwind. With asynchronous cancellation it can happen at any instruction, so
//! [`entry`] is written such that no frame on the stack has unwinding instructions of its own before cancellation is
//! disabled and after it is restored. An exported function keeps to that if it is declared `extern "C-unwind"`, takes
//! and returns plain values, and its body is one call of [`entry`]. What [`entry`] takes is `Copy`, and so has nothing to
//! drop: otherwise a build without optimisations has unwinding instructions all the same.

mod allocator;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub use allocator::WipingAllocator;

unsafe extern "C-unwind" {
    // The libc crate does not have them for every target. POSIX: they set whether and when the calling thread can be
    // cancelled.
    fn pthread_setcancelstate(state: i32, old_state: *mut i32) -> i32;
    fn pthread_setcanceltype(r#type: i32, old_type: *mut i32) -> i32;
}

const PTHREAD_CANCEL_DISABLE: i32 = 1;
const PTHREAD_CANCEL_DEFERRED: i32 = 0;

/// Runs `work` as the body of an exported function, with thread cancellation disabled. A panic gives `fallback`. A
/// request to cancel that arrives meanwhile takes effect when this returns.
#[inline(always)]
pub fn entry<T: Copy, F: FnOnce() -> T + Copy>(fallback: T, work: F) -> T {
    let (mut state, mut kind) = (0, 0);
    // The type first: glibc's signal handler looks at nothing else, and the signal may have been sent before cancellation
    // was disabled.
    // SAFETY: both write places that live for the calls; any type and state may be set at any time.
    unsafe {
        pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &raw mut kind);
        pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut state);
    }
    let result = contained(fallback, work);
    // SAFETY: as above. The arguments are read before they are written.
    unsafe {
        pthread_setcancelstate(state, &raw mut state);
        pthread_setcanceltype(kind, &raw mut kind);
    }
    result
}

/// Must not unwind, so that its caller needs no unwinding instructions for `work`.
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "called from Rust only; C's ABI is for `nounwind`")]
extern "C" fn contained<T: Copy, F: FnOnce() -> T + Copy>(fallback: T, work: F) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        // Dropping a payload can panic, which would abort here.
        std::mem::forget(payload);
        fallback
    })
}

/// Runs `work` such that the caller's `errno` is the same afterwards. A panic gives `fallback`.
pub fn guarded<T>(fallback: T, work: impl FnOnce() -> T) -> T {
    let _errno = Errno::keep();
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(fallback)
}

/// The caller's `errno`, restored on drop.
struct Errno(i32);

impl Errno {
    fn keep() -> Self {
        // SAFETY: each thread has its own errno; the pointer is valid for the thread's life.
        Self(unsafe { *Self::location() })
    }

    fn location() -> *mut i32 {
        // SAFETY: without preconditions.
        #[cfg(target_os = "linux")]
        let location = unsafe { libc::__errno_location() };
        // SAFETY: without preconditions.
        #[cfg(not(target_os = "linux"))]
        let location = unsafe { libc::__error() };
        location
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as above; this is the same thread.
        unsafe { *Errno::location() = self.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno() -> i32 {
        // SAFETY: as above.
        unsafe { *Errno::location() }
    }

    fn set_errno(value: i32) {
        // SAFETY: as above.
        unsafe { *Errno::location() = value };
    }

    #[test]
    fn a_panic_gives_the_fallback() {
        assert_eq!(entry(7, || panic!("on purpose")), 7);
        assert_eq!(guarded(7, || panic!("on purpose")), 7);
        assert_eq!(entry(7, || 8), 8);
    }

    #[test]
    fn errno_is_the_callers_afterwards() {
        set_errno(libc::ERANGE);
        guarded((), || set_errno(libc::EINTR));
        assert_eq!(errno(), libc::ERANGE);
    }

    #[test]
    fn cancellation_is_disabled_within_an_entry_and_restored_afterwards() {
        let state = || {
            let (mut state, mut ignored) = (0, 0);
            // SAFETY: both places live for the calls.
            unsafe {
                pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut state);
                pthread_setcancelstate(state, &raw mut ignored);
            }
            state
        };
        let before = state();
        assert_eq!(entry(0, state), PTHREAD_CANCEL_DISABLE);
        assert_eq!(state(), before);
    }
}
