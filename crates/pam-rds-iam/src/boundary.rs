//! The functions that libpam calls, and the calls to libpam for the user's name and password.
//!
//! The declarations follow `security/pam_modules.h` and `_pam_types.h` of Linux-PAM, so that the build does not need
//! these headers. `pam_get_item` is looked up in the process at run time: a process that loads a PAM module has libpam,
//! and a program that uses this crate as a library does not need it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::ptr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::login::Configuration;

const PAM_SUCCESS: c_int = 0;
const PAM_SERVICE_ERR: c_int = 3;
const PAM_AUTH_ERR: c_int = 7;
const PAM_USER_UNKNOWN: c_int = 10;
const PAM_CONV_ERR: c_int = 19;

const PAM_USER: c_int = 2;
const PAM_CONV: c_int = 5;

const PAM_PROMPT_ECHO_OFF: c_int = 1;

/// An opaque structure of libpam.
#[repr(C)]
pub(crate) struct PamHandle {
    opaque: [u8; 0],
}

#[repr(C)]
struct PamMessage {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct PamResponse {
    text: *mut c_char,
    unused: c_int,
}

type Conversation = unsafe extern "C" fn(
    count: c_int,
    messages: *mut *const PamMessage,
    responses: *mut *mut PamResponse,
    data: *mut c_void,
) -> c_int;

#[repr(C)]
struct PamConversation {
    converse: Option<Conversation>,
    data: *mut c_void,
}

type GetItem = unsafe extern "C" fn(handle: *const PamHandle, item: c_int, value: *mut *const c_void) -> c_int;

/// Checks the token that the client sends as its password.
///
/// # Safety
///
/// Called by libpam: `handle` belongs to the transaction, `arguments` has `count` C strings.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn pam_sm_authenticate(
    handle: *mut PamHandle,
    _flags: c_int,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    guarded(|| {
        // SAFETY: promised by the caller.
        let (arguments, user) = unsafe { (read_arguments(count, arguments), get_user(handle)?) };
        let path = config_path(&arguments)?;
        let configuration = Configuration::read(&path).map_err(Failure::service)?;
        // SAFETY: promised by the caller.
        let token = unsafe { ask_for_password(handle)? };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(Failure::service)?;
        match configuration.login(&token, &user, now.as_secs() as i64).map_err(Failure::service)? {
            Ok(_) => Ok(()),
            // The reason is in the log.
            Err(_) => Err(Failure::silent(PAM_AUTH_ERR)),
        }
    })
}

/// Allows the account of every authenticated user.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn pam_sm_acct_mgmt(
    _handle: *mut PamHandle,
    _flags: c_int,
    _count: c_int,
    _arguments: *const *const c_char,
) -> c_int {
    PAM_SUCCESS
}

/// Does nothing: there are no operating system credentials to set.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn pam_sm_setcred(
    _handle: *mut PamHandle,
    _flags: c_int,
    _count: c_int,
    _arguments: *const *const c_char,
) -> c_int {
    PAM_SUCCESS
}

/// Does nothing: PostgreSQL does not open PAM sessions, but other programs may.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn pam_sm_open_session(
    _handle: *mut PamHandle,
    _flags: c_int,
    _count: c_int,
    _arguments: *const *const c_char,
) -> c_int {
    PAM_SUCCESS
}

/// See `pam_sm_open_session`.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn pam_sm_close_session(
    _handle: *mut PamHandle,
    _flags: c_int,
    _count: c_int,
    _arguments: *const *const c_char,
) -> c_int {
    PAM_SUCCESS
}

/// The result for libpam, and a message for the server's log (standard error) if the configuration is wrong.
struct Failure {
    code: c_int,
    complaint: Option<String>,
}

impl Failure {
    fn silent(code: c_int) -> Self {
        Self { code, complaint: None }
    }

    fn service(complaint: impl ToString) -> Self {
        Self { code: PAM_SERVICE_ERR, complaint: Some(complaint.to_string()) }
    }
}

/// Catches panics, which must not reach libpam.
fn guarded(work: impl FnOnce() -> Result<(), Failure>) -> c_int {
    let outcome = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Failure::service("internal error: this module panicked")));
    match outcome {
        Ok(()) => PAM_SUCCESS,
        Err(Failure { code, complaint }) => {
            if let Some(complaint) = complaint {
                let _ = writeln!(std::io::stderr(), "pam_rds_iam: {complaint}");
            }
            code
        }
    }
}

