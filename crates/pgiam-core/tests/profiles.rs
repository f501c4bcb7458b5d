//! Profiles: the roles that are assumed, with whose credentials, and the errors of profiles that cannot work.

mod support;

use aws_simulator::{Credentials, Route, SimulatorOptions};
use pgiam_core::ErrorKind;
use support::{Machine, access_key_id};

fn role(name: &str) -> String {
    format!("arn:aws:iam::123456789012:role/{name}")
}

/// The roles that were assumed, in order, each with the user or role by whose key the request was signed.
fn assumed(machine: &Machine) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    for request in machine.simulator.requests() {
        let Some(arn) = request.form_parameter("RoleArn") else { continue };
        let by = match request.header("authorization") {
            None => "nobody".to_owned(),
            Some(header) => {
                let id = header.split("Credential=").nth(1).unwrap().split('/').next().unwrap();
                let principal = machine.simulator.find_credentials(id).unwrap().principal;
                // user/NAME, or assumed-role/NAME/SESSION
                principal.split('/').nth(1).unwrap().to_owned()
            }
        };
        steps.push((arn.rsplit('/').next().unwrap().to_owned(), by));
    }
    steps
}

fn steps(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(role, by)| ((*role).to_owned(), (*by).to_owned())).collect()
}

#[test]
fn roles_are_assumed_in_the_order_of_the_chain_each_by_the_one_before() {
    for (config, expected) in [
        ("[profile app]\nrole_arn=A\nsource_profile=base\n[profile base]\nKEYS base\n", &[("A", "base")][..]),
        // The chosen profile's own keys do not count beside a source_profile.
        ("[profile app]\nKEYS wrong\nrole_arn=A\nsource_profile=base\n[profile base]\nKEYS base\n", &[("A", "base")]),
        (
            "[profile app]\nrole_arn=A\nsource_profile=b\n[profile b]\nrole_arn=B\nsource_profile=c\n\
             [profile c]\nKEYS base\n",
            &[("B", "base"), ("A", "B")],
        ),
        // The chosen profile names itself: its own keys.
        ("[profile app]\nrole_arn=A\nsource_profile=app\nKEYS base\n", &[("A", "base")]),
        // A source with keys and a role: its keys.
        (
            "[profile app]\nrole_arn=A\nsource_profile=b\n[profile b]\nKEYS base\nrole_arn=B\nsource_profile=c\n\
             [profile c]\nKEYS wrong\n",
            &[("A", "base")],
        ),
        // A source that names itself.
        (
            "[profile app]\nrole_arn=A\nsource_profile=b\n[profile b]\nrole_arn=B\nsource_profile=b\nKEYS base\n",
            &[("A", "base")],
        ),
        ("[profile app]\nrole_arn=A\nweb_identity_token_file=TOKEN\n", &[("A", "nobody")]),
        (
            "[profile app]\nrole_arn=A\nsource_profile=b\n[profile b]\nrole_arn=B\nweb_identity_token_file=TOKEN\n",
            &[("B", "nobody"), ("A", "B")],
        ),
        ("[profile app]\nrole_arn=A\nsource_profile=b\n[profile b]\ncredential_process=PROCESS\n", &[("A", "process")]),
        ("[profile app]\nrole_arn=A\nsource_profile=default\n[default]\nKEYS base\n", &[("A", "base")]),
    ] {
        let mut machine = Machine::new();
        let token = machine.file("token", "simulated-web-identity-token");
        let process = Credentials::of_user("process");
        machine.simulator.register_credentials(&process);
        let script = machine.script(
            "process",
            &format!(
                r#"echo '{{"Version": 1, "AccessKeyId": "{}", "SecretAccessKey": "{}"}}'"#,
                process.access_key_id, process.secret_access_key
            ),
        );
        let text = config
            .replace("role_arn=A", &format!("role_arn={}", role("A")))
            .replace("role_arn=B", &format!("role_arn={}", role("B")))
            .replace("KEYS base", &machine.keys("base"))
            .replace("KEYS wrong", &machine.keys("wrong"))
            .replace("TOKEN", &token)
            .replace("PROCESS", &script);
        machine.profile_app(&text);
        let token = machine.token();
        assert_eq!(assumed(&machine), steps(expected), "{config}");
        let principal = machine.simulator.find_credentials(&access_key_id(&token)).unwrap().principal;
        assert!(principal.contains(":assumed-role/A/"), "{config}: {principal}");
    }
}

