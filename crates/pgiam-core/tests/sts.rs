//! STS: in which region it is asked, what a refusal becomes, and what is retried.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_simulator::{Fault, Route, Times};
use pgiam_core::{Client, ErrorKind, TokenRequest};
use support::{Machine, ROLE, access_key_id, request};

fn web_identity(machine: &mut Machine) {
    let file = machine.file("token", "simulated-web-identity-token");
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    machine.set("AWS_ROLE_ARN", ROLE);
}

fn assumed_role(machine: &mut Machine) {
    let keys = machine.keys("tests");
    machine.profile_app(&format!("[profile app]\nrole_arn={ROLE}\nsource_profile=base\n[profile base]\n{keys}"));
}

#[test]
fn after_a_request_signed_with_a_wrong_secret_the_message_says_what_to_check() {
    let mut machine = Machine::new();
    let keys = machine.keys("tests");
    let wrong = keys.replace("aws_secret_access_key = ", "aws_secret_access_key = planted");
    machine.profile_app(&format!("[profile app]\nrole_arn={ROLE}\nsource_profile=base\n[profile base]\n{wrong}"));
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::Provider);
    assert!(error.message().contains("SignatureDoesNotMatch") && error.message().contains("clock"), "{error}");
    assert!(!error.message().contains("planted"), "{error}");
    assert_eq!(machine.simulator.requests_for(Route::StsAssumeRole).len(), 1, "a refusal is not retried");
}

#[test]
fn each_refusal_says_what_to_do() {
    for (code, advice) in [
        ("AccessDenied", "trust policy"),
        ("ExpiredToken", "expired"),
        ("InvalidClientTokenId", "check key and region"),
        ("RegionDisabledException", "activate STS"),
    ] {
        let mut machine = Machine::new();
        assumed_role(&mut machine);
        let fault = Fault::StsError(403, code.into());
        machine.simulator.inject(Route::StsAssumeRole, fault, Times::Forever);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::Provider);
        for part in [code, advice, ROLE, "profile"] {
            assert!(error.message().contains(part), "{error}");
        }
    }
}

#[test]
fn throttling_and_an_outage_of_the_identity_provider_are_retried() {
    for code in ["Throttling", "ThrottlingException", "IDPCommunicationError"] {
        let mut machine = Machine::new();
        web_identity(&mut machine);
        let fault = Fault::StsError(400, code.into());
        machine.simulator.inject(Route::StsWebIdentity, fault, 2);
        machine.token();
        assert_eq!(machine.simulator.requests_for(Route::StsWebIdentity).len(), 3, "{code}");
    }
}

#[test]
fn the_web_identity_token_is_read_at_every_fetch() {
    let mut machine = Machine::new();
    web_identity(&mut machine);
    machine.file("token", "of-yesterday");
    let client = machine.client();
    let error = client.generate_token(&support::request()).unwrap_err();
    assert!(error.message().contains("InvalidIdentityToken"), "{error}");
    assert!(!error.message().contains("of-yesterday"), "{error}");
    // Renewed in place, as Kubernetes does.
    machine.file("token", "simulated-web-identity-token\n");
    client.generate_token(&support::request()).unwrap();
}

#[test]
fn a_web_identity_that_is_half_configured_or_cannot_be_read_stops_the_search() {
    let mut machine = Machine::new();
    machine.become_instance();
    web_identity(&mut machine);
    machine.unset("AWS_ROLE_ARN");
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert!(error.message().contains("AWS_ROLE_ARN"), "{error}");

    web_identity(&mut machine);
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token");
    let error = machine.error();
    assert!(error.message().contains("/nonexistent/token"), "{error}");
    machine.file("token", " \n");
    web_identity_empty(&mut machine);
    assert!(machine.error().message().contains("is empty"));
    assert!(machine.simulator.requests().is_empty(), "the role of the node is never asked for");
}

fn web_identity_empty(machine: &mut Machine) {
    let file = machine.path("token").to_str().unwrap().to_owned();
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
}

