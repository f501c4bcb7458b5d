//! Hosts, ports, users, regions and static credentials: which are accepted, which are refused, and where the region comes
//! from.

mod support;

use std::fs;

use pgiam_core::{Client, ErrorKind, RegionSource, TokenRequest};
use support::{HOST, Hands, Machine, ROLE, access_key_id, client, environment, request, settings, simulator};

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "planted-secret")];

fn with_keys(variables: &[(&str, &str)]) -> Client {
    client(&[&KEYS, variables].concat())
}

fn region_of(client: &Client, host: &str, region: Option<&str>) -> Result<(String, RegionSource), pgiam_core::Error> {
    let token = client.generate_token(&TokenRequest { host, region, ..request() })?;
    Ok((token.region().to_owned(), token.region_source()))
}

#[test]
fn the_region_comes_from_argument_name_setting_environment_profile_and_metadata_in_this_order() {
    let simulator = simulator();
    let url = simulator.url();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config");
    fs::write(&config, "[default]\nregion = eu-north-1\n").unwrap();
    let config = config.to_str().unwrap();
    let mut variables = KEYS.to_vec();
    variables.extend([
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()),
        ("AWS_CONFIG_FILE", config),
        ("AWS_DEFAULT_REGION", "eu-west-2"),
        ("AWS_REGION", "eu-west-1"),
    ]);
    let region = |variables: &[(&str, &str)], setting: &str, host: &str, argument: Option<&str>| {
        let client =
            Client::builder().environment(environment(variables)).settings(settings(&[("region", setting)])).build();
        region_of(&client, host, argument).unwrap()
    };
    let cname = "db.example.com";
    assert_eq!(
        region(&variables, "eu-south-1", cname, Some("us-east-1")),
        ("us-east-1".into(), RegionSource::Argument)
    );
    assert_eq!(region(&variables, "eu-south-1", HOST, None), ("eu-central-1".into(), RegionSource::EndpointName));
    assert_eq!(region(&variables, "eu-south-1", cname, None), ("eu-south-1".into(), RegionSource::Client));
    assert_eq!(region(&variables, "", cname, None), ("eu-west-1".into(), RegionSource::Environment));
    variables.pop();
    assert_eq!(region(&variables, "", cname, Some("")), ("eu-west-2".into(), RegionSource::Environment));
    variables.pop();
    assert_eq!(region(&variables, "", cname, None), ("eu-north-1".into(), RegionSource::Profile));
    variables.pop();
    assert_eq!(region(&variables, "", cname, None), ("eu-central-1".into(), RegionSource::InstanceMetadata));
    let global = "name.global-abc123.global.rds.amazonaws.com";
    assert_eq!(region(&variables, "", global, None), ("eu-central-1".into(), RegionSource::InstanceMetadata));
}

#[test]
fn the_longest_possible_region_is_accepted_and_a_longer_one_is_refused() {
    for service in ["rds", "dsql"] {
        let client =
            Client::builder().environment(environment(&KEYS)).settings(settings(&[("service", service)])).build();
        for (length, fits) in [(1, true), (63, true), (64, false)] {
            let region = "r".repeat(length);
            for (host, argument) in [
                (format!("db.c9ak.{region}.rds.amazonaws.com"), None),
                (format!("abc.dsql.{region}.on.aws"), None),
                ("db.example.com".to_owned(), Some(region.as_str())),
            ] {
                let request = TokenRequest { host: &host, port: 5432, region: argument, user: "u" };
                match client.generate_token(&request) {
                    Ok(token) => assert_eq!((fits, token.region()), (true, region.as_str()), "{host}"),
                    Err(error) => assert_eq!((fits, error.kind()), (false, ErrorKind::InvalidArgument), "{error}"),
                }
            }
        }
    }
}

