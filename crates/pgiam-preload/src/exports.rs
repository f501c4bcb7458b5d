//! libpq's functions that this library defines, and the only names that it exports.
//!
//! Each finds the real function of whoever calls. Calls from libpq itself are passed on at once. Where a call is passed on
//! unchanged, the real function runs with the program's own cancellation state, as it would without this library.
#![allow(non_snake_case, reason = "these are libpq's names")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{null, null_mut};

use pgiam_boundary::{entry, guarded};
use pgiam_core::{Log, sys};
use pgiam_libpq::arguments::{self, Arguments};
use pgiam_libpq::conninfo::Parameters;
use pgiam_libpq::functions::{self, Arrays, PGconn, PQconninfoOption, Text, Texts};
use pgiam_libpq::plan::{self, Plan, Surroundings};
use pgiam_libpq::tokens::Wait;
use zeroize::Zeroizing;

use crate::libpq::{Libpq, Of, OfLogin, OfParams, OfText, PingParams, PingText};
use crate::options;
use crate::remembered::{self, Remembered, token_maker};

/// What is left to do after the decision. Plain values, as [`entry`] requires.
#[derive(Clone, Copy)]
enum Next<F> {
    /// There is no libpq.
    Nothing,
    /// Make the program's own call, then remember this (NULL: nothing).
    Call(F, *mut Remembered),
    /// The connection was made.
    Made(*mut PGconn),
}

/// Decides how to connect, and does it unless the program's own call is to be made.
fn begin<F: Copy>(name: &CStr, wait: Wait, arguments: impl Fn() -> Option<Arguments> + Copy) -> Next<F> {
    entry(Next::Nothing, || {
        let Some(libpq) = guarded(None, || Libpq::of_caller(name)) else { return Next::Nothing };
        // SAFETY: the caller names the function's type.
        let Some(real) = (unsafe { libpq.function::<F>(name) }) else { return Next::Nothing };
        if libpq.calls_itself {
            return Next::Call(real, null_mut());
        }
        let mut plan = guarded(Plan::default(), || decide(&libpq, arguments(), wait));
        let record = Remembered::of_plan(&mut plan);
        let Some(arguments) = &plan.arguments else {
            return Next::Call(real, record.map_or(null_mut(), |record| Box::into_raw(Box::new(record))));
        };
        let connection = connect(&libpq, arguments, &plan, wait);
        guarded((), || {
            remembered::remember(connection, record);
            drop(plan);
        });
        Next::Made(connection)
    })
}

/// Never fails: without a token the connection is made without a password, and the reason is added to its error message.
fn decide(libpq: &Libpq, arguments: Option<Arguments>, wait: Wait) -> Plan {
    // The environment of a set-user-id program is its caller's.
    let arguments = arguments.filter(|_| !sys::runs_privileged());
    let Some(functions) = libpq.functions() else { return Plan::default() };
    let maker = token_maker(wait);
    let surroundings = Surroundings {
        variable: &plan::variable,
        home: std::env::var_os("HOME").map(Into::into),
        home_directory: sys::home_directory,
        token: &|request| maker.make(request),
        keeps_room: true,
    };
    let plan = plan::decide(&functions, arguments, &surroundings).unwrap_or_default();
    plan.log(&Log::of_process());
    plan
}

fn connect(libpq: &Libpq, arguments: &Arguments, plan: &Plan, wait: Wait) -> *mut PGconn {
    let name = if wait == Wait::Blocking { c"PQconnectdbParams" } else { c"PQconnectStartParams" };
    let Some(arrays) = guarded(None, || Some(Arrays::new(&arguments.with(&plan.more())))) else { return null_mut() };
    // SAFETY: both functions are of that type; the plan owns the texts and outlives the call.
    unsafe {
        libpq.function::<OfParams>(name).map_or(null_mut(), |connect| {
            connect(arrays.keywords(), arrays.values(), arguments.expand_dbname.into()) //
        })
    }
}

/// After the program's own call.
fn end(connection: *mut PGconn, record: *mut Remembered) -> *mut PGconn {
    entry(connection, || {
        guarded((), || {
            // SAFETY: made by Box::into_raw in `begin`, for this call alone.
            let record = (!record.is_null()).then(|| unsafe { *Box::from_raw(record) });
            remembered::remember(connection, record);
        });
        connection
    })
}