#[test]
fn the_session_name_of_the_environment_is_used() {
    let mut machine = Machine::new();
    web_identity(&mut machine);
    machine.set("AWS_ROLE_SESSION_NAME", "deploy-42");
    let token = machine.token();
    let principal = machine.simulator.find_credentials(&access_key_id(&token)).unwrap().principal;
    assert!(principal.ends_with(":assumed-role/app/deploy-42"), "{principal}");
}

/// The region in the signature of the last request to STS.
fn region_of_signature(machine: &Machine) -> String {
    let requests = machine.simulator.requests_for(Route::StsAssumeRole);
    let authorization = requests.last().unwrap().header("authorization").unwrap().to_owned();
    authorization.split('/').nth(2).unwrap().to_owned()
}

#[test]
fn sts_is_asked_in_the_region_of_the_token_unless_another_is_configured() {
    let alias = TokenRequest { host: "db.example.com", region: Some("ap-southeast-2"), ..request() };
    let mut machine = Machine::new();
    assumed_role(&mut machine);
    machine.unset("AWS_REGION");
    let asked_for = |machine: &Machine, request: &TokenRequest<'_>| {
        // Where another region is asked than the simulator's, it refuses.
        machine.client().generate_token(request).ok();
        region_of_signature(machine)
    };
    assert_eq!(asked_for(&machine, &request()), "eu-central-1", "from the endpoint's name");
    assert_eq!(asked_for(&machine, &alias), "ap-southeast-2", "from the argument");
    let file = std::fs::read_to_string(machine.path(".aws/config")).unwrap();
    machine.config(&file.replace("[profile base]", "region = eu-west-3\n[profile base]"));
    assert_eq!(asked_for(&machine, &alias), "eu-west-3", "from the profile");
    machine.set("AWS_DEFAULT_REGION", "us-west-2");
    assert_eq!(asked_for(&machine, &alias), "us-west-2", "from AWS_DEFAULT_REGION");
    machine.set("AWS_REGION", "sa-east-1");
    assert_eq!(asked_for(&machine, &alias), "sa-east-1", "from AWS_REGION");
}

#[test]
fn sts_of_every_partition_is_asked_for_a_token_of_a_region_in_it() {
    let closed = aws_simulator::refused_port().unwrap();
    for (region, partition, url) in [
        ("cn-northwest-1", "aws-cn", "https://sts.cn-northwest-1.amazonaws.com.cn"),
        ("us-gov-east-1", "aws-us-gov", "https://sts.us-gov-east-1.amazonaws.com"),
        ("eusc-de-east-1", "aws-eusc", "https://sts.eusc-de-east-1.amazonaws.eu"),
        ("eu-west-1", "aws", "https://sts.eu-west-1.amazonaws.com"),
    ] {
        let mut machine = Machine::new();
        web_identity(&mut machine);
        machine.unset("AWS_REGION");
        machine.unset("AWS_ENDPOINT_URL_STS");
        machine.set("AWS_ROLE_ARN", &format!("arn:{partition}:iam::123456789012:role/app"));
        machine.set("HTTPS_PROXY", &closed.url());
        let request = TokenRequest { host: "db.example.com", region: Some(region), ..request() };
        let error = machine.client().generate_token(&request).unwrap_err();
        assert!(error.message().contains(&format!("STS at {url}:")), "{error}");
    }
}

#[test]
fn a_role_of_another_partition_than_the_region_is_an_error_before_anything_is_asked() {
    let gov = "arn:aws-us-gov:iam::123456789012:role/app";
    let mut machines = Vec::new();
    let mut machine = Machine::new();
    web_identity(&mut machine);
    machine.set("AWS_ROLE_ARN", gov);
    machines.push(machine);

    // The source of the credentials is a service, too.
    let mut machine = Machine::new();
    machine.become_instance();
    machine.profile_app(&format!("[profile app]\nrole_arn = {gov}\ncredential_source = Ec2InstanceMetadata\n"));
    machines.push(machine);

    let mut machine = Machine::new();
    machine.become_instance();
    machine.setting("role_arn", gov);
    machines.push(machine);

    for mut machine in machines {
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
        for part in ["aws-us-gov", "eu-central-1 (AWS_REGION), which is in aws;", gov] {
            assert!(error.message().contains(part), "{error}");
        }
        // The region of the token is the one that contradicts.
        machine.unset("AWS_REGION");
        assert!(machine.error().message().contains("eu-central-1 (the region of the token)"));
        assert!(machine.simulator.requests().is_empty());
    }
}