#[test]
fn without_any_region_the_error_lists_where_it_was_looked_for() {
    let error = region_of(&with_keys(&[("AWS_EC2_METADATA_DISABLED", "true")]), "db.example.com", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRegion);
    assert!(error.message().contains("AWS_REGION"), "{error}");
}

#[test]
fn for_a_global_endpoint_without_a_region_the_error_says_what_to_pass() {
    let client = with_keys(&[("AWS_EC2_METADATA_DISABLED", "true")]);
    for host in
        ["orders-prod.global-abcd1234.global.rds.amazonaws.com", "Orders.global-abcd1234.global.rds.amazonaws.com."]
    {
        let error = region_of(&client, host, None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoRegion);
        for part in ["Aurora global database", "pass the region of its primary cluster"] {
            assert!(error.message().contains(part), "{error}");
        }
        let token = client.generate_token(&TokenRequest { host, region: Some("eu-west-1"), ..request() }).unwrap();
        assert!(token.endpoint_recognized() && token.region() == "eu-west-1");
    }
}

#[test]
fn user_names_of_any_length_are_signed_for_again_and_again() {
    let client = with_keys(&[]);
    for length in [1, 63, 1000, 200_000] {
        for letter in ["a", "b", "ü"] {
            let user = letter.repeat(length);
            let request = TokenRequest { user: &user, ..request() };
            let first = client.generate_token(&request).unwrap();
            let again = client.generate_token(&request).unwrap();
            assert!(first.as_str().len() >= length && again.as_str().len() == first.as_str().len());
        }
    }
    let user = format!("{}\n", "a".repeat(200_000));
    let error = client.generate_token(&TokenRequest { user: &user, ..request() }).unwrap_err();
    assert!(error.message().len() < 1000, "{}", error.message().len());
}

#[test]
fn a_role_of_another_partition_than_the_region_is_an_error_with_both_names() {
    let mut machine = Machine::new();
    let keys = machine.keys("tests");
    machine.profile_app(&format!("[profile app]\nrole_arn={ROLE}\nsource_profile=base\n[profile base]\n{keys}"));
    let client = machine.client();
    let in_china = TokenRequest { host: "mypg.c9ak.rds.cn-north-1.amazonaws.com.cn", ..request() };
    // In either order: credentials that were fetched for one region are not used for the other.
    for _ in 0..2 {
        let error = client.generate_token(&in_china).unwrap_err();
        for part in ["aws-cn", "cn-north-1", "arn:aws:"] {
            assert!(error.message().contains(part), "{error}");
        }
        client.generate_token(&request()).unwrap();
    }
}

