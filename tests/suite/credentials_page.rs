//! `docs/credentials.md`: `pgiam credentials` prints what the page shows, in each environment of the page.

use std::fs;
use std::path::Path;

use aws_simulator::{Credentials, KeyFormat, Simulator, SimulatorOptions};
use tempfile::TempDir;

use crate::support::{clean_command, product, root, run, temporary_directory, texts};

/// One environment of the page.
struct Machine {
    home: TempDir,
    simulator: Simulator,
    variables: Vec<(&'static str, String)>,
    arguments: Vec<&'static str>,
}

impl Machine {
    fn new() -> Self {
        let options = SimulatorOptions { container_token: Some("pod".into()), ..Default::default() };
        let (home, simulator) = (temporary_directory(), Simulator::start(options).unwrap());
        for cache in [".aws/sso/cache", ".aws/login/cache"] {
            fs::create_dir_all(home.path().join(cache)).unwrap();
        }
        let url = simulator.url();
        let variables = vec![
            ("HOME", home.path().to_str().unwrap().to_owned()),
            ("AWS_ENDPOINT_URL_STS", url.clone()),
            ("AWS_ENDPOINT_URL_SSO", url.clone()),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url),
        ];
        Self { home, simulator, variables, arguments: Vec::new() }
    }

    fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.variables.push((name, value.into()));
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn user(&self) -> Credentials {
        let user = Credentials::of_user("me");
        self.simulator.register_credentials(&user);
        user
    }

    fn keys(&self, profile: &str) {
        let user = self.user();
        self.file(
            ".aws/credentials",
            &format!(
                "[{profile}]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
                user.access_key_id, user.secret_access_key
            ),
        );
    }

