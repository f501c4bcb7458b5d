//! The module, loaded by libpam into this process, with a conversation function that returns the test's password.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fs;
use std::path::Path;
use std::ptr;

const PAM_SUCCESS: c_int = 0;
const PAM_SERVICE_ERR: c_int = 3;
const PAM_AUTH_ERR: c_int = 7;
const PAM_CONV_ERR: c_int = 19;

#[repr(C)]
struct Conversation {
    converse: unsafe extern "C" fn(c_int, *const *const c_void, *mut *mut Response, *mut c_void) -> c_int,
    answer: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    unused: c_int,
}

type Start =
    unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *const c_char, *mut *mut c_void) -> c_int;
type Act = unsafe extern "C" fn(*mut c_void, c_int) -> c_int;

/// Returns a copy of the text in `data`, or fails if that is null.
unsafe extern "C" fn converse(
    count: c_int,
    _messages: *const *const c_void,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    if data.is_null() || count != 1 {
        return PAM_CONV_ERR;
    }
    // SAFETY: the data is the test's C string; the module frees the copy.
    unsafe {
        let response = libc::calloc(1, size_of::<Response>()).cast::<Response>();
        (*response).text = libc::strdup(data.cast());
        *responses = response;
    }
    PAM_SUCCESS
}

fn symbol(name: &str) -> *mut c_void {
    let name = CString::new(name).unwrap();
    // SAFETY: both names are C strings, and libpam stays loaded.
    let symbol = unsafe {
        let libpam = libc::dlopen(c"libpam.so.0".as_ptr(), libc::RTLD_NOW);
        assert!(!libpam.is_null(), "libpam.so.0 is missing; Debian's package is libpam0g");
        libc::dlsym(libpam, name.as_ptr())
    };
    assert!(!symbol.is_null(), "libpam.so.0 has no {name:?}");
    symbol
}

/// The results of `pam_authenticate` and `pam_acct_mgmt` for `app_user`.
fn login(directory: &Path, arguments: &str, answer: Option<&str>) -> (c_int, c_int) {
    let deps = std::env::current_exe().unwrap();
    let module = deps.with_file_name("libpam_rds_iam.so");
    let module = module.display();
    let rules = format!("auth required {module} {arguments}\naccount required {module}\n");
    fs::write(directory.join("postgresql"), rules).unwrap();

    let c_string = |text: &str| CString::new(text).unwrap();
    let answer = answer.map(c_string);
    let conversation = Conversation { converse, answer: answer.as_ref().map_or(ptr::null(), |answer| answer.as_ptr()) };
    let directory = c_string(directory.to_str().unwrap());
    let mut handle = ptr::null_mut();
    // SAFETY: the functions have these types in pam_appl.h, and all arguments live until pam_end.
    unsafe {
        let start = std::mem::transmute::<*mut c_void, Start>(symbol("pam_start_confdir"));
        let authenticate = std::mem::transmute::<*mut c_void, Act>(symbol("pam_authenticate"));
        let acct_mgmt = std::mem::transmute::<*mut c_void, Act>(symbol("pam_acct_mgmt"));
        let end = std::mem::transmute::<*mut c_void, Act>(symbol("pam_end"));
        let started =
            start(c"postgresql".as_ptr(), c"app_user".as_ptr(), &conversation, directory.as_ptr(), &mut handle);
        assert_eq!(started, PAM_SUCCESS);
        let outcome = (authenticate(handle, 0), acct_mgmt(handle, 0));
        end(handle, outcome.0);
        outcome
    }
}

fn with_configuration(directory: &Path, members: &str) -> String {
    let path = directory.join("rds.json");
    let shown = directory.display();
    let content = format!(
        r#"{{"host": "db", "port": 5432, "region": "eu-central-1", "credentials_dir": "{shown}", "log": "{shown}/log"{members}}}"#
    );
    fs::write(&path, content).unwrap();
    format!("config={}", path.display())
}

#[test]
fn a_password_of_65530_bytes_arrives_whole() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = with_configuration(directory.path(), "");
    // The last byte is the only error that is found before the missing parameters.
    let password = format!("db:5432/?a={} ", "x".repeat(65_518));
    assert_eq!(password.len(), 65_530);
    assert_eq!(login(directory.path(), &arguments, Some(&password)), (PAM_AUTH_ERR, PAM_SUCCESS));
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.contains(r#""user":"app_user""#) && log.contains("a space"), "{log}");
    login(directory.path(), &arguments, Some(password.trim_end()));
    let log = fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(log.lines().nth(1).unwrap().contains("Action is missing"), "{log}");
}

#[test]
fn a_login_without_a_password_is_not_logged() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = with_configuration(directory.path(), "");
    assert_eq!(login(directory.path(), &arguments, None).0, PAM_CONV_ERR);
    assert!(!directory.path().join("log").exists());
}

#[test]
fn a_login_that_passes_all_enabled_checks_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let every_name = pam_rds_iam::Check::ALL.iter().map(|check| format!("{:?}", check.name()));
    let members = format!(r#", "checks_left_out": [{}]"#, every_name.collect::<Vec<_>>().join(","));
    let arguments = with_configuration(directory.path(), &members);
    assert_eq!(login(directory.path(), &arguments, Some("anything")), (PAM_SUCCESS, PAM_SUCCESS));
}

#[test]
fn the_configuration_is_read_at_every_login_and_with_an_invalid_one_every_login_fails() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = with_configuration(directory.path(), "");
    assert_eq!(login(directory.path(), &arguments, Some("x")).0, PAM_AUTH_ERR);
    fs::write(directory.path().join("rds.json"), "{").unwrap();
    assert_eq!(login(directory.path(), &arguments, Some("x")).0, PAM_SERVICE_ERR);
    fs::remove_file(directory.path().join("rds.json")).unwrap();
    assert_eq!(login(directory.path(), &arguments, Some("x")).0, PAM_SERVICE_ERR);
    assert_eq!(login(directory.path(), "", Some("x")).0, PAM_SERVICE_ERR);
}
