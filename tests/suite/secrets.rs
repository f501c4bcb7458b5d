//! The memory of a program that has freed its token and its client, searched for the secrets of each source of
//! credentials: what a core dump of it would contain.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::c_programs::build_with;
use crate::examples_support::installed;
use crate::support::{ENDPOINT, temporary_directory};
use aws_simulator::{Credentials, Fault, KeyFormat, PLANTED, Route, SimulatorOptions, Times};

#[path = "../../crates/pgiam-core/tests/support/mod.rs"]
mod core_support;

use core_support::tls::tls_before;
use core_support::{Hands, Machine, REFRESHABLE, ROLE, SSO_PROFILE};

/// Secrets by their names.
type Secrets = BTreeMap<&'static str, String>;

/// A source of credentials.
struct Source {
    name: &'static str,
    machine: fn() -> (Machine, Secrets),
}

const SOURCES: [Source; 11] = [
    Source { name: "environment", machine: environment },
    Source { name: "profile", machine: profile },
    Source { name: "process", machine: process },
    Source { name: "container", machine: container },
    Source { name: "container over TLS", machine: container_over_tls },
    Source { name: "instance metadata", machine: instance_metadata },
    Source { name: "SSO over TLS", machine: sso },
    Source { name: "SSO over TLS, refreshed", machine: sso_refreshed },
    Source { name: "login over TLS, refreshed", machine: login },
    Source { name: "web identity over TLS", machine: web_identity },
    Source { name: "role over TLS", machine: role },
];

/// A secret with nothing in it that is escaped in a URL or in JSON.
fn secret(name: &str) -> String {
    let text = format!("{PLANTED}{name}");
    core_support::sha256_hex(&format!("{text}{:?}", Instant::now()))
}

/// Temporary keys whose texts nothing else has.
fn keys() -> (String, Secrets) {
    let secrets = Secrets::from([("secret key", secret("key")), ("session token", secret("session"))]);
    let text = format!(
        "aws_access_key_id = AKIDPLANTED\naws_secret_access_key = {}\naws_session_token = {}\n",
        secrets["secret key"], secrets["session token"]
    );
    (text, secrets)
}

fn environment() -> (Machine, Secrets) {
    let mut machine = Machine::new();
    let (_, secrets) = keys();
    machine.set("AWS_ACCESS_KEY_ID", "AKIDPLANTED");
    machine.set("AWS_SECRET_ACCESS_KEY", &secrets["secret key"]);
    machine.set("AWS_SESSION_TOKEN", &secrets["session token"]);
    (machine, secrets)
}

fn profile() -> (Machine, Secrets) {
    let mut machine = Machine::new();
    let (text, secrets) = keys();
    machine.profile_app(&format!("[profile app]\n{text}"));
    (machine, secrets)
}

fn process() -> (Machine, Secrets) {
    let mut machine = Machine::new();
    let (_, secrets) = keys();
    let json = format!(
        r#"{{"Version": 1, "AccessKeyId": "AKIDPLANTED", "SecretAccessKey": "{}", "SessionToken": "{}"}}"#,
        secrets["secret key"], secrets["session token"]
    );
    let script = machine.script("vault", &format!("cat <<'END'\n{json}\nEND"));
    machine.profile_app(&format!("[profile app]\ncredential_process = {script}\n"));
    (machine, secrets)
}

fn pod() -> (Machine, Secrets) {
    let token = secret("pod");
    let options = SimulatorOptions { container_token: Some(token.clone()), ..Default::default() };
    let mut machine = Machine::with(options);
    let file = machine.file("pod-token", &token);
    machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &file);
    (machine, Secrets::from([("authorization token", token)]))
}

fn container() -> (Machine, Secrets) {
    let (mut machine, secrets) = pod();
    let url = format!("{}/v1/credentials", machine.simulator.url());
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    (machine, secrets)
}

fn container_over_tls() -> (Machine, Secrets) {
    let (mut machine, secrets) = pod();
    let url = format!("{}/v1/credentials", over_tls(&mut machine));
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    (machine, secrets)
}

fn instance_metadata() -> (Machine, Secrets) {
    let mut machine = Machine::new();
    machine.become_instance();
    (machine, Secrets::new())
}

/// The address of a TLS server in front of the simulator, which the machine trusts. All services are there.
fn over_tls(machine: &mut Machine) -> String {
    let tls = tls_before(machine, "127.0.0.1");
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.set("AWS_CA_BUNDLE", &bundle);
    let url = format!("https://127.0.0.1:{}", tls.port);
    for service in ["STS", "SSO", "SSO_OIDC", "SIGNIN"] {
        machine.set(&format!("AWS_ENDPOINT_URL_{service}"), &url);
    }
    url
}

