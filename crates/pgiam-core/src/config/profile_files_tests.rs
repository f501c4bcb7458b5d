//! The test cases that the SDKs share, and our own.

use serde_json::Value;

use super::*;
use crate::config::environment::Environment;

fn cases(file: &str) -> Vec<Value> {
    let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["tests"].as_array().unwrap().clone()
}

fn read_both(config: Option<&str>, credentials: Option<&str>) -> Result<ProfileFiles, Error> {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: Option<&str>| {
        let path = directory.path().join(name);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        Some(path)
    };
    ProfileFiles::read(&Locations { config: write("config", config), credentials: write("credentials", credentials) })
}

fn as_json(profiles: &BTreeMap<String, Profile>) -> Value {
    profiles
        .iter()
        .map(|(name, profile)| {
            let properties: serde_json::Map<String, Value> =
                profile.all().into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
            (name.clone(), Value::from(properties))
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn the_grammar_is_that_of_the_sdks() {
    let cases = cases("profile-parser-tests.json");
    assert_eq!(cases.len(), 65);
    for case in cases {
        let name = &case["name"];
        let outcome = read_both(case["input"]["configFile"].as_str(), case["input"]["credentialsFile"].as_str());
        if let Some(expected) = case["output"]["errorContaining"].as_str() {
            let error = outcome.expect_err(&format!("{name}: should be refused"));
            assert!(error.message().contains(expected), "{name}: {error}");
            assert!(error.message().contains("line "), "{name}: {error}");
        } else {
            let files = outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
            let config = &case["output"]["config"];
            assert_eq!(as_json(&files.profiles), config["profiles"], "{name}");
            if let Some(sessions) = config.get("sso_sessions") {
                assert_eq!(&as_json(&files.sso_sessions), sessions, "{name}");
            }
        }
    }
}

#[test]
fn the_files_are_where_the_sdks_look() {
    let mut tried = 0;
    for case in cases("file-location-tests.json") {
        if case["platform"] == "windows" {
            continue;
        }
        let environment: Environment = case["environment"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap()))
            .collect();
        let locations = Locations::from_environment(&environment);
        assert_eq!(locations.config.unwrap().to_str(), case["configLocation"].as_str(), "{}", case["name"]);
        assert_eq!(locations.credentials.unwrap().to_str(), case["credentialsLocation"].as_str(), "{}", case["name"]);
        tried += 1;
    }
    assert_eq!(tried, 4);
}

#[test]
fn an_error_names_file_and_line_and_not_the_line_itself() {
    let error = read_both(None, Some("[default]\naws_secret_access_key planted-secret\n")).unwrap_err();
    assert!(error.message().contains("credentials, line 2"), "{error}");
    assert!(!error.message().contains("planted"), "{error}");
}

#[test]
fn services_sections_keep_their_sub_properties() {
    let files = read_both(Some("[services local]\nsts =\n  endpoint_url = http://127.0.0.1:1\n"), None).unwrap();
    assert_eq!(files.services["local"].get("sts"), Some("\nendpoint_url = http://127.0.0.1:1"));
}

#[test]
fn a_file_that_is_missing_is_empty_and_one_that_is_not_text_is_an_error() {
    assert!(read_both(None, None).unwrap().profile("default").is_none());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(&path, b"[default]\nregion = \xff\n").unwrap();
    let error = ProfileFiles::read(&Locations { config: Some(path), credentials: None }).unwrap_err();
    assert!(error.message().contains("not UTF-8"), "{error}");
}

/// What the AWS CLI reads beyond the cases that the SDKs share. (`credential_order` of the test suite asks it.)
#[test]
fn files_as_the_aws_cli_and_people_write_them_are_read() {
    let config = "\
\u{feff}  [default]
  region: eu-west-1
  output = json
  # a comment
  s3 =
    # another
    max_concurrent_requests = 20

    max_queue_size = 10
  cli_pager =
[profile \"my work\"]
region=eu-west-2
[profile 'jane doe@corp']
  region = eu-west-3
  role_arn: arn:aws:iam::123456789012:role/a:b
[sso-session 'Acme Corp']
sso_region = eu-north-1
[profile caf\u{e9}]
region = eu-south-1
[services \"local endpoints\"]
sts =
  endpoint_url = http://127.0.0.1:1
";
    let credentials = "[DEFAULT]\nregion = us-west-2\n[my work]\naws_access_key_id: AKID\n[default]\n";
    let files = read_both(Some(config), Some(credentials)).unwrap();
    for (profile, property, expected) in [
        ("default", "s3", Some("\nmax_concurrent_requests = 20\nmax_queue_size = 10")),
        ("default", "output", Some("json")),
        ("default", "cli_pager", None),
        ("my work", "aws_access_key_id", Some("AKID")),
        ("jane doe@corp", "region", Some("eu-west-3")),
        ("jane doe@corp", "role_arn", Some("arn:aws:iam::123456789012:role/a:b")),
        ("caf\u{e9}", "region", Some("eu-south-1")),
        // The credentials file's own, by way of [DEFAULT].
        ("my work", "region", Some("us-west-2")),
        ("default", "region", Some("us-west-2")),
    ] {
        assert_eq!(files.profile(profile).unwrap().get(property), expected, "{profile}: {property}");
    }
    assert_eq!(files.profile("my work").unwrap().get_in(FileKind::Config, "region"), Some("eu-west-2"));
    assert_eq!(files.sso_session("Acme Corp").unwrap().get("sso_region"), Some("eu-north-1"));
    assert_eq!(files.service_setting("local endpoints", "sts", "endpoint_url"), Some("http://127.0.0.1:1"));
    assert!(files.profile("DEFAULT").is_none());
}

#[test]
fn a_profile_that_is_not_read_is_explained_by_file_and_line() {
    for (config, credentials, name, parts) in [
        ("\n[work]\nregion=x\n", "", "work", &["config, line 2: [work]", "`[profile work]` is needed here"][..]),
        ("[profilework]\n", "", "work", &["did you mean \"work"][..0]),
        ("[profile my work]\n", "", "my work", &["line 1: [profile my work]", "`[profile \"my work\"]` is needed"]),
        ("[my work]\n", "", "my work", &["`[profile \"my work\"]` is needed"]),
        ("[profile \"my work]\n", "", "my work", &["a quote is not closed"][..0]),
        ("[profile jane's]\n", "", "jane's", &["a quote is not closed", "[profile \"jane's\"]"]),
        ("", "[profile work]\n", "work", &["credentials, line 1: [profile work]", "`[work]` is needed"]),
        ("", "['my work']\n", "my work", &["`[my work]` is needed", "without quotes"]),
        (
            "[default]\nregion=x\n  [profile work]\n",
            "",
            "work",
            &["line 3: [profile work]", "indented", "first column"],
        ),
        ("", "[DEFAULT]\nregion=x\n", "default", &["line 1: [DEFAULT]", "[default] in lower case"]),
        ("[profile work-prod]\n", "", "Work-Prod", &["did you mean \"work-prod\"?"]),
        ("[profile work-prod]\n[profile x]\n", "[work-test]\n", "wrok-prod", &["did you mean \"work-prod\"?"]),
        ("[profile \"my work\"]\n", "", "my wrk", &["did you mean \"my work\"?"]),
    ] {
        let files = read_both(Some(config), Some(credentials)).unwrap();
        assert!(files.profile(name).is_none(), "{config}{credentials}");
        let explained = files.looked_at_for_profile(name);
        for part in parts {
            assert!(explained.contains(part), "{config}{credentials}: {explained}: {part}");
        }
    }
    let files = read_both(Some("[profile a]\n[profile production]\n"), None).unwrap();
    let explained = files.looked_at_for_profile("b-team");
    assert!(!explained.contains("did you mean"), "{explained}");
    assert!(explained.contains("credentials (no such file)"), "{explained}");

    let files = read_both(Some("[sso-session Acme Corp]\n"), None).unwrap();
    let explained = files.looked_at_for_sso_session("Acme Corp");
    assert!(explained.contains("`[sso-session \"Acme Corp\"]` is needed here"), "{explained}");
}

#[test]
fn what_is_not_a_regular_file_is_as_good_as_missing_and_never_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo.as_path(), Path::new("/dev/zero"), Path::new("/dev/null"), directory.path()] {
        let locations = Locations { config: Some(path.to_owned()), credentials: None };
        let files = ProfileFiles::read(&locations).unwrap();
        let explained = files.looked_at_for_profile("work");
        assert_eq!(explained.contains('('), path != Path::new("/dev/null"), "{explained}");
    }
}

#[test]
fn the_reason_why_a_file_cannot_be_read_is_named() {
    let because = |error: &io::Error| nothing_to_read(Path::new("/home/jane/.aws/config"), error).unwrap_err();
    let error = because(&io::Error::from_raw_os_error(libc::EMFILE));
    assert_eq!(error.message(), "/home/jane/.aws/config: cannot read the file: too many open files");
    let error = because(&io::Error::from_raw_os_error(libc::EACCES));
    assert!(error.message().contains("permission denied; set its permissions"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::File::create(&path).unwrap().set_len(MAX_SIZE as u64 + 1).unwrap();
    let error = ProfileFiles::read(&Locations { config: Some(path), credentials: None }).unwrap_err();
    assert!(error.message().contains("larger than 16 MiB"), "{error}");
}

/// Half a megabyte of each kind of line. With quadratic work it takes minutes.
#[test]
fn files_of_megabytes_are_read_in_linear_time() {
    let repeat = |line: &str| line.repeat((1 << 19) / line.len());
    for text in [
        format!("[default]\nname = value\n{}", repeat(" -continued\n")),
        format!("[default]\ns3 =\n{}", repeat(" a = b\n")),
        format!("[default]\n{}", repeat("name = value\n")),
        format!("[default]\nname = value\n{}", repeat(" [profile work]\n")),
        repeat("[profile work]\n"),
        repeat("[work]\n"),
        format!("[profile {}]\n", repeat("a")),
        format!("[default]\nname = {}\n", repeat("v #")),
    ] {
        let began = std::time::Instant::now();
        let files = read_both(Some(&text), None).unwrap();
        assert!(files.profile("gone").is_none() && !files.looked_at_for_profile("gone").is_empty());
        assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}: {}", began.elapsed(), &text[..40]);
    }
}
