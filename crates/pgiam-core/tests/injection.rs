//! Settings that would change the host, the path or the headers of a request: each is refused with its name, and nothing
//! is sent, or exactly one request is sent to the right host, with the text in its place.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::sync::{Arc, Mutex};

use aws_simulator::{Route, SimulatorOptions};
use pgiam_core::{ErrorKind, TokenRequest};
use support::tls::serve;
use support::{HOST, Machine, REFRESHABLE, ROLE, SSO_PROFILE, request};

/// Texts that end a line, a host, a path or a C string, or begin one.
const HOSTILE: [&str; 12] = [
    "x\r\nHost: attacker.example",
    "x\nX-Injected: y",
    "x\ry",
    "x\0y",
    "x@attacker.example",
    "attacker.example/",
    "attacker.example#",
    "attacker.example?",
    "attacker.example:443",
    "x y",
    "attacker.example\\",
    "x%0d%0ay",
];

/// Captures the first line and the headers of each request and refuses it. As a proxy it sees every host.
struct Capture {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Capture {
    fn start() -> Self {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heads);
        let port = serve(move |mut connection| {
            let mut reader = BufReader::new(connection.try_clone()?);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
            log.lock().unwrap().push(head);
            connection.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        });
        Self { port, heads }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().unwrap())
    }
}

/// A machine that reaches the services at their own names, through a proxy that captures.
fn behind_proxy(capture: &Capture) -> Machine {
    let mut machine = Machine::new();
    for service in ["STS", "SSO", "SSO_OIDC", "SIGNIN"] {
        machine.unset(&format!("AWS_ENDPOINT_URL_{service}"));
    }
    machine.set("HTTPS_PROXY", &capture.url());
    machine.set("HTTP_PROXY", &capture.url());
    machine
}

fn web_identity(machine: &mut Machine) {
    let file = machine.file("token", "simulated-web-identity-token");
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    machine.set("AWS_ROLE_ARN", ROLE);
}

/// Whether a profile file can have this text as a value.
fn fits_on_a_line(text: &str) -> bool {
    !text.contains(['\n', '\r', '\0'])
}

/// The error names the setting, on one line, and nothing was sent.
fn refused(machine: &Machine, capture: &Capture, named: &[&str], hostile: &str) {
    let error = machine.error();
    let what = format!("{hostile:?}: {error:?}");
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{what}");
    assert!(named.iter().any(|name| error.message().contains(name)), "{what}");
    assert!(!error.message().contains(char::is_control), "{what}");
    assert_eq!(capture.take(), Vec::<String>::new(), "{what}");
    assert!(machine.simulator.requests().is_empty(), "{what}");
}

#[test]
fn a_region_names_no_other_host() {
    let capture = Capture::start();
    for hostile in HOSTILE.into_iter().chain(["attacker.example", "-", "eu-central-1.attacker.example"]) {
        // Each setting of STS's region.
        let mut machine = behind_proxy(&capture);
        web_identity(&mut machine);
        machine.set("AWS_REGION", hostile);
        refused(&machine, &capture, &["region"], hostile);
        machine.unset("AWS_REGION");
        machine.set("AWS_DEFAULT_REGION", hostile);
        refused(&machine, &capture, &["region"], hostile);
        if fits_on_a_line(hostile) {
            machine.unset("AWS_DEFAULT_REGION");
            machine.config(&format!("[default]\nregion = {hostile}\n"));
            refused(&machine, &capture, &["region"], hostile);
            for ends_in in [8 * 3600, -60] {
                let mut machine = behind_proxy(&capture);
                let profile = SSO_PROFILE.replace("sso_region = eu-central-1", &format!("sso_region = {hostile}"));
                machine.profile_app(&profile);
                machine.sso_cache("corp", ends_in, REFRESHABLE);
                refused(&machine, &capture, &["region"], hostile);
            }
        }
    }
}

#[test]
fn a_region_that_is_one_is_part_of_the_services_own_name() {
    let capture = Capture::start();
    let mut machine = behind_proxy(&capture);
    web_identity(&mut machine);
    machine.set("AWS_REGION", "eu-west-3");
    machine.error();
    let name = "sts.eu-west-3.amazonaws.com:443";
    let heads = capture.take();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].starts_with(&format!("CONNECT {name} HTTP/1.1\r\n")), "{heads:?}");
    assert!(heads[0].to_ascii_lowercase().contains(&format!("\r\nhost: {name}\r\n")), "{heads:?}");
}

