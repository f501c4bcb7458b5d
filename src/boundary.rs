//! Conversions at the boundary: outputs are set on entry, texts are checked, errors and panics become a status.

use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use pgiam_boundary::guarded;
use pgiam_core::{Error, ErrorKind};

use crate::error::{PGIAM_ERROR_INTERNAL, PGIAM_OK, pgiam_error, pgiam_status, status_of};

/// Runs `work` and returns its status; `*error` is set to NULL or to what failed.
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
            Err(Error::new(ErrorKind::Internal, "internal error: pgiam panicked; please report this bug"))
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

/// A text argument that must not be NULL.
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
/// Those of [`text`].
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

/// The text as a C string, up to its first NUL if it has one.
pub(crate) fn c_string(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}
