//! The names that stand before libpq's, and the only ones that leave this library.
//!
//! Each finds the real function of whoever calls. libpq that calls itself is let through at once.
#![allow(non_snake_case, reason = "these are libpq's names")]

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr::{null, null_mut};

use crate::arguments::{self, Arguments};
use crate::boundary::{CancellationDisabled, guarded};
use crate::libpq::{
    Libpq, OfLogin, OfParams, OfText, PGconn, PQconninfoOption, Parse, PingParams, PingText, Text, Texts,
};
use crate::plan::{self, Plan};
use crate::served;
use crate::tokens::Wait;

/// Connects with a token, or as the program asked.
fn connect(
    name: &CStr,
    wait: Wait,
    arguments: impl FnOnce() -> Option<Arguments>,
    untouched: impl FnOnce(&Libpq) -> Option<*mut PGconn>,
) -> *mut PGconn {
    let _cancellation = CancellationDisabled::new();
    let Some(libpq) = guarded(None, || Libpq::of_caller(name)) else { return null_mut() };
    if libpq.calls_itself {
        return untouched(&libpq).unwrap_or(null_mut());
    }
    let mut plan = guarded(Plan::default(), || plan::decide(&libpq, arguments(), wait));
    let connection = match &plan.arguments {
        None => untouched(&libpq).unwrap_or(null_mut()),
        Some(arguments) => {
            let with_params = match wait {
                Wait::Blocking => c"PQconnectdbParams",
                Wait::Bounded => c"PQconnectStartParams",
            };
            let pairs = guarded(Vec::new(), || arguments.with(&plan.more()));
            // SAFETY: the plan owns the texts and outlives the call.
            unsafe { libpq.connect(with_params, &pairs, arguments.expand_dbname) }
        }
    };
    let served = plan.served.take();
    guarded((), || {
        served::remember(connection, served);
        drop(plan);
    });
    connection
}

/// Makes a connection to the database server.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQconnectdb(conninfo: *const c_char) -> *mut PGconn {
    // SAFETY: the caller's promise, here and below: the arguments are those of libpq's function.
    connect(
        c"PQconnectdb",
        Wait::Blocking,
        || unsafe { Arguments::of_conninfo(conninfo) },
        |libpq| unsafe { libpq.function::<OfText>(c"PQconnectdb").map(|real| real(conninfo)) },
    )
}

/// Starts a connection in a nonblocking manner.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQconnectStart(conninfo: *const c_char) -> *mut PGconn {
    // SAFETY: as in PQconnectdb.
    connect(
        c"PQconnectStart",
        Wait::Bounded,
        || unsafe { Arguments::of_conninfo(conninfo) },
        |libpq| unsafe { libpq.function::<OfText>(c"PQconnectStart").map(|real| real(conninfo)) },
    )
}

/// Makes a connection to the database server.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQconnectdbParams(keywords: Texts, values: Texts, expand_dbname: c_int) -> *mut PGconn {
    // SAFETY: as in PQconnectdb.
    let arguments = || unsafe { Arguments::of_params(keywords, values, expand_dbname) };
    // SAFETY: as in PQconnectdb.
    connect(c"PQconnectdbParams", Wait::Blocking, arguments, |libpq| unsafe {
        libpq.function::<OfParams>(c"PQconnectdbParams").map(|real| real(keywords, values, expand_dbname))
    })
}

/// Starts a connection in a nonblocking manner.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQconnectStartParams(
    keywords: Texts,
    values: Texts,
    expand_dbname: c_int,
) -> *mut PGconn {
    // SAFETY: as in PQconnectdb.
    let arguments = || unsafe { Arguments::of_params(keywords, values, expand_dbname) };
    // SAFETY: as in PQconnectdb.
    connect(c"PQconnectStartParams", Wait::Bounded, arguments, |libpq| unsafe {
        libpq.function::<OfParams>(c"PQconnectStartParams").map(|real| real(keywords, values, expand_dbname))
    })
}

/// Makes a connection to the database server, with a fixed set of parameters.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQsetdbLogin(
    host: *const c_char,
    port: *const c_char,
    options: *const c_char,
    tty: *const c_char,
    dbname: *const c_char,
    user: *const c_char,
    password: *const c_char,
) -> *mut PGconn {
    // SAFETY: as in PQconnectdb.
    let arguments = || Some(unsafe { Arguments::of_login((host, port, options), (dbname, user, password)) });
    // SAFETY: as in PQconnectdb.
    connect(c"PQsetdbLogin", Wait::Blocking, arguments, |libpq| unsafe {
        let real = libpq.function::<OfLogin>(c"PQsetdbLogin")?;
        Some(real(host, port, options, tty, dbname, user, password))
    })
}