/// Makes a connection to the database server.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQconnectdb(conninfo: *const c_char) -> *mut PGconn {
    // SAFETY: the caller's promise, here and below: the arguments are those of libpq's function.
    match begin::<OfText>(c"PQconnectdb", Wait::Blocking, || unsafe { conninfo_arguments(conninfo) }) {
        // SAFETY: as above.
        Next::Call(real, record) => end(unsafe { real(conninfo) }, record),
        Next::Made(connection) => connection,
        Next::Nothing => null_mut(),
    }
}

/// Starts a connection in a nonblocking manner.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQconnectStart(conninfo: *const c_char) -> *mut PGconn {
    // SAFETY: as in PQconnectdb.
    match begin::<OfText>(c"PQconnectStart", Wait::Bounded, || unsafe { conninfo_arguments(conninfo) }) {
        // SAFETY: as in PQconnectdb.
        Next::Call(real, record) => end(unsafe { real(conninfo) }, record),
        Next::Made(connection) => connection,
        Next::Nothing => null_mut(),
    }
}

/// # Safety
///
/// NULL, or NUL-terminated.
unsafe fn conninfo_arguments(conninfo: Text) -> Option<Arguments> {
    // SAFETY: not NULL, and the caller's promise.
    if conninfo.is_null() { None } else { Arguments::of_conninfo(unsafe { CStr::from_ptr(conninfo) }) }
}

/// Makes a connection to the database server.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQconnectdbParams(
    keywords: Texts,
    values: Texts,
    expand_dbname: c_int,
) -> *mut PGconn {
    // SAFETY: as in PQconnectdb.
    let arguments = || unsafe { functions::arguments_of_arrays(keywords, values, expand_dbname != 0) };
    match begin::<OfParams>(c"PQconnectdbParams", Wait::Blocking, arguments) {
        // SAFETY: as in PQconnectdb.
        Next::Call(real, record) => end(unsafe { real(keywords, values, expand_dbname) }, record),
        Next::Made(connection) => connection,
        Next::Nothing => null_mut(),
    }
}

/// Starts a connection in a nonblocking manner.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQconnectStartParams(
    keywords: Texts,
    values: Texts,
    expand_dbname: c_int,
) -> *mut PGconn {
    // SAFETY: as in PQconnectdb.
    let arguments = || unsafe { functions::arguments_of_arrays(keywords, values, expand_dbname != 0) };
    match begin::<OfParams>(c"PQconnectStartParams", Wait::Bounded, arguments) {
        // SAFETY: as in PQconnectdb.
        Next::Call(real, record) => end(unsafe { real(keywords, values, expand_dbname) }, record),
        Next::Made(connection) => connection,
        Next::Nothing => null_mut(),
    }
}

/// Makes a connection to the database server, with a fixed set of parameters.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQsetdbLogin(
    host: *const c_char,
    port: *const c_char,
    options: *const c_char,
    tty: *const c_char,
    dbname: *const c_char,
    user: *const c_char,
    password: *const c_char,
) -> *mut PGconn {
    let values = [
        (c"dbname", dbname),
        (c"host", host),
        (c"port", port),
        (c"options", options),
        (c"user", user),
        (c"password", password),
    ];
    // SAFETY: as in PQconnectdb.
    let arguments = || Some(unsafe { functions::arguments_of_login(values) });
    match begin::<OfLogin>(c"PQsetdbLogin", Wait::Blocking, arguments) {
        // SAFETY: as in PQconnectdb.
        Next::Call(real, record) => end(unsafe { real(host, port, options, tty, dbname, user, password) }, record),
        Next::Made(connection) => connection,
        Next::Nothing => null_mut(),
    }
}

/// Which tokens to renew before a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Renew {
    /// A reset begins.
    Reset,
    /// A step of a connection, which may have moved on to another of its several hosts.
    Step,
}

/// Renews the token of a connection that has one. Returns the real function.
///
/// # Safety
///
/// `connection` is the caller's, and no other thread uses it; `T` is what the function returns.
unsafe fn renewed<T>(name: &CStr, connection: *mut PGconn, wait: Wait, renew: Renew) -> Option<Of<T>> {
    entry(None, || {
        let libpq = guarded(None, || Libpq::of_caller(name))?;
        if !libpq.calls_itself {
            guarded((), || {
                let Some(record) = remembered::find(connection) else { return };
                if renew == Renew::Step && !record.has_several_hosts() {
                    return;
                }
                if renew == Renew::Reset {
                    record.begin_reset();
                }
                // SAFETY: the caller's promise.
                unsafe { record.renew(&libpq, connection, wait) };
            });
        }
        // SAFETY: the caller's promise.
        unsafe { libpq.function(name) }
    })
}