#[test]
fn a_role_that_sts_could_not_accept_is_an_error_before_anything_is_asked() {
    let role = "role_arn = arn:aws:iam::123456789012:role/app\n";
    for (settings, part) in [
        ("role_arn = arn:aws:iam::123456789012:user/app\n", "user/app"),
        ("role_arn = arn:aws:iam::1234:role/app\n", "iam::1234:"),
        ("role_arn = 123456789012:role/app\n", "arn:aws:iam::123456789012:role/NAME"),
        (&format!("{role}role_session_name = jane doe\n"), "\"jane doe\""),
        (&format!("{role}role_session_name = x\n"), "\"x\""),
        (&format!("{role}role_session_name = {}\n", "n".repeat(65)), "2 to 64"),
        (&format!("{role}duration_seconds = 1h\n"), "\"1h\""),
        (&format!("{role}duration_seconds = 43201\n"), "900 to 43200"),
    ] {
        let mut machine = Machine::new();
        machine.become_instance();
        machine.profile_app(&format!("[profile app]\n{settings}credential_source = Ec2InstanceMetadata\n"));
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
        assert!(error.message().contains(part), "{error}");
        assert!(machine.simulator.requests().is_empty());
    }
}

fn error_document(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    \
         <Code>{code}</Code>\n    <Message>{message}</Message>\n  </Error>\n  \
         <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>\n</ErrorResponse>"
    )
}

#[test]
fn a_refusal_of_a_web_identity_repeats_the_services_words_and_speaks_of_the_oidc_provider() {
    for (code, message, advice) in [
        ("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", "conditions on aud and sub"),
        (
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://oidc.example.com",
            "OIDC provider",
        ),
        ("InvalidIdentityToken", "Incorrect token audience", "with the token's aud as an audience"),
        (
            "ExpiredTokenException",
            "Token expired: current date/time 1767323045 must be before 1767319445",
            "has not renewed it",
        ),
        ("PackedPolicyTooLarge", "The policy is too large", "too large"),
    ] {
        let mut machine = Machine::new();
        web_identity(&mut machine);
        let fault = Fault::StatusWithBody(403, error_document(code, message));
        machine.simulator.inject(Route::StsWebIdentity, fault, Times::Forever);
        let error = machine.error();
        for part in ["HTTP 403", code, message, advice, ROLE] {
            assert!(error.message().contains(part), "{error}");
        }
        assert!(!error.message().contains("external id"), "{error}");
    }
}

#[test]
fn a_refusal_that_echoes_what_was_sent_repeats_no_secret() {
    let mut machine = Machine::new();
    let keys = machine.keys("tests");
    let secrets = ["IQoJb3JpZ2luX2VjEPlantedPlantedPlanted", keys.rsplit("= ").next().unwrap().trim()];
    machine.profile_app(&format!(
        "[profile app]\nrole_arn={ROLE}\nsource_profile=base\n[profile base]\n{keys}aws_session_token = {}\n",
        secrets[0]
    ));
    let message = format!(
        "The Canonical String for this request should have been\n'POST\n/\n\nhost:sts\nx-amz-security-token:{}\n' {}",
        secrets[0], secrets[1]
    );
    let fault = Fault::StatusWithBody(403, error_document("SignatureDoesNotMatch", &message));
    machine.simulator.inject(Route::StsAssumeRole, fault, Times::Forever);
    let error = machine.error();
    assert!(error.message().contains("The Canonical String for this request should have been"), "{error}");
    assert!(secrets.iter().all(|secret| !error.message().contains(secret)), "{error}");
    assert!(!error.message().contains('\n'), "{error}");
}