/// Gives a served connection a fresh token, then does what the program asked.
///
/// # Safety
///
/// `connection` is the caller's, and no other thread uses it; `T` is what the function gives.
unsafe fn renewed<T>(name: &CStr, connection: *mut PGconn, wait: Wait, none: T) -> T {
    let _cancellation = CancellationDisabled::new();
    let Some(libpq) = guarded(None, || Libpq::of_caller(name)) else { return none };
    if !libpq.calls_itself {
        guarded((), || {
            if let Some(served) = served::find(connection) {
                served.begin_reset();
                // SAFETY: the caller's promise.
                unsafe { served.renew(&libpq, connection, wait) };
            }
        });
    }
    // SAFETY: the caller's promise.
    unsafe { libpq.ask(name, connection) }.unwrap_or(none)
}

/// Resets the communication channel to the server.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQreset(connection: *mut PGconn) {
    let several = guarded(false, || served::find(connection).is_some_and(|served| served.has_several_hosts()));
    // SAFETY: as in PQconnectdb.
    if several && unsafe { reset_by_polling(connection) } {
        return;
    }
    // SAFETY: as in PQconnectdb.
    unsafe { renewed(c"PQreset", connection, Wait::Blocking, ()) }
}

/// A reset that may try one host after the other: each gets its new token when libpq has come to it, which is seen only
/// between two steps. `false`: nothing was done, because the connection has a time-out, which libpq alone can keep.
///
/// # Safety
///
/// `connection` is the caller's, and no other thread uses it.
unsafe fn reset_by_polling(connection: *mut PGconn) -> bool {
    let _cancellation = CancellationDisabled::new();
    let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQreset")) else { return false };
    // SAFETY: the caller's promise, here and below.
    if libpq.calls_itself || guarded(true, || unsafe { plan::has_timeout(&libpq, connection) }) {
        return false;
    }
    // SAFETY: as above.
    if unsafe { renewed(c"PQresetStart", connection, Wait::Blocking, 0) } == 0 {
        return true;
    }
    let mut state = PGRES_POLLING_WRITING;
    while state == PGRES_POLLING_READING || state == PGRES_POLLING_WRITING {
        // SAFETY: as above.
        let descriptor = unsafe { libpq.ask::<c_int>(c"PQsocket", connection) }.unwrap_or(-1);
        let events = if state == PGRES_POLLING_READING { libc::POLLIN } else { libc::POLLOUT };
        let mut poll = libc::pollfd { fd: descriptor, events, revents: 0 };
        // SAFETY: one entry that lives for the call. An interrupted wait only asks libpq once more.
        unsafe { libc::poll(&raw mut poll, 1, -1) };
        if poll.revents == 0 {
            continue;
        }
        // SAFETY: as above.
        state = unsafe { polled(c"PQresetPoll", connection, Wait::Blocking) };
    }
    true
}

const PGRES_POLLING_FAILED: c_int = 0;
const PGRES_POLLING_READING: c_int = 1;
const PGRES_POLLING_WRITING: c_int = 2;

/// A step of a connection. One with several hosts may have come to another host, which needs its new token.
///
/// # Safety
///
/// `connection` is the caller's, and no other thread uses it.
unsafe fn polled(name: &CStr, connection: *mut PGconn, wait: Wait) -> c_int {
    let _cancellation = CancellationDisabled::new();
    let Some(libpq) = guarded(None, || Libpq::of_caller(name)) else { return PGRES_POLLING_FAILED };
    if !libpq.calls_itself {
        guarded((), || {
            if let Some(served) = served::find(connection).filter(|served| served.has_several_hosts()) {
                // SAFETY: the caller's promise.
                unsafe { served.renew(&libpq, connection, wait) };
            }
        });
    }
    // SAFETY: the caller's promise.
    unsafe { libpq.ask(name, connection) }.unwrap_or(PGRES_POLLING_FAILED)
}

/// Polls a reset.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQresetPoll(connection: *mut PGconn) -> c_int {
    // SAFETY: as in PQconnectdb.
    unsafe { polled(c"PQresetPoll", connection, Wait::Bounded) }
}