fn config_path(arguments: &[Vec<u8>]) -> Result<PathBuf, Failure> {
    arguments
        .iter()
        .find_map(|argument| argument.strip_prefix(b"config="))
        .map(|path| PathBuf::from(std::ffi::OsStr::from_bytes(path)))
        .ok_or_else(|| Failure::service("the PAM configuration has no argument config=PATH"))
}

/// # Safety
///
/// `arguments` has `count` C strings.
unsafe fn read_arguments(count: c_int, arguments: *const *const c_char) -> Vec<Vec<u8>> {
    let count = usize::try_from(count).unwrap_or(0);
    if arguments.is_null() {
        return Vec::new();
    }
    (0..count)
        .map(|index| {
            // SAFETY: the index is below the count, and the caller promises that each element is a C string.
            unsafe { CStr::from_ptr(*arguments.add(index)) }.to_bytes().to_vec()
        })
        .collect()
}

/// libpam's `pam_get_item`, from the process that loaded this module.
fn pam_get_item() -> Result<GetItem, Failure> {
    let name = c"pam_get_item".as_ptr();
    // SAFETY: both names are C strings, and a null handle is not used. RTLD_NOLOAD loads nothing; it adds a reference
    // to a loaded library, which is never released, so that the function stays valid.
    let symbol = unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, name);
        if symbol.is_null() {
            // The program may have loaded libpam with RTLD_LOCAL.
            let libpam = libc::dlopen(c"libpam.so.0".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD);
            if libpam.is_null() { ptr::null_mut() } else { libc::dlsym(libpam, name) }
        } else {
            symbol
        }
    };
    if symbol.is_null() {
        return Err(Failure::service("libpam is not in this process"));
    }
    // SAFETY: the symbol is Linux-PAM's function and has this type.
    Ok(unsafe { std::mem::transmute::<*mut c_void, GetItem>(symbol) })
}

/// # Safety
///
/// `handle` is a transaction of libpam.
unsafe fn get_item(handle: *mut PamHandle, item: c_int) -> Result<*const c_void, Failure> {
    let get_item = pam_get_item()?;
    let mut value = ptr::null();
    // SAFETY: the caller promises that the handle is valid, and the output is a local variable.
    match unsafe { get_item(handle, item, &mut value) } {
        PAM_SUCCESS => Ok(value),
        code => Err(Failure::silent(code)),
    }
}

/// # Safety
///
/// `handle` is a transaction of libpam.
unsafe fn get_user(handle: *mut PamHandle) -> Result<String, Failure> {
    // SAFETY: promised by the caller.
    let user = unsafe { get_item(handle, PAM_USER)? }.cast::<c_char>();
    if user.is_null() {
        return Err(Failure::silent(PAM_USER_UNKNOWN));
    }
    // SAFETY: the item is a C string that stays valid until it is set again.
    let user = unsafe { CStr::from_ptr(user) };
    Ok(user.to_string_lossy().into_owned())
}

/// Gets the password through the program's conversation function, without a limit on its length: `pam_exec` and other
/// modules truncate it to 512 bytes.
///
/// # Safety
///
/// `handle` is a transaction of libpam.
unsafe fn ask_for_password(handle: *mut PamHandle) -> Result<Vec<u8>, Failure> {
    // SAFETY: promised by the caller.
    let conversation = unsafe { get_item(handle, PAM_CONV)? }.cast::<PamConversation>();
    // SAFETY: the item is null or points to the structure that the program gave to pam_start, which is still valid.
    let Some(PamConversation { converse: Some(converse), data }) = (unsafe { conversation.as_ref() }) else {
        return Err(Failure::service("the program has no conversation function"));
    };

    let message = PamMessage { style: PAM_PROMPT_ECHO_OFF, text: c"Password: ".as_ptr() };
    let mut messages = ptr::from_ref(&message);
    let mut response: *mut PamResponse = ptr::null_mut();
    // SAFETY: the count of messages is one; all arguments outlive the call.
    let code = unsafe { converse(1, &mut messages, &mut response, *data) };
    if code != PAM_SUCCESS {
        // The client disconnected or sent no password: there is no decision to log.
        return Err(Failure::silent(code));
    }
    if response.is_null() {
        return Err(Failure::silent(PAM_CONV_ERR));
    }
    // SAFETY: after success this is an array of one response with a C string or null. The caller owns both, from
    // malloc. They are freed once and not used afterwards.
    unsafe {
        let text = (*response).text;
        let password = if text.is_null() {
            Err(Failure::silent(PAM_CONV_ERR))
        } else {
            let password = CStr::from_ptr(text).to_bytes().to_vec();
            libc::explicit_bzero(text.cast(), password.len());
            libc::free(text.cast());
            Ok(password)
        };
        libc::free(response.cast());
        password
    }
}