#[test]
fn hostile_responses_are_refused_within_the_deadline() {
    const SIZE: usize = 250 * 1024;
    let fill = |text: &str| text.repeat(SIZE / text.len());
    for body in [
        fill("<a xmlns:b=\"urn:c\" xmlns=\"urn:d\">"),
        fill("<AccessKeyId>"),
        format!("<!DOCTYPE a [<!ENTITY b \"{}\">]><Error>&b;</Error>", fill("&b;")),
        format!("<Error {}/>", (0..12_000).map(|n| format!("xmlns:n{n}=\"u\" ")).collect::<String>()),
        format!("<Error><Message>{}</Message></Error>", fill("&#x41;")),
    ] {
        for status in [200, 400] {
            let mut machine = Machine::new();
            web_identity(&mut machine);
            let fault = Fault::StatusWithBody(status, body.clone());
            machine.simulator.inject(Route::StsWebIdentity, fault, Times::Forever);
            let began = Instant::now();
            let error = machine.error();
            assert_eq!(error.kind(), ErrorKind::Provider, "{error}");
            assert!(error.message().len() < 1000, "{error}");
            assert!(began.elapsed() < Duration::from_secs(5), "{:?}: {error}", began.elapsed());
        }
    }
}

#[test]
fn a_token_file_that_is_no_regular_file_or_too_large_is_an_error_and_not_a_wait() {
    let mut machine = Machine::new();
    web_identity(&mut machine);
    let large = machine.file("large", &"x".repeat(100_000));
    for (file, part) in [("/dev/zero", "device"), (large.as_str(), "64 KiB"), ("/", "directory")] {
        machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", file);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert!(error.message().contains(file) && error.message().contains(part), "{error}");
    }
}

const DEVICE: &str = "arn:aws:iam::123456789012:mfa/jane.doe";

/// A profile whose role requires an MFA device, and a prompt that counts its calls.
fn with_mfa(answer: &'static str) -> (Machine, Client, Arc<AtomicUsize>) {
    let mut machine = Machine::new();
    machine.simulator.set_mfa(DEVICE, "071829");
    let keys = machine.keys("jane.doe");
    machine.profile_app(&format!(
        "[profile app]\nrole_arn = {ROLE}\nsource_profile = base\nmfa_serial = {DEVICE}\n[profile base]\n{keys}"
    ));
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let client = machine.client_that_asks(move |device| {
        assert_eq!(device, DEVICE);
        count.fetch_add(1, Ordering::Relaxed);
        if answer.is_empty() { Err(std::io::Error::other("nobody is there")) } else { Ok(answer.to_owned()) }
    });
    (machine, client, asked)
}

#[test]
fn the_code_that_a_prompt_returns_is_sent_with_the_device() {
    let (machine, client, asked) = with_mfa(" 071829\n");
    client.generate_token(&request()).unwrap();
    client.generate_token(&request()).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let assumed = &machine.simulator.requests_for(Route::StsAssumeRole)[0];
    let sent = ["SerialNumber", "TokenCode"].map(|name| assumed.form_parameter(name).unwrap());
    assert_eq!(sent, [DEVICE, "071829"]);
}

#[test]
fn a_client_that_explained_its_credentials_does_not_ask_for_another_code() {
    let (_machine, client, asked) = with_mfa("071829");
    let found = client.explain().outcome.unwrap();
    let token = client.generate_token(&request()).unwrap();
    assert_eq!((found.access_key_id, asked.load(Ordering::Relaxed)), (access_key_id(&token), 1));
}

#[test]
fn the_errors_of_a_code_name_the_profile_or_are_in_the_words_of_sts() {
    for (answer, words) in [
        ("", "profile \"app\": mfa_serial: nobody is there"),
        ("jane's password", "profile \"app\": mfa_serial: the MFA code that was entered is not six digits"),
        ("999999", "MultiFactorAuthentication failed with invalid MFA one time pass code"),
    ] {
        let (_machine, client, _) = with_mfa(answer);
        let error = client.generate_token(&request()).unwrap_err();
        assert!(error.message().contains(words), "{error}");
        assert!(!error.message().contains("jane's password"), "{error}");
    }
}
