//! The client object.

use std::ffi::c_char;
use std::ptr::null_mut;

use pgiam_boundary::{entry, guarded};
use pgiam_core::{Client, Error, ErrorKind, Settings, Token};

use crate::boundary::{guarded_status, invalid, optional_text, put, text};
use crate::error::{PGIAM_ERROR_INTERNAL, pgiam_error, pgiam_status};
use crate::token::{Arguments, c_token, require, token_of};

/// Settings and cached credentials. Any number of threads may use one at the same time. Free it once, when no thread uses
/// it any more. A child process may use it after fork.
#[allow(non_camel_case_types)]
pub struct pgiam_client {
    client: Client,
}

/// Makes a client from settings in two arrays that end with NULL, as for PQconnectdbParams. Reads the environment and the
/// AWS profile files, as pgiam_client_refresh does later; what is wrong in them is an error of the first call that needs it. Does not use the network.
///
///     keyword      value
///     profile      a profile of the AWS config and credentials files; keys in the environment are then skipped
///     region       the region for endpoint names that contain none
///     service      auto (default): dsql for Aurora DSQL endpoint names, rds for all others; rds; dsql
///     timeout_ms   milliseconds that one call may wait, 1 to 3600000 (default 10000)
///     role_arn     a role to assume with the credentials found, through STS
///     external_id  the external id that the role's trust policy requires
///     role_session_name
///                  the name of that session in CloudTrail (default: pgiam- and the time)
///
/// A NULL or empty value means the default; of a repeated keyword the last counts. Returns PGIAM_OK,
/// PGIAM_ERROR_INVALID_CONFIGURATION for an unknown keyword or a wrong value, PGIAM_ERROR_INVALID_ARGUMENT for a NULL that
/// is not allowed or text that is not UTF-8, or PGIAM_ERROR_INTERNAL.
///
/// @param keywords  NULL: all defaults
/// @param values    as many as there are keywords; NULL only if keywords is NULL or empty
/// @param client    receives the client, or NULL on failure; free it with pgiam_client_free
/// @param error     as in pgiam_generate_token
///
/// # Safety
///
/// The arrays are NULL or end with NULL and hold NUL-terminated texts; `values` is as long as `keywords`.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_client_new(
    keywords: *const *const c_char,
    values: *const *const c_char,
    client: *mut *mut pgiam_client,
    error: *mut *mut pgiam_error,
) -> pgiam_status {
    // SAFETY: the caller's promises are passed on.
    entry(PGIAM_ERROR_INTERNAL, || unsafe {
        put(client, null_mut());
        guarded_status(error, || {
            require(client, "client")?;
            let settings = read_settings(keywords, values)?;
            put(client, Box::into_raw(Box::new(pgiam_client { client: Client::new(settings) })));
            Ok(())
        })
    })
}

/// # Safety
///
/// Those of [`pgiam_client_new`].
unsafe fn read_settings(keywords: *const *const c_char, values: *const *const c_char) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    if keywords.is_null() {
        return Ok(settings);
    }
    for index in 0.. {
        // SAFETY: the array ends with NULL, and no place behind a NULL is read.
        let keyword = unsafe { *keywords.add(index) };
        if keyword.is_null() {
            break;
        }
        // SAFETY: by the caller's promise a NUL-terminated text.
        let keyword = unsafe { text(keyword, "a keyword") }?;
        if values.is_null() {
            return Err(invalid("values is NULL while keywords is not; pass as many values as keywords"));
        }
        // SAFETY: `values` is as long as `keywords`.
        let value = unsafe { optional_text(*values.add(index), keyword) }?;
        settings.set(keyword, value.unwrap_or_default())?;
    }
    Ok(settings)
}

/// Like pgiam_generate_token, but uses `client` and its timeout_ms. Returns the same statuses.
///
/// @param expires_at  receives the Unix time in seconds at which the server stops accepting the token for new logins:
///                    in 15 minutes, or when the credentials expire if that is earlier; 0 on failure; may be NULL
///
/// # Safety
///
/// `client` is live; the rest as in [`pgiam_generate_token`](crate::token::pgiam_generate_token).
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_client_generate_token(
    client: *mut pgiam_client,
    host: *const c_char,
    port: i32,
    region: *const c_char,
    user: *const c_char,
    token: *mut *mut c_char,
    expires_at: *mut i64,
    error: *mut *mut pgiam_error,
) -> pgiam_status {
    // SAFETY: the caller's promises are passed on.
    entry(PGIAM_ERROR_INTERNAL, || unsafe {
        let outputs = Outputs { token, expires_at, error };
        generate(client, outputs, || Arguments::read(host, port, region, user), token_of)
    })
}

