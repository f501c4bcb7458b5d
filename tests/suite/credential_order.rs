//! Compares the credentials that pgiam uses with those of botocore, the AWS CLI's library, for the same files and
//! environment.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use aws_simulator::{Credentials, KeyFormat, Route, Simulator, SimulatorOptions};
use pgiam_core::{Client, Environment, Settings, TokenRequest};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{ENDPOINT, REGION, clean_command, python, root, run, temporary_directory};

/// A process with botocore, which answers one case at a time.
struct Reference {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Reference {
    fn start() -> Self {
        let mut process = clean_command(python())
            .arg(root().join("tests/reference/credentials.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let (input, output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        Self { process, input, output }
    }

    fn ask(&mut self, case: &Value) -> Value {
        writeln!(self.input, "{case}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{case}: {line:?}: {error}"))
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The key or role that signs, and the roles assumed before it with their signers.
#[derive(Debug, PartialEq, Eq)]
struct Used {
    signer: String,
    session_token: Option<String>,
    assumed: Vec<(String, String)>,
}

/// Files, an environment and simulated AWS services for one test.
struct Machine {
    home: TempDir,
    simulator: Simulator,
    variables: BTreeMap<String, String>,
    profile: Option<String>,
}

impl Machine {
    fn new() -> Self {
        let home = temporary_directory();
        for cache in [".aws/sso/cache", ".aws/login/cache"] {
            fs::create_dir_all(home.path().join(cache)).unwrap();
        }
        let simulator = Simulator::start(SimulatorOptions { region: REGION.into(), ..Default::default() }).unwrap();
        let mut machine = Self { home, simulator, variables: BTreeMap::new(), profile: None };
        let url = machine.simulator.url();
        machine.set("HOME", &machine.path(""));
        machine.set("PATH", &std::env::var("PATH").unwrap());
        machine.set("AWS_REGION", REGION);
        machine.set("AWS_DEFAULT_REGION", REGION);
        machine.set("AWS_EC2_METADATA_DISABLED", "true");
        for service in ["STS", "SSO", "SSO_OIDC", "SIGNIN"] {
            machine.set(&format!("AWS_ENDPOINT_URL_{service}"), &url);
        }
        machine
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().trim_end_matches('/').to_owned()
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.into(), value.into());
    }

    fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.home.path().join(name), text).unwrap();
        self.path(name)
    }

    /// Keys of a user that STS knows.
    fn user(&self, name: &str) -> Credentials {
        let user = Credentials::of_user(name);
        self.simulator.register_credentials(&user);
        user
    }

    fn keys(&self, user: &str) -> String {
        let user = self.user(user);
        format!("aws_access_key_id = {}\naws_secret_access_key = {}\n", user.access_key_id, user.secret_access_key)
    }

    fn web_identity_file(&self) -> String {
        self.file("token", "simulated-web-identity-token")
    }

    fn process(&self) -> String {
        let user = self.user("process");
        let script = self.file(
            "print-keys",
            &format!(
                "#!/bin/sh\necho '{{\"Version\": 1, \"AccessKeyId\": \"{}\", \"SecretAccessKey\": \"{}\"}}'\n",
                user.access_key_id, user.secret_access_key
            ),
        );
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        script
    }

    /// The user or role of a key id or session token, without the parts that differ between runs.
    fn name_of(&self, access_key_id: &str) -> String {
        match self.simulator.find_credentials(access_key_id) {
            // arn:…:assumed-role/NAME/SESSION
            Some(known) if known.session_token.is_some() => {
                known.principal.rsplit_once('/').map_or(known.principal.clone(), |(role, _)| role.to_owned())
            }
            _ => access_key_id.to_owned(),
        }
    }

    fn used(&self, access_key_id: &str, session_token: Option<&str>) -> Used {
        let signer = self.name_of(access_key_id);
        let assumed = self.simulator.requests().into_iter().filter_map(|request| {
            let arn = request.form_parameter("RoleArn")?;
            let by = request.header("authorization").map_or_else(String::new, |header| {
                self.name_of(header.split("Credential=").nth(1).unwrap().split('/').next().unwrap())
            });
            Some((arn, by))
        });
        Used {
            assumed: assumed.collect(),
            // The key id of a session is new each time.
            session_token: session_token.filter(|_| signer == access_key_id).map(str::to_owned),
            signer,
        }
    }