/// How a connection is reset. Plain values, as [`entry`] requires.
#[derive(Clone, Copy)]
enum Reset {
    /// There is no libpq.
    Nothing,
    /// By libpq's `PQreset`.
    Call(Of<()>),
    /// Step by step. Each of several hosts gets its new token when libpq has moved on to it, which can be seen only
    /// between two steps.
    Poll(Polling),
}

/// libpq's functions for a reset in steps.
#[derive(Clone, Copy)]
struct Polling {
    start: Of<c_int>,
    socket: Of<c_int>,
    step: Of<c_int>,
}

unsafe extern "C-unwind" {
    // Not the libc crate's, whose declaration forbids that a cancelled thread is unwound through it.
    fn poll(descriptors: *mut libc::pollfd, count: libc::nfds_t, timeout: c_int) -> c_int;
}

/// Resets the communication channel to the server.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQreset(connection: *mut PGconn) {
    // SAFETY: as in PQconnectdb, here and below.
    match unsafe { reset_of(connection) } {
        Reset::Nothing => {}
        // SAFETY: as above.
        Reset::Call(real) => unsafe { real(connection) },
        // SAFETY: as above.
        Reset::Poll(functions) => unsafe { reset_by_polling(connection, functions) },
    }
}

/// Renews the token of the host that libpq is at, and decides how to reset.
///
/// # Safety
///
/// `connection` is the caller's, and no other thread uses it.
unsafe fn reset_of(connection: *mut PGconn) -> Reset {
    // SAFETY: the caller's promise, here and below.
    let Some(real) = (unsafe { renewed::<()>(c"PQreset", connection, Wait::Blocking, Renew::Reset) }) else {
        return Reset::Nothing;
    };
    let polling = entry(None, || {
        // SAFETY: as above.
        guarded(None, || unsafe { polling_of(connection) })
    });
    // No method of Option: without optimisations that is a frame with unwinding instructions.
    match polling {
        Some(functions) => Reset::Poll(functions),
        None => Reset::Call(real),
    }
}

/// `None`: the connection has one host, or a time limit, which only libpq itself can keep.
///
/// # Safety
///
/// `connection` is the caller's, and no other thread uses it.
unsafe fn polling_of(connection: *mut PGconn) -> Option<Polling> {
    remembered::find(connection).filter(|record| record.has_several_hosts())?;
    let libpq = Libpq::of_caller(c"PQreset")?;
    // SAFETY: the caller's promise; the functions are of these types.
    unsafe {
        if libpq.calls_itself || libpq.has_timeout(connection) {
            return None;
        }
        Some(Polling {
            start: libpq.function(c"PQresetStart")?,
            socket: libpq.function(c"PQsocket")?,
            step: libpq.function(c"PQresetPoll")?,
        })
    }
}

/// Has nothing to drop, so that the thread can be cancelled where libpq waits, as within libpq's `PQreset`.
///
/// # Safety
///
/// `connection` is the caller's, no other thread uses it, and the functions are its libpq's.
unsafe fn reset_by_polling(connection: *mut PGconn, functions: Polling) {
    // SAFETY: the caller's promise, here and below.
    let started = unsafe { (functions.start)(connection) } != 0;
    let mut state = if started { PGRES_POLLING_WRITING } else { PGRES_POLLING_FAILED };
    while state == PGRES_POLLING_READING || state == PGRES_POLLING_WRITING {
        let events = if state == PGRES_POLLING_READING { libc::POLLIN } else { libc::POLLOUT };
        // SAFETY: as above.
        let mut waits = libc::pollfd { fd: unsafe { (functions.socket)(connection) }, events, revents: 0 };
        if waits.fd < 0 {
            // libpq has closed it; nothing would ever happen.
            return;
        }
        // SAFETY: one entry that lives for the call.
        unsafe { poll(&raw mut waits, 1, -1) };
        if waits.revents == 0 {
            // Interrupted.
            continue;
        }
        // SAFETY: as above.
        unsafe { renewed::<c_int>(c"PQresetPoll", connection, Wait::Blocking, Renew::Step) };
        // SAFETY: as above.
        state = unsafe { (functions.step)(connection) };
    }
}

