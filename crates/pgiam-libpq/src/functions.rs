//! A table of libpq's functions, and the trait [`Libpq`] by them. Whoever has libpq fills the table: a program that
//! includes `pgiam-libpq.h`, by its own linker; the preload library, with what `dlsym` finds. So this crate needs no
//! libpq itself.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::null;

use zeroize::Zeroizing;

use crate::arguments::Arguments;
use crate::plan::{ConnectionOption, Libpq, Resolved};

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
            let password = text((self.pass)(connection)).map_or_else(Vec::new, |text| text.to_bytes().to_vec());
            let refused = (self.status)(connection) == CONNECTION_BAD;
            let mut resolved = Resolved { password: Zeroizing::new(password), ..Resolved::default() };
            self.for_each_option(connection, |option| resolved.add(&option));
            (self.finish)(connection);
            // Without a user libpq has refused the arguments before it looked for defaults.
            (refused && resolved.values.contains_key("user")).then_some(resolved)
        }
    }
}

impl Functions {
    /// Visits the options of a connection.
    ///
    /// # Safety
    ///
    /// `connection` belongs to this libpq.
    pub unsafe fn for_each_option(&self, connection: *mut PGconn, mut visit: impl FnMut(ConnectionOption<'_>)) {
        // SAFETY: the caller's promise; libpq's array ends with a keyword that is NULL, and is read before it is freed.
        unsafe {
            let options = (self.conninfo)(connection);
            let mut entry = options;
            while let Some(keyword) = entry.as_ref().and_then(|entry| text(entry.keyword)) {
                let (compiled, value) = (text((*entry).compiled), text((*entry).val));
                visit(ConnectionOption { keyword: keyword.to_str().unwrap_or_default(), compiled, value });
                entry = entry.add(1);
            }
            (self.conninfo_free)(options);
        }
    }
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
