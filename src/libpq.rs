//! The functions behind `include/pgiam-libpq.h`, private to it and declared there: libpq's functions and a connection's
//! arguments in, what to connect with out. The header passes libpq's functions in a table, so this library needs no
//! libpq. Functions, and fields at the end of the table, are only added.

use std::ffi::{CStr, c_char, c_int};
use std::ptr::{null, null_mut};

use pgiam_boundary::{entry, guarded};
use pgiam_core::{Error, ErrorKind, Log, sys};
use pgiam_libpq::arguments::Arguments;
use pgiam_libpq::functions::{self, Arrays, Functions, PGconn, PQconninfoOption, Texts};
use pgiam_libpq::plan::{self, Plan, Surroundings};
use pgiam_libpq::tokens::TokenMaker;

use crate::boundary::{guarded_status, invalid, put};
use crate::client::would_block;
use crate::error::{PGIAM_ERROR_INTERNAL, pgiam_error, pgiam_status};
use crate::token::require;

/// The table of libpq's functions. `size` is the table's size in bytes as the header declares it.
#[repr(C)]
#[allow(non_camel_case_types)]
pub struct pgiam_libpq_functions {
    size: usize,
    lib_version: Option<unsafe extern "C" fn() -> c_int>,
    connect_start_params: Option<functions::ConnectParams>,
    status: Option<unsafe extern "C" fn(*mut PGconn) -> c_int>,
    pass: Option<unsafe extern "C" fn(*mut PGconn) -> *mut c_char>,
    conninfo: Option<unsafe extern "C" fn(*mut PGconn) -> *mut PQconninfoOption>,
    conninfo_free: Option<unsafe extern "C" fn(*mut PQconninfoOption)>,
    finish: Option<unsafe extern "C" fn(*mut PGconn)>,
}

impl pgiam_libpq_functions {
    fn read(&self) -> Option<Functions> {
        Some(Functions {
            lib_version: self.lib_version?,
            connect_start_params: self.connect_start_params?,
            status: self.status?,
            pass: self.pass?,
            conninfo: self.conninfo?,
            conninfo_free: self.conninfo_free?,
            finish: self.finish?,
        })
    }
}

/// How to connect.
#[allow(non_camel_case_types)]
pub struct pgiam_libpq_plan {
    /// Owns the texts that the arrays point to.
    plan: Plan,
    arrays: Option<Arrays>,
}

/// Decides how to connect.
///
/// `keywords` and `values` are the arguments of `PQconnectdbParams`; if `keywords` is NULL, `conninfo` is the argument of
/// `PQconnectdb`, and NULL means all defaults. If `may_wait` is 0 and credentials are being fetched, the status is
/// `PGIAM_ERROR_WOULD_BLOCK`.
///
/// # Safety
///
/// `libpq` is the header's table; texts are NUL-terminated; arrays end with NULL and are of the same length; `plan` and
/// `error` are NULL or point to a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_libpq_plan_new(
    libpq: *const pgiam_libpq_functions,
    conninfo: *const c_char,
    keywords: Texts,
    values: Texts,
    expand_dbname: c_int,
    may_wait: c_int,
    plan: *mut *mut pgiam_libpq_plan,
    error: *mut *mut pgiam_error,
) -> pgiam_status {
    // SAFETY: the caller's promises are passed on.
    entry(PGIAM_ERROR_INTERNAL, || unsafe {
        put(plan, null_mut());
        guarded_status(error, || {
            require(plan, "plan")?;
            let functions = table(libpq)?;
            let given = match keywords.is_null() {
                true if conninfo.is_null() => Some(Arguments::new([], true)),
                true => Arguments::of_conninfo(CStr::from_ptr(conninfo)),
                false => functions::arguments_of_arrays(keywords, values, expand_dbname != 0),
            };
            let decided = decide(&functions, given, may_wait != 0)?;
            let arrays = decided.arguments.as_ref().map(|arguments| Arrays::new(&arguments.with(&decided.more())));
            put(plan, Box::into_raw(Box::new(pgiam_libpq_plan { plan: decided, arrays })));
            Ok(())
        })
    })
}

/// # Safety
///
/// `libpq` is NULL or the header's table.
unsafe fn table(libpq: *const pgiam_libpq_functions) -> Result<Functions, Error> {
    // SAFETY: the size comes first in every version of the table; nothing after it is read unless it is there.
    let whole = !libpq.is_null() && unsafe { (*libpq).size } >= size_of::<pgiam_libpq_functions>();
    // SAFETY: as above.
    let functions = if whole { unsafe { (*libpq).read() } } else { None };
    functions.ok_or_else(|| invalid("the table of libpq's functions is incomplete; compile with pgiam-libpq.h again"))
}

fn decide(libpq: &Functions, given: Option<Arguments>, may_wait: bool) -> Result<Plan, Error> {
    let maker = TokenMaker::new(may_wait);
    let surroundings = Surroundings {
        // The environment of a set-user-id program is its caller's.
        variable: &|name| if sys::runs_privileged() { None } else { plan::variable(name) },
        home: std::env::var_os("HOME").map(Into::into),
        home_directory: sys::home_directory,
        token: &|request| maker.make(request),
        keeps_room: false,
    };
    let plan = plan::decide(libpq, given, &surroundings).map_err(|_| would_block())?;
    plan.log(&Log::of_process());
    match &plan.failure {
        Some(why) => Err(Error::new(ErrorKind::InvalidConfiguration, why.as_str())),
        None => Ok(plan),
    }
}

/// The keywords to connect with, valid until the plan is freed. NULL: make the call as it was made.
///
/// # Safety
///
/// `plan` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_libpq_plan_keywords(plan: *const pgiam_libpq_plan) -> Texts {
    // SAFETY: the caller's promise.
    entry(null(), || unsafe { arrays(plan) }.map_or(null(), Arrays::keywords))
}

/// The values to connect with, valid until the plan is freed. NULL: make the call as it was made.
///
/// # Safety
///
/// `plan` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_libpq_plan_values(plan: *const pgiam_libpq_plan) -> Texts {
    // SAFETY: the caller's promise.
    entry(null(), || unsafe { arrays(plan) }.map_or(null(), Arrays::values))
}

/// Whether the first `dbname` may be a connection string.
///
/// # Safety
///
/// `plan` is NULL or live.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_libpq_plan_expand_dbname(plan: *const pgiam_libpq_plan) -> c_int {
    // SAFETY: the caller's promise.
    entry(0, || unsafe { plan.as_ref() }.is_some_and(expands).into())
}

fn expands(plan: &pgiam_libpq_plan) -> bool {
    plan.plan.arguments.as_ref().is_some_and(|arguments| arguments.expand_dbname)
}

/// # Safety
///
/// `plan` is NULL or live for `'a`.
unsafe fn arrays<'a>(plan: *const pgiam_libpq_plan) -> Option<&'a Arrays> {
    // SAFETY: the caller's promise.
    unsafe { plan.as_ref() }?.arrays.as_ref()
}

/// Frees a plan and wipes its passwords, after the connection was started. NULL is allowed.
///
/// # Safety
///
/// `plan` is NULL or came from `pgiam_libpq_plan_new` and is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn pgiam_libpq_plan_free(plan: *mut pgiam_libpq_plan) {
    entry((), || {
        guarded((), || {
            if !plan.is_null() {
                // SAFETY: made by Box::into_raw in pgiam_libpq_plan_new; the caller gives up its ownership.
                drop(unsafe { Box::from_raw(plan) });
            }
        });
    });
}