/// Resets the communication channel to the server, in a nonblocking manner.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQresetStart(connection: *mut PGconn) -> c_int {
    // SAFETY: as in PQconnectdb.
    unsafe { renewed(c"PQresetStart", connection, Wait::Bounded, 0) }
}

/// Closes the connection to the server.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQfinish(connection: *mut PGconn) {
    let _cancellation = CancellationDisabled::new();
    let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQfinish")) else { return };
    guarded((), || served::remember(connection, None));
    // SAFETY: as in PQconnectdb.
    unsafe { libpq.ask::<()>(c"PQfinish", connection) };
}

/// Tells the connection's last error, and why there was no token if that may be the cause.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQerrorMessage(connection: *const PGconn) -> *mut c_char {
    let _cancellation = CancellationDisabled::new();
    let connection = connection.cast_mut();
    let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQerrorMessage")) else { return c"".as_ptr().cast_mut() };
    // SAFETY: as in PQconnectdb.
    let words = unsafe { libpq.ask::<*mut c_char>(c"PQerrorMessage", connection) }.unwrap_or(null_mut());
    if libpq.calls_itself || words.is_null() {
        return words;
    }
    let longer = guarded(null(), || {
        // SAFETY: the connection is the caller's; its message stays while nothing is done with it.
        served::find(connection).filter(|_| unsafe { libpq.is_bad(connection) }).map_or(null(), |served| {
            // SAFETY: as above.
            served.message(unsafe { CStr::from_ptr(words) })
        })
    });
    if longer.is_null() { words } else { longer.cast_mut() }
}

/// Tells whether the server wanted a password that was not there. Programs ask it before they prompt for one, and then
/// show no error message: the reason why there was no token goes to standard error.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQconnectionNeedsPassword(connection: *const PGconn) -> c_int {
    let _cancellation = CancellationDisabled::new();
    let connection = connection.cast_mut();
    let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQconnectionNeedsPassword")) else { return 0 };
    // SAFETY: as in PQconnectdb.
    let needed = unsafe { libpq.ask::<c_int>(c"PQconnectionNeedsPassword", connection) }.unwrap_or(0);
    if needed != 0 && !libpq.calls_itself {
        guarded((), || served::find(connection).iter().for_each(|served| served.tell_once()));
    }
    needed
}

/// Tells a connection's options: those that the program knows, not the password file in memory that stood in for its
/// own.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQconninfo(connection: *mut PGconn) -> *mut PQconninfoOption {
    let _cancellation = CancellationDisabled::new();
    let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQconninfo")) else { return null_mut() };
    // SAFETY: as in PQconnectdb.
    let options = unsafe { libpq.ask::<*mut PQconninfoOption>(c"PQconninfo", connection) }.unwrap_or(null_mut());
    if libpq.calls_itself || options.is_null() {
        return options;
    }
    guarded(options, || {
        let Some(served) = served::find(connection) else { return options };
        // SAFETY: libpq's own array, ours until it is handed on.
        unsafe {
            if let Some(passfile) = &served.passfile {
                options_of::put(options, c"passfile", passfile.as_deref());
            }
            options_of::with(options, &served.own)
        }
    })
}

/// Parses a connection string. pgiam's own keywords stand behind libpq's in what it gives.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQconninfoParse(
    conninfo: *const c_char,
    error: *mut *mut c_char,
) -> *mut PQconninfoOption {
    let _cancellation = CancellationDisabled::new();
    let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQconninfoParse")) else { return null_mut() };
    // SAFETY: as in PQconnectdb.
    let Some(real) = (unsafe { libpq.function::<Parse>(c"PQconninfoParse") }) else { return null_mut() };
    let split = guarded(None, || {
        // SAFETY: not NULL, and the caller's promise.
        (!conninfo.is_null()).then(|| arguments::split_own(unsafe { CStr::from_ptr(conninfo) })).flatten()
    });
    match split {
        // SAFETY: as in PQconnectdb; the rest outlives the call, and the array is ours until it is handed on.
        Some((own, rest)) => unsafe {
            let options = real(rest.as_ptr(), error);
            if options.is_null() { options } else { guarded(options, || options_of::with(options, &own)) }
        },
        // SAFETY: as in PQconnectdb.
        None => unsafe { real(conninfo, error) },
    }
}

