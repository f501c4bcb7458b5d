//! A client in surroundings of its own: no file, no variable and no clock of whoever runs the tests.
#![allow(dead_code)]

pub(crate) mod tls;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use aws_simulator::{Credentials, KeyFormat, Simulator, SimulatorOptions};
use pgiam_core::{Client, ClientBuilder, Clock, Environment, Error, Moment, Settings, Token, TokenRequest};
use tempfile::TempDir;

pub(crate) const HOST: &str = "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com";

pub(crate) fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions::default()).unwrap()
}

pub(crate) fn environment(variables: &[(&str, &str)]) -> Environment {
    let none =
        [("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"), ("HOME", "/nonexistent")];
    none.into_iter().chain(variables.iter().copied()).collect()
}

pub(crate) fn settings(pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::default();
    for (keyword, value) in pairs {
        settings.set(keyword, value).unwrap();
    }
    settings
}

pub(crate) fn client(variables: &[(&str, &str)]) -> Client {
    Client::builder().environment(environment(variables)).build()
}

/// A client whose only source is this instance metadata service, and that waits at most half a second.
pub(crate) fn on_instance(simulator: &Simulator) -> Client {
    Client::builder()
        .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url())]))
        .settings(settings(&[("timeout_ms", "500")]))
        .build()
}

pub(crate) fn request() -> TokenRequest<'static> {
    TokenRequest { host: HOST, port: 5432, region: None, user: "app_user" }
}

pub(crate) fn access_key_id(token: &Token) -> String {
    let after = token.as_str().split("X-Amz-Credential=").nth(1).unwrap();
    after.split("%2F").next().unwrap().to_owned()
}

/// A clock that tests move.
#[derive(Clone)]
pub(crate) struct Hands {
    time: Arc<AtomicI64>,
    /// Seconds that the wall clock is ahead of the right time.
    error: Arc<AtomicI64>,
}

impl Hands {
    /// Set to the simulator's time, so that its credentials make sense.
    pub(crate) fn at(unix_seconds: i64) -> Self {
        Self { time: Arc::new(AtomicI64::new(unix_seconds)), error: Arc::default() }
    }

    pub(crate) fn of(simulator: &Simulator) -> Self {
        let now = simulator.now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        Self::at(i64::try_from(now).unwrap())
    }

    pub(crate) fn clock(&self) -> Clock {
        let hands = self.clone();
        Clock::from_moments(move || Moment {
            unix_seconds: hands.now() + hands.error.load(Ordering::Relaxed),
            monotonic_seconds: hands.now(),
        })
    }

    /// The right time.
    pub(crate) fn now(&self) -> i64 {
        self.time.load(Ordering::Relaxed)
    }

    /// Lets time pass.
    pub(crate) fn forward(&self, seconds: i64) {
        self.time.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Sets the wall clock so many seconds ahead of the right time; no time passes.
    pub(crate) fn set_wrong_by(&self, seconds: i64) {
        self.error.store(seconds, Ordering::Relaxed);
    }
}

pub(crate) const REGION: &str = "eu-central-1";
pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/app";

/// A machine of its own: a home directory, the services of AWS, and an environment that leads to both. It is no EC2
/// instance unless a test says so.
pub(crate) struct Machine {
    pub(crate) home: TempDir,
    pub(crate) simulator: Simulator,
    variables: BTreeMap<String, String>,
    settings: Vec<(String, String)>,
    clock: Clock,
}

impl Machine {
    pub(crate) fn new() -> Self {
        Self::with(SimulatorOptions::default())
    }

    pub(crate) fn with(options: SimulatorOptions) -> Self {
        let simulator = Simulator::start(SimulatorOptions { region: REGION.into(), ..options }).unwrap();
        let home = tempfile::tempdir().unwrap();
        fs::create_dir_all(home.path().join(".aws/sso/cache")).unwrap();
        let url = simulator.url();
        let home_directory = home.path().to_str().unwrap().to_owned();
        let mut machine =
            Self { home, simulator, variables: BTreeMap::new(), settings: Vec::new(), clock: Clock::system() };
        machine.set("HOME", &home_directory);
        machine.set("PATH", &std::env::var("PATH").unwrap_or_default());
        machine.set("AWS_REGION", REGION);
        for service in ["STS", "SSO", "SSO_OIDC", "SIGNIN"] {
            machine.set(&format!("AWS_ENDPOINT_URL_{service}"), &url);
        }
        machine.set("AWS_EC2_METADATA_DISABLED", "true");
        machine.setting("timeout_ms", "20000");
        machine
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.into(), value.into());
    }

    /// For a program that is to run on this machine.
    pub(crate) fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    pub(crate) fn unset(&mut self, name: &str) {
        self.variables.remove(name);
    }

    pub(crate) fn setting(&mut self, keyword: &str, value: &str) {
        self.settings.retain(|(known, _)| known != keyword);
        self.settings.push((keyword.into(), value.into()));
    }