fn sso_until(ends_in: i64) -> (Machine, Secrets) {
    let secrets = Secrets::from([
        ("access token", secret("access")),
        ("refresh token", secret("refresh")),
        ("client secret", secret("client")),
    ]);
    let mut machine = Machine::with(SimulatorOptions {
        sso_access_token: secrets["access token"].clone(),
        sso_refresh_token: secrets["refresh token"].clone(),
        sso_client_secret: secrets["client secret"].clone(),
        ..Default::default()
    });
    over_tls(&mut machine);
    machine.profile_app(SSO_PROFILE);
    let path = machine.sso_cache("corp", ends_in, REFRESHABLE);
    let options = SimulatorOptions::default();
    let text = fs::read_to_string(&path)
        .unwrap()
        .replace(&options.sso_access_token, &secrets["access token"])
        .replace(&options.sso_refresh_token, &secrets["refresh token"])
        .replace(&options.sso_client_secret, &secrets["client secret"]);
    fs::write(path, text).unwrap();
    (machine, secrets)
}

fn sso() -> (Machine, Secrets) {
    sso_until(8 * 3600)
}

fn sso_refreshed() -> (Machine, Secrets) {
    sso_until(-60)
}

fn login() -> (Machine, Secrets) {
    const SESSION: &str = "arn:aws:iam::123456789012:user/jane";
    let mut machine = Machine::new();
    over_tls(&mut machine);
    machine.profile_app(&format!("[profile app]\nlogin_session = {SESSION}\n"));
    let mut document = machine.simulator.log_in(SESSION, KeyFormat::Sec1);
    document["accessToken"]["expiresAt"] = core_support::rfc3339(Hands::of(&machine.simulator).now() - 60).into();
    machine.login_cache(SESSION, &document);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let secrets = Secrets::from([
        ("old secret key", text(&document["accessToken"]["secretAccessKey"])),
        ("old session token", text(&document["accessToken"]["sessionToken"])),
        ("refresh token", text(&document["refreshToken"])),
        // Without the lines around it.
        ("private key", text(&document["dpopKey"]).lines().nth(1).unwrap().to_owned()),
    ]);
    (machine, secrets)
}

fn web_identity() -> (Machine, Secrets) {
    let mut machine = Machine::new();
    let token = secret("web identity");
    machine.simulator.set_web_identity_token(&token);
    over_tls(&mut machine);
    let file = machine.file("token", &token);
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    machine.set("AWS_ROLE_ARN", ROLE);
    (machine, Secrets::from([("web identity token", token)]))
}

fn role() -> (Machine, Secrets) {
    let mut machine = Machine::new();
    over_tls(&mut machine);
    let mut base = Credentials::of_user("base");
    base.secret_access_key = secret("base");
    machine.simulator.register_credentials(&base);
    machine.profile_app(&format!(
        "[profile app]\nrole_arn = {ROLE}\nsource_profile = base\n[profile base]\naws_access_key_id = {}\n\
         aws_secret_access_key = {}\n",
        base.access_key_id, base.secret_access_key
    ));
    (machine, Secrets::from([("secret key of the source", base.secret_access_key)]))
}

/// What the services issued or were sent, and the signature of the token.
fn secrets_of(machine: &Machine, mut secrets: Secrets, token: &str) -> Secrets {
    let key_id = token.split("X-Amz-Credential=").nth(1).unwrap().split("%2F").next().unwrap();
    secrets.insert("signature", token.rsplit_once('=').unwrap().1.to_owned());
    if let Some(credentials) = machine.simulator.find_credentials(key_id) {
        secrets.insert("secret key", credentials.secret_access_key);
        secrets.extend(credentials.session_token.map(|token| ("session token", token)));
    }
    for request in machine.simulator.requests() {
        for (name, header) in [
            ("IMDS session token", "x-aws-ec2-metadata-token"),
            ("access token sent", "x-amz-sso_bearer_token"),
            ("proof", "dpop"),
        ] {
            secrets.extend(request.header(header).map(|value| (name, value.to_owned())));
        }
    }
    // Without the public beginnings: of the simulator's texts, and of a proof before its signature.
    for text in secrets.values_mut() {
        let secret = text.rsplit_once(PLANTED).or(text.rsplit_once('.')).map(|(_, secret)| secret.to_owned());
        *text = secret.unwrap_or_else(|| std::mem::take(text));
    }
    secrets
}

