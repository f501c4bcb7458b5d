//! Statuses and the error object.

use std::ffi::{CStr, CString, c_char};

use pgiam_boundary::{entry, guarded};
use pgiam_core::{Error, ErrorKind};

use crate::boundary::c_string;

/// The result of a call: PGIAM_OK (0) or one of PGIAM_ERROR_*. Values are never changed or reused, only added: treat an
/// unknown one as a failure.
#[allow(non_camel_case_types)]
pub type pgiam_status = i32;

/// Success.
pub const PGIAM_OK: pgiam_status = 0;
/// A host, port, region or user that no token can be made for, or NULL where a value is required. Calling again with the
/// same arguments will fail again.
pub const PGIAM_ERROR_INVALID_ARGUMENT: pgiam_status = 1;
/// A setting, an environment variable or a profile file is wrong, or a keyword is unknown; the message names it.
pub const PGIAM_ERROR_INVALID_CONFIGURATION: pgiam_status = 2;
/// No credential source is configured; the message lists the sources that were tried.
pub const PGIAM_ERROR_NO_CREDENTIALS: pgiam_status = 3;
/// The endpoint name contains no region, and neither the configuration nor EC2 metadata has one.
pub const PGIAM_ERROR_NO_REGION: pgiam_status = 4;
/// A configured credential source refused or failed; the message names it.
pub const PGIAM_ERROR_PROVIDER: pgiam_status = 5;
/// The time limit was reached (setting timeout_ms) or a service did not answer in time. Calling again may help.
pub const PGIAM_ERROR_TIMEOUT: pgiam_status = 6;
/// The only credentials found have expired.
pub const PGIAM_ERROR_CREDENTIALS_EXPIRED: pgiam_status = 7;
/// Only from functions that never wait: credentials are being fetched in the background; call again after 20 ms or more.
pub const PGIAM_ERROR_WOULD_BLOCK: pgiam_status = 8;
/// A bug of this library, or a failure of the operating system.
pub const PGIAM_ERROR_INTERNAL: pgiam_status = 9;

/// Why a call failed. Immutable, so threads may share it. Free it once with pgiam_error_free.
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

/// Returns what went wrong and what to do: one line of UTF-8 without a newline and without secrets. The string is valid
/// until pgiam_error_free. For NULL: an empty string.
///
/// # Safety
///
/// `error` is NULL or came from a function of this library and has not been freed.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_error_message(error: *const pgiam_error) -> *const c_char {
    entry(c"".as_ptr(), || {
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
pub unsafe extern "C-unwind" fn pgiam_error_free(error: *mut pgiam_error) {
    entry((), || {
        guarded((), || {
            if !error.is_null() {
                // SAFETY: made by Box::into_raw in `boxed`; the caller gives up its ownership.
                drop(unsafe { Box::from_raw(error) });
            }
        });
    });
}

/// Returns the library's version, such as "0.1.0". Do not free it. PGIAM_VERSION is the header's version.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pgiam_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    entry(c"".as_ptr(), || VERSION.as_ptr())
}

/// Returns the name of a status, such as "PGIAM_ERROR_TIMEOUT", or "PGIAM_ERROR_UNKNOWN". Do not free it.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn pgiam_status_name(status: pgiam_status) -> *const c_char {
    entry(c"".as_ptr(), || name_of(status).as_ptr())
}

fn name_of(status: pgiam_status) -> &'static CStr {
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
}
