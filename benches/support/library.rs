//! The built `libpgiam.so`, called through its C ABI as a C program calls it.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::PathBuf;
use std::ptr::{null, null_mut};

type ClientNew =
    unsafe extern "C" fn(*const *const c_char, *const *const c_char, *mut *mut c_void, *mut *mut c_void) -> i32;
type GenerateToken = unsafe extern "C" fn(
    *mut c_void,
    *const c_char,
    i32,
    *const c_char,
    *const c_char,
    *mut *mut c_char,
    *mut i64,
    *mut *mut c_void,
) -> i32;
type Refresh = unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> i32;
type StringFree = unsafe extern "C" fn(*mut c_char);

/// The functions of the library that are measured. The library stays loaded for good.
#[derive(Clone, Copy)]
pub(crate) struct Library {
    client_new: ClientNew,
    generate_token: GenerateToken,
    refresh: Refresh,
    string_free: StringFree,
}

/// What a token is asked for, as C text.
pub(crate) struct Request<'a> {
    pub(crate) host: &'a CStr,
    pub(crate) port: i32,
    pub(crate) user: &'a CStr,
}

impl Library {
    /// Loads what Cargo built beside this program, or what `PGIAM_LIBRARY` names.
    pub(crate) fn load() -> Self {
        let path = std::env::var_os("PGIAM_LIBRARY").map_or_else(
            || {
                let program = std::env::current_exe().expect("the program's own path");
                program.ancestors().nth(2).expect("target/PROFILE/deps/PROGRAM").join("libpgiam.so")
            },
            PathBuf::from,
        );
        let name = CString::new(path.as_os_str().as_encoded_bytes()).expect("a path without NUL");
        // SAFETY: the name is NUL-terminated; the library's constructors are those of Rust's standard library.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW as c_int) };
        assert!(!handle.is_null(), "{} cannot be loaded: build it with make", path.display());
        let symbol = |name: &CStr| {
            // SAFETY: the handle is open and the name NUL-terminated.
            let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
            assert!(!address.is_null(), "{name:?} is missing");
            address
        };
        // SAFETY: the types are those of include/pgiam.h, opaque pointers apart.
        unsafe {
            Self {
                client_new: std::mem::transmute::<*mut c_void, ClientNew>(symbol(c"pgiam_client_new")),
                generate_token: std::mem::transmute::<*mut c_void, GenerateToken>(symbol(
                    c"pgiam_client_generate_token",
                )),
                refresh: std::mem::transmute::<*mut c_void, Refresh>(symbol(c"pgiam_client_refresh")),
                string_free: std::mem::transmute::<*mut c_void, StringFree>(symbol(c"pgiam_string_free")),
            }
        }
    }

    /// A client with default settings in the environment of this moment.
    pub(crate) fn client(self) -> Client {
        let mut client = null_mut();
        // SAFETY: no settings are given; the output is a place for a pointer.
        let status = unsafe { (self.client_new)(null(), null(), &raw mut client, null_mut()) };
        assert_eq!(status, 0, "a client");
        Client { library: self, client }
    }
}

/// A client of the library. It is never freed: the program ends with it.
pub(crate) struct Client {
    library: Library,
    client: *mut c_void,
}

// SAFETY: include/pgiam.h lets threads share a client.
unsafe impl Sync for Client {}

impl Client {
    /// Makes a token, shows it to `look`, and gives it back to the library, which wipes it.
    pub(crate) fn with_token<T>(&self, request: &Request<'_>, look: impl FnOnce(&CStr) -> T) -> T {
        let (mut token, mut expires_at) = (null_mut(), 0);
        // SAFETY: all text is NUL-terminated, the outputs are places of the right types, the client is alive.
        unsafe {
            let status = (self.library.generate_token)(
                self.client,
                request.host.as_ptr(),
                request.port,
                null(),
                request.user.as_ptr(),
                &raw mut token,
                &raw mut expires_at,
                null_mut(),
            );
            assert_eq!(status, 0, "a token");
            let seen = look(CStr::from_ptr(token));
            (self.library.string_free)(token);
            seen
        }
    }

    /// Fetches credentials now.
    pub(crate) fn refresh(&self) {
        // SAFETY: the client is alive; the error is not wanted.
        let status = unsafe { (self.library.refresh)(self.client, null_mut()) };
        assert_eq!(status, 0, "credentials");
    }
}