#[test]
fn a_role_arn_and_a_session_name_are_refused_or_stay_in_their_parameter() {
    let capture = Capture::start();
    for hostile in HOSTILE {
        let mut machine = behind_proxy(&capture);
        web_identity(&mut machine);
        let arn = format!("{ROLE}{hostile}");
        machine.set("AWS_ROLE_ARN", &arn);
        if hostile.contains(|c: char| c.is_control() || c.is_whitespace()) {
            refused(&machine, &capture, &["role_arn", "AWS_ROLE_ARN"], hostile);
        }
        let mut machine = behind_proxy(&capture);
        web_identity(&mut machine);
        let name = format!("{hostile}/");
        machine.set("AWS_ROLE_SESSION_NAME", &name);
        refused(&machine, &capture, &["session name"], hostile);
    }
}

/// The one request that arrived, with its Host.
fn only_request(machine: &Machine, what: &str) -> aws_simulator::LoggedRequest {
    let requests = machine.simulator.requests();
    assert_eq!(requests.len(), 1, "{what:?}: {requests:#?}");
    let host = format!("127.0.0.1:{}", machine.simulator.port());
    let hosts: Vec<_> = requests[0].headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host")).collect();
    assert!(hosts.len() == 1 && hosts[0].1 == host, "{what:?}: {hosts:?}");
    assert_eq!(requests[0].header("X-Injected"), None, "{what:?}");
    requests[0].clone()
}

#[test]
fn texts_in_a_request_to_sts_are_parameters_and_nothing_else() {
    for hostile in HOSTILE.into_iter().filter(|text| fits_on_a_line(text)) {
        let mut machine = Machine::new();
        let keys = machine.keys("tests");
        machine.profile_app(&format!(
            "[profile app]\nrole_arn = {ROLE}\nexternal_id = {hostile}&RoleArn=x\nsource_profile = base\n[profile base]\n{keys}"
        ));
        machine.client().generate_token(&request()).ok();
        let sent = only_request(&machine, hostile);
        assert_eq!((sent.route, sent.path.as_str()), (Route::StsAssumeRole, "/"));
        // Spaces around a value of a profile, and what follows " #", are not part of it.
        assert_eq!(sent.form_parameter("ExternalId").unwrap(), format!("{hostile}&RoleArn=x"));
        assert_eq!(sent.form_parameter("RoleArn").unwrap(), ROLE);
    }
    for hostile in HOSTILE {
        let mut machine = Machine::new();
        web_identity(&mut machine);
        let token = format!("{hostile}&RoleArn=x");
        machine.file("token", &token);
        machine.client().generate_token(&request()).ok();
        let sent = only_request(&machine, hostile);
        assert_eq!(sent.form_parameter("WebIdentityToken").unwrap(), token);
        assert_eq!(sent.form_parameter("RoleArn").unwrap(), ROLE);
        // An ARN that is one may contain them, after the role's path.
        if !hostile.contains(|c: char| c.is_control() || c.is_whitespace()) {
            machine.simulator.clear_requests();
            let arn = format!("{ROLE}{hostile}x");
            machine.set("AWS_ROLE_ARN", &arn);
            machine.client().generate_token(&request()).ok();
            assert_eq!(only_request(&machine, hostile).form_parameter("RoleArn").unwrap(), arn);
        }
    }
}

#[test]
fn an_account_and_a_role_of_sso_are_parameters_and_nothing_else() {
    for hostile in HOSTILE.into_iter().filter(|text| fits_on_a_line(text)) {
        let mut machine = Machine::new();
        machine.profile_app(&SSO_PROFILE.replace("Developer", &format!("{hostile}&role_name=x")));
        machine.sso_cache("corp", 8 * 3600, "");
        machine.client().generate_token(&request()).ok();
        let sent = only_request(&machine, hostile);
        assert_eq!(sent.path, "/federation/credentials");
        assert_eq!(sent.target.matches("role_name=").count(), 1, "{}", sent.target);
        assert!(sent.target.contains("%26role_name%3Dx"), "{}", sent.target);
    }
}

#[test]
fn a_token_of_sso_that_could_add_a_header_is_not_sent() {
    for hostile in ["x\\r\\nX-Injected: y", "x\\ny", "x y", "x\\u0000y", "\\u00e9"] {
        let mut machine = Machine::new();
        machine.profile_app(SSO_PROFILE);
        let path = machine.sso_cache("corp", 8 * 3600, "");
        let text = std::fs::read_to_string(&path).unwrap().replace("simulated-sso-access-token", hostile);
        std::fs::write(&path, text).unwrap();
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::CredentialsExpired, "{error}");
        assert!(machine.simulator.requests().is_empty());
    }
}