/// The files below a directory, with their content.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// A program that has a token and waits.
struct Program {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Program {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next line that begins so.
    fn line(&mut self, start: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "the program ends without {start:?}");
            // The harness of a Rust test prints before.
            if let Some(at) = line.find(start) {
                return line[at..].trim_end().to_owned();
            }
        }
    }

    fn go_on(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    }

    /// All that a core dump would have: the writable memory, heap, stacks and data.
    fn memory(&self) -> Vec<u8> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let memory = File::open(process.join("mem")).unwrap();
        let (mut all, nothing) = (Vec::new(), [0; 4096]);
        for line in fs::read_to_string(process.join("maps")).unwrap().lines() {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next().unwrap(), words.next().unwrap());
            if !rights.starts_with("rw") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
            let mut part = vec![0; usize::try_from(to - from).unwrap()];
            memory.read_exact_at(&mut part, from).unwrap_or_else(|error| panic!("{line}: {error}"));
            // Most pages were never written to.
            part.chunks(nothing.len()).filter(|page| *page != nothing).for_each(|page| all.extend_from_slice(page));
        }
        if std::env::var_os("DBG").is_some() {
            println!("{} bytes", all.len());
        }
        all
    }

    /// Waits until background threads of the core have ended.
    fn await_end_of_threads(&self) {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.child.id()));
        let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let are_left = || fs::read_dir(&tasks).unwrap().any(|task| name(task.unwrap()).starts_with("pgiam"));
        let deadline = Instant::now() + Duration::from_secs(20);
        while are_left() {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}

/// Bytes of a secret that are searched for together.
const PIECE: usize = 12;

/// Bytes that SHA-256 reads at a time.
const HASH_BLOCK: usize = 64;

/// What is in memory of one secret.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct Found {
    /// Copies of at least half of it.
    copies: usize,
    /// The bytes of it that are there, in a copy or a fragment.
    bytes: usize,
}

/// What is in memory of each secret, be it whole or in part.
fn search(memory: &[u8], secrets: &Secrets) -> BTreeMap<&'static str, Found> {
    let mut found = std::collections::HashMap::new();
    // Most of memory is passed over by the first two bytes.
    let mut begins = vec![false; 1 << 16];
    for piece in secrets.values().flat_map(|secret| secret.as_bytes().chunks_exact(PIECE)) {
        found.insert(piece, 0);
        begins[usize::from(piece[0]) << 8 | usize::from(piece[1])] = true;
    }
    let mut at = 0;
    // A loop that is fast without optimisations too.
    while at + PIECE <= memory.len() {
        if begins[usize::from(memory[at]) << 8 | usize::from(memory[at + 1])]
            && let Some(count) = found.get_mut(&memory[at..at + PIECE])
        {
            *count += 1;
        }
        at += 1;
    }
    let of = |secret: &String| {
        let mut counts: Vec<usize> = secret.as_bytes().chunks_exact(PIECE).map(|piece| found[piece]).collect();
        counts.sort_unstable();
        let bytes = PIECE * counts.iter().filter(|count| **count > 0).count();
        Found { copies: counts[counts.len() / 2], bytes }
    };
    secrets.iter().map(|(name, secret)| (*name, of(secret))).collect()
}

/// Runs a program with a source, and returns the copies of each secret that are left after everything is freed. The log
/// and the files that were written have none, but for the cache of a session.
fn left_by(source: &Source, mut command: Command) -> BTreeMap<&'static str, Found> {
    let (mut machine, secrets) = (source.machine)();
    let (log, temporary) = (temporary_directory(), temporary_directory());
    let log_file = log.path().join("log");
    machine.set("PGIAM_LOG", "debug");
    machine.set("PGIAM_LOG_FILE", log_file.to_str().unwrap());
    machine.set("TMPDIR", temporary.path().to_str().unwrap());
    let before = files(machine.home.path());
    command.envs(machine.variables());
    let mut program = Program::start(command);
    let token = program.line(ENDPOINT);
    let secrets = secrets_of(&machine, secrets, &token);
    let in_use = search(&program.memory(), &secrets);
    for name in ["secret key", "session token", "signature"] {
        assert!(in_use[name].copies > 0, "{}: the search does not find the {name}", source.name);
    }
    program.go_on();
    program.line("freed");
    program.await_end_of_threads();
    let memory = program.memory();

    let log = fs::read(log_file).unwrap();
    assert!(String::from_utf8_lossy(&log).contains("debug: token for "), "{}", source.name);
    let logged = String::from_utf8_lossy(&log);
    let none = |found: BTreeMap<_, Found>| found.into_values().all(|found| found == Found::default());
    assert!(none(search(&log, &secrets)), "{}: {logged}", source.name);
    assert!(files(temporary.path()).is_empty(), "{}", source.name);
    for (path, content) in files(machine.home.path()) {
        let is_cache = path.components().any(|part| part.as_os_str() == "cache");
        assert!(is_cache || before.get(&path) == Some(&content), "{}: {}", source.name, path.display());
    }
    search(&memory, &secrets)
}

/// The most bytes of a secret that may be left without a copy: the function that hashes a request leaves part of a block
/// on the stack.
fn fragment(secret: &str) -> usize {
    if secret == "session token" { HASH_BLOCK } else { 0 }
}

