//! The library in difficult host processes: the programs of `tests/c/host`, each scenario again and again. A scenario
//! fails if a call fails without need, if the program crashes or hangs, or if a thread, child, descriptor or file is
//! left over. `PGIAM_LOOPS=1000` makes so many loops of each.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use aws_simulator::{KeyFormat, Route, Simulator, SimulatorOptions};

use crate::examples::installed;
use crate::support::{expect_success, root, run, temporary_directory, texts};

#[allow(dead_code)]
#[path = "../../crates/pgiam-core/tests/support/tls.rs"]
pub(crate) mod tls;

const ROLE: &str = "arn:aws:iam::123456789012:role/app";
/// How long a response takes: what the host does then happens during a fetch.
const DELAY: Duration = Duration::from_millis(1);
/// Seconds after which a program is killed as one that hangs.
const LIMIT: &str = "1800";

/// The number of loops: `PGIAM_LOOPS`, or a number that takes seconds.
pub(crate) fn loops(usual: u32) -> u32 {
    match std::env::var("PGIAM_LOOPS") {
        Ok(text) => text.parse().expect("PGIAM_LOOPS is a number"),
        Err(_) => usual,
    }
}

/// Where the programs and a copy of the library are, so that every user can run them.
fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<tempfile::TempDir> = OnceLock::new();
    PROGRAMS.get_or_init(|| compile_hosts(&installed().prefix.join("lib/libpgiam.so.0"), &[])).path()
}

/// Compiles the programs into a directory with a copy of the library.
pub(crate) fn compile_hosts(library: &Path, flags: &[&str]) -> tempfile::TempDir {
    let directory = temporary_directory();
    let copy = directory.path().join("libpgiam.so.0");
    fs::copy(library, &copy).unwrap();
    for entry in fs::read_dir(root().join("tests/c/host")).unwrap() {
        let source = entry.unwrap().path();
        if source.extension().is_some_and(|extension| extension == "c") {
            compile(&source, &copy, &directory.path().join(source.file_stem().unwrap()), flags);
        }
    }
    open_to_all(directory.path());
    directory
}

fn compile(source: &Path, library: &Path, program: &Path, flags: &[&str]) {
    let warnings = ["-std=gnu99", "-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"];
    // A program that loads the library itself is not linked to it.
    let linking = ["-Wl,--as-needed", "-Wl,-rpath,$ORIGIN"];
    let include = format!("-I{}", root().join("include").display());
    let mut arguments: Vec<&OsStr> =
        [&warnings[..], flags, &linking, &[&include]].concat().into_iter().map(OsStr::new).collect();
    arguments.extend([source.as_os_str(), library.as_os_str(), OsStr::new("-ldl"), OsStr::new("-o")]);
    run("cc", arguments, Some(program));
}

