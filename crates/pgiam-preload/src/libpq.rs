//! The real libpq of whoever calls.
//!
//! A process may hold several, some of them loaded privately (`RTLD_LOCAL`) and out of `RTLD_NEXT`'s sight: the bundled
//! ones of Python's wheels beside the system's. So the caller's own object is asked first: what it would be linked to
//! without us. Where that gives nothing: the next one in the global order, then any libpq that is loaded.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::transmute_copy;
use std::ptr::null_mut;

use crate::caller::{self, Object};

/// libpq's connection, which only libpq looks into.
#[repr(C)]
pub(crate) struct PGconn {
    _opaque: [u8; 0],
}

/// An entry of what `PQconninfo` and `PQconninfoParse` give, which ends with an entry whose keyword is NULL.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct PQconninfoOption {
    pub(crate) keyword: *const c_char,
    pub(crate) envvar: *const c_char,
    pub(crate) compiled: *const c_char,
    /// Owned by the array, from malloc.
    pub(crate) val: *mut c_char,
    pub(crate) label: *const c_char,
    pub(crate) dispchar: *const c_char,
    pub(crate) dispsize: c_int,
}

pub(crate) type Text = *const c_char;
pub(crate) type Texts = *const *const c_char;
pub(crate) type OfText = unsafe extern "C" fn(Text) -> *mut PGconn;
pub(crate) type OfParams = unsafe extern "C" fn(Texts, Texts, c_int) -> *mut PGconn;
pub(crate) type OfLogin = unsafe extern "C" fn(Text, Text, Text, Text, Text, Text, Text) -> *mut PGconn;
pub(crate) type PingText = unsafe extern "C" fn(Text) -> c_int;
pub(crate) type PingParams = unsafe extern "C" fn(Texts, Texts, c_int) -> c_int;
pub(crate) type Give<T> = unsafe extern "C" fn(*mut PGconn) -> T;
pub(crate) type Parse = unsafe extern "C" fn(Text, *mut *mut c_char) -> *mut PQconninfoOption;
type FreeOptions = unsafe extern "C" fn(*mut PQconninfoOption);
type Version = unsafe extern "C" fn() -> c_int;

/// `CONNECTION_BAD`.
const CONNECTION_BAD: c_int = 1;

/// One loaded libpq.
pub(crate) struct Libpq {
    /// Its handle, held until this is dropped; `RTLD_NEXT` where it has none.
    handle: *mut c_void,
    /// Whether it is the caller: libpq calls its own names.
    pub(crate) calls_itself: bool,
}

impl Drop for Libpq {
    fn drop(&mut self) {
        if self.handle != libc::RTLD_NEXT {
            // SAFETY: a handle of dlopen's that is not used any more.
            unsafe { libc::dlclose(self.handle) };
        }
    }
}

/// A handle of an object that is loaded already.
fn handle_of(file: &CStr) -> Option<*mut c_void> {
    // SAFETY: with RTLD_NOLOAD nothing is loaded and no foreign code runs.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    (!handle.is_null()).then_some(handle)
}

/// A name as the handle sees it, unless that is our own.
fn look_up(handle: *mut c_void, name: &CStr) -> Option<*mut c_void> {
    // SAFETY: `handle` is RTLD_NEXT or came from dlopen and is still open.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    (!address.is_null() && !caller::is_own(address)).then_some(address)
}

fn look_up_in(file: &CStr, name: &CStr) -> Option<*mut c_void> {
    let handle = handle_of(file)?;
    let found = look_up(handle, name);
    // SAFETY: opened above. The object stays: somebody else has it loaded.
    unsafe { libc::dlclose(handle) };
    found
}

/// The files of all loaded objects that are called `libpq…`.
fn loaded_libpqs() -> Vec<CString> {
    extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, argument: *mut c_void) -> c_int {
        // SAFETY: the loader gives a valid entry; the argument is the vector below.
        let (info, found) = unsafe { (&*info, &mut *argument.cast::<Vec<CString>>()) };
        if !info.dlpi_name.is_null() {
            // SAFETY: a NUL-terminated name of the loader's.
            let name = unsafe { CStr::from_ptr(info.dlpi_name) };
            if name.to_bytes().rsplit(|byte| *byte == b'/').next().is_some_and(|base| base.starts_with(b"libpq")) {
                found.push(name.to_owned());
            }
        }
        0
    }
    let mut found = Vec::new();
    // SAFETY: `visit` keeps to the protocol and does not unwind; `found` outlives the walk.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