#[test]
fn an_sso_session_can_be_a_source() {
    let mut machine = Machine::new();
    let sso = support::SSO_PROFILE.replace("[profile app]", "[profile login]");
    machine.profile_app(&format!("[profile app]\nrole_arn={}\nsource_profile=login\n{sso}", role("A")));
    machine.sso_cache("corp", 8 * 3600, "");
    machine.token();
    assert_eq!(assumed(&machine), steps(&[("A", "AWSReservedSSO_Developer_0123456789abcdef")]));
}

#[test]
fn external_id_session_name_and_duration_of_a_role_are_sent() {
    let mut machine = Machine::with(SimulatorOptions { external_id: Some("trusted".into()), ..Default::default() });
    let keys = machine.keys("base");
    machine.profile_app(&format!(
        "[profile app]\nrole_arn={}\nsource_profile=base\nexternal_id=trusted\nrole_session_name=night-job\n\
         duration_seconds=1800\n[profile base]\n{keys}",
        role("A")
    ));
    let token = machine.token();
    let request = &machine.simulator.requests_for(Route::StsAssumeRole)[0];
    let sent = |name: &str| request.form_parameter(name).unwrap_or_default();
    assert_eq!(
        [sent("ExternalId"), sent("RoleSessionName"), sent("DurationSeconds")],
        ["trusted", "night-job", "1800"]
    );
    let principal = machine.simulator.find_credentials(&access_key_id(&token)).unwrap().principal;
    assert!(principal.ends_with("/night-job"), "{principal}");

    // A default name, so that the session can be found in AWS' logs.
    let keys = machine.keys("base");
    machine.profile_app(&format!(
        "[profile app]\nrole_arn={}\nsource_profile=base\nexternal_id=trusted\n[profile base]\n{keys}",
        role("A")
    ));
    machine.simulator.clear_requests();
    machine.token();
    let request = &machine.simulator.requests_for(Route::StsAssumeRole)[0];
    assert!(request.form_parameter("RoleSessionName").unwrap().starts_with("pgiam-"));
}

#[test]
fn a_credential_source_provides_the_first_credentials() {
    // The environment's keys, although a profile is given.
    let mut machine = Machine::new();
    let user = Credentials::of_user("ci");
    machine.simulator.register_credentials(&user);
    machine.profile_app(&format!("[profile app]\nrole_arn={}\ncredential_source=Environment\n", role("A")));
    machine.setting("profile", "app");
    machine.set("AWS_ACCESS_KEY_ID", &user.access_key_id);
    machine.set("AWS_SECRET_ACCESS_KEY", &user.secret_access_key);
    machine.token();
    assert_eq!(assumed(&machine), steps(&[("A", "ci")]));

    let mut machine = Machine::new();
    machine.become_instance();
    machine.profile_app(&format!("[profile app]\nrole_arn={}\ncredential_source=Ec2InstanceMetadata\n", role("A")));
    machine.token();
    assert_eq!(assumed(&machine), steps(&[("A", "app-server-role")]));

    let mut machine = Machine::new();
    let url = format!("{}/v1/credentials", machine.simulator.url());
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    machine.profile_app(&format!("[profile app]\nrole_arn={}\ncredential_source=EcsContainer\n", role("A")));
    machine.token();
    assert_eq!(assumed(&machine)[0].0, "A");
    assert_eq!(machine.simulator.requests_for(Route::Container).len(), 1);
}

