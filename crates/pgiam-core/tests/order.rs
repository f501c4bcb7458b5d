//! The order of the sources, and that one which is configured and fails is the end of the search.

mod support;

use aws_simulator::{Fault, Route, Times};
use pgiam_core::ErrorKind;
use support::{Machine, ROLE, access_key_id};

/// Every source configured, the first with keys of its own.
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

#[test]
fn the_order_is_environment_profile_web_identity_container_instance() {
    let mut machine = all();
    assert_eq!(access_key_id(&machine.token()), "AKIDENVIRONMENT");
    machine.unset("AWS_ACCESS_KEY_ID");
    machine.unset("AWS_SECRET_ACCESS_KEY");
    assert_eq!(access_key_id(&machine.token()), "AKIDPROFILE");
    assert!(machine.simulator.requests().is_empty());

    std::fs::remove_file(machine.path(".aws/credentials")).unwrap();
    machine.token();
    let asked = |machine: &Machine| machine.simulator.requests().iter().map(|r| r.route).collect::<Vec<_>>();
    assert_eq!(asked(&machine), [Route::StsWebIdentity]);
    machine.unset("AWS_WEB_IDENTITY_TOKEN_FILE");
    machine.simulator.clear_requests();
    machine.token();
    assert_eq!(asked(&machine), [Route::Container]);
    machine.unset("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    machine.simulator.clear_requests();
    machine.token();
    assert_eq!(asked(&machine), [Route::ImdsToken, Route::ImdsRoleList, Route::ImdsCredentials]);
}

#[test]
fn a_source_that_is_configured_and_fails_is_the_end_and_is_named() {
    type Break<'a> = &'a dyn Fn(&mut Machine);
    let breaks: [(&str, Break<'_>); 5] = [
        ("environment", &|machine| machine.unset("AWS_SECRET_ACCESS_KEY")),
        ("profile", &|machine| {
            machine.unset("AWS_ACCESS_KEY_ID");
            machine.unset("AWS_SECRET_ACCESS_KEY");
            machine.file(".aws/credentials", "[default]\naws_access_key_id=AKIDPROFILE\n");
        }),
        ("profile", &|machine| {
            machine.unset("AWS_ACCESS_KEY_ID");
            machine.unset("AWS_SECRET_ACCESS_KEY");
            machine.set("AWS_PROFILE", "gone");
        }),
        ("web identity", &|machine| {
            machine.unset("AWS_ACCESS_KEY_ID");
            machine.unset("AWS_SECRET_ACCESS_KEY");
            std::fs::remove_file(machine.path(".aws/credentials")).unwrap();
            machine.simulator.inject(Route::StsWebIdentity, Fault::Status(403), Times::Forever);
        }),
        ("container", &|machine| {
            machine.unset("AWS_ACCESS_KEY_ID");
            machine.unset("AWS_SECRET_ACCESS_KEY");
            std::fs::remove_file(machine.path(".aws/credentials")).unwrap();
            machine.unset("AWS_WEB_IDENTITY_TOKEN_FILE");
            machine.simulator.inject(Route::Container, Fault::Status(403), Times::Forever);
        }),
    ];
    for (source, break_it) in breaks {
        let mut machine = all();
        break_it(&mut machine);
        let error = machine.error();
        assert!(error.message().starts_with(source), "{source}: {error}");
        assert_ne!(error.kind(), ErrorKind::NoCredentials, "{error}");
        assert!(machine.simulator.requests_for(Route::ImdsToken).is_empty(), "{source}: never the node's role");
    }
}

#[test]
fn with_nothing_configured_the_error_lists_all_that_was_looked_at() {
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
fn explaining_tells_the_same_trail_and_never_a_secret() {
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