#[test]
fn explain_uses_the_given_region() {
    let client = with_keys(&[("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_REGION", "eu-west-1")]);
    let region = |argument| client.explain_in_region(argument).region;
    assert_eq!(region(None).unwrap(), ("eu-west-1".into(), RegionSource::Environment));
    assert_eq!(region(Some("")).unwrap(), ("eu-west-1".into(), RegionSource::Environment));
    assert_eq!(region(Some("us-gov-west-1")).unwrap(), ("us-gov-west-1".into(), RegionSource::Argument));
    assert_eq!(region(Some("x@y")).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn a_region_that_contradicts_the_endpoint_is_refused_with_both_named() {
    let error = region_of(&with_keys(&[]), HOST, Some("us-east-1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("us-east-1") && error.message().contains("eu-central-1"), "{error}");
}

#[test]
fn a_region_with_other_characters_is_refused() {
    for region in ["x@attacker.com:443/#", "a/b", "a b", "a\nb", "eu-central-1é", "?", "-a"] {
        let error = region_of(&with_keys(&[]), "db.example.com", Some(region)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{region:?}");
    }
    let error = region_of(&with_keys(&[("AWS_REGION", "x@attacker.com")]), "db.example.com", None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
}

#[test]
fn valid_users_and_ports_are_accepted_and_others_are_refused() {
    let client = with_keys(&[]);
    for user in ["jane@corp.com", "a b", "a&b", "ü", "*~'\""] {
        client.generate_token(&TokenRequest { user, ..request() }).unwrap();
    }
    for user in ["", "a\nb", "\0", "\u{7f}"] {
        let error = client.generate_token(&TokenRequest { user, ..request() }).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{user:?}");
    }
    for port in [1, 443, 65535] {
        client.generate_token(&TokenRequest { port, ..request() }).unwrap();
    }
    for port in [0, -1, 65536, 70968, i32::MIN, i32::MAX] {
        let error = client.generate_token(&TokenRequest { port, ..request() }).unwrap_err();
        assert!(error.message().contains(&port.to_string()), "{error}");
    }
}

#[test]
fn an_address_is_signed_for_only_when_the_service_is_set() {
    let request = TokenRequest { host: "127.0.0.1", region: Some("us-east-1"), ..request() };
    assert_eq!(with_keys(&[]).generate_token(&request).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let client = Client::builder().environment(environment(&KEYS)).settings(settings(&[("service", "rds")])).build();
    assert!(client.generate_token(&request).unwrap().as_str().starts_with("127.0.0.1:5432/?Action=connect"));
}

#[test]
fn the_host_is_signed_in_lower_case_without_its_trailing_dot() {
    let hands = Hands::at(1_700_000_000);
    let client = Client::builder().environment(environment(&KEYS)).clock(hands.clock()).build();
    let plain = client.generate_token(&request()).unwrap();
    let host = format!("{}.", HOST.to_uppercase());
    let shouted = client.generate_token(&TokenRequest { host: &host, ..request() }).unwrap();
    assert_eq!(plain.as_str(), shouted.as_str());
    assert_eq!(plain.expires_at(), 1_700_000_900);
}

#[test]
fn half_a_key_pair_is_an_error_that_names_the_missing_half() {
    let error = client(&[("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")]).generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert!(error.message().contains("AWS_SECRET_ACCESS_KEY"), "{error}");
}

#[test]
fn expired_keys_in_the_environment_are_an_error() {
    let error =
        with_keys(&[("AWS_CREDENTIAL_EXPIRATION", "2001-01-01T00:00:00Z")]).generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CredentialsExpired);
    assert!(!error.message().contains("planted"), "{error}");
}

#[test]
fn an_empty_session_token_is_none() {
    let token = with_keys(&[("AWS_SESSION_TOKEN", "")]).generate_token(&request()).unwrap();
    assert!(!token.as_str().contains("Security-Token"));
}

#[test]
fn with_the_setting_profile_keys_of_the_environment_are_ignored_but_not_with_aws_profile() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials");
    fs::write(&file, "[other]\naws_access_key_id = AKIDOTHER\naws_secret_access_key = s\n").unwrap();
    let mut variables = KEYS.to_vec();
    variables.extend([("AWS_SHARED_CREDENTIALS_FILE", file.to_str().unwrap()), ("AWS_PROFILE", "other")]);
    let by_variable = Client::builder().environment(environment(&variables)).build();
    assert_eq!(access_key_id(&by_variable.generate_token(&request()).unwrap()), "AKIDEXAMPLE");
    let by_setting =
        Client::builder().environment(environment(&variables)).settings(settings(&[("profile", "other")])).build();
    assert_eq!(access_key_id(&by_setting.generate_token(&request()).unwrap()), "AKIDOTHER");
}

#[test]
fn a_missing_profile_is_an_error_that_names_it_and_the_files() {
    let error = client(&[("AWS_PROFILE", "nobody")]).generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert!(error.message().contains("nobody") && error.message().contains("/dev/null"), "{error}");
}

#[test]
fn debug_output_shows_no_token() {
    let token = with_keys(&[]).generate_token(&request()).unwrap();
    let shown = format!("{token:?}");
    assert!(shown.contains(HOST) && !shown.contains("Signature"), "{shown}");
}