#[test]
fn the_clients_own_role_is_assumed_with_the_credentials_of_any_source() {
    let on = |prepare: &dyn Fn(&mut Machine)| {
        let mut machine = Machine::with(SimulatorOptions { external_id: Some("x-1".into()), ..Default::default() });
        prepare(&mut machine);
        machine.setting("role_arn", &role("own"));
        machine.setting("external_id", "x-1");
        machine.setting("role_session_name", "worker");
        let token = machine.token();
        let principal = machine.simulator.find_credentials(&access_key_id(&token)).unwrap().principal;
        assert!(principal.ends_with(":assumed-role/own/worker"), "{principal}");
        assumed(&machine)
    };
    let own = |by: &str| steps(&[("own", by)]);
    assert_eq!(on(&Machine::become_instance), own("app-server-role"));
    assert_eq!(on(&|machine| machine.config(&format!("[default]\n{}", machine.keys("base")))), own("base"));
    assert_eq!(
        on(&|machine| {
            machine.profile_app(support::SSO_PROFILE);
            machine.sso_cache("corp", 8 * 3600, "");
        }),
        own("AWSReservedSSO_Developer_0123456789abcdef")
    );
    assert_eq!(
        on(&|machine| {
            let user = Credentials::of_user("ci");
            machine.simulator.register_credentials(&user);
            machine.set("AWS_ACCESS_KEY_ID", &user.access_key_id);
            machine.set("AWS_SECRET_ACCESS_KEY", &user.secret_access_key);
        }),
        own("ci")
    );
    assert_eq!(
        on(&|machine| {
            let file = machine.file("token", "simulated-web-identity-token");
            machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
            machine.set("AWS_ROLE_ARN", &role("pod"));
        }),
        steps(&[("pod", "nobody"), ("own", "pod")])
    );
    assert_eq!(
        on(&|machine| {
            let url = format!("{}/v1/credentials", machine.simulator.url());
            machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
        })[0]
            .0,
        "own"
    );
}

#[test]
fn what_cannot_work_is_an_error_that_names_file_profile_and_key() {
    let a = format!("role_arn={}", role("A"));
    let keys = "aws_access_key_id=AKID\naws_secret_access_key=planted-secret\n";
    for (config, parts) in [
        (format!("[profile app]\n{a}\n"), &["profile \"app\"", "source_profile"][..]),
        (
            format!("[profile app]\n{a}\nsource_profile=b\ncredential_source=Environment\n[profile b]\n{keys}"),
            &["profile \"app\"", "more than one of"],
        ),
        (format!("[profile app]\n{a}\nsource_profile=gone\n"), &["profile \"app\"", "source_profile \"gone\""]),
        (format!("[profile app]\n{a}\nsource_profile=b\n[profile b]\nregion=x\n"), &["source_profile \"b\""]),
        (
            format!("[profile app]\n{a}\nsource_profile=b\n[profile b]\naws_access_key_id=AKID\n"),
            &["profile \"b\"", "aws_secret_access_key"],
        ),
        (
            format!("[profile app]\n{a}\nsource_profile=b\n[profile b]\naws_secret_access_key=planted-secret\n"),
            &["profile \"b\"", "has aws_secret_access_key and no aws_access_key_id"],
        ),
        (
            format!("[profile app]\n{a}\nsource_profile=b\n[profile b]\n{a}\nsource_profile=app\n"),
            &["circle", "app -> b -> app"],
        ),
        (
            format!("[profile app]\n{a}\n{keys}source_profile=b\n[profile b]\n{a}\nsource_profile=app\n"),
            &["circle", "app -> b -> app"],
        ),
        (format!("[profile app]\n{a}\nsource_profile=app\n"), &["profile \"app\"", "names itself"]),
        (
            format!("[profile app]\n{a}\nsource_profile=b\nmfa_serial=arn:aws:iam::1:mfa/me\n[profile b]\n{keys}"),
            &["profile \"app\"", "mfa_serial", "credential_process"],
        ),
        (
            format!("[profile app]\n{a}\ncredential_source=Ec2\n"),
            &["profile \"app\"", "credential_source \"Ec2\"", "Ec2InstanceMetadata"],
        ),
        ("[profile app]\nweb_identity_token_file=/t\n".into(), &["profile \"app\"", "role_arn"]),
        (
            format!("[profile app]\n{a}\nsource_profile=b\nduration_seconds=5\n[profile b]\n{keys}"),
            &["duration_seconds \"5\"", "900"],
        ),
        (
            format!("[profile app]\nrole_arn=nonsense\nsource_profile=b\n[profile b]\n{keys}"),
            &["role_arn \"nonsense\""],
        ),
        ("[profile app]\nsso_session=gone\nsso_account_id=1\nsso_role_name=r\n".into(), &["sso_session \"gone\""]),
        (
            "[profile app]\nsso_session=s\nsso_role_name=r\n[sso-session s]\nsso_region=eu-west-1\n".into(),
            &["profile \"app\"", "sso_account_id"],
        ),
        ("[profile app]\ncredential_process=\"unclosed\n".into(), &["profile \"app\"", "credential_process", "quote"]),
    ] {
        let mut machine = Machine::new();
        // An instance role, which must not be used instead.
        machine.become_instance();
        machine.profile_app(&config);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{config}: {error}");
        for part in parts {
            assert!(error.message().contains(part), "{config}: {error}: {part}");
        }
        assert!(!format!("{error:?}").contains("planted"), "{error:?}");
        assert!(machine.simulator.requests().is_empty(), "{config}");
    }
}

