//! `PGIAM_LOG`: what each level says for each source, that no line has a secret, and that no log can make a call fail.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use aws_simulator::{Fault, Route, Times};
use pgiam_core::TokenRequest;
use support::{Hands, Machine, REFRESHABLE, ROLE, SSO_PROFILE, access_key_id, request, rfc3339};

const HOUR: i64 = 3600;

/// A machine whose programs log at this level into a file of its own.
fn logging(machine: &mut Machine, level: &str) -> PathBuf {
    let path = machine.path("pgiam.log");
    machine.set("PGIAM_LOG", level);
    machine.set("PGIAM_LOG_FILE", path.to_str().unwrap());
    path
}

/// The lines, without time and process.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split_once("] ").unwrap_or_else(|| panic!("{line}")).1.to_owned()).collect()
}

/// The one line that begins so.
fn only(path: &Path, start: &str) -> String {
    let lines = lines(path);
    let found: Vec<&String> = lines.iter().filter(|line| line.starts_with(start)).collect();
    assert_eq!(found.len(), 1, "{start:?} in {lines:#?}");
    found[0].clone()
}

fn instance() -> Machine {
    let mut machine = Machine::new();
    machine.become_instance();
    machine
}

fn pod() -> Machine {
    let mut machine = Machine::new();
    let url = format!("{}/v1/credentials?planted-query", machine.simulator.url());
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "planted-pod-token");
    machine
}

fn keys_in_the_environment() -> Machine {
    let mut machine = Machine::new();
    machine.set("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE");
    machine.set("AWS_SECRET_ACCESS_KEY", "planted-secret-key");
    machine.set("AWS_SESSION_TOKEN", "planted-session-token");
    machine
}

fn assumed_role() -> Machine {
    let mut machine = Machine::new();
    let keys = machine.keys("tests");
    machine.profile_app(&format!("[profile app]\nrole_arn = {ROLE}\nsource_profile = base\n[profile base]\n{keys}"));
    machine
}

fn keys_in_a_profile() -> Machine {
    let mut machine = Machine::new();
    let keys = machine.keys("tests");
    machine.profile_app(&format!("[profile app]\n{keys}"));
    machine
}

fn sso() -> Machine {
    let mut machine = Machine::new();
    machine.profile_app(SSO_PROFILE);
    machine.sso_cache("corp", -60, REFRESHABLE);
    machine
}

fn web_identity() -> Machine {
    let mut machine = Machine::new();
    let file = machine.file("token", "simulated-web-identity-token");
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    machine.set("AWS_ROLE_ARN", ROLE);
    machine
}

fn process() -> Machine {
    let mut machine = Machine::new();
    let script = machine.script(
        "vault",
        r#"echo planted-noise >&2; echo '{"Version": 1, "AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": "planted-secret-key"}'"#,
    );
    machine.profile_app(&format!("[profile app]\ncredential_process = {script} planted-argument\n"));
    machine
}