#[test]
fn an_endpoint_url_is_refused_or_names_the_one_host_that_is_asked() {
    for hostile in HOSTILE {
        let capture = Capture::start();
        let mut machine = behind_proxy(&capture);
        web_identity(&mut machine);
        // At the end of the host. What makes it a path or a port of that host is allowed.
        let url = format!("http://sts.example.com{hostile}");
        machine.set("AWS_ENDPOINT_URL_STS", &url);
        let error = machine.error();
        let heads = capture.take();
        match heads.as_slice() {
            [] => {
                assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{hostile:?}: {error:?}");
                assert!(error.message().contains("AWS_ENDPOINT_URL_STS"), "{hostile:?}: {error}");
            }
            [head] => {
                // A host of the setting's own, such as sts.example.comattacker.example.
                let expected = format!("CONNECT sts.example.com{}", hostile.split(['/', '#', ':']).next().unwrap());
                assert!(head.starts_with(&expected), "{hostile:?}: {head}");
                assert!(!head.contains("X-Injected"), "{hostile:?}: {head}");
                assert_eq!(head.to_ascii_lowercase().matches("\r\nhost:").count(), 1, "{head}");
            }
            _ => panic!("{hostile:?}: {heads:?}"),
        }
        assert!(machine.simulator.requests().is_empty());
    }
}

#[test]
fn the_address_of_a_container_endpoint_is_refused_or_the_one_that_is_asked() {
    for (setting, start) in [
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:PORT"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:PORT/v1/credentials"),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", ""),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:PORT"),
    ] {
        for hostile in HOSTILE {
            let capture = Capture::start();
            let mut machine = Machine::with(SimulatorOptions::default());
            machine.unset("AWS_EC2_METADATA_DISABLED");
            machine.setting("timeout_ms", "2000");
            machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "planted-pod-token");
            machine.set("AWS_EC2_METADATA_SERVICE_ENDPOINT", &capture.url());
            let value = format!("{}{hostile}", start.replace("PORT", &capture.port.to_string()));
            machine.set(setting, &value);
            let error = machine.error();
            let heads = capture.take();
            let what = format!("{setting}={value:?}: {error:?}, {heads:#?}");
            match heads.as_slice() {
                [] => {
                    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{what}");
                    assert!(error.message().contains(setting), "{what}");
                }
                heads => {
                    for head in heads {
                        let host = format!("\r\nhost: 127.0.0.1:{}\r\n", capture.port);
                        let head = head.to_ascii_lowercase();
                        assert!(head.contains(&host), "{what}");
                        assert_eq!(head.matches("\r\nhost:").count(), 1, "{what}");
                        assert!(!head.contains("\r\nx-injected"), "{what}");
                    }
                    assert_eq!(heads.len(), 1, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_token_of_a_container_that_could_add_a_header_is_refused() {
    for hostile in HOSTILE.into_iter().filter(|text| text.contains(char::is_control)) {
        let capture = Capture::start();
        let mut machine = Machine::new();
        machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{}/v1/credentials", capture.url()));
        machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", hostile);
        refused(&machine, &capture, &["AWS_CONTAINER_AUTHORIZATION_TOKEN"], hostile);
    }
}

#[test]
fn a_host_a_region_and_a_user_of_a_token_are_refused_or_stay_in_their_place() {
    let mut machine = Machine::new();
    machine.set("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE");
    machine.set("AWS_SECRET_ACCESS_KEY", "planted-secret-key");
    let client = machine.client();
    for hostile in HOSTILE {
        for host in [hostile.to_owned(), format!("{HOST}{hostile}"), format!("{hostile}.{HOST}")] {
            let error = client.generate_token(&TokenRequest { host: &host, ..request() }).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{host:?}: {error:?}");
            assert!(error.message().contains("host") && !error.message().contains(char::is_control), "{error}");
        }
        let error = client.generate_token(&TokenRequest { region: Some(hostile), ..request() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{hostile:?}: {error:?}");
        assert!(error.message().contains("region") && !error.message().contains(char::is_control), "{error}");
        match client.generate_token(&TokenRequest { user: hostile, ..request() }) {
            Ok(token) => {
                let text = token.as_str();
                assert!(text.starts_with(&format!("{HOST}:5432/?")), "{text}");
                assert!(!text.contains(hostile), "it is percent-encoded: {text}");
                assert_eq!(text.matches("DBUser=").count(), 1, "{text}");
            }
            Err(error) => {
                assert!(hostile.contains(char::is_control), "{error:?}");
                assert!(error.message().contains("user") && !error.message().contains(char::is_control), "{error}");
            }
        }
    }
}
