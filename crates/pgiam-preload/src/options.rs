//! Changes to the arrays of options that libpq returns. They and their values come from malloc, and `PQconninfoFree`
//! frees them.

use std::ffi::{CStr, CString};
use std::ptr::{null, null_mut};

use pgiam_libpq::conninfo::Parameters;
use pgiam_libpq::functions::PQconninfoOption;
use pgiam_libpq::keywords;

/// # Safety
///
/// `options` is an array of libpq's.
unsafe fn length(options: *const PQconninfoOption) -> usize {
    // SAFETY: the array ends with a keyword that is NULL.
    (0..).find(|index| unsafe { (*options.add(*index)).keyword.is_null() }).unwrap_or(0)
}

/// Replaces a value.
///
/// # Safety
///
/// `options` is an array of libpq's that nobody else uses.
pub(crate) unsafe fn set(options: *mut PQconninfoOption, keyword: &CStr, value: Option<&CStr>) {
    // SAFETY: the caller's promise; values are NULL or from malloc, as is what strdup returns.
    unsafe {
        for index in 0..length(options) {
            let entry = &mut *options.add(index);
            if CStr::from_ptr(entry.keyword) == keyword {
                libc::free(entry.val.cast());
                entry.val = value.map_or(null_mut(), |value| libc::strdup(value.as_ptr()));
            }
        }
    }
}

/// Appends pgiam's own keywords. Returns the array, which may have moved; unchanged if there is no memory for more.
///
/// # Safety
///
/// `options` is an array of libpq's that nobody else uses; the result replaces it.
pub(crate) unsafe fn with(options: *mut PQconninfoOption, own: &Parameters) -> *mut PQconninfoOption {
    if own.is_empty() {
        return options;
    }
    // SAFETY: the caller's promise; the array from malloc is grown by realloc, which moves it as a whole.
    unsafe {
        let before = length(options);
        let size = (before + own.len() + 1) * size_of::<PQconninfoOption>();
        let grown = libc::realloc(options.cast(), size).cast::<PQconninfoOption>();
        if grown.is_null() {
            return options;
        }
        let end = *grown.add(before);
        let mut at = before;
        for (keyword, value) in own {
            let name = keywords::OWN_C.into_iter().find(|name| name.to_bytes() == keyword.as_bytes());
            let (Some(name), Ok(value)) = (name, CString::new(value.as_str())) else { continue };
            *grown.add(at) = PQconninfoOption {
                keyword: name.as_ptr(),
                envvar: null(),
                compiled: null(),
                val: libc::strdup(value.as_ptr()),
                label: name.as_ptr(),
                dispchar: c"".as_ptr(),
                dispsize: 64,
            };
            at += 1;
        }
        *grown.add(at) = end;
        grown
    }
}
