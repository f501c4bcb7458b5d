//! Statuses and the error object.

use std::ffi::{CStr, CString, c_char};

use pgiam_core::{Error, ErrorKind};

use crate::boundary::{c_string, guarded};

/// How a call ended: PGIAM_OK (0) or one of PGIAM_ERROR_*. Values are never changed or reused, only appended: treat one
/// that you do not know as a failure.
#[allow(non_camel_case_types)]
pub type pgiam_status = i32;

/// The call did what it says.
pub const PGIAM_OK: pgiam_status = 0;
/// A host, port, region or user that no token can be made for, or a NULL where a value is needed. Asking again with the
/// same arguments is of no use.
pub const PGIAM_ERROR_INVALID_ARGUMENT: pgiam_status = 1;
/// A setting, an environment variable or a profile file is wrong; the message names it.
pub const PGIAM_ERROR_INVALID_CONFIGURATION: pgiam_status = 2;
/// No source of credentials is configured; the message lists those looked at.
pub const PGIAM_ERROR_NO_CREDENTIALS: pgiam_status = 3;
/// The endpoint's name carries no region and none is configured.
pub const PGIAM_ERROR_NO_REGION: pgiam_status = 4;
/// A configured source of credentials refused or failed; the message names it.
pub const PGIAM_ERROR_PROVIDER: pgiam_status = 5;
/// The time-out passed first (setting timeout_ms). Asking again may help.
pub const PGIAM_ERROR_TIMEOUT: pgiam_status = 6;
/// The only credentials found have expired.
pub const PGIAM_ERROR_CREDENTIALS_EXPIRED: pgiam_status = 7;
/// From pgiam_client_try_generate_token only: a fetch has been started; ask again, not sooner than 20 ms.
pub const PGIAM_ERROR_WOULD_BLOCK: pgiam_status = 8;
/// A fault of this library or of the operating system.
pub const PGIAM_ERROR_INTERNAL: pgiam_status = 9;

/// Why a call failed. Immutable, so threads may share it; free it once with pgiam_error_free.
#[allow(non_camel_case_types)]
pub struct pgiam_error {
    message: CString,
}

impl pgiam_error {
    pub(crate) fn boxed(error: &Error) -> *mut Self {
        Box::into_raw(Box::new(Self { message: c_string(error.message()) }))
    }
}

pub(crate) fn status_of(kind: ErrorKind) -> pgiam_status {
    match kind {
        ErrorKind::InvalidArgument => PGIAM_ERROR_INVALID_ARGUMENT,
        ErrorKind::InvalidConfiguration => PGIAM_ERROR_INVALID_CONFIGURATION,
        ErrorKind::NoCredentials => PGIAM_ERROR_NO_CREDENTIALS,
        ErrorKind::NoRegion => PGIAM_ERROR_NO_REGION,
        ErrorKind::Provider => PGIAM_ERROR_PROVIDER,
        ErrorKind::Timeout => PGIAM_ERROR_TIMEOUT,
        ErrorKind::CredentialsExpired => PGIAM_ERROR_CREDENTIALS_EXPIRED,
        ErrorKind::WouldBlock => PGIAM_ERROR_WOULD_BLOCK,
        _ => PGIAM_ERROR_INTERNAL,
    }
}

/// What went wrong and what to do, in one line of UTF-8 without a newline; never a secret. Borrowed: valid until
/// pgiam_error_free. For NULL: an empty string.
///
/// # Safety
///
/// `error` is NULL or came from a function of this library and has not been freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgiam_error_message(error: *const pgiam_error) -> *const c_char {
    guarded(c"".as_ptr(), || {
        // SAFETY: NULL gives None; anything else is a live error by the caller's promise.
        unsafe { error.as_ref() }.map_or(c"".as_ptr(), |error| error.message.as_ptr())
    })
}

/// Frees an error. NULL is allowed.
///
/// # Safety
///
/// `error` is NULL or came from a function of this library and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pgiam_error_free(error: *mut pgiam_error) {
    guarded((), || {
        if !error.is_null() {
            // SAFETY: made by Box::into_raw in `boxed`; the caller gives it up.
            drop(unsafe { Box::from_raw(error) });
        }
    });
}

/// The library's version, as in "0.1.0". Static: do not free. Compare with PGIAM_VERSION, which is the header's.
#[unsafe(no_mangle)]
pub extern "C" fn pgiam_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// The name of a status, as in "PGIAM_ERROR_TIMEOUT"; "PGIAM_ERROR_UNKNOWN" for a number that is none. Static: do not
/// free.
#[unsafe(no_mangle)]
pub extern "C" fn pgiam_status_name(status: pgiam_status) -> *const c_char {
    match status {
        PGIAM_OK => c"PGIAM_OK",
        PGIAM_ERROR_INVALID_ARGUMENT => c"PGIAM_ERROR_INVALID_ARGUMENT",
        PGIAM_ERROR_INVALID_CONFIGURATION => c"PGIAM_ERROR_INVALID_CONFIGURATION",
        PGIAM_ERROR_NO_CREDENTIALS => c"PGIAM_ERROR_NO_CREDENTIALS",
        PGIAM_ERROR_NO_REGION => c"PGIAM_ERROR_NO_REGION",
        PGIAM_ERROR_PROVIDER => c"PGIAM_ERROR_PROVIDER",
        PGIAM_ERROR_TIMEOUT => c"PGIAM_ERROR_TIMEOUT",
        PGIAM_ERROR_CREDENTIALS_EXPIRED => c"PGIAM_ERROR_CREDENTIALS_EXPIRED",
        PGIAM_ERROR_WOULD_BLOCK => c"PGIAM_ERROR_WOULD_BLOCK",
        PGIAM_ERROR_INTERNAL => c"PGIAM_ERROR_INTERNAL",
        _ => c"PGIAM_ERROR_UNKNOWN",
    }
    .as_ptr()
}