#[test]
fn an_error_names_the_file_that_has_the_profile() {
    let mut machine = Machine::new();
    machine.profile_app("[profile app]\naws_access_key_id=AKID\n");
    assert!(machine.error().message().contains(".aws/config"), "{}", machine.error());
    machine.config("");
    machine.file(".aws/credentials", "[app]\naws_access_key_id=AKID\n");
    assert!(machine.error().message().contains(".aws/credentials"), "{}", machine.error());
}

/// The order within a profile; the suite's `credential_order` compares the rest with botocore.
#[test]
fn a_login_session_comes_after_the_credentials_files_keys_and_before_a_process() {
    let machine = || {
        let mut machine = Machine::new();
        machine.profile_app(
            "[profile app]\nlogin_session=arn:aws:iam::1:user/me\ncredential_process=/bin/false\n\
             aws_access_key_id=AKIDCONFIG\naws_secret_access_key=s\n",
        );
        machine
    };
    let error = machine().error();
    assert!(error.message().contains("the login session of profile \"app\""), "{error}");
    let with_keys = machine();
    with_keys.file(".aws/credentials", "[app]\naws_access_key_id=AKIDFILE\naws_secret_access_key=s\n");
    assert_eq!(access_key_id(&with_keys.token()), "AKIDFILE");
}

#[test]
fn an_sso_session_without_account_and_role_is_for_other_tools_and_is_passed_over() {
    let mut machine = Machine::new();
    machine.profile_app(
        "[profile app]\nsso_session=corp\naws_access_key_id=AKIDCONFIG\naws_secret_access_key=s\n[sso-session corp]\n\
         sso_region=eu-central-1\nsso_start_url=https://corp.awsapps.com/start\n",
    );
    assert_eq!(access_key_id(&machine.token()), "AKIDCONFIG");
}

