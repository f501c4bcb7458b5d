//! Tokens from the process-wide default client, and the strings that the library returns.

use std::ffi::{CString, c_char};
use std::ptr::null_mut;

use pgiam_boundary::{entry, guarded};
use pgiam_core::{Client, Error, Token, TokenRequest};
use pgiam_libpq::tokens::default_client;

use crate::boundary::{guarded_status, invalid, optional_text, put, text};
use crate::error::{PGIAM_ERROR_INTERNAL, pgiam_error, pgiam_status};

/// Makes a token for host, port and user. Pass it to libpq as the password; it is valid for at most 15 minutes. Uses the
/// process-wide default client, which reads the environment and the AWS profile files at the first call and is shared with
/// pgiam-libpq.h. The first call waits for credentials, later ones usually take microseconds: see Blocking above.
/// Returns PGIAM_OK or any error except PGIAM_ERROR_WOULD_BLOCK.
///
/// @param host    the endpoint name, as the RDS console shows it; case and one trailing dot do not matter
/// @param port    1 to 65535
/// @param region  NULL or "": taken from the endpoint name, else AWS_REGION, AWS_DEFAULT_REGION, the profile or the EC2
///                instance metadata
/// @param user    the database user, who has been granted rds_iam
/// @param token   receives the token, or NULL on failure; free it with pgiam_string_free
/// @param error   receives NULL, or on failure the reason; free it with pgiam_error_free; may be NULL
///
/// # Safety
///
/// Text arguments are NULL or NUL-terminated; output arguments are NULL or point to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_generate_token(
    host: *const c_char,
    port: i32,
    region: *const c_char,
    user: *const c_char,
    token: *mut *mut c_char,
    error: *mut *mut pgiam_error,
) -> pgiam_status {
    // SAFETY: the caller's promises are passed on.
    entry(PGIAM_ERROR_INTERNAL, || unsafe {
        put(token, null_mut());
        guarded_status(error, || {
            require(token, "token")?;
            let arguments = Arguments::read(host, port, region, user)?;
            put(token, c_token(token_of(default_client(), &arguments)?));
            Ok(())
        })
    })
}

/// Wipes and frees a token. NULL is allowed.
///
/// # Safety
///
/// `string` is NULL or came from a function of this library and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_string_free(string: *mut c_char) {
    entry((), || {
        guarded((), || {
            if string.is_null() {
                return;
            }
            // SAFETY: made by CString::into_raw in `c_token`; the caller gives up its ownership.
            let mut bytes = unsafe { CString::from_raw(string) }.into_bytes_with_nul();
            // Several times as fast as Zeroize, which writes byte by byte.
            bytes.fill(0);
            zeroize::optimization_barrier(&bytes[..]);
        });
    });
}

/// Checks that a required output is not NULL.
pub(crate) fn require<T>(place: *mut T, name: &str) -> Result<(), Error> {
    if place.is_null() { Err(invalid(format!("{name} is NULL; pass the address of a pointer"))) } else { Ok(()) }
}

/// The four inputs, checked for NULL and UTF-8.
pub(crate) struct Arguments<'a> {
    host: &'a str,
    port: i32,
    region: Option<&'a str>,
    user: &'a str,
}

impl<'a> Arguments<'a> {
    /// # Safety
    ///
    /// The texts are NULL or NUL-terminated and live for `'a`.
    pub(crate) unsafe fn read(
        host: *const c_char,
        port: i32,
        region: *const c_char,
        user: *const c_char,
    ) -> Result<Self, Error> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(Self {
                host: text(host, "host")?,
                port,
                region: optional_text(region, "region")?,
                user: text(user, "user")?,
            })
        }
    }

    pub(crate) fn request(&self) -> TokenRequest<'a> {
        TokenRequest { host: self.host, port: self.port, region: self.region, user: self.user }
    }
}

/// The only function into which the core's fast path is inlined.
#[inline(never)]
pub(crate) fn token_of(client: &Client, arguments: &Arguments<'_>) -> Result<Token, Error> {
    client.generate_token(&arguments.request())
}

/// The token as a C string that the caller owns. The bytes are moved, so that no copy is left behind.
pub(crate) fn c_token(token: Token) -> *mut c_char {
    let bytes = std::mem::take(&mut *token.into_bytes());
    debug_assert!(!bytes.contains(&0) && bytes.capacity() == bytes.len() + 1);
    // SAFETY: it has no NUL. It consists of constants, of a host and a region whose characters were checked, and of
    // percent-encoded text, in which a NUL is %00.
    unsafe { CString::from_vec_unchecked(bytes) }.into_raw()
}