const PGRES_POLLING_FAILED: c_int = 0;
const PGRES_POLLING_READING: c_int = 1;
const PGRES_POLLING_WRITING: c_int = 2;

/// Polls a reset.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQresetPoll(connection: *mut PGconn) -> c_int {
    // SAFETY: as in PQconnectdb.
    match unsafe { renewed::<c_int>(c"PQresetPoll", connection, Wait::Bounded, Renew::Step) } {
        // SAFETY: as in PQconnectdb.
        Some(real) => unsafe { real(connection) },
        None => PGRES_POLLING_FAILED,
    }
}

/// Resets the communication channel to the server, in a nonblocking manner.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQresetStart(connection: *mut PGconn) -> c_int {
    // SAFETY: as in PQconnectdb.
    match unsafe { renewed::<c_int>(c"PQresetStart", connection, Wait::Bounded, Renew::Reset) } {
        // SAFETY: as in PQconnectdb.
        Some(real) => unsafe { real(connection) },
        None => 0,
    }
}

/// Closes the connection to the server.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQfinish(connection: *mut PGconn) {
    let real = entry(None, || {
        let libpq = guarded(None, || Libpq::of_caller(c"PQfinish"))?;
        guarded((), || remembered::remember(connection, None));
        // SAFETY: as in PQconnectdb.
        unsafe { libpq.function::<Of<()>>(c"PQfinish") }
    });
    if let Some(real) = real {
        // SAFETY: as in PQconnectdb.
        unsafe { real(connection) };
    }
}

/// Returns the connection's last error, and why there was no token if that may be the cause.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQerrorMessage(connection: *const PGconn) -> *mut c_char {
    entry(c"".as_ptr().cast_mut(), || {
        let connection = connection.cast_mut();
        let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQerrorMessage")) else {
            return c"".as_ptr().cast_mut();
        };
        // SAFETY: as in PQconnectdb.
        let message = unsafe { libpq.ask::<*mut c_char>(c"PQerrorMessage", connection) }.unwrap_or(null_mut());
        if libpq.calls_itself || message.is_null() {
            return message;
        }
        let longer = guarded(null(), || {
            // SAFETY: the connection is the caller's; its message is valid as long as nothing is done with it.
            remembered::find(connection).filter(|_| unsafe { libpq.is_bad(connection) }).map_or(null(), |record| {
                // SAFETY: as above.
                unsafe { record.message(&libpq, connection, CStr::from_ptr(message)) }
            })
        });
        if longer.is_null() { message } else { longer.cast_mut() }
    })
}

/// Returns whether the server asked for a password and there was none. Programs call it before they ask a person for
/// one, and then show no error message: the reason why there was no token goes to standard error.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQconnectionNeedsPassword(connection: *const PGconn) -> c_int {
    entry(0, || {
        let connection = connection.cast_mut();
        let name = c"PQconnectionNeedsPassword";
        let Some(libpq) = guarded(None, || Libpq::of_caller(name)) else { return 0 };
        // SAFETY: as in PQconnectdb.
        let needed = unsafe { libpq.ask::<c_int>(name, connection) }.unwrap_or(0);
        if needed != 0 && !libpq.calls_itself {
            guarded((), || remembered::find(connection).iter().for_each(|record| record.print_failure_once()));
        }
        needed
    })
}

/// Returns a connection's options: those that the program knows, not the password file in memory that replaces its own.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQconninfo(connection: *mut PGconn) -> *mut PQconninfoOption {
    entry(null_mut(), || {
        let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQconninfo")) else { return null_mut() };
        // SAFETY: as in PQconnectdb.
        let array = unsafe { libpq.ask::<*mut PQconninfoOption>(c"PQconninfo", connection) }.unwrap_or(null_mut());
        if libpq.calls_itself || array.is_null() {
            return array;
        }
        guarded(array, || {
            let Some(record) = remembered::find(connection) else { return array };
            // SAFETY: libpq's own array, ours until it is returned.
            unsafe {
                if record.hides_passfile {
                    options::set(array, c"passfile", record.passfile.as_deref());
                }
                options::with(array, &record.own)
            }
        })
    })
}