#[test]
fn a_chain_of_thousands_of_profiles_is_an_error_and_no_stack_overflow() {
    let mut machine = Machine::new();
    let mut config = String::new();
    for n in 0..2000 {
        config += &format!("[profile p{n}]\nrole_arn={}\nsource_profile=p{}\n", role("A"), n + 1);
    }
    machine.config(&config);
    machine.set("AWS_PROFILE", "p0");
    let client = machine.client();
    let error = std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(move || client.generate_token(&support::request()).err())
        .unwrap()
        .join()
        .unwrap()
        .unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    for part in ["more than 100 profiles", "p0 -> p1 -> p2"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert!(machine.simulator.requests().is_empty());
}

#[test]
fn a_path_with_control_characters_leaves_a_message_one_printable_line() {
    let mut machine = Machine::new();
    machine.set("AWS_CONFIG_FILE", "/nonexistent/a\nb\u{1b}[31m");
    machine.set("AWS_PROFILE", "x\ty\u{202e}");
    let error = machine.error();
    assert!(!error.message().contains(|c: char| c.is_control() || c == '\u{202e}'), "{error:?}");
    let steps = machine.client().explain().steps;
    assert!(steps.iter().all(|(_, said)| !said.contains(char::is_control)), "{steps:?}");
}

#[test]
fn a_home_relative_token_file_and_certificate_bundle_are_found() {
    let mut machine = Machine::new();
    machine.file("token", "simulated-web-identity-token");
    machine.profile_app(&format!("[profile app]\nrole_arn={}\nweb_identity_token_file=~/token\n", role("A")));
    machine.token();
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", "~/token");
    machine.set("AWS_ROLE_ARN", &role("B"));
    machine.token();
    assert_eq!(assumed(&machine), steps(&[("A", "nobody"), ("B", "nobody")]));
    machine.set("AWS_CONFIG_FILE", "$HOME/../nowhere");
    machine.set("AWS_PROFILE", "");
    machine.token();
}

#[test]
fn a_role_with_a_token_file_is_a_web_identity_whatever_else_the_profile_has() {
    let mut machine = Machine::new();
    let file = machine.file("token", "simulated-web-identity-token");
    let keys = machine.keys("base");
    machine.profile_app(&format!(
        "[profile app]\nrole_arn={}\nweb_identity_token_file={file}\nsource_profile=base\n[profile base]\n{keys}",
        role("A")
    ));
    machine.token();
    assert_eq!(assumed(&machine), steps(&[("A", "nobody")]));
}

#[test]
fn services_sections_and_endpoint_url_set_the_endpoint_of_sts() {
    for (section, decoy) in [
        ("services=local\n[services local]\nsts =\n  endpoint_url = URL\n", ""),
        ("endpoint_url = URL\n", ""),
        ("services=local\nendpoint_url = http://127.0.0.1:9\n[services local]\nsts =\n  endpoint_url = URL\n", ""),
        ("endpoint_url = URL\n", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"),
    ] {
        let mut machine = Machine::new();
        machine.unset("AWS_ENDPOINT_URL_STS");
        let file = machine.file("token", "simulated-web-identity-token");
        let url = machine.simulator.url();
        machine.profile_app(&format!(
            "[profile app]\nrole_arn={}\nweb_identity_token_file={file}\n{}",
            role("A"),
            section.replace("URL", &url)
        ));
        if decoy.is_empty() {
            machine.token();
            assert_eq!(machine.simulator.requests().len(), 1, "{section}");
        } else {
            // Ignored, so the request goes to AWS' own name, through a proxy that refuses connections.
            machine.set(decoy, "true");
            machine.set("HTTPS_PROXY", &aws_simulator::refused_port().unwrap().url());
            let error = machine.error();
            assert!(error.message().contains("https://sts.eu-central-1.amazonaws.com"), "{error}");
            assert!(machine.simulator.requests().is_empty());
        }
    }
}

#[test]
fn sts_is_asked_in_the_profiles_region_when_nothing_else_sets_one() {
    let mut machine = Machine::new();
    machine.unset("AWS_REGION");
    let keys = machine.keys("base");
    machine.profile_app(&format!(
        "[profile app]\nregion=eu-central-1\nrole_arn={}\nsource_profile=base\n[profile base]\n{keys}",
        role("A")
    ));
    machine.token();
    let request = &machine.simulator.requests_for(Route::StsAssumeRole)[0];
    assert!(request.header("authorization").unwrap().contains("/eu-central-1/sts/aws4_request"));
    // A region cannot name another host.
    machine.unset("AWS_ENDPOINT_URL_STS");
    for region in ["x@attacker.com:443/#", "attacker.com/", "eu.central"] {
        machine.set("AWS_REGION", region);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{region}: {error}");
    }
}