    fn theirs(&self, reference: &mut Reference) -> Result<Used, String> {
        self.simulator.clear_requests();
        let answer = reference.ask(&json!({"environment": self.variables, "profile": self.profile}));
        match answer["access_key_id"].as_str() {
            Some(id) => Ok(self.used(id, answer["session_token"].as_str())),
            None => Err(answer["error"].as_str().unwrap().to_owned()),
        }
    }

    fn ours(&self) -> Result<Used, String> {
        self.simulator.clear_requests();
        let mut settings = Settings::default();
        settings.set("profile", self.profile.as_deref().unwrap_or_default()).unwrap();
        let environment: Environment = self.variables.clone().into_iter().collect();
        let client = Client::builder().settings(settings).environment(environment).build();
        let request = TokenRequest { host: ENDPOINT, port: 5432, region: None, user: "app_user" };
        let token = client.generate_token(&request).map_err(|error| error.message().to_owned())?;
        let parameter = |name: &str| {
            let after = token.as_str().split_once(&format!("{name}="))?.1;
            Some(after.split(['&', '%']).next().unwrap().to_owned())
        };
        Ok(self.used(&parameter("X-Amz-Credential").unwrap(), parameter("X-Amz-Security-Token").as_deref()))
    }

    /// `None`: both use the same credentials, or both fail.
    fn difference(&self, reference: &mut Reference) -> Option<String> {
        match (self.ours(), self.theirs(reference)) {
            (Ok(ours), Ok(theirs)) if ours == theirs => None,
            (Err(_), Err(_)) => None,
            (ours, theirs) => Some(format!("ours {ours:?}, botocore {theirs:?}")),
        }
    }
}

fn role(name: &str) -> String {
    format!("arn:aws:iam::123456789012:role/{name}")
}

/// Pseudorandom numbers that are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// Settings of one profile, one for each bit: the sections in the config file and in the credentials file.
fn profile_settings(machine: &Machine, bits: u64, role_name: &str, source: &str) -> (String, String) {
    let has = |bit: u64| bits & (1 << bit) != 0;
    let (mut config, mut credentials) = (String::new(), String::new());
    if has(0) || has(1) {
        config += &format!("role_arn = {}\n", role(role_name));
    }
    if has(0) {
        config += &format!("source_profile = {source}\n");
    }
    if has(1) {
        config += &format!("web_identity_token_file = {}\n", machine.web_identity_file());
    }
    if has(2) {
        config += "sso_account_id = 123456789012\nsso_role_name = Developer\n";
        config += if has(3) {
            "sso_session = corp\n"
        } else {
            "sso_start_url = https://corp.awsapps.com/start\nsso_region = eu-central-1\n"
        };
    }
    if has(4) {
        credentials += &machine.keys("credentials-file");
    }
    if has(5) {
        config += &format!("credential_process = {}\n", machine.process());
    }
    if has(6) {
        config += &machine.keys("config-file");
    }
    if has(7) {
        // Not combined with the keys of the other file.
        credentials += "aws_security_token = oldtoken\n";
        config += "aws_session_token = newtoken\n";
    }
    (config, credentials)
}

const SSO_SESSION: &str =
    "[sso-session corp]\nsso_region = eu-central-1\nsso_start_url = https://corp.awsapps.com/start\n";

fn log_in_to_sso(machine: &Machine) {
    // SHA-1 of `corp`, `Acme Corp` and `https://corp.awsapps.com/start`.
    for name in [
        "ee0bfd2552fbd840c02cc48b6e823320543c450f",
        "8c29ce477dcedba1cf04177311e4a8de7793ab17",
        "a51746d4aa793ae07b25e90c3a5db96fc7832bd7",
    ] {
        machine.file(
            &format!(".aws/sso/cache/{name}.json"),
            r#"{"accessToken": "simulated-sso-access-token", "expiresAt": "2999-01-01T00:00:00Z",
                "startUrl": "https://corp.awsapps.com/start", "region": "eu-central-1"}"#,
        );
    }
}