/// The library as it is shipped.
#[test]
fn a_freed_client_and_token_leave_no_secret_in_the_memory_of_a_c_program() {
    let directory = temporary_directory();
    let library = installed().prefix.join("lib");
    let program = build_with("secrets.c", directory.path(), &library, &[]);
    for source in &SOURCES {
        let mut command = Command::new(&program);
        command.env_clear().arg(ENDPOINT).env("LD_LIBRARY_PATH", &library);
        for (name, found) in left_by(source, command) {
            println!("{}: {name}: {found:?}", source.name);
            assert!(found.copies == 0 && found.bytes <= fragment(name), "{}: {name}: {found:?}", source.name);
        }
    }
}

/// The most copies that other libraries leave in a Rust program, whose allocator does not overwrite what is freed. The
/// core itself leaves none.
fn left_by_others(source: &str, secret: &str) -> usize {
    match (source, secret) {
        // rustls decrypts a record in its buffer of input, and copies what was decrypted out of it.
        ("container over TLS" | "SSO over TLS" | "role over TLS", "secret key" | "session token") => 1,
        ("login over TLS, refreshed", "secret key" | "session token") => 1,
        ("web identity over TLS", "session token") => 1,
        ("web identity over TLS", "secret key") => 2,
        ("SSO over TLS, refreshed", "access token sent") => 2,
        // serde_json copies a string with escapes, such as the line ends in a key, once more.
        ("login over TLS, refreshed", "private key") => 1,
        // aws-sigv4 derives the key of the request's signature from it.
        ("role over TLS", "secret key of the source") => 1,
        _ => 0,
    }
}

#[test]
fn a_freed_client_and_token_leave_few_secrets_in_the_memory_of_a_rust_program() {
    for source in SOURCES.iter().filter(|source| source.name != "environment") {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env_clear().args(["--exact", "--nocapture", "secrets::a_rust_program_that_frees_its_client_and_token"]);
        command.env(RUST_PROGRAM, "1");
        for (name, found) in left_by(source, command) {
            println!("{}: {name}: {found:?}", source.name);
            let most = left_by_others(source.name, name);
            assert!(found.copies <= most, "{}: {name}: {found:?}", source.name);
            // A fragment, where it is not one of a buffer of TLS.
            let may_be_part = most > 0 || (source.name.contains("TLS") && name == "session token");
            assert!(may_be_part || found.bytes <= fragment(name), "{}: {name}: {found:?}", source.name);
        }
    }
}

const RUST_PROGRAM: &str = "PGIAM_TEST_RUST_PROGRAM";

/// The program of the test above, which starts it with this variable; without it nothing is to be done.
#[test]
fn a_rust_program_that_frees_its_client_and_token() {
    if std::env::var_os(RUST_PROGRAM).is_none() {
        return;
    }
    let client = pgiam_core::Client::new(pgiam_core::Settings::default());
    let request = pgiam_core::TokenRequest { host: ENDPOINT, port: 5432, region: None, user: "app_user" };
    let token = client.generate_token(&request).unwrap();
    // Without a buffer that keeps it.
    let print = |text: &str| File::options().write(true).open("/proc/self/fd/1").unwrap().write_all(text.as_bytes());
    print(token.as_str()).and_then(|()| print("\n")).unwrap();
    let go_on = || File::open("/proc/self/fd/0").unwrap().read(&mut [0]).unwrap();
    go_on();
    drop((token, client));
    print("freed\n").unwrap();
    go_on();
}

#[test]
fn no_public_type_shows_a_secret_in_debug_output() {
    for source in &SOURCES {
        let (machine, secrets) = (source.machine)();
        let builder = machine.builder();
        let mut shown = format!("{builder:?}");
        let client = builder.build();
        let explanation = client.explain();
        let token = client.generate_token(&core_support::request()).unwrap();
        let secrets = secrets_of(&machine, secrets, token.as_str());
        shown += &format!("{token:?}{explanation:?}{:?}", explanation.outcome);
        // Errors with the services' words, and of a session that cannot be refreshed.
        for fault in [Fault::Status(400), Fault::Status(401), Fault::Status(403)] {
            for route in [
                Route::ImdsToken,
                Route::ImdsCredentials,
                Route::Container,
                Route::StsAssumeRole,
                Route::StsWebIdentity,
                Route::SsoRoleCredentials,
                Route::OidcCreateToken,
                Route::SignInToken,
            ] {
                machine.simulator.clear_faults();
                machine.simulator.inject(route, fault.clone(), Times::Forever);
                let refreshed = client.refresh();
                shown += &format!("{refreshed:?}{:?}", machine.client().explain());
            }
        }
        let found = search(shown.as_bytes(), &secrets);
        assert!(found.into_values().all(|found| found == Found::default()), "{}: {shown}", source.name);
    }
}
