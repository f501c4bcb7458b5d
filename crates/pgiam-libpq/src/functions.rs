//! A table of libpq's functions, and the trait [`Libpq`] by them. Whoever has libpq fills the table: a program that
//! includes `pgiam-libpq.h`, by its own linker; the preload library, with what `dlsym` finds. So this crate needs no
//! libpq itself.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int};
use std::ptr::{null, null_mut};

use zeroize::Zeroizing;

use crate::arguments::Arguments;
use crate::plan::{Libpq, Resolved};

/// libpq's connection object.
#[repr(C)]
#[derive(Debug)]
pub struct PGconn {
    _opaque: [u8; 0],
}

/// An entry of what `PQconninfo` and `PQconninfoParse` return. The last entry has the keyword NULL.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PQconninfoOption {
    /// The keyword.
    pub keyword: *const c_char,
    /// Its environment variable, or NULL.
    pub envvar: *const c_char,
    /// The compiled-in default, or NULL.
    pub compiled: *const c_char,
    /// The value, or NULL; from malloc, owned by the array.
    pub val: *mut c_char,
    /// A label for a dialog.
    pub label: *const c_char,
    /// How to show it in a dialog.
    pub dispchar: *const c_char,
    /// Its width in a dialog.
    pub dispsize: c_int,
}

/// A text argument.
pub type Text = *const c_char;
/// An array of texts that ends with NULL.
pub type Texts = *const *const c_char;
/// `PQconnectdbParams`, `PQconnectStartParams`.
pub type ConnectParams = unsafe extern "C" fn(Texts, Texts, c_int) -> *mut PGconn;

/// Functions of one libpq, under the types of its header.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "libpq's names")]
pub struct Functions {
    pub lib_version: unsafe extern "C" fn() -> c_int,
    pub connect_start_params: ConnectParams,
    pub status: unsafe extern "C" fn(*mut PGconn) -> c_int,
    pub pass: unsafe extern "C" fn(*mut PGconn) -> *mut c_char,
    pub conninfo: unsafe extern "C" fn(*mut PGconn) -> *mut PQconninfoOption,
    pub conninfo_free: unsafe extern "C" fn(*mut PQconninfoOption),
    pub finish: unsafe extern "C" fn(*mut PGconn),
}

/// `CONNECTION_BAD`.
pub const CONNECTION_BAD: c_int = 1;

impl Libpq for Functions {
    fn version(&self) -> i32 {
        // SAFETY: of this type by libpq's header, as are all others here.
        unsafe { (self.lib_version)() }
    }

    fn resolve(&self, arguments: &Arguments, more: &[(&CStr, &CStr)]) -> Option<Resolved> {
        // libpq refuses this value after it has found all other options and before it connects.
        let more = [more, &[(c"target_session_attrs", c"pgiam-asks")]].concat();
        let arrays = Arrays::new(&arguments.with(&more));
        // SAFETY: the arrays end with NULL and live for the call. The connection's texts and options are copied before
        // they are freed, and it is finished once.
        unsafe {
            let connection =
                (self.connect_start_params)(arrays.keywords(), arrays.values(), arguments.expand_dbname.into());
            if connection.is_null() {
                return None;
            }
            let password = Zeroizing::new(copied((self.pass)(connection)).unwrap_or_default());
            let refused = (self.status)(connection) == CONNECTION_BAD;
            let (compiled, values) = self.options(connection);
            (self.finish)(connection);
            // Without a user libpq has refused the arguments before it looked for defaults.
            (refused && values.contains_key("user")).then_some(Resolved { compiled, values, password })
        }
    }
}

/// Values by keyword.
pub type Values = BTreeMap<String, String>;

impl Functions {
    /// The compiled-in defaults and the values of a connection's options, without passwords.
    ///
    /// # Safety
    ///
    /// `connection` belongs to this libpq.
    #[must_use]
    pub unsafe fn options(&self, connection: *mut PGconn) -> (Values, Values) {
        let (mut compiled, mut values) = (Values::new(), Values::new());
        // SAFETY: the caller's promise; libpq's array ends with a keyword that is NULL, and is read before it is freed.
        unsafe {
            let options = (self.conninfo)(connection);
            if options.is_null() {
                return (compiled, values);
            }
            let mut entry = options;
            while let Some(keyword) = copied((*entry).keyword) {
                if keyword != "password" {
                    values.extend(copied((*entry).val).map(|value| (keyword.clone(), value)));
                    compiled.extend(copied((*entry).compiled).map(|value| (keyword, value)));
                }
                entry = entry.add(1);
            }
            (self.conninfo_free)(options);
        }
        (compiled, values)
    }
}

/// A copy of a text; `None` if it is NULL or not UTF-8.
///
/// # Safety
///
/// NULL, or NUL-terminated.
unsafe fn copied(text: Text) -> Option<String> {
    // SAFETY: not NULL, and the caller's promise.
    if text.is_null() { None } else { unsafe { CStr::from_ptr(text) }.to_str().ok().map(str::to_owned) }
}

/// Keywords and values as the two arrays that libpq takes.
#[derive(Debug)]
pub struct Arrays {
    keywords: Vec<Text>,
    values: Vec<Text>,
}

impl Arrays {
    /// The arrays point to the given texts, which must outlive their use.
    #[must_use]
    pub fn new(pairs: &[(&CStr, Option<&CStr>)]) -> Self {
        let keywords = pairs.iter().map(|(keyword, _)| keyword.as_ptr());
        let values = pairs.iter().map(|(_, value)| value.map_or(null(), CStr::as_ptr));
        Self { keywords: keywords.chain([null()]).collect(), values: values.chain([null()]).collect() }
    }

    /// The array of keywords.
    #[must_use]
    pub fn keywords(&self) -> Texts {
        self.keywords.as_ptr()
    }

    /// The array of values.
    #[must_use]
    pub fn values(&self) -> Texts {
        self.values.as_ptr()
    }
}

/// The arguments of `PQconnectdbParams`. `None`: an array is NULL.
///
/// # Safety
///
/// The arrays are NULL or end with NULL and hold NUL-terminated texts; `values` is as long as `keywords`.
#[must_use]
pub unsafe fn arguments_of_arrays(keywords: Texts, values: Texts, expand_dbname: bool) -> Option<Arguments> {
    if keywords.is_null() || values.is_null() {
        return None;
    }
    let mut pairs = Vec::new();
    for index in 0.. {
        // SAFETY: nothing after the NULL is read; there are as many values.
        let (keyword, value) = unsafe { (text(*keywords.add(index)), text(*values.add(index))) };
        let Some(keyword) = keyword else { break };
        pairs.push((keyword, value));
    }
    Some(Arguments::new(pairs, expand_dbname))
}

/// The arguments of `PQsetdbLogin`: a connection string as `dbname` counts first.
///
/// # Safety
///
/// Each value is NULL or NUL-terminated.
#[must_use]
pub unsafe fn arguments_of_login(values: [(&'static CStr, Text); 6]) -> Arguments {
    // SAFETY: the caller's promise.
    Arguments::new(values.map(|(keyword, value)| (keyword, unsafe { text(value) })), true)
}

/// # Safety
///
/// NULL, or NUL-terminated for `'a`.
unsafe fn text<'a>(text: Text) -> Option<&'a CStr> {
    // SAFETY: not NULL, and the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// No connection.
pub const NO_CONNECTION: *mut PGconn = null_mut();