#[test]
fn the_sources_have_the_same_order_as_in_the_aws_cli() {
    let mut reference = Reference::start();
    let mut numbers = Numbers(20_260_102);
    let mut different = Vec::new();
    let mut signers = BTreeMap::<String, usize>::new();
    for round in 0..80 {
        let mut machine = Machine::new();
        log_in_to_sso(&machine);
        // Few settings at a time, so that the later sources are used too.
        let bits = numbers.next() & numbers.next() & if round % 2 == 0 { numbers.next() } else { u64::MAX };
        let source_bits = numbers.next() & numbers.next();
        let surroundings = numbers.next() & numbers.next();
        let has = |bit: u64| surroundings & (1 << bit) != 0;
        let named = numbers.next() % 4;

        let name = if named == 3 { "default" } else { "app" };
        let (config, credentials) = profile_settings(&machine, bits, "profile", "source");
        let (source_config, source_credentials) = profile_settings(&machine, source_bits, "source", "base");
        let section = if name == "default" { "[default]".to_owned() } else { format!("[profile {name}]") };
        machine.file(
            ".aws/config",
            &format!("{section}\n{config}[profile source]\n{source_config}{SSO_SESSION}[profile other]\n"),
        );
        let base = machine.keys("base");
        machine
            .file(".aws/credentials", &format!("[{name}]\n{credentials}[source]\n{source_credentials}[base]\n{base}"));
        match named {
            0 => machine.profile = Some(name.into()),
            1 => machine.set("AWS_PROFILE", name),
            2 => {
                machine.set("AWS_DEFAULT_PROFILE", name);
                machine.set("AWS_PROFILE", "other");
            }
            _ => {}
        }
        if has(0) {
            let user = machine.user("environment");
            machine.set("AWS_ACCESS_KEY_ID", &user.access_key_id);
            machine.set("AWS_SECRET_ACCESS_KEY", &user.secret_access_key);
            machine.set("AWS_SESSION_TOKEN", "newtoken");
            if has(1) {
                machine.set("AWS_SECURITY_TOKEN", "oldtoken");
            }
        }
        if has(2) {
            machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &machine.web_identity_file());
            machine.set("AWS_ROLE_ARN", &role("environment"));
        }
        if has(3) {
            machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/v1/credentials", machine.simulator.url()));
        }
        if has(4) {
            machine.variables.remove("AWS_EC2_METADATA_DISABLED");
            machine.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &machine.simulator.url());
        }
        if let Some(difference) = machine.difference(&mut reference) {
            different.push(format!(
                "round {round}, {:?}, {:?}: {difference}\n{config}-- credentials\n{credentials}-- source\n\
                 {source_config}-- credentials\n{source_credentials}",
                machine.profile, machine.variables
            ));
        }
        let signer = machine.ours().map_or("none".into(), |used| used.signer);
        let kind = signer.rsplit('/').next().unwrap();
        *signers.entry(if kind.starts_with("AKIA") { "keys".into() } else { kind.into() }).or_default() += 1;
    }
    assert!(different.is_empty(), "{} differences:\n{}", different.len(), different.join("\n"));
    assert!(signers.len() >= 7, "the cases cover many kinds of signers: {signers:?}");
}