impl Libpq {
    /// The libpq that the caller of this library's `name` would have reached without us.
    pub(crate) fn of_caller(name: &CStr) -> Option<Self> {
        let caller = caller::calling_object();
        let address = caller
            .as_ref()
            .and_then(|caller| look_up_in(&caller.file, name))
            .or_else(|| look_up(libc::RTLD_NEXT, name))
            .or_else(|| loaded_libpqs().iter().find_map(|file| look_up_in(file, name)))?;
        let Object { base, file } = caller::object_of(address)?;
        Some(Self {
            handle: handle_of(&file).unwrap_or(libc::RTLD_NEXT),
            calls_itself: caller.is_some_and(|caller| caller.base == base),
        })
    }

    /// A function of it.
    ///
    /// # Safety
    ///
    /// `F` is the type that libpq's header gives the function.
    pub(crate) unsafe fn function<F: Copy>(&self, name: &CStr) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: of the same size, and by the caller's promise of the right type.
        look_up(self.handle, name).map(|address| unsafe { transmute_copy(&address) })
    }

    /// What a function that takes the connection alone gives.
    ///
    /// # Safety
    ///
    /// `T` is what the function gives by libpq's header; `connection` is one of this libpq's.
    pub(crate) unsafe fn ask<T>(&self, name: &CStr, connection: *mut PGconn) -> Option<T> {
        // SAFETY: the caller's promises.
        unsafe { self.function::<Give<T>>(name).map(|function| function(connection)) }
    }

    /// A text that a function gives for a connection, copied.
    ///
    /// # Safety
    ///
    /// `connection` is one of this libpq's and the function gives a text or NULL.
    pub(crate) unsafe fn text(&self, name: &CStr, connection: *mut PGconn) -> Option<String> {
        // SAFETY: the caller's promises; the text is valid until the connection changes, which it does not here.
        unsafe {
            let text = self.ask::<*const c_char>(name, connection)?;
            if text.is_null() { None } else { CStr::from_ptr(text).to_str().ok().map(str::to_owned) }
        }
    }

    /// # Safety
    ///
    /// `connection` is one of this libpq's.
    pub(crate) unsafe fn is_bad(&self, connection: *mut PGconn) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.ask::<c_int>(c"PQstatus", connection) == Some(CONNECTION_BAD) }
    }

    /// The version, as 150018 for 15.18.
    pub(crate) fn version(&self) -> c_int {
        // SAFETY: PQlibVersion is of that type.
        unsafe { self.function::<Version>(c"PQlibVersion").map_or(0, |version| version()) }
    }

    /// `PQconnectdbParams` or `PQconnectStartParams`.
    ///
    /// # Safety
    ///
    /// The texts' pointers are valid for the call.
    pub(crate) unsafe fn connect(&self, name: &CStr, pairs: &[(Text, Text)], expand_dbname: c_int) -> *mut PGconn {
        let mut keywords: Vec<Text> = pairs.iter().map(|pair| pair.0).collect();
        let mut values: Vec<Text> = pairs.iter().map(|pair| pair.1).collect();
        keywords.push(std::ptr::null());
        values.push(std::ptr::null());
        // SAFETY: both functions are of that type; the arrays end with NULL.
        unsafe {
            self.function::<OfParams>(name)
                .map_or(null_mut(), |connect| connect(keywords.as_ptr(), values.as_ptr(), expand_dbname))
        }
    }

    /// # Safety
    ///
    /// `options` came from this libpq.
    pub(crate) unsafe fn free_options(&self, options: *mut PQconninfoOption) {
        // SAFETY: the caller's promise.
        unsafe {
            if let Some(free) = self.function::<FreeOptions>(c"PQconninfoFree") {
                free(options);
            }
        }
    }
}
