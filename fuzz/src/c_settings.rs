//! The C ABI: host, user, region, a port's text, then keywords and values, in turn.
//!
//! Outputs are set as the header says, a message is one printable line without the values of settings that may be secret,
//! and a token is for the host, port and user that were passed. Keys come from the environment; no network is used.

use std::ffi::{CStr, CString, c_char};
use std::ptr::{null, null_mut};
use std::sync::Once;

use crate::assert_one_line;

// Its functions are called by their C names.
extern crate pgiam_c_abi as _;

#[repr(C)]
struct Client {
    _opaque: [u8; 0],
}

#[repr(C)]
struct Failure {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    fn pgiam_client_new(
        keywords: *const *const c_char,
        values: *const *const c_char,
        client: *mut *mut Client,
        error: *mut *mut Failure,
    ) -> i32;
    fn pgiam_client_generate_token(
        client: *mut Client,
        host: *const c_char,
        port: i32,
        region: *const c_char,
        user: *const c_char,
        token: *mut *mut c_char,
        expires_at: *mut i64,
        error: *mut *mut Failure,
    ) -> i32;
    fn pgiam_client_free(client: *mut Client);
    fn pgiam_error_message(error: *const Failure) -> *const c_char;
    fn pgiam_error_free(error: *mut Failure);
    fn pgiam_string_free(string: *mut c_char);
    fn pgiam_status_name(status: i32) -> *const c_char;
}

const SECRET: &str = "planted-secret-key";

/// Keys in the environment, and nothing else of whoever runs this.
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let variables = [
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("HOME", "/nonexistent"),
        ];
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                // SAFETY: the targets run on one thread, and this is the first input.
                unsafe { std::env::remove_var(name) };
            }
        }
        for (name, value) in variables {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
    });
}

pub fn run(data: &[u8]) {
    prepare();
    if data.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()) {
        return;
    }
    let parts: Vec<CString> =
        data.split(|byte| *byte == 0).map(|part| CString::new(part).unwrap_or_default()).collect();
    let part = |at: usize| parts.get(at).map_or(null(), |part: &CString| part.as_ptr());
    let pairs = parts.get(4..).unwrap_or_default();
    let texts = |first: usize| -> Vec<*const c_char> {
        let of_turn = pairs.iter().skip(first).step_by(2).map(|text| text.as_ptr());
        of_turn.chain([null()]).collect()
    };
    let keywords = texts(0);
    let mut values = texts(1);
    // The last keyword may have no value, which counts as an empty one.
    values.resize(keywords.len(), null());
    let mut client = null_mut::<Client>();
    let mut error = null_mut::<Failure>();
    // SAFETY: the arrays end with NULL and have the same length; the outputs are places for pointers.
    let status = unsafe { pgiam_client_new(keywords.as_ptr(), values.as_ptr(), &mut client, &mut error) };
    check(status, !client.is_null(), error);
    if client.is_null() {
        return;
    }
    // A role would be asked for over the network.
    let has_role = pairs.iter().step_by(2).any(|keyword| keyword.as_c_str() == c"role_arn");
    if !has_role {
        let port = parts.get(3).and_then(|text| text.to_str().ok()?.parse().ok()).unwrap_or(5432);
        token(client, part(0), port, part(2), part(1));
    }
    // SAFETY: made by pgiam_client_new, and not used afterwards.
    unsafe { pgiam_client_free(client) };
}

/// Checks that status, output and error agree; frees the error.
fn check(status: i32, has_output: bool, error: *mut Failure) {
    assert_eq!((status == 0, status == 0), (has_output, error.is_null()), "status {status}");
    if !error.is_null() {
        // SAFETY: a live error, freed once after its text was copied.
        let message = unsafe { CStr::from_ptr(pgiam_error_message(error)).to_owned() };
        // SAFETY: as above.
        unsafe { pgiam_error_free(error) };
        let message = message.to_str().expect("UTF-8");
        assert_one_line(message);
        assert!(!message.is_empty() && message.len() <= 110_000 && !message.contains(SECRET), "{message}");
        // SAFETY: any status; the text is static.
        let name = unsafe { CStr::from_ptr(pgiam_status_name(status)) };
        assert_ne!(name, c"PGIAM_ERROR_UNKNOWN");
        // PGIAM_ERROR_INTERNAL
        assert_ne!(status, 9, "{message}");
    }
}

fn token(client: *mut Client, host: *const c_char, port: i32, region: *const c_char, user: *const c_char) {
    let (mut token, mut expires_at, mut error) = (null_mut::<c_char>(), -1, null_mut::<Failure>());
    // SAFETY: a live client; texts that are NULL or end with NUL; outputs are places of their types.
    let status = unsafe {
        pgiam_client_generate_token(client, host, port, region, user, &mut token, &mut expires_at, &mut error)
    };
    check(status, !token.is_null(), error);
    assert_eq!(status == 0, expires_at > 0);
    if token.is_null() {
        return;
    }
    // SAFETY: a live string of the library, freed once after it was copied. Host and user are not NULL, or there would be
    // no token.
    let (text, host, user) = unsafe {
        let text = CStr::from_ptr(token).to_str().expect("UTF-8").to_owned();
        pgiam_string_free(token);
        (text, CStr::from_ptr(host).to_str().expect("UTF-8"), CStr::from_ptr(user).to_str().expect("UTF-8"))
    };
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.contains(SECRET), "{text}");
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let query = text.split_once("/?").map(|(place, query)| (place.to_owned(), query)).expect("a query");
    // A token of Aurora DSQL has no port.
    assert!(query.0 == name || query.0 == format!("{name}:{port}"), "{text}");
    let of_user = query.1.split('&').find_map(|pair| pair.strip_prefix("DBUser="));
    assert!(of_user.is_none_or(|encoded| decoded(encoded) == user.as_bytes()), "{text}");
}

fn decoded(encoded: &str) -> Vec<u8> {
    let mut bytes = encoded.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits: String = bytes.by_ref().take(2).map(char::from).collect();
            decoded.push(u8::from_str_radix(&digits, 16).expect("two digits"));
        } else {
            decoded.push(byte);
        }
    }
    decoded
}