/// Parses a connection string. pgiam's own keywords follow libpq's in the result.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQconninfoParse(
    conninfo: *const c_char,
    error: *mut *mut c_char,
) -> *mut PQconninfoOption {
    type Parse = unsafe extern "C-unwind" fn(Text, *mut *mut c_char) -> *mut PQconninfoOption;
    entry(null_mut(), || {
        let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQconninfoParse")) else { return null_mut() };
        // SAFETY: PQconninfoParse is of that type.
        let Some(real) = (unsafe { libpq.function::<Parse>(c"PQconninfoParse") }) else { return null_mut() };
        // SAFETY: as in PQconnectdb.
        match guarded(None, || unsafe { split_own(conninfo) }) {
            // SAFETY: as in PQconnectdb; the rest outlives the call, and the array is ours until it is returned.
            Some((own, rest)) => unsafe {
                let array = real(rest.as_ptr(), error);
                if array.is_null() { array } else { guarded(array, || options::with(array, &own)) }
            },
            // SAFETY: as in PQconnectdb.
            None => unsafe { real(conninfo, error) },
        }
    })
}

/// # Safety
///
/// NULL, or NUL-terminated.
unsafe fn split_own(conninfo: Text) -> Option<(Parameters, Zeroizing<CString>)> {
    // SAFETY: not NULL, and the caller's promise.
    if conninfo.is_null() { None } else { arguments::split_own(unsafe { CStr::from_ptr(conninfo) }) }
}

/// What is left to do for a ping. Plain values, as [`entry`] requires.
#[derive(Clone, Copy)]
enum Ping<F> {
    /// Make the program's own call.
    Call(F),
    /// This is the answer.
    Answer(c_int),
}

/// Answers a ping with pgiam's own keywords: `changed` removes them and calls libpq. `None`: there are none.
fn ping<F: Copy>(name: &CStr, changed: impl Fn(F) -> Option<c_int> + Copy) -> Ping<F> {
    entry(Ping::Answer(PQPING_NO_ATTEMPT), || {
        let Some(libpq) = guarded(None, || Libpq::of_caller(name)) else { return Ping::Answer(PQPING_NO_ATTEMPT) };
        // SAFETY: the caller names the function's type.
        let Some(real) = (unsafe { libpq.function::<F>(name) }) else { return Ping::Answer(PQPING_NO_ATTEMPT) };
        changed(real).map_or(Ping::Call(real), Ping::Answer)
    })
}

/// Returns whether the server is up. That needs no password; pgiam's own keywords are removed.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQping(conninfo: *const c_char) -> c_int {
    let answer = ping::<PingText>(c"PQping", |real| {
        // SAFETY: as in PQconnectdb.
        let (_, rest) = guarded(None, || unsafe { split_own(conninfo) })?;
        // SAFETY: as in PQconnectdb; the rest outlives the call.
        Some(unsafe { real(rest.as_ptr()) })
    });
    match answer {
        // SAFETY: as in PQconnectdb.
        Ping::Call(real) => unsafe { real(conninfo) },
        Ping::Answer(answer) => answer,
    }
}

/// Returns whether the server is up. That needs no password; pgiam's own keywords are removed.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C-unwind" fn PQpingParams(keywords: Texts, values: Texts, expand_dbname: c_int) -> c_int {
    let answer = ping::<PingParams>(c"PQpingParams", |real| {
        let arguments = guarded(None, || {
            // SAFETY: as in PQconnectdb.
            let mut arguments = unsafe { functions::arguments_of_arrays(keywords, values, expand_dbname != 0) }?;
            (!arguments.take_own().is_empty()).then_some(arguments)
        })?;
        let arrays = Arrays::new(&arguments.with(&[]));
        // SAFETY: the arrays end with NULL, and their texts are those of `arguments`.
        Some(unsafe { real(arrays.keywords(), arrays.values(), expand_dbname) })
    });
    match answer {
        // SAFETY: as in PQconnectdb.
        Ping::Call(real) => unsafe { real(keywords, values, expand_dbname) },
        Ping::Answer(answer) => answer,
    }
}

/// `PQPING_NO_ATTEMPT`.
const PQPING_NO_ATTEMPT: c_int = 3;
