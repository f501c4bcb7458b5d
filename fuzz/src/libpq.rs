//! The libpq of this machine, which the targets are compared with.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::null;

use pgiam_libpq::functions::{PGconn, PQconninfoOption};

#[link(name = "pq")]
unsafe extern "C" {
    fn PQconninfoParse(conninfo: *const c_char, message: *mut *mut c_char) -> *mut PQconninfoOption;
    fn PQconninfoFree(options: *mut PQconninfoOption);
    fn PQconninfo(connection: *mut PGconn) -> *mut PQconninfoOption;
    fn PQconnectStartParams(
        keywords: *const *const c_char,
        values: *const *const c_char,
        expand_dbname: c_int,
    ) -> *mut PGconn;
    fn PQpass(connection: *const PGconn) -> *mut c_char;
    fn PQfinish(connection: *mut PGconn);
    fn PQlibVersion() -> c_int;
}

pub type Options = BTreeMap<String, Vec<u8>>;

/// The version, as in 170002.
pub fn version() -> i32 {
    // SAFETY: libpq's function, without arguments.
    unsafe { PQlibVersion() }
}

/// What libpq reads in a connection string; `None`: it refuses the string.
pub fn parse(text: &CStr) -> Option<Options> {
    // SAFETY: a NUL-terminated text; NULL for no message.
    let options = unsafe { PQconninfoParse(text.as_ptr(), std::ptr::null_mut()) };
    take(options)
}

/// The keywords that libpq knows.
pub fn knows(keyword: &str) -> bool {
    use std::sync::OnceLock;
    static KNOWN: OnceLock<Vec<String>> = OnceLock::new();
    KNOWN
        .get_or_init(|| {
            // SAFETY: as in `parse`; the array ends with a NULL keyword and is freed once.
            unsafe {
                let options = PQconninfoParse(c"".as_ptr(), std::ptr::null_mut());
                let mut names = Vec::new();
                let mut at = options;
                while !at.is_null() && !(*at).keyword.is_null() {
                    names.push(CStr::from_ptr((*at).keyword).to_string_lossy().into_owned());
                    at = at.add(1);
                }
                PQconninfoFree(options);
                names
            }
        })
        .iter()
        .any(|known| known == keyword)
}

/// Copies and frees libpq's array; `None` for NULL.
fn take(options: *mut PQconninfoOption) -> Option<Options> {
    if options.is_null() {
        return None;
    }
    let mut found = Options::new();
    // SAFETY: libpq's array, which ends with a NULL keyword and is freed once; its texts are NUL-terminated.
    unsafe {
        let mut at = options;
        while !(*at).keyword.is_null() {
            if !(*at).val.is_null() {
                let keyword = CStr::from_ptr((*at).keyword).to_string_lossy().into_owned();
                found.insert(keyword, CStr::from_ptr((*at).val).to_bytes().to_vec());
            }
            at = at.add(1);
        }
        PQconninfoFree(options);
    }
    Some(found)
}

/// What libpq would connect with: its options and the password. It is stopped before it connects.
pub fn resolve(arguments: &[(&CStr, &CStr)]) -> (Options, Vec<u8>) {
    // libpq refuses this value after it has found all other options and before it connects.
    let arguments: Vec<(&CStr, &CStr)> =
        arguments.iter().copied().chain([(c"target_session_attrs", c"fuzz")]).collect();
    let ends = |pick: fn(&(&CStr, &CStr)) -> *const c_char| -> Vec<*const c_char> {
        arguments.iter().map(pick).chain([null()]).collect()
    };
    let (keywords, values) = (ends(|pair| pair.0.as_ptr()), ends(|pair| pair.1.as_ptr()));
    // SAFETY: the arrays end with NULL and live for the call; what libpq returns is copied before it is freed.
    unsafe {
        let connection = PQconnectStartParams(keywords.as_ptr(), values.as_ptr(), 0);
        assert!(!connection.is_null(), "no memory");
        let options = take(PQconninfo(connection)).unwrap_or_default();
        let password = PQpass(connection);
        let password = if password.is_null() { Vec::new() } else { CStr::from_ptr(password).to_bytes().to_vec() };
        PQfinish(connection);
        (options, password)
    }
}

/// A C string; `None`: it has a NUL.
pub fn c_string(text: impl Into<Vec<u8>>) -> Option<CString> {
    CString::new(text).ok()
}