#[test]
fn files_are_read_as_the_aws_cli_reads_them() {
    const KEYS: &str = "aws_access_key_id = AKIDEXPECTED\naws_secret_access_key = s\n";
    const INDENTED: &str = "  aws_access_key_id = AKIDEXPECTED\n  aws_secret_access_key = s\n";
    let keys_of = |header: &str| format!("{header}\n{KEYS}");
    let mut reference = Reference::start();
    let mut different = Vec::new();
    let mut read = 0;
    for (config, credentials, profile) in [
        (keys_of("[profile work]"), String::new(), "work"),
        (keys_of("[profile \"my work\"]"), String::new(), "my work"),
        (keys_of("[profile 'my work']"), String::new(), "my work"),
        (keys_of("[profile my\\ work]"), String::new(), "my work"),
        (keys_of("[profile my work]"), String::new(), "my work"),
        (keys_of("[profile \"it's\"]"), String::new(), "it's"),
        (keys_of("[profile jane@corp.com]"), String::new(), "jane@corp.com"),
        (keys_of("[profile prod/eu+1:a%b]"), String::new(), "prod/eu+1:a%b"),
        (keys_of("[profile caf\u{e9}]"), String::new(), "caf\u{e9}"),
        (keys_of("[profile \u{4e2d}\u{6587}]"), String::new(), "\u{4e2d}\u{6587}"),
        (keys_of("[profile   spaced]"), String::new(), "spaced"),
        (keys_of("[profile\ttab]"), String::new(), "tab"),
        (keys_of("[profile a!b]"), String::new(), "a!b"),
        (keys_of("[profile #1]"), String::new(), "#1"),
        (keys_of("[profile \"team #1\"]"), String::new(), "team #1"),
        (keys_of("[profile team #1]"), String::new(), "team"),
        (keys_of("[work]"), String::new(), "work"),
        (keys_of("[profilework]"), String::new(), "work"),
        (keys_of("[Profile work]"), String::new(), "work"),
        (keys_of("[profile work"), String::new(), "work"),
        (keys_of("[profile \"work]"), String::new(), "work"),
        (keys_of("[default]"), String::new(), "default"),
        (keys_of("[profile default]"), String::new(), "default"),
        (keys_of("[DEFAULT]"), String::new(), "default"),
        (format!("[DEFAULT]\n{KEYS}[profile work]\nregion = x\n"), String::new(), "work"),
        (String::new(), format!("[DEFAULT]\n{KEYS}[work]\nregion = x\n"), "work"),
        (String::new(), keys_of("[work]"), "work"),
        (String::new(), keys_of("[my work]"), "my work"),
        (String::new(), keys_of("[caf\u{e9}]"), "caf\u{e9}"),
        (String::new(), keys_of("[profile work]"), "work"),
        (String::new(), keys_of("[\"my work\"]"), "my work"),
        (String::new(), keys_of("[sso-session x]"), "default"),
        (format!("[profile work]\n{INDENTED}"), String::new(), "work"),
        (format!("  [profile work]\n{INDENTED}"), String::new(), "work"),
        (format!("  [profile work]\n{INDENTED}  [profile b]\n    region = x\n"), String::new(), "b"),
        (format!("[default]\nregion = x\n  [profile work]\n{INDENTED}"), String::new(), "work"),
        ("[profile work]\naws_access_key_id: AKIDEXPECTED\naws_secret_access_key:s\n".into(), String::new(), "work"),
        (
            "[profile work]\naws_access_key_id:AKIDEXPECTED\naws_secret_access_key = a:b=c\n".into(),
            String::new(),
            "work",
        ),
        ("[profile work]\nAWS_Access_Key_ID = AKIDEXPECTED\naws_secret_access_key=s\n".into(), String::new(), "work"),
        (
            format!("# comment\n; comment\n[profile work]\n  # indented comment\n{KEYS}  ; another\n"),
            String::new(),
            "work",
        ),
        (format!("[profile work]\ns3 =\n  # comment\n  a = b\n\n  c = d\n{KEYS}"), String::new(), "work"),
        (format!("[profile work]\ncli_pager =\n{KEYS}"), String::new(), "work"),
        (keys_of("[profile work]").replace('\n', "\r\n"), String::new(), "work"),
        (format!("[plugins]\ncli_legacy_plugin_path = /x\n[profile work]\n{KEYS}"), String::new(), "work"),
        ("[profile work]\naws_access_key_id\n".into(), String::new(), "work"),
        (format!("region = x\n[profile work]\n{KEYS}"), String::new(), "work"),
        // The id of one file and the secret of the other are never combined.
        (
            "[profile work]\naws_secret_access_key = s\n".into(),
            "[work]\naws_access_key_id = AKIDEXPECTED\n".into(),
            "work",
        ),
    ] {
        let mut machine = Machine::new();
        machine.file(".aws/config", &config);
        machine.file(".aws/credentials", &credentials);
        machine.set("AWS_PROFILE", profile);
        if let Some(difference) = machine.difference(&mut reference) {
            different.push(format!("{config}--\n{credentials}: {difference}"));
        }
        read += usize::from(machine.ours().is_ok());
    }
    assert!(different.is_empty(), "{} differences:\n{}", different.len(), different.join("\n"));
    assert!(read > 20, "{read} were read");
}

