//! The order of the sources, and that a source which is configured and fails ends the search.

mod support;

use aws_simulator::{Fault, Route, Times};
use pgiam_core::ErrorKind;
use support::{Machine, ROLE, access_key_id};

/// A machine on which every source is configured.
fn all() -> Machine {
    let mut machine = Machine::new();
    machine.set("AWS_ACCESS_KEY_ID", "AKIDENVIRONMENT");
    machine.set("AWS_SECRET_ACCESS_KEY", "s");
    machine.file(".aws/credentials", "[default]\naws_access_key_id=AKIDPROFILE\naws_secret_access_key=s\n");
    let token = machine.file("token", "simulated-web-identity-token");
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &token);
    machine.set("AWS_ROLE_ARN", ROLE);
    let url = format!("{}/v1/credentials", machine.simulator.url());
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url);
    machine.become_instance();
    machine
}

fn without_environment_keys(machine: &mut Machine) {
    machine.unset("AWS_ACCESS_KEY_ID");
    machine.unset("AWS_SECRET_ACCESS_KEY");
}

fn without_web_identity(machine: &mut Machine) {
    machine.unset("AWS_WEB_IDENTITY_TOKEN_FILE");
}

fn without_profile(machine: &Machine) {
    std::fs::remove_file(machine.path(".aws/credentials")).unwrap();
}

fn asked(machine: &Machine) -> Vec<Route> {
    machine.simulator.requests().iter().map(|request| request.route).collect()
}