pub(crate) fn open_to_all(directory: &Path) {
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A home directory, the services of AWS, and the variables that lead to both.
pub(crate) struct Machine {
    pub(crate) simulator: Simulator,
    pub(crate) home: tempfile::TempDir,
    variables: BTreeMap<&'static str, String>,
}

impl Machine {
    pub(crate) fn new() -> Self {
        let simulator = Simulator::start(SimulatorOptions { delay: DELAY, ..Default::default() }).unwrap();
        let home = temporary_directory();
        let url = simulator.url();
        let mut machine = Self { simulator, home, variables: BTreeMap::new() };
        open_to_all(machine.home.path());
        fs::create_dir(machine.path("tmp")).unwrap();
        fs::create_dir_all(machine.path(".aws")).unwrap();
        machine.set("PATH", std::env::var("PATH").unwrap());
        machine.set("HOME", machine.home.path().to_str().unwrap().to_owned());
        machine.set("TMPDIR", machine.path("tmp").to_str().unwrap());
        machine.set("AWS_EC2_METADATA_DISABLED", "true");
        for service in ["AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_SSO", "AWS_ENDPOINT_URL_SSO_OIDC"] {
            machine.set(service, url.as_str());
        }
        machine.set("AWS_ENDPOINT_URL_SIGNIN", url);
        machine
    }

    /// An EC2 instance.
    pub(crate) fn instance() -> Self {
        let mut machine = Self::new();
        machine.variables.remove("AWS_EC2_METADATA_DISABLED");
        machine.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", machine.simulator.url());
        // A busy computer is no reason to fail.
        machine.set("AWS_METADATA_SERVICE_TIMEOUT", "10");
        machine
    }

    /// A web identity, whose role is assumed over TLS.
    pub(crate) fn over_tls() -> Self {
        let mut machine = Self::new();
        let tls = tls::tls_before(&machine, "127.0.0.1");
        machine.set("AWS_ENDPOINT_URL_STS", format!("https://127.0.0.1:{}", tls.port));
        machine.set("AWS_CA_BUNDLE", machine.file("ca.pem", &tls.authority));
        machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", machine.file("token", "simulated-web-identity-token"));
        machine.set("AWS_ROLE_ARN", ROLE);
        machine
    }

    /// A `credential_process`, and a profile "slow" whose program does not end in time.
    pub(crate) fn process() -> Self {
        let mut machine = Self::new();
        // A program without its variables fails.
        machine.set("HOST_KEY_ID", "AKIDPROCESS");
        let keys = r#"{"Version": 1, "AccessKeyId": "'${HOST_KEY_ID:?}'", "SecretAccessKey": "s"}"#;
        let script = |name: &str, text: String| {
            let path = machine.file(name, &format!("#!/bin/sh\n{text}\n"));
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            path
        };
        // What it starts must not stay behind either.
        let quick = script("quick", format!("/bin/sleep 0.002\necho '{keys}'"));
        let slow = script("slow", "/bin/sleep 600 & /bin/sleep 600".into());
        machine.file(
            ".aws/config",
            &format!("[default]\ncredential_process = {quick}\n[profile slow]\ncredential_process = {slow}\n"),
        );
        machine
    }

    /// A person who logged in with `aws sso login` or `aws login`; what is cached ends in some minutes.
    pub(crate) fn logged_in(kind: Login, ends_in: Duration) -> Self {
        let machine = Self::new();
        let ends = (machine.simulator.now() + ends_in).duration_since(UNIX_EPOCH).unwrap().as_secs();
        let ends = pgiam_core::rfc3339(i64::try_from(ends).unwrap());
        let (profile, name, document) = match kind {
            Login::Sso => (
                "[default]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Developer\n\
                 [sso-session corp]\nsso_region = eu-central-1\nsso_start_url = https://corp.awsapps.com/start\n"
                    .to_owned(),
                // The SHA-1 of the session's name.
                "ee0bfd2552fbd840c02cc48b6e823320543c450f",
                serde_json::json!({
                    "accessToken": "simulated-sso-access-token", "expiresAt": ends,
                    "refreshToken": "simulated-sso-refresh-token", "clientId": "simulated-client-id",
                    "clientSecret": "simulated-client-secret", "region": "eu-central-1",
                }),
            ),
            Login::Cli => {
                let session = "arn:aws:iam::123456789012:user/jane";
                let mut document = machine.simulator.log_in(session, KeyFormat::Sec1);
                document["accessToken"]["expiresAt"] = ends.into();
                // The SHA-256 of the session.
                let name = "e503db6a50c52e426cd2e8b0edf93b94ec9cb0ba1ccdba607277d35e756abde9";
                (format!("[default]\nlogin_session = {session}\n"), name, document)
            }
        };
        machine.file(".aws/config", &profile);
        fs::create_dir_all(machine.path(kind.directory())).unwrap();
        machine.file(&format!("{}/{name}.json", kind.directory()), &document.to_string());
        machine
    }

    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.variables.insert(name, value.into());
    }

    pub(crate) fn variable(&self, name: &str) -> &str {
        &self.variables[name]
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file below the home directory and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A command in this machine's environment and no other.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.variables).current_dir("/");
        command
    }
}

/// The command that begins a session which a person has to continue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Login {
    /// `aws sso login`
    Sso,
    /// `aws login`
    Cli,
}

impl Login {
    /// Where the session is cached, below the home directory.
    fn directory(self) -> &'static str {
        match self {
            Self::Sso => ".aws/sso/cache",
            Self::Cli => ".aws/login/cache",
        }
    }

    fn refreshes(self, simulator: &Simulator) -> usize {
        simulator.requests_for(if self == Self::Sso { Route::OidcCreateToken } else { Route::SignInToken }).len()
    }
}

/// The files below a directory, with their content.
pub(crate) fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Runs a scenario of a program, through `wrapper` if it is not empty. Its output, if it succeeds and leaves no file.
pub(crate) fn run_host(machine: &Machine, wrapper: &[&str], program: &Path, scenario: &str, loops: u32) -> String {
    let before = files(machine.home.path());
    let mut command = machine.command("timeout");
    command.args(["--signal=KILL", LIMIT]).args(wrapper).arg(program);
    command.args([scenario, &loops.to_string()]);
    let output = command.output().expect("timeout of coreutils runs");
    let name = program.file_name().unwrap().display();
    let what = format!("{name} {scenario} {:?}", machine.variables);
    let text = expect_success(&what, &output);
    assert_eq!(texts(&output).1, "", "{what}");
    let after = files(machine.home.path());
    assert!(before == after, "{what}: files before: {:?}, after: {:?}", before.keys(), after.keys());
    print!("{name}: {text}");
    text
}