#[test]
fn a_secret_without_a_key_id_is_passed_over_as_in_the_aws_cli() {
    const PAIR: &str = "aws_access_key_id = AKIDEXPECTED\naws_secret_access_key = s\n";
    const LONE: &str = "aws_secret_access_key = left over\n";
    let mut reference = Reference::start();
    for (environment, config, credentials) in [
        (true, format!("[profile work]\n{PAIR}"), String::new()),
        (true, String::new(), format!("[work]\n{PAIR}")),
        (false, format!("[profile work]\n{PAIR}"), format!("[work]\n{LONE}")),
        (
            true,
            format!("[profile work]\nrole_arn = {}\nsource_profile = base\n", role("app")),
            format!("[base]\n{LONE}"),
        ),
        (false, format!("[profile work]\n{LONE}"), String::new()),
    ] {
        let mut machine = Machine::new();
        machine.file(".aws/config", &config);
        machine.file(".aws/credentials", &credentials);
        machine.set("AWS_PROFILE", "work");
        if environment {
            machine.set("AWS_SECRET_ACCESS_KEY", "left over");
        }
        assert_eq!(machine.difference(&mut reference), None, "{environment} {config} {credentials}");
        let has_pair = format!("{config}{credentials}").contains("AKIDEXPECTED");
        assert_eq!(machine.ours().map(|used| used.signer).ok(), has_pair.then(|| "AKIDEXPECTED".to_owned()));
    }
}

#[test]
fn profiles_written_by_aws_configure_are_read_with_any_profile_name() {
    let mut reference = Reference::start();
    for name in ["work", "my work", "Acme Corp/dev (eu)", "it's here", "jane@corp.com", "caf\u{e9}"] {
        let mut machine = Machine::new();
        let user = machine.user("me");
        for (file, section, values) in [
            ("config", "section", json!({"region": REGION, "output": "json"})),
            (
                "credentials",
                "raw_section",
                json!({"aws_access_key_id": user.access_key_id, "aws_secret_access_key": user.secret_access_key}),
            ),
        ] {
            let mut order = json!({"file": machine.path(&format!(".aws/{file}")), "section": null, "values": values});
            order[section] = name.into();
            reference.ask(&json!({"write": order}));
        }
        machine.set("AWS_PROFILE", name);
        let text = || fs::read_to_string(machine.path(".aws/config")).unwrap();
        assert_eq!(machine.difference(&mut reference), None, "{name}: {}", text());
        assert_eq!(machine.ours().map(|used| used.signer), Ok(user.access_key_id), "{name}: {}", text());
    }
}

#[test]
fn an_sso_session_with_a_quoted_name_is_found() {
    let mut reference = Reference::start();
    for name in ["'Acme Corp'", "\"Acme Corp\"", "Acme\\ Corp"] {
        let mut machine = Machine::new();
        log_in_to_sso(&machine);
        let session = SSO_SESSION.replace("corp]", &format!("{name}]"));
        machine.file(
            ".aws/config",
            &format!(
                "[profile dev]\nsso_session = Acme Corp\nsso_account_id = 123456789012\nsso_role_name = Developer\n\
                 {session}"
            ),
        );
        machine.set("AWS_PROFILE", "dev");
        assert_eq!(machine.difference(&mut reference), None, "{name}");
        let signer = machine.ours().unwrap().signer;
        assert!(signer.contains("AWSReservedSSO_Developer"), "{name}: {signer}");
    }
}