/// Like pgiam_client_generate_token, but never waits: for event loops. PGIAM_ERROR_WOULD_BLOCK means that a background
/// thread fetches credentials, or checks the files that static keys are from (2 seconds at most); call again after 20
/// milliseconds or more. The next call after a fetch that failed returns its error. Then the fetch pauses, after repeated
/// failures up to 32 seconds, and calls in that pause return PGIAM_ERROR_WOULD_BLOCK.
///
/// Returns PGIAM_OK or any error.
///
/// # Safety
///
/// Those of [`pgiam_client_generate_token`].
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_client_try_generate_token(
    client: *mut pgiam_client,
    host: *const c_char,
    port: i32,
    region: *const c_char,
    user: *const c_char,
    token: *mut *mut c_char,
    expires_at: *mut i64,
    error: *mut *mut pgiam_error,
) -> pgiam_status {
    // SAFETY: the caller's promises are passed on.
    entry(PGIAM_ERROR_INTERNAL, || unsafe {
        let outputs = Outputs { token, expires_at, error };
        generate(
            client,
            outputs,
            || Arguments::read(host, port, region, user),
            |client, arguments| client.try_generate_token(&arguments.request())?.ok_or_else(would_block),
        )
    })
}

pub(crate) fn would_block() -> Error {
    Error::new(ErrorKind::WouldBlock, "credentials are being fetched; ask again, not sooner than 20 ms")
}

/// Where the results go.
struct Outputs {
    token: *mut *mut c_char,
    expires_at: *mut i64,
    error: *mut *mut pgiam_error,
}

/// # Safety
///
/// Those of [`pgiam_client_generate_token`].
unsafe fn generate<'a>(
    client: *mut pgiam_client,
    outputs: Outputs,
    arguments: impl FnOnce() -> Result<Arguments<'a>, Error>,
    make: impl FnOnce(&Client, &Arguments<'_>) -> Result<Token, Error>,
) -> pgiam_status {
    let Outputs { token, expires_at, error } = outputs;
    // SAFETY: the caller's promises.
    unsafe {
        put(token, null_mut());
        put(expires_at, 0);
        guarded_status(error, || {
            require(token, "token")?;
            let made = make(live(client)?, &arguments()?)?;
            let ends = made.expires_at();
            put(token, c_token(made));
            put(expires_at, ends);
            Ok(())
        })
    }
}

/// Reads the environment and the profile files again and fetches credentials now, for example after a login was refused
/// or after keys were changed. Blocks at most for timeout_ms, or 2 minutes for a credential_process that can ask a person if
/// timeout_ms is not set. If it fails, the cached credentials stay in use.
///
/// Returns PGIAM_OK or any error except PGIAM_ERROR_NO_REGION and PGIAM_ERROR_WOULD_BLOCK.
///
/// # Safety
///
/// `client` is live; `error` is NULL or points to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_client_refresh(
    client: *mut pgiam_client,
    error: *mut *mut pgiam_error,
) -> pgiam_status {
    // SAFETY: the caller's promises are passed on.
    entry(PGIAM_ERROR_INTERNAL, || unsafe { guarded_status(error, || live(client)?.refresh()) })
}

/// Frees a client and wipes its credentials. NULL is allowed. Does not wait for a background fetch.
///
/// # Safety
///
/// `client` is NULL or came from pgiam_client_new and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_client_free(client: *mut pgiam_client) {
    entry((), || {
        guarded((), || {
            if !client.is_null() {
                // SAFETY: made by Box::into_raw in pgiam_client_new; the caller gives up its ownership.
                drop(unsafe { Box::from_raw(client) });
            }
        });
    });
}

/// # Safety
///
/// `client` is NULL or live for `'a`.
unsafe fn live<'a>(client: *mut pgiam_client) -> Result<&'a Client, Error> {
    // SAFETY: the caller's promise; the client is only ever shared, never borrowed mutably.
    match unsafe { client.as_ref() } {
        Some(client) => Ok(&client.client),
        None => Err(invalid("client is NULL; make one with pgiam_client_new")),
    }
}