fn run_scenario(machine: &Machine, wrapper: &[&str], program: &str, scenario: &str, loops: u32) -> String {
    run_host(machine, wrapper, &programs().join(program), scenario, loops)
}

pub(crate) fn host(machine: &Machine, program: &str, scenario: &str, loops: u32) -> String {
    run_scenario(machine, &[], program, scenario, loops)
}

pub(crate) fn is_root() -> bool {
    run("id", ["-u"], None::<&str>).trim() == "0"
}

/// The words with which `unshare` makes namespaces, here or in a user namespace.
fn namespaces(options: &[&'static str]) -> Vec<&'static str> {
    let user: &[&str] = if is_root() { &[] } else { &["--user", "--map-root-user"] };
    [&["unshare"], user, options].concat()
}

/// Whether this computer lets the user of the tests make such namespaces. Containers often do not.
fn can_make(namespaces: &[&str]) -> bool {
    let output = Command::new(namespaces[0]).args(&namespaces[1..]).arg("true").output().expect("unshare runs");
    if !output.status.success() {
        leave_out(texts(&output).1.trim());
    }
    output.status.success()
}

/// For a test that cannot run because root or namespaces are missing: it fails, unless the user knows that and says so.
pub(crate) fn leave_out(why: &str) {
    const KNOWN: &str = "PGIAM_WITHOUT_NAMESPACES";
    assert!(
        std::env::var_os(KNOWN).is_some(),
        "this test needs root, or sudo without a password, and namespaces: {why}. {KNOWN}=1 leaves such tests out"
    );
    eprintln!("left out: {why}");
}

#[test]
fn a_child_forked_during_a_fetch_gets_its_token() {
    for scenario in ["single_threaded", "multi_threaded"] {
        host(&Machine::instance(), "fork", scenario, loops(100));
        host(&Machine::over_tls(), "fork", scenario, loops(30));
        host(&Machine::process(), "fork", scenario, loops(50));
    }
}

#[test]
fn a_fetch_does_not_wait_for_the_end_of_a_child_that_was_forked_meanwhile() {
    for machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
        host(&machine, "fork", "workers", loops(200));
    }
}

#[test]
fn a_child_with_its_parents_process_id_gets_its_token() {
    let namespaces = namespaces(&["--pid", "--fork"]);
    if can_make(&namespaces) {
        run_scenario(&Machine::instance(), &namespaces, "fork", "namespace", loops(100));
    }
}

#[test]
fn a_program_that_ends_during_a_fetch_ends_with_its_own_status() {
    for machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
        host(&machine, "exit", "exits", loops(70));
    }
}

#[test]
fn a_program_may_unload_the_library_during_a_fetch() {
    for machine in [Machine::instance(), Machine::over_tls()] {
        host(&machine, "unload", "unloads", loops(100));
        host(&machine, "unload", "unloads_and_exits", loops(100));
    }
}

#[test]
fn a_credential_process_works_where_the_program_ignores_or_reaps_its_children() {
    for scenario in ["ignored", "reaped", "awaited"] {
        host(&Machine::process(), "children", scenario, loops(50));
    }
}

#[test]
fn a_program_started_during_a_fetch_inherits_no_descriptor_and_no_blocked_signal() {
    for machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
        host(&machine, "children", "executes", loops(200));
    }
}

#[test]
fn another_thread_may_change_the_environment_once_a_client_is_made() {
    for machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
        host(&machine, "environment", "changed", loops(100));
    }
}

#[test]
fn a_thread_may_end_during_a_fetch_and_may_call_while_it_ends() {
    for machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
        host(&machine, "threads", "ending", loops(100));
    }
}

#[test]
fn a_cancelled_thread_ends_after_its_call() {
    for scenario in ["cancelled", "cancelled_asynchronously"] {
        for machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
            host(&machine, "threads", scenario, loops(100));
        }
    }
}

#[test]
fn a_stack_of_64_kb_is_enough() {
    for machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
        host(&machine, "threads", "small_stacks", loops(30));
    }
}

#[test]
fn a_signal_each_millisecond_fails_no_call() {
    for machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
        host(&machine, "signals", "interrupted", loops(50));
    }
}

#[test]
fn a_call_without_descriptors_fails_and_the_next_one_works() {
    for machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
        host(&machine, "limits", "no_descriptors", loops(60));
    }
}

#[test]
fn a_call_that_waits_works_where_no_thread_can_be_had() {
    for machine in [Machine::instance(), Machine::over_tls()] {
        host(&machine, "limits", "no_threads", loops(100));
    }
}