#[test]
fn paths_and_unusual_files_are_read_as_the_aws_cli_reads_them() {
    let mut reference = Reference::start();
    let set_up = || {
        let machine = Machine::new();
        machine.file("my config", "[profile work]\naws_access_key_id = AKIDEXPECTED\naws_secret_access_key = s\n");
        machine
    };
    for (path, is_read) in [
        ("~/my config", true),
        ("$HOME/my config", true),
        ("${HOME}/my config", true),
        ("$HOME/gone", false),
        ("$UNSET/my config", false),
        ("~", false),
        ("/dev/null", false),
        ("/dev/zero", false),
        ("/dev/stdin", false),
        (" ", false),
    ] {
        let mut machine = set_up();
        machine.set("AWS_CONFIG_FILE", path);
        machine.profile = Some("work".into());
        assert_eq!(machine.difference(&mut reference), None, "{path}");
        assert_eq!(machine.ours().is_ok(), is_read, "{path}");
    }
}

/// The session of `aws login`; botocore needs `awscrt` for it.
const LOGIN_SESSION: &str = "arn:aws:iam::123456789012:user/jane.doe";

/// Logs in and returns the cache file. The credentials expire at this time.
fn log_in(machine: &Machine, expires_at: &str) -> String {
    let mut document = machine.simulator.log_in(LOGIN_SESSION, KeyFormat::Sec1);
    document["accessToken"]["expiresAt"] = expires_at.into();
    let name = run("sh", ["-c", &format!("printf {LOGIN_SESSION} | sha256sum | cut -d' ' -f1")], None::<&str>);
    machine.file(&format!(".aws/login/cache/{}.json", name.trim()), &document.to_string())
}

#[test]
fn a_login_session_has_the_place_in_the_order_that_it_has_in_the_aws_cli() {
    const LOGIN: &str = "login_session = arn:aws:iam::123456789012:user/jane.doe\n";
    let mut reference = Reference::start();
    for bits in 0..8_u8 {
        let mut machine = Machine::new();
        log_in(&machine, "2999-01-01T00:00:00Z");
        let mut config = format!("[profile dev]\n{LOGIN}");
        if bits & 1 != 0 {
            config += &format!("credential_process = {}\n", machine.process());
        }
        if bits & 2 != 0 {
            config += &machine.keys("config-file");
        }
        if bits & 4 != 0 {
            machine.file(".aws/credentials", &format!("[dev]\n{}", machine.keys("credentials-file")));
        }
        config += &format!("[profile admin]\nrole_arn = {}\nsource_profile = dev\n", role("admin"));
        machine.file(".aws/config", &config);
        for profile in ["dev", "admin"] {
            machine.profile = Some(profile.into());
            assert_eq!(machine.difference(&mut reference), None, "{profile}: {config}");
            machine.ours().unwrap_or_else(|error| panic!("{profile}: {config}: {error}"));
        }
    }
}

#[test]
fn a_login_session_is_refreshed_by_botocore_and_by_pgiam_in_turn_with_the_same_file() {
    let mut reference = Reference::start();
    let mut machine = Machine::new();
    machine.file(".aws/config", &format!("[profile dev]\nlogin_session = {LOGIN_SESSION}\n"));
    machine.profile = Some("dev".into());
    let path = log_in(&machine, "2020-01-01T00:00:00Z");
    for round in 0..6 {
        let before: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let used = if round % 2 == 0 { machine.theirs(&mut reference) } else { machine.ours() };
        assert_eq!(used.unwrap().signer, "arn:aws:iam::123456789012:user", "round {round}");
        assert_eq!(machine.simulator.requests_for(Route::SignInToken).len(), 1, "round {round}");
        let mut after: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_ne!(before["refreshToken"], after["refreshToken"]);
        let names = |document: &Value| {
            let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            (names(document), names(&document["accessToken"]))
        };
        assert_eq!(names(&before), names(&after), "round {round}");
        after["accessToken"]["expiresAt"] = "2020-01-01T00:00:00Z".into();
        fs::write(&path, after.to_string()).unwrap();
    }
}
