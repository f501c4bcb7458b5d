//! Tokens are byte for byte equal to those of the AWS CLI for the same second.

use std::path::Path;
use std::process::Command;

use pgiam_core::{Client, Clock, Environment, Settings, TokenRequest};
use serde_json::Value;

use crate::support::{clean_command, expect_success, product, python, root};

const CASES: usize = 3000;

fn reference() -> Vec<Value> {
    let output = Command::new(python())
        .arg(root().join("tests/reference/tokens.py"))
        .arg(CASES.to_string())
        .output()
        .expect("python runs");
    let text = expect_success("tests/reference/tokens.py", &output);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn ours(case: &Value) -> Result<String, pgiam_core::Error> {
    let text = |name: &str| case[name].as_str().unwrap();
    let mut environment =
        vec![("AWS_ACCESS_KEY_ID", text("access_key_id")), ("AWS_SECRET_ACCESS_KEY", text("secret_access_key"))];
    if let Some(token) = case["session_token"].as_str() {
        environment.push(("AWS_SESSION_TOKEN", token));
    }
    environment.extend([("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")]);
    let mut settings = Settings::default();
    settings.set("service", text("service")).unwrap();
    Client::builder()
        .settings(settings)
        .environment(environment.into_iter().collect::<Environment>())
        .clock(Clock::fixed(case["time"].as_i64().unwrap()))
        .build()
        .generate_token(&TokenRequest {
            host: text("host"),
            port: i32::try_from(case["port"].as_i64().unwrap()).unwrap(),
            region: case["region_argument"].as_str(),
            user: text("user"),
        })
        .map(|token| token.as_str().to_owned())
}

#[test]
fn tokens_are_byte_for_byte_equal_to_those_of_botocore_for_the_same_second() {
    let cases = reference();
    assert_eq!(cases.len(), CASES);
    let mut regions_from_names = 0;
    for case in &cases {
        let token = ours(case).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert_eq!(token, case["token"].as_str().unwrap(), "{case}");
        regions_from_names += usize::from(case["region_argument"].is_null());
    }
    assert!(regions_from_names > CASES / 10, "the names' own regions were used");
}

/// A token without the parts that depend on the time.
fn without_time(token: &str) -> Vec<String> {
    token
        .trim_end()
        .split('&')
        .filter(|part| !part.starts_with("X-Amz-Date=") && !part.starts_with("X-Amz-Signature="))
        .map(|part| part.split("%2F").filter(|word| word.len() != 8).collect::<Vec<_>>().join("/"))
        .collect()
}

/// Compares `aws` and `pgiam` with the same flags. The test above compares signatures, at fixed times.
#[test]
fn pgiam_token_accepts_the_flags_of_the_aws_command_and_prints_the_same() {
    let host = ["--hostname", "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com", "--port", "5432"];
    let rest = ["--username", "jane@corp.com", "--region", "eu-central-1"];
    let print = |program: &Path, command: &[&str]| {
        let output = clean_command(program)
            .args(command)
            .args(host)
            .args(rest)
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
            .env("AWS_SESSION_TOKEN", "session+token/with=characters")
            // As the AWS CLI is installed. awscrt, which login sessions need, would bring a signer of its own.
            .env("BOTO_DISABLE_CRT", "true")
            .output()
            .expect("it runs");
        expect_success(&program.display().to_string(), &output)
    };
    let theirs = print(&python().with_file_name("aws"), &["rds", "generate-db-auth-token"]);
    let ours = print(&product("pgiam"), &["token"]);
    assert_eq!(without_time(&ours), without_time(&theirs));
    assert_eq!(ours.len(), theirs.len(), "both print the token and a newline");
}