#[test]
fn without_memory_a_call_works_or_fails_or_malloc_ends_the_program() {
    for machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
        host(&machine, "limits", "no_memory", loops(200));
    }
}

#[test]
fn the_log_is_written_to_standard_error_and_to_no_file_that_has_its_number() {
    for mut machine in [Machine::instance(), Machine::over_tls(), Machine::process()] {
        machine.set("PGIAM_LOG", "debug");
        host(&machine, "descriptors", "closed", loops(50));
        host(&machine, "descriptors", "own_files", loops(50));
    }
}

#[test]
fn a_token_made_after_the_clock_was_set_right_is_valid() {
    for machine in [Machine::instance(), Machine::over_tls()] {
        host(&machine, "clock", "set", loops(100));
    }
}

#[test]
fn a_log_file_on_a_full_disk_fails_no_call() {
    let mut machine = Machine::instance();
    machine.set("PGIAM_LOG", "debug");
    machine.set("PGIAM_LOG_FILE", "/dev/full");
    let output = machine
        .command("timeout")
        .args(["--signal=KILL", LIMIT])
        .arg(programs().join("tokens"))
        .args(["tokens", &loops(50).to_string()])
        .output()
        .unwrap();
    expect_success("tokens", &output);
    let (_, log) = texts(&output);
    assert_eq!(log.matches("cannot write to /dev/full: No space left on device").count(), 1, "{log}");
    assert!(log.contains("credentials from instance metadata"), "the lines go to standard error: {log}");
}

/// Makes the home directory a full file system, runs a command and compares the files. The first argument is a directory
/// with the files.
const ON_A_FULL_DISK: &str = r#"
mount -t tmpfs -o size=256k none "$HOME" || exit 125
cp -a "$1"/. "$HOME" || exit 125
shift
cat /dev/zero >"$HOME/tmp/full" 2>/dev/null
state() { find "$HOME" | sort; cat "$HOME"/.aws/*/cache/*.json; }
before=$(state)
"$@" || exit
[ "$before" = "$(state)" ] || { echo "files have changed: $(state)"; exit 1; }
"#;

/// A scenario of the program `tokens` on a full disk.
fn on_a_full_disk(machine: &Machine, scenario: &str, loops: u32) -> Output {
    let copy = temporary_directory();
    run("cp", [Path::new("-a"), &machine.home.path().join(".")], Some(copy.path()));
    let namespaces = namespaces(&["--mount"]);
    let mut command = machine.command("timeout");
    command.args(["--signal=KILL", LIMIT]).args(&namespaces).args(["sh", "-c", ON_A_FULL_DISK, "sh"]);
    command.arg(copy.path()).arg(programs().join("tokens")).args([scenario, &loops.to_string()]);
    command.output().unwrap()
}

#[test]
fn a_login_that_cannot_be_cached_on_a_full_disk_stays_as_it_is() {
    if !can_make(&namespaces(&["--mount"])) {
        return;
    }
    let (soon, ended) = (Duration::from_secs(240), Duration::ZERO);
    for login in [Login::Sso, Login::Cli] {
        let machine = Machine::logged_in(login, soon);
        expect_success(&format!("{login:?}"), &on_a_full_disk(&machine, "tokens", loops(50)));
        // The session of `aws login` would end if it were refreshed and the result lost.
        let refreshes = login.refreshes(&machine.simulator);
        assert!((login == Login::Sso) == (refreshes > 0), "{login:?}: {refreshes} refreshes");
    }
    let machine = Machine::logged_in(Login::Cli, ended);
    let text = expect_success("ended", &on_a_full_disk(&machine, "failure", 1));
    assert!(text.contains("the file cannot be replaced") && text.contains("no storage space"), "{text}");
    assert_eq!(Login::Cli.refreshes(&machine.simulator), 0);
}

#[test]
fn a_login_in_a_home_directory_that_cannot_be_written_to_stays_as_it_is() {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let wrapper: &[&str] = if is_root() { &nobody } else { &[] };
    for login in [Login::Sso, Login::Cli] {
        let machine = Machine::logged_in(login, Duration::from_secs(240));
        let set_mode = |mode| {
            for directory in ["tmp", ".aws", login.directory(), "."] {
                fs::set_permissions(machine.path(directory), fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        set_mode(0o555);
        run_scenario(&machine, wrapper, "tokens", "tokens", loops(50));
        set_mode(0o755);
        let refreshes = login.refreshes(&machine.simulator);
        assert!((login == Login::Sso) == (refreshes > 0), "{login:?}: {refreshes} refreshes");
    }
}