/// Tells whether the server is there. No password is needed; pgiam's own keywords are taken out.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQping(conninfo: *const c_char) -> c_int {
    let _cancellation = CancellationDisabled::new();
    let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQping")) else { return PQPING_NO_ATTEMPT };
    let rest: Option<CString> = guarded(None, || {
        // SAFETY: not NULL, and the caller's promise.
        (!conninfo.is_null()).then(|| arguments::split_own(unsafe { CStr::from_ptr(conninfo) })).flatten()
    })
    .map(|(_, rest)| rest);
    let text: Text = rest.as_ref().map_or(conninfo, |rest| rest.as_ptr());
    // SAFETY: as in PQconnectdb.
    unsafe { libpq.function::<PingText>(c"PQping").map_or(PQPING_NO_ATTEMPT, |real| real(text)) }
}

/// Tells whether the server is there. No password is needed; pgiam's own keywords are taken out.
///
/// # Safety
///
/// As libpq's.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn PQpingParams(keywords: Texts, values: Texts, expand_dbname: c_int) -> c_int {
    let _cancellation = CancellationDisabled::new();
    let Some(libpq) = guarded(None, || Libpq::of_caller(c"PQpingParams")) else { return PQPING_NO_ATTEMPT };
    // SAFETY: PQpingParams is of that type.
    let Some(real) = (unsafe { libpq.function::<PingParams>(c"PQpingParams") }) else { return PQPING_NO_ATTEMPT };
    let without_own = guarded(None, || {
        // SAFETY: the caller's promise.
        let mut arguments = unsafe { Arguments::of_params(keywords, values, expand_dbname) }?;
        (!arguments.take_own().is_empty()).then_some(arguments)
    });
    match without_own {
        Some(arguments) => {
            let (mut keywords, mut values): (Vec<Text>, Vec<Text>) = arguments.with(&[]).into_iter().unzip();
            keywords.push(null());
            values.push(null());
            // SAFETY: the arrays end with NULL, and their texts are those of `arguments`.
            unsafe { real(keywords.as_ptr(), values.as_ptr(), expand_dbname) }
        }
        // SAFETY: as in PQconnectdb.
        None => unsafe { real(keywords, values, expand_dbname) },
    }
}

/// `PQPING_NO_ATTEMPT`.
const PQPING_NO_ATTEMPT: c_int = 3;

/// Changes to the arrays of options that libpq gives. They and their values come from malloc, and `PQconninfoFree`
/// frees them.
mod options_of {
    use super::{CStr, CString, PQconninfoOption, c_char, null, null_mut};
    use pgiam_libpq::conninfo::Parameters;
    use pgiam_libpq::own_settings;

    /// # Safety
    ///
    /// `options` is an array of libpq's.
    unsafe fn length(options: *const PQconninfoOption) -> usize {
        // SAFETY: the array ends with a keyword that is NULL.
        (0..).find(|index| unsafe { (*options.add(*index)).keyword.is_null() }).unwrap_or(0)
    }

    /// Puts a value in another's place.
    ///
    /// # Safety
    ///
    /// `options` is an array of libpq's that nobody else uses.
    pub(super) unsafe fn put(options: *mut PQconninfoOption, keyword: &CStr, value: Option<&CStr>) {
        // SAFETY: the caller's promise; values are NULL or from malloc, as is what strdup gives.
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

    /// The array with pgiam's own keywords at its end. Without memory for that: as it is.
    ///
    /// # Safety
    ///
    /// `options` is an array of libpq's that nobody else uses; what is given stands in its place.
    pub(super) unsafe fn with(options: *mut PQconninfoOption, own: &Parameters) -> *mut PQconninfoOption {
        const NAMES: [&CStr; own_settings::KEYWORDS.len()] =
            [c"iam", c"iam_host", c"iam_port", c"iam_region", c"iam_profile", c"iam_hosts"];
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
                let name = NAMES.into_iter().find(|name| name.to_bytes() == keyword.as_bytes());
                let (Some(name), Ok(value)) = (name, CString::new(value.as_str())) else { continue };
                let empty: *const c_char = c"".as_ptr();
                *grown.add(at) = PQconninfoOption {
                    keyword: name.as_ptr(),
                    envvar: null(),
                    compiled: null(),
                    val: libc::strdup(value.as_ptr()),
                    label: name.as_ptr(),
                    dispchar: empty,
                    dispsize: 64,
                };
                at += 1;
            }
            *grown.add(at) = end;
            grown
        }
    }
}