    /// The output of `pgiam`, with the parts that differ between runs replaced by the page's values.
    fn prints(&self) -> String {
        let mut command = clean_command(product("pgiam"));
        let output = command
            .arg("credentials")
            .args(&self.arguments)
            .env_remove("AWS_CONFIG_FILE")
            .env_remove("AWS_SHARED_CREDENTIALS_FILE")
            .envs(self.variables.iter().map(|(name, value)| (*name, value.as_str())))
            .output()
            .unwrap();
        let (out, err) = texts(&output);
        let mut shown = out.replace(self.home.path().to_str().unwrap(), "~").replace(&self.simulator.url(), "ENDPOINT");
        if !err.is_empty() {
            assert!(!output.status.success(), "{err}");
        }
        for secret in ["PLANTED", "simulated-"] {
            assert!(!shown.contains(secret) && !err.contains(secret), "{shown}{err}");
        }
        shown = mask(&shown, "AKIA", 20, "AKIAIOSFODNN7EXAMPLE");
        shown = mask(&shown, "ASIA", 20, "ASIAIOSFODNN7EXAMPLE");
        shown = mask_session_name(&shown);
        let lines = shown.lines().map(|line| match line.strip_prefix("expires at") {
            Some(rest) if rest.contains('T') => "expires at         2026-01-31T18:00:00Z",
            _ => line.trim_end(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Replaces every text of `length` that begins with `start`.
fn mask(text: &str, start: &str, length: usize, with: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(start) {
        out.push_str(&rest[..at]);
        out.push_str(with);
        rest = &rest[at + length..];
    }
    out + rest
}

fn mask_session_name(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("/pgiam-") {
        out.push_str(&rest[..at]);
        out.push_str("/pgiam-1769868000");
        rest = rest[at + 7..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

fn environment(name: &str) -> Machine {
    let mut machine = Machine::new();
    match name {
        "keys" => {
            machine.keys("default");
            machine.file(".aws/config", "[default]\nregion = eu-central-1\n");
        }
        "misnamed" => {
            machine.file(".aws/config", "\n[work]\noutput = json\n");
            machine.set("AWS_REGION", "eu-central-1");
            machine.arguments = vec!["--profile", "work"];
        }
        "sso" => {
            machine.file(
                ".aws/config",
                "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Developer\n\
                 region = eu-central-1\n[sso-session corp]\nsso_region = eu-central-1\n\
                 sso_start_url = https://corp.awsapps.com/start\n",
            );
            let name = run("sh", ["-c", "printf corp | sha1sum | cut -d' ' -f1"], None::<&Path>);
            machine.file(
                &format!(".aws/sso/cache/{}.json", name.trim()),
                r#"{"accessToken": "simulated-sso-access-token", "expiresAt": "2999-01-01T00:00:00Z"}"#,
            );
            machine.set("AWS_PROFILE", "dev");
        }
        "login" => {
            const SESSION: &str = "arn:aws:iam::123456789012:user/jane.doe";
            machine.file(".aws/config", &format!("[profile dev]\nlogin_session = {SESSION}\nregion = eu-central-1\n"));
            let name = run("sh", ["-c", &format!("printf {SESSION} | sha256sum | cut -d' ' -f1")], None::<&Path>);
            let document = machine.simulator.log_in(SESSION, KeyFormat::Sec1);
            machine.file(&format!(".aws/login/cache/{}.json", name.trim()), &document.to_string());
            machine.set("AWS_PROFILE", "dev");
        }
        "ec2" => {}
        "ecs" => {
            let url = format!("{}/v2/credentials/task", machine.simulator.url());
            machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
            machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "pod");
            machine.set("AWS_REGION", "eu-central-1");
        }
        "pod-identity" => {
            let token = machine.file("pod-token", "pod");
            let url = format!("{}/v1/credentials", machine.simulator.url());
            machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
            machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token);
            machine.set("AWS_REGION", "eu-central-1");
        }
        "irsa" => {
            let token = machine.file("web-identity-token", "simulated-web-identity-token");
            machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", token);
            machine.set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app");
            machine.set("AWS_REGION", "eu-central-1");
        }
        "ci-keys" => {
            let user = machine.simulator.instance_credentials();
            machine.set("AWS_ACCESS_KEY_ID", user.access_key_id);
            machine.set("AWS_SECRET_ACCESS_KEY", user.secret_access_key);
            machine.set("AWS_SESSION_TOKEN", user.session_token.unwrap());
            machine.set("AWS_REGION", "eu-central-1");
        }
        "chain" => {
            machine.keys("base");
            machine.file(
                ".aws/config",
                "[profile hub]\nrole_arn = arn:aws:iam::123456789012:role/hub\nsource_profile = base\n\
                 [profile app]\nrole_arn = arn:aws:iam::210987654321:role/app\nsource_profile = hub\n\
                 region = eu-central-1\n",
            );
            machine.arguments = vec!["--profile", "app"];
        }
        "role-on-instance" => {
            machine.set("AWS_REGION", "eu-central-1");
            machine.arguments = vec!["--role-arn", "arn:aws:iam::210987654321:role/app"];
        }
        "nothing" => {
            machine.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", aws_simulator::refused_port().unwrap().url());
            machine.variables.retain(|(name, value)| {
                *name != "AWS_EC2_METADATA_SERVICE_ENDPOINT" || *value != machine.simulator.url()
            });
        }
        other => panic!("docs/credentials.md: no such environment is tested: {other}"),
    }
    machine
}

#[test]
fn pgiam_credentials_prints_what_the_page_says_in_each_environment() {
    let page = fs::read_to_string(root().join("docs/credentials.md")).unwrap();
    let mut shown = 0;
    let mut wrong = Vec::new();
    for part in page.split("<!-- environment: ").skip(1) {
        let (name, rest) = part.split_once(" -->").unwrap();
        let block = rest.split("```").nth(1).unwrap();
        let (prompt, said) = block.split_once('\n').unwrap().1.split_once('\n').unwrap();
        assert!(prompt.starts_with("$ pgiam credentials"), "{name}: {prompt}");
        let mut expected = said.trim_end().to_owned();
        for real in [
            "https://sts.eu-central-1.amazonaws.com",
            "http://169.254.170.23",
            "http://169.254.170.2",
            "http://169.254.169.254",
        ] {
            expected = expected.replace(real, "ENDPOINT");
        }
        let prints = environment(name).prints();
        let prints = if name == "nothing" { mask_port(&prints) } else { prints };
        if prints != expected {
            wrong.push(format!("--- {name}, prints:\n{prints}\n--- the page:\n{expected}"));
        }
        shown += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(shown, 12);
}

/// Replaces the address on which no process listens.
fn mask_port(text: &str) -> String {
    let Some(at) = text.find("http://127.0.0.1:") else { return text.to_owned() };
    let after = text[at + 17..].trim_start_matches(|c: char| c.is_ascii_digit());
    mask_port(&format!("{}ENDPOINT{after}", &text[..at]))
}
