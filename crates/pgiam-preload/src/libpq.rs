//! The real libpq of whoever calls.
//!
//! A process may have several, some of them loaded privately (`RTLD_LOCAL`), where `RTLD_NEXT` does not find them, such as
//! those in Python's wheels. So the caller's own object is asked first: what would it be linked to without this library?
//! If that finds nothing: the next one in the global order, then any libpq that is loaded.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::transmute_copy;

use pgiam_libpq::functions::{CONNECTION_BAD, Functions, PGconn, Text, Texts};

use crate::caller::{self, Object};

pub(crate) type OfText = unsafe extern "C-unwind" fn(Text) -> *mut PGconn;
pub(crate) type OfParams = unsafe extern "C-unwind" fn(Texts, Texts, c_int) -> *mut PGconn;
pub(crate) type OfLogin = unsafe extern "C-unwind" fn(Text, Text, Text, Text, Text, Text, Text) -> *mut PGconn;
pub(crate) type PingText = unsafe extern "C-unwind" fn(Text) -> c_int;
pub(crate) type PingParams = unsafe extern "C-unwind" fn(Texts, Texts, c_int) -> c_int;
type ParameterStatus = unsafe extern "C-unwind" fn(*mut PGconn, Text) -> Text;
pub(crate) type Of<T> = unsafe extern "C-unwind" fn(*mut PGconn) -> T;

/// One loaded libpq.
pub(crate) struct Libpq {
    /// Its handle, open until this is dropped; `RTLD_NEXT` if it has none.
    handle: *mut c_void,
    /// Whether it is the caller: libpq calls its own functions.
    pub(crate) calls_itself: bool,
}

impl Drop for Libpq {
    fn drop(&mut self) {
        if self.handle != libc::RTLD_NEXT {
            // SAFETY: a handle from dlopen that is not used any more.
            unsafe { libc::dlclose(self.handle) };
        }
    }
}

/// A handle of an object that is already loaded.
fn handle_of(file: &CStr) -> Option<*mut c_void> {
    // SAFETY: with RTLD_NOLOAD nothing is loaded and no other code runs.
    let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    (!handle.is_null()).then_some(handle)
}

/// The address of a name as the handle finds it, unless it is our own.
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

/// The files of all loaded objects whose names begin with `libpq`.
fn loaded_libpqs() -> Vec<CString> {
    extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, argument: *mut c_void) -> c_int {
        // SAFETY: the loader passes a valid entry; the argument is the vector below.
        let (info, found) = unsafe { (&*info, &mut *argument.cast::<Vec<CString>>()) };
        if !info.dlpi_name.is_null() {
            // SAFETY: the loader's NUL-terminated name.
            let name = unsafe { CStr::from_ptr(info.dlpi_name) };
            if name.to_bytes().rsplit(|byte| *byte == b'/').next().is_some_and(|base| base.starts_with(b"libpq")) {
                found.push(name.to_owned());
            }
        }
        0
    }
    let mut found = Vec::new();
    // SAFETY: `visit` follows the protocol and does not unwind; `found` outlives the walk.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

impl Libpq {
    /// The libpq that the caller of this library's `name` would have called without it.
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

    /// One of its functions.
    ///
    /// # Safety
    ///
    /// `F` is the type that libpq's header gives the function.
    pub(crate) unsafe fn function<F: Copy>(&self, name: &CStr) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: of the same size, and by the caller's promise of the right type.
        look_up(self.handle, name).map(|address| unsafe { transmute_copy(&address) })
    }

    /// The functions that the decision needs.
    pub(crate) fn functions(&self) -> Option<Functions> {
        // SAFETY: the types are those of libpq's header.
        unsafe {
            Some(Functions {
                lib_version: self.function(c"PQlibVersion")?,
                connect_start_params: self.function(c"PQconnectStartParams")?,
                status: self.function(c"PQstatus")?,
                pass: self.function(c"PQpass")?,
                conninfo: self.function(c"PQconninfo")?,
                conninfo_free: self.function(c"PQconninfoFree")?,
                finish: self.function(c"PQfinish")?,
            })
        }
    }

    /// Calls a function that takes only the connection.
    ///
    /// # Safety
    ///
    /// `T` is what the function returns by libpq's header; `connection` belongs to this libpq.
    pub(crate) unsafe fn ask<T>(&self, name: &CStr, connection: *mut PGconn) -> Option<T> {
        // SAFETY: the caller's promises.
        unsafe { self.function::<Of<T>>(name).map(|function| function(connection)) }
    }

    /// A copy of a text that a function returns for a connection.
    ///
    /// # Safety
    ///
    /// `connection` belongs to this libpq and the function returns a text or NULL.
    pub(crate) unsafe fn text(&self, name: &CStr, connection: *mut PGconn) -> Option<String> {
        // SAFETY: the caller's promises; the text is valid until the connection changes, which it does not here.
        unsafe {
            let text = self.ask::<*const c_char>(name, connection)?;
            if text.is_null() { None } else { CStr::from_ptr(text).to_str().ok().map(str::to_owned) }
        }
    }

    /// # Safety
    ///
    /// `connection` belongs to this libpq.
    pub(crate) unsafe fn is_bad(&self, connection: *mut PGconn) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.ask::<c_int>(c"PQstatus", connection) == Some(CONNECTION_BAD) }
    }

    /// Whether the login failed after the server had asked for a password.
    ///
    /// # Safety
    ///
    /// `connection` belongs to this libpq.
    pub(crate) unsafe fn failed_with_password(&self, connection: *mut PGconn) -> bool {
        let names = [c"PQconnectionUsedPassword", c"PQconnectionNeedsPassword"];
        // SAFETY: the caller's promise; the functions are of these types. A server reports its version after a login.
        unsafe {
            let logged_in = self
                .function::<ParameterStatus>(c"PQparameterStatus")
                .is_some_and(|status| !status(connection, c"server_version".as_ptr()).is_null());
            let asked = |name: &CStr| self.ask::<c_int>(name, connection).is_some_and(|answer| answer != 0);
            !logged_in && names.into_iter().any(asked)
        }
    }

    /// Whether a connection has a time limit for each of its hosts.
    ///
    /// # Safety
    ///
    /// `connection` belongs to this libpq.
    pub(crate) unsafe fn has_timeout(&self, connection: *mut PGconn) -> bool {
        let Some(functions) = self.functions() else { return false };
        let mut has_timeout = false;
        // SAFETY: the caller's promise.
        unsafe {
            functions.for_each_option(connection, |option| {
                has_timeout |= option.keyword == "connect_timeout"
                    && option.value.is_some_and(|seconds| !matches!(seconds.to_bytes(), b"" | b"0"));
            });
        }
        has_timeout
    }
}