#[test]
fn the_order_is_environment_web_identity_profile_container_instance() {
    let mut machine = all();
    assert_eq!(access_key_id(&machine.token()), "AKIDENVIRONMENT");
    without_environment_keys(&mut machine);
    assert!(machine.simulator.requests().is_empty());
    machine.token();
    assert_eq!(asked(&machine), [Route::StsWebIdentity]);

    without_web_identity(&mut machine);
    machine.simulator.clear_requests();
    assert_eq!(access_key_id(&machine.token()), "AKIDPROFILE");
    assert!(machine.simulator.requests().is_empty());

    without_profile(&machine);
    machine.token();
    assert_eq!(asked(&machine), [Route::Container]);
    machine.unset("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    machine.simulator.clear_requests();
    machine.token();
    assert_eq!(asked(&machine), [Route::ImdsToken, Route::ImdsRoleList, Route::ImdsCredentials]);
}

#[test]
fn a_role_of_the_profile_has_precedence_over_the_web_identity_of_the_environment_and_keys_do_not() {
    let mut machine = all();
    without_environment_keys(&mut machine);
    let keys = machine.keys("base");
    machine.config(&format!("[profile app]\nrole_arn={ROLE}\nsource_profile=base\n[profile base]\n{keys}"));
    machine.set("AWS_PROFILE", "app");
    machine.token();
    assert_eq!(asked(&machine), [Route::StsAssumeRole]);

    machine.simulator.clear_requests();
    machine.set("AWS_PROFILE", "base");
    machine.token();
    assert_eq!(asked(&machine), [Route::StsWebIdentity]);
    let steps = machine.client().explain().steps;
    assert!(steps[1].1.contains("AWS_WEB_IDENTITY_TOKEN_FILE wins"), "{steps:?}");
}

#[test]
fn a_profile_given_to_the_client_skips_the_web_identity_of_the_environment_too() {
    let mut machine = all();
    machine.setting("profile", "default");
    assert_eq!(access_key_id(&machine.token()), "AKIDPROFILE");
    machine.setting("profile", "empty");
    machine.config("[profile empty]\nregion = eu-central-1\n");
    machine.token();
    assert_eq!(asked(&machine), [Route::Container]);
}

#[test]
fn a_source_that_is_configured_and_fails_ends_the_search_and_is_in_the_error() {
    type Break<'a> = &'a dyn Fn(&mut Machine);
    let breaks: [(&str, Break<'_>); 6] = [
        ("environment", &|machine| machine.unset("AWS_SECRET_ACCESS_KEY")),
        ("profile", &|machine| {
            without_environment_keys(machine);
            without_web_identity(machine);
            machine.file(".aws/credentials", "[default]\naws_access_key_id=AKIDPROFILE\n");
        }),
        ("profile", &|machine| {
            without_environment_keys(machine);
            machine.set("AWS_PROFILE", "gone");
        }),
        ("profile", &|machine| {
            without_environment_keys(machine);
            machine.config(&format!("[default]\nrole_arn={ROLE}\n"));
        }),
        ("web identity", &|machine| {
            without_environment_keys(machine);
            machine.simulator.inject(Route::StsWebIdentity, Fault::Status(403), Times::Forever);
        }),
        ("container", &|machine| {
            without_environment_keys(machine);
            without_web_identity(machine);
            without_profile(machine);
            machine.simulator.inject(Route::Container, Fault::Status(403), Times::Forever);
        }),
    ];
    for (source, break_it) in breaks {
        let mut machine = all();
        break_it(&mut machine);
        let error = machine.error();
        assert!(error.message().starts_with(&format!("{source}: ")), "{source}: {error}");
        assert_eq!(error.message().matches(&format!("{source}: ")).count(), 1, "{error}");
        assert_ne!(error.kind(), ErrorKind::NoCredentials, "{error}");
        assert!(machine.simulator.requests_for(Route::ImdsToken).is_empty(), "{source}: never the node's role");
    }
}

#[test]
fn the_older_names_of_profile_and_session_token_have_precedence_as_in_the_aws_cli() {
    let mut machine = Machine::new();
    machine.file(
        ".aws/credentials",
        "[old]\naws_access_key_id=ASIAOLD\naws_secret_access_key=s\naws_security_token=oldtoken\n\
         aws_session_token=newtoken\n[new]\naws_access_key_id=AKIANEW\naws_secret_access_key=s\n",
    );
    machine.set("AWS_PROFILE", "new");
    assert_eq!(access_key_id(&machine.token()), "AKIANEW");
    machine.set("AWS_DEFAULT_PROFILE", "old");
    let token = machine.token();
    assert_eq!(access_key_id(&token), "ASIAOLD");
    assert!(token.as_str().contains("X-Amz-Security-Token=oldtoken&"), "{}", token.as_str());
    machine.set("AWS_DEFAULT_PROFILE", "gone");
    assert!(machine.error().message().contains("named by AWS_DEFAULT_PROFILE"), "{}", machine.error());

    machine.set("AWS_ACCESS_KEY_ID", "ASIAENVIRONMENT");
    machine.set("AWS_SECRET_ACCESS_KEY", "s");
    machine.set("AWS_SESSION_TOKEN", "newtoken");
    machine.set("AWS_SECURITY_TOKEN", "oldtoken");
    assert!(machine.token().as_str().contains("X-Amz-Security-Token=oldtoken&"));
}

#[test]
fn keys_that_cannot_work_are_an_error_and_white_space_counts_as_unset() {
    let mut machine = Machine::new();
    machine.set("AWS_ACCESS_KEY_ID", " ");
    machine.set("AWS_SECRET_ACCESS_KEY", "\t");
    machine.file(".aws/credentials", "[default]\naws_access_key_id= \naws_secret_access_key=\t\n");
    assert_eq!(machine.error().kind(), ErrorKind::NoCredentials);

    machine.set("AWS_ACCESS_KEY_ID", "'AKIAIOSFODNN7EXAMPLE'");
    machine.set("AWS_SECRET_ACCESS_KEY", "planted-secret");
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert!(
        error.message().starts_with("environment: AWS_ACCESS_KEY_ID") && error.message().contains("quotes"),
        "{error}"
    );

    without_environment_keys(&mut machine);
    machine.file(
        ".aws/credentials",
        "[default]\naws_access_key_id = ASIAIOSFODNN7EXAMPLE\naws_secret_access_key = planted-secret\n",
    );
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    for part in ["profile: ", ".aws/credentials: profile \"default\"", "ASIA", "aws_session_token"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert!(!error.message().contains("planted"), "{error}");
}

#[test]
fn with_nothing_configured_the_error_lists_every_source_that_was_queried() {
    let machine = Machine::new();
    let error = machine.error();
    assert_eq!(error.kind(), ErrorKind::NoCredentials);
    for part in [
        "no credentials: environment: AWS_ACCESS_KEY_ID not set",
        "profile: no profile \"default\"",
        "web identity: AWS_WEB_IDENTITY_TOKEN_FILE not set",
        "container: neither",
        "instance metadata: disabled by AWS_EC2_METADATA_DISABLED",
    ] {
        assert!(error.message().contains(part), "{error}: {part}");
    }
    assert_eq!(machine.simulator.connections(), 0);
}

#[test]
fn explain_reports_the_same_sources_and_no_secret() {
    let machine = all();
    let told = machine.client().explain();
    let serving = told.outcome.unwrap();
    assert_eq!((serving.source, serving.access_key_id.as_str()), ("environment", "AKIDENVIRONMENT"));
    assert_eq!(told.steps.len(), 1);

    let told = Machine::new().client().explain();
    let sources: Vec<_> = told.steps.iter().map(|(source, _)| *source).collect();
    assert_eq!(sources, ["environment", "profile", "web identity", "container", "instance metadata"]);
    let shown = format!("{told:?}");
    assert!(told.outcome.is_err() && !shown.contains("secret_access_key"), "{shown}");
}
