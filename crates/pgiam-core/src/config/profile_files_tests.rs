//! The cases the SDKs share, and our own.

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