    pub(crate) fn clock(&mut self, hands: &Hands) {
        self.clock = hands.clock();
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

    /// A program below the home directory.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        let path = self.file(name, &format!("#!/bin/sh\n{text}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// `~/.aws/config`
    pub(crate) fn config(&self, text: &str) {
        self.file(".aws/config", text);
    }

    /// Keys of a user whom STS knows, as a profile's lines.
    pub(crate) fn keys(&self, user: &str) -> String {
        let credentials = Credentials::of_user(user);
        self.simulator.register_credentials(&credentials);
        let (id, secret) = (credentials.access_key_id, credentials.secret_access_key);
        format!("aws_access_key_id = {id}\naws_secret_access_key = {secret}\n")
    }

    pub(crate) fn use_web_identity(&mut self) {
        let file = self.file("token", "simulated-web-identity-token");
        self.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
        self.set("AWS_ROLE_ARN", ROLE);
    }

    /// With the keys of a source profile.
    pub(crate) fn assume_a_role(&mut self) {
        let keys = self.keys("tests");
        self.profile_app(&format!("[profile app]\nrole_arn = {ROLE}\nsource_profile = base\n[profile base]\n{keys}"));
    }

    pub(crate) fn use_sso(&mut self) {
        self.profile_app(SSO_PROFILE);
        self.sso_cache("corp", 8 * 3600, "");
    }

    /// Its access token has expired.
    pub(crate) fn use_sso_to_refresh(&mut self) {
        self.profile_app(SSO_PROFILE);
        self.sso_cache("corp", -60, REFRESHABLE);
    }

    /// The credentials of `aws login` have expired.
    pub(crate) fn use_login_to_refresh(&mut self) {
        let session = "arn:aws:iam::123456789012:user/jane.doe@corp.com";
        self.profile_app(&format!("[profile app]\nlogin_session = {session}\n"));
        let mut document = self.simulator.log_in(session, KeyFormat::Sec1);
        document["accessToken"]["expiresAt"] = rfc3339(Hands::of(&self.simulator).now() - 60).into();
        self.login_cache(session, &document);
    }

    /// Makes it an EC2 instance with a role.
    pub(crate) fn become_instance(&mut self) {
        let url = self.simulator.url();
        self.unset("AWS_EC2_METADATA_DISABLED");
        self.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url);
    }

    /// `AWS_PROFILE=app`, a profile of this text.
    pub(crate) fn profile_app(&mut self, text: &str) {
        self.config(text);
        self.set("AWS_PROFILE", "app");
    }

    /// The token that `aws sso login` left, which ends in so many seconds; `more` are further members of the document.
    pub(crate) fn sso_cache(&self, cache_key: &str, ends_in: i64, more: &str) -> PathBuf {
        let ends = Hands::of(&self.simulator).now() + ends_in;
        let ends = rfc3339(ends);
        let name = format!(".aws/sso/cache/{}.json", sha1_hex(cache_key));
        let text = format!(r#"{{"accessToken": "simulated-sso-access-token", "expiresAt": "{ends}"{more}}}"#);
        PathBuf::from(self.file(&name, &text))
    }

    /// The file that `aws login` left for this session.
    pub(crate) fn login_cache(&self, session: &str, document: &serde_json::Value) -> PathBuf {
        fs::create_dir_all(self.path(".aws/login/cache")).unwrap();
        let name = format!(".aws/login/cache/{}.json", sha256_hex(session));
        PathBuf::from(self.file(&name, &document.to_string()))
    }

    /// A client that asks `mfa` for the codes of MFA devices.
    pub(crate) fn client_that_asks(
        &self,
        mfa: impl Fn(&str) -> std::io::Result<String> + Send + Sync + 'static,
    ) -> Client {
        self.builder().mfa_prompt(mfa).build()
    }

    pub(crate) fn client(&self) -> Client {
        self.builder().build()
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        let pairs: Vec<_> = self.settings.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let environment: Environment = self.variables.clone().into_iter().collect();
        Client::builder().settings(settings(&pairs)).environment(environment).clock(self.clock.clone())
    }

    pub(crate) fn token(&self) -> Token {
        self.client().generate_token(&request()).unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub(crate) fn error(&self) -> Error {
        match self.client().generate_token(&request()) {
            Ok(token) => panic!("a token was made, signed by {}", access_key_id(&token)),
            Err(error) => error,
        }
    }
}

/// What lets a cached token be refreshed.
pub(crate) const REFRESHABLE: &str = r#", "refreshToken": "simulated-sso-refresh-token",
    "clientId": "simulated-client-id", "clientSecret": "simulated-client-secret", "region": "eu-central-1""#;

pub(crate) const SSO_PROFILE: &str = "[profile app]\nsso_session = corp\nsso_account_id = 123456789012\n\
    sso_role_name = Developer\n[sso-session corp]\nsso_region = eu-central-1\n\
    sso_start_url = https://corp.awsapps.com/start\n";

pub(crate) fn sha1_hex(text: &str) -> String {
    use sha1::{Digest, Sha1};
    Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn sha256_hex(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn rfc3339(unix_seconds: i64) -> String {
    let at = time::OffsetDateTime::from_unix_timestamp(unix_seconds).unwrap();
    let (date, time) = (at.date(), at.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
}

/// Checks that something took at most its time-out and 100 ms. A busy machine may delay a thread once: the best of
/// three counts, and a wait that is not bounded is over each time.
pub(crate) fn within(time_out: Duration, mut attempt: impl FnMut()) -> Result<(), Duration> {
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let began = std::time::Instant::now();
        attempt();
        best = best.min(began.elapsed());
        if best <= time_out + Duration::from_millis(100) {
            return Ok(());
        }
    }
    Err(best)
}

pub(crate) fn seconds_from_now(seconds: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(seconds)
}
