//! What every entry does before and after its work: no panic and no cancellation crosses it, `errno` stays, outputs are
//! set on entry, and texts are checked.

use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pgiam_core::{Error, ErrorKind};

use crate::error::{PGIAM_ERROR_INTERNAL, PGIAM_OK, pgiam_error, pgiam_status, status_of};

unsafe extern "C" {
    // Not in the libc crate for every target. POSIX: sets the calling thread's cancelability and tells the former one.
    fn pthread_setcancelstate(state: i32, old_state: *mut i32) -> i32;
}

const PTHREAD_CANCEL_DISABLE: i32 = 1;

/// A cancelled thread would unwind through Rust frames, which aborts the process. Restored on the way out.
struct CancellationDisabled(i32);

impl CancellationDisabled {
    fn new() -> Self {
        let mut before = 0;
        // SAFETY: writes `before`, which lives for the call; any state may be set at any time.
        unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut before) };
        Self(before)
    }
}

impl Drop for CancellationDisabled {
    fn drop(&mut self) {
        // SAFETY: a null second argument is allowed on Linux, but a place costs nothing and is allowed everywhere.
        unsafe {
            let mut ignored = 0;
            pthread_setcancelstate(self.0, &raw mut ignored);
        }
    }
}

/// The caller's `errno`, put back on the way out.
struct Errno(i32);

impl Errno {
    fn keep() -> Self {
        // SAFETY: glibc and musl give each thread its own errno; the pointer is valid for the thread's life.
        Self(unsafe { *libc::__errno_location() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as above; this is the same thread.
        unsafe { *libc::__errno_location() = self.0 };
    }
}

/// Runs `work` as the body of an entry that cannot fail; a panic gives `fallback`.
pub(crate) fn guarded<T>(fallback: T, work: impl FnOnce() -> T) -> T {
    let _errno = Errno::keep();
    let _cancellation = CancellationDisabled::new();
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(fallback)
}

/// Runs `work` as the body of an entry with a status and an error output; `*error` is set to NULL or to what failed.
///
/// # Safety
///
/// `error` is NULL or points to a place for a pointer.
pub(crate) unsafe fn guarded_status(
    error: *mut *mut pgiam_error,
    work: impl FnOnce() -> Result<(), Error>,
) -> pgiam_status {
    // SAFETY: the caller's promise.
    unsafe { put(error, std::ptr::null_mut()) };
    guarded(PGIAM_ERROR_INTERNAL, || {
        let outcome = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Internal, "pgiam met a fault of its own (a panic); please report this"))
        });
        match outcome {
            Ok(()) => PGIAM_OK,
            Err(failure) => {
                let status = status_of(failure.kind());
                if !error.is_null() {
                    // SAFETY: not NULL, and the caller's promise.
                    unsafe { put(error, pgiam_error::boxed(&failure)) };
                }
                status
            }
        }
    })
}

/// Writes an output if the caller wants it.
///
/// # Safety
///
/// `place` is NULL or points to a `T` that may be overwritten without being dropped.
pub(crate) unsafe fn put<T>(place: *mut T, value: T) {
    if !place.is_null() {
        // SAFETY: not NULL, and the caller's promise.
        unsafe { place.write(value) };
    }
}

/// A text argument that must be there.
///
/// # Safety
///
/// `text` is NULL or a NUL-terminated string that lives for `'a`.
pub(crate) unsafe fn text<'a>(text: *const c_char, name: &str) -> Result<&'a str, Error> {
    // SAFETY: the caller's promise.
    unsafe { optional_text(text, name) }?.ok_or_else(|| invalid(format!("{name} is NULL")))
}

/// A text argument that may be NULL.
///
/// # Safety
///
/// As [`text`].
pub(crate) unsafe fn optional_text<'a>(text: *const c_char, name: &str) -> Result<Option<&'a str>, Error> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and the caller's promise.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map(Some).map_err(|_| invalid(format!("{name} is not UTF-8")))
}

pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument, message)
}

/// A C string of a text that has no NUL; if it had one, of what stands before it.
pub(crate) fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}