/// A source, how it begins its line, and the end of the credentials, if they have one.
type Case = (fn() -> Machine, &'static str, bool);

const SOURCES: [Case; 8] = [
    (instance, "info: credentials from instance metadata: IMDSv2, instance role ", true),
    (pod, "info: credentials from container: ", true),
    (keys_in_the_environment, "info: credentials from environment: ", false),
    (assumed_role, "info: credentials from profile: ", true),
    (keys_in_a_profile, "info: credentials from profile: ", false),
    (sso, "info: credentials from profile: ", true),
    (web_identity, "info: credentials from web identity: ", true),
    (process, "info: credentials from profile: ", false),
];

#[test]
fn at_info_one_line_says_for_each_source_which_keys_sign() {
    for (machine, start, expires) in SOURCES {
        let mut machine = machine();
        let log = logging(&mut machine, "info");
        let client = machine.client();
        let token = client.generate_token(&request()).unwrap();
        for _ in 0..5 {
            client.generate_token(&request()).unwrap();
        }
        let line = only(&log, start);
        assert_eq!(lines(&log), [line.as_str()], "six tokens, one line");
        let end = if expires { "expire 2" } else { "do not expire" };
        assert!(line.contains(&format!(", key id {}, {end}", access_key_id(&token))), "{line}");
        assert!(line.contains(", fetched in ") && line.ends_with(" ms"), "{line}");
    }
}

#[test]
fn at_debug_each_source_that_is_skipped_and_each_token_has_a_line() {
    let mut machine = instance();
    let log = logging(&mut machine, "debug");
    let client = machine.client();
    let token = client.generate_token(&request()).unwrap();
    client.generate_token(&request()).unwrap();
    let starts = [
        "debug: fetching credentials: none can be used",
        "debug: environment: ",
        "debug: profile: ",
        "debug: web identity: ",
        "debug: container: ",
        "debug: instance metadata: used: ",
        "info: credentials from instance metadata: ",
        "debug: token for mypg.",
        "debug: token for mypg.",
    ];
    let lines = lines(&log);
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
    let key = access_key_id(&token);
    let rest = format!("user app_user, region eu-central-1 (the endpoint's name), key id {key}, expires ");
    assert!(lines[8].contains(&rest) && lines[8].ends_with(&rfc3339(token.expires_at())), "{}", lines[8]);
}

#[test]
fn without_pgiam_log_nothing_is_written_and_at_warn_no_success() {
    for level in ["", "off", "warn"] {
        let mut machine = instance();
        let log = logging(&mut machine, level);
        machine.client().generate_token(&request()).unwrap();
        assert!(!log.exists(), "{level}");
    }
}

#[test]
fn a_region_from_instance_metadata_is_named_with_its_source() {
    let mut machine = instance();
    machine.unset("AWS_REGION");
    let log = logging(&mut machine, "info");
    let request = TokenRequest { host: "db.example.com", ..request() };
    machine.client().generate_token(&request).unwrap();
    only(&log, "info: region eu-central-1 from instance metadata, fetched in ");
}

#[test]
fn a_request_that_is_repeated_has_a_line_with_the_reason() {
    let mut machine = instance();
    machine.simulator.inject(Route::ImdsCredentials, Fault::Status(503), 2);
    let log = logging(&mut machine, "info");
    machine.client().generate_token(&request()).unwrap();
    for attempt in [2, 3] {
        let all = lines(&log);
        let end = format!("attempt {attempt} of 3 in ");
        assert!(
            all.iter()
                .any(|line| line.starts_with("info: GET http://") && line.contains("HTTP 503") && line.contains(&end)),
            "{all:#?}"
        );
    }
}

#[test]
fn a_failed_fetch_is_a_warning_with_the_error() {
    let mut machine = assumed_role();
    machine.simulator.inject(Route::StsAssumeRole, Fault::Status(403), Times::Forever);
    let log = logging(&mut machine, "warn");
    let error = machine.client().generate_token(&request()).unwrap_err();
    let line = only(&log, "warn: no credentials fetched, after ");
    assert!(line.ends_with(&format!(" ms: {error}")), "{line}");
}

#[test]
fn a_background_refresh_an_extension_and_a_clock_that_was_set_have_their_lines() {
    let mut machine = instance();
    let hands = Hands::of(&machine.simulator);
    machine.clock(&hands);
    let log = logging(&mut machine, "debug");
    let client = machine.client();
    client.generate_token(&request()).unwrap();
    // Within the last fifteen minutes: one refresh in the background, which gets the same credentials again.
    hands.forward(6 * HOUR - 600);
    client.generate_token(&request()).unwrap();
    let refreshed = || lines(&log).iter().filter(|line| line.starts_with("info: credentials from")).count() == 2;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !refreshed() {
        assert!(std::time::Instant::now() < deadline, "{:#?}", lines(&log));
        std::thread::yield_now();
    }
    only(&log, "debug: fetching credentials: the cached ones expire soon; in the background");
    // The line is written before that fetch ends. This one begins after it.
    client.refresh().unwrap();
    // Past the end, with the source down.
    machine.simulator.inject(Route::ImdsToken, Fault::Status(503), Times::Forever);
    hands.forward(601);
    let token = client.generate_token(&request()).unwrap();
    only(&log, "warn: no credentials fetched, after ");
    let line = only(&log, "warn: the credentials with key id ");
    assert!(line.contains(&access_key_id(&token)) && line.contains(" have expired and are used for "), "{line}");
    assert!(!lines(&log).iter().any(|line| line.contains("the clock was set")));
    // Asked again, by a clock that somebody has set.
    hands.forward(HOUR);
    hands.set_wrong_by(7200);
    client.generate_token(&request()).ok();
    only(&log, "warn: the clock was set 7200 s ahead");
}

#[test]
fn key_files_that_have_changed_are_named_and_the_new_keys_too() {
    let mut machine = keys_in_a_profile();
    let hands = Hands::of(&machine.simulator);
    machine.clock(&hands);
    let log = logging(&mut machine, "info");
    let client = machine.client();
    client.generate_token(&request()).unwrap();
    hands.forward(31);
    client.generate_token(&request()).unwrap();
    assert_eq!(lines(&log).len(), 1, "unchanged files are no event: {:#?}", lines(&log));
    let keys = machine.keys("another");
    machine.config(&format!("[profile app]\n{keys}"));
    hands.forward(31);
    let token = client.generate_token(&request()).unwrap();
    only(&log, "info: the profile files have changed and were read again");
    assert!(lines(&log).last().unwrap().contains(&access_key_id(&token)));
}

#[test]
fn no_line_has_a_secret_whatever_the_source_and_the_outcome() {
    for (machine, ..) in SOURCES {
        for broken in [false, true] {
            let mut machine = machine();
            machine.set("HTTPS_PROXY", "http://jane:planted-proxy@127.0.0.1:9");
            if broken {
                for route in [Route::ImdsCredentials, Route::Container, Route::StsAssumeRole, Route::SsoRoleCredentials]
                {
                    machine.simulator.inject(route, Fault::Status(503), Times::Forever);
                }
            }
            let log = logging(&mut machine, "debug");
            let token = machine.client().generate_token(&request());
            let text = fs::read_to_string(&log).unwrap();
            assert!(!text.is_empty());
            let mut secrets = vec!["planted-", "simulated-web-identity", "simulated-sso", "X-Amz-Signature"];
            let keys = fs::read_to_string(machine.path(".aws/config")).unwrap_or_default();
            secrets.extend(keys.lines().filter_map(|line| line.strip_prefix("aws_secret_access_key = ")));
            let credentials = machine.simulator.instance_credentials();
            secrets.extend([credentials.secret_access_key.as_str()]);
            if let Ok(token) = &token {
                secrets.extend(token.as_str().split("X-Amz-Security-Token=").nth(1));
            }
            for secret in secrets {
                // The command of a process is named, as in errors; its arguments are not.
                assert!(!text.contains(secret), "{secret:?} in {text}");
            }
        }
    }
}

#[test]
fn a_log_that_cannot_be_written_makes_no_call_fail() {
    for path in ["/dev/full", "/nonexistent/log", "/", "/dev/null/log"] {
        let mut machine = keys_in_the_environment();
        machine.set("PGIAM_LOG", "debug");
        machine.set("PGIAM_LOG_FILE", path);
        machine.client().generate_token(&request()).unwrap();
    }
    let mut machine = keys_in_the_environment();
    let fifo = machine.path("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    machine.set("PGIAM_LOG", "debug");
    machine.set("PGIAM_LOG_FILE", fifo.to_str().unwrap());
    machine.client().generate_token(&request()).unwrap();
}

#[test]
fn a_forked_child_logs_with_its_own_process_id_and_no_descriptor_stays_open() {
    let mut machine = keys_in_the_environment();
    let log = logging(&mut machine, "debug");
    let client = machine.client();
    client.generate_token(&request()).unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    assert!(!open.into_iter().any(|file| file == log));
    // SAFETY: the child makes a token and ends; the library's promise is that this is possible there.
    let child = unsafe {
        match libc::fork() {
            0 => libc::_exit(i32::from(client.generate_token(&request()).is_err())),
            child => child,
        }
    };
    let mut status = -1;
    // SAFETY: writes `status`, which lives for the call.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    let text = fs::read_to_string(&log).unwrap();
    let last = text.lines().last().unwrap();
    assert!(last.contains(&format!(" pgiam[{child}] debug: token for ")), "{last}");
}

#[test]
fn a_refresh_reads_the_level_again_only_where_the_environment_is_the_process() {
    let mut machine = keys_in_the_environment();
    let log = logging(&mut machine, "info");
    let client = machine.client();
    client.refresh().unwrap();
    client.refresh().unwrap();
    assert_eq!(lines(&log).len(), 2, "a given environment stays: {:#?}", lines(&log));
}
