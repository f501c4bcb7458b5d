//! The environment is read when a client is made, and never again: another thread of the program may be changing it.
//!
//! This program has its own `getenv`, which the standard library calls, and can make the list of variables unreadable.
//! It is alone in its file, because both are the process'.

mod support;

use std::ffi::{CStr, c_char};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use support::tls::{proxy_to, tls_before};
use support::{Machine, ROLE, request};

unsafe extern "C" {
    static mut environ: *const *const c_char;
}

static WATCHED: AtomicBool = AtomicBool::new(false);
static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Takes the place of the C library's for everything in this program but the C library itself.
///
/// # Safety
///
/// As for the C library's: `name` is a string, and no other thread changes the environment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getenv(name: *const c_char) -> *const c_char {
    // SAFETY: the caller's promise.
    let wanted = unsafe { CStr::from_ptr(name) }.to_bytes();
    if WATCHED.load(Ordering::SeqCst) {
        let wanted = String::from_utf8_lossy(wanted).into_owned();
        // The core's tests record its messages in a file that this variable names; no product asks for it.
        if wanted != "PGIAM_TEST_MESSAGES" {
            ASKED.lock().unwrap().push(wanted);
        }
        return std::ptr::null();
    }
    // SAFETY: `environ` is a list of strings that ends with NULL, or NULL; nothing changes it meanwhile.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = CStr::from_ptr(*entry).to_bytes();
            if text.starts_with(wanted) && text.get(wanted.len()) == Some(&b'=') {
                return (*entry).add(wanted.len() + 1);
            }
            entry = entry.add(1);
        }
    }
    std::ptr::null()
}

/// What `work` asks of the environment. With `unreadable` the list of variables is an address that cannot be read.
fn asked(unreadable: bool, work: impl FnOnce()) -> Vec<String> {
    ASKED.lock().unwrap().clear();
    WATCHED.store(true, Ordering::SeqCst);
    // SAFETY: the other threads of this test are its servers, which do not use the environment.
    let before = unsafe { environ };
    if unreadable {
        // SAFETY: as above; it is put back before anything else may read it.
        unsafe { environ = std::ptr::without_provenance(8) };
    }
    work();
    // SAFETY: as above.
    unsafe { environ = before };
    WATCHED.store(false, Ordering::SeqCst);
    std::mem::take(&mut ASKED.lock().unwrap())
}

#[test]
fn no_fetch_reads_the_environment() {
    let web_identity = |host: &str, through_proxy: bool| {
        let mut machine = Machine::new();
        let file = machine.file("token", "simulated-web-identity-token");
        machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
        machine.set("AWS_ROLE_ARN", ROLE);
        let tls = tls_before(&machine, host);
        machine.set("AWS_ENDPOINT_URL_STS", &format!("https://{host}:{}", tls.port));
        let bundle = machine.file("ca.pem", &tls.authority);
        machine.set("AWS_CA_BUNDLE", &bundle);
        if through_proxy {
            machine.set("HTTPS_PROXY", &format!("http://jane:planted@127.0.0.1:{}", proxy_to(tls.port).port));
        }
        machine
    };
    let mut instance = Machine::new();
    instance.become_instance();
    let mut pod = Machine::new();
    let url = format!("{}/v1/credentials", pod.simulator.url());
    pod.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    pod.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "planted-pod-token");
    let mut role = Machine::new();
    let keys = role.keys("tests");
    role.profile_app(&format!("[profile app]\nrole_arn = {ROLE}\nsource_profile = base\n[profile base]\n{keys}"));
    let mut sso = Machine::new();
    sso.profile_app(support::SSO_PROFILE);
    sso.sso_cache("corp", -60, support::REFRESHABLE);
    let machines = [
        ("instance metadata", true, &instance),
        ("container endpoint", true, &pod),
        ("assumed role", true, &role),
        ("SSO", true, &sso),
        ("https", true, &web_identity("127.0.0.1", false)),
        ("https through a proxy", true, &web_identity("sts.example.com", true)),
        // The C library's resolver has variables of its own, which it reads itself.
        ("https by name", false, &web_identity("localhost", false)),
    ];
    for (what, unreadable, machine) in machines {
        let client = machine.client();
        let mut outcome = None;
        let asked = asked(unreadable, || outcome = Some(client.generate_token(&request())));
        assert_eq!(asked, Vec::<String>::new(), "{what}");
        outcome.unwrap().unwrap();
    }
}
