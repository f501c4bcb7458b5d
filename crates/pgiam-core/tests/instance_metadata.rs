//! IMDSv2: the requests, what a failure becomes, and how long it may take.

mod support;

use std::time::Duration;

use aws_simulator::{Fault, Route, Simulator, SimulatorOptions, Times, refused_port};
use pgiam_core::{Client, ErrorKind};
use support::{access_key_id, client, environment, on_instance, request, settings, simulator, within};

#[test]
fn the_first_token_takes_three_requests_and_the_next_none() {
    let simulator = simulator();
    let client = on_instance(&simulator);
    let token = client.generate_token(&request()).unwrap();
    assert_eq!(access_key_id(&token), simulator.instance_credentials().access_key_id);
    client.generate_token(&request()).unwrap();
    let asked: Vec<Route> = simulator.requests().iter().map(|request| request.route).collect();
    assert_eq!(asked, [Route::ImdsToken, Route::ImdsRoleList, Route::ImdsCredentials]);
}

#[test]
fn the_connection_is_used_again_where_the_server_allows() {
    let simulator = Simulator::start(SimulatorOptions { keep_alive: true, ..Default::default() }).unwrap();
    on_instance(&simulator).generate_token(&request()).unwrap();
    assert_eq!(simulator.requests().len(), 3);
    assert_eq!(simulator.connections(), 1);
}

#[test]
fn the_service_is_asked_over_ipv6() {
    let simulator = Simulator::start(SimulatorOptions { ipv6: true, ..Default::default() }).unwrap();
    let url = simulator.url_ipv6().expect("the loopback address ::1");
    client(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url)]).generate_token(&request()).unwrap();
}

#[test]
fn a_session_token_that_is_no_longer_known_is_fetched_again_once() {
    let simulator = simulator();
    simulator.inject(Route::ImdsRoleList, Fault::Status(401), 1);
    on_instance(&simulator).generate_token(&request()).unwrap();
    assert_eq!(simulator.requests_for(Route::ImdsToken).len(), 2);

    simulator.clear_requests();
    simulator.inject(Route::ImdsRoleList, Fault::Status(401), Times::Forever);
    let error = on_instance(&simulator).generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Provider);
    assert_eq!(simulator.requests_for(Route::ImdsToken).len(), 2);
}

#[test]
fn a_busy_service_is_asked_three_times() {
    for status in [429, 500, 503] {
        let simulator = simulator();
        simulator.inject(Route::ImdsCredentials, Fault::Status(status), 2);
        let client = Client::builder()
            .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url())]))
            .build();
        client.generate_token(&request()).unwrap();
        assert_eq!(simulator.requests_for(Route::ImdsCredentials).len(), 3);
    }
}

#[test]
fn a_disabled_service_is_not_asked() {
    let simulator = simulator();
    let url = simulator.url();
    let client = client(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", url.as_str()), ("AWS_EC2_METADATA_DISABLED", "true")]);
    let error = client.generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoCredentials);
    assert!(error.message().contains("disabled by AWS_EC2_METADATA_DISABLED"), "{error}");
    assert_eq!(simulator.connections(), 0);
}

#[test]
fn a_proxy_is_never_asked() {
    let (simulator, proxy) = (simulator(), support::simulator());
    let (url, trap) = (simulator.url(), proxy.url());
    client(&[
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &url),
        ("HTTP_PROXY", &trap),
        ("http_proxy", &trap),
        ("HTTPS_PROXY", &trap),
    ])
    .generate_token(&request())
    .unwrap();
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn version_1_is_never_used() {
    let simulator = simulator();
    simulator.inject(Route::ImdsToken, Fault::Status(404), Times::Forever);
    let error = on_instance(&simulator).generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Provider);
    assert!(simulator.requests().iter().all(|request| request.route == Route::ImdsToken));
}

#[test]
fn a_redirect_is_not_followed() {
    let (simulator, elsewhere) = (simulator(), support::simulator());
    for status in [301, 307] {
        for route in [Route::ImdsToken, Route::ImdsRoleList, Route::ImdsCredentials] {
            simulator.clear_faults();
            simulator.inject(route, Fault::Redirect(status, elsewhere.url()), Times::Forever);
            let error = on_instance(&simulator).generate_token(&request()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Provider, "{error}");
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn on_a_machine_that_is_not_an_instance_the_error_lists_every_source() {
    let refused = refused_port().unwrap();
    let error =
        client(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &refused.url())]).generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoCredentials);
    for part in ["no credentials: environment: AWS_ACCESS_KEY_ID not set", "profile: no profile", "not an EC2 instance"]
    {
        assert!(error.message().contains(part), "{error}");
    }
}

#[test]
fn on_an_instance_without_a_role_the_error_says_so() {
    let simulator = simulator();
    simulator.set_role(None);
    let error = on_instance(&simulator).generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoCredentials);
    assert!(error.message().contains("no role is attached"), "{error}");
}

#[test]
fn a_time_out_of_the_session_token_points_to_the_hop_limit() {
    let simulator = simulator();
    simulator.inject(Route::ImdsToken, Fault::HangBeforeAnswer, Times::Forever);
    let error = on_instance(&simulator).generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("hop limit"), "{error}");
}

#[test]
fn for_a_disabled_service_the_error_says_how_to_enable_it() {
    let simulator = simulator();
    simulator.inject(Route::ImdsToken, Fault::Status(403), Times::Forever);
    let error = on_instance(&simulator).generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Provider);
    assert!(error.message().contains("--http-endpoint enabled"), "{error}");
}

#[test]
fn after_a_403_the_message_says_that_nothing_else_is_configured_and_that_version_1_is_never_used() {
    for route in [Route::ImdsToken, Route::ImdsRoleList, Route::ImdsCredentials] {
        let simulator = simulator();
        // As kube2iam and the like answer.
        let fault = Fault::StatusWithBody(403, "requested path is not allowed\n".into());
        simulator.inject(route, fault, Times::Forever);
        let error = on_instance(&simulator).generate_token(&request()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider);
        for part in [
            "no other source of credentials is configured",
            "HTTP 403: requested path is not allowed",
            "IMDSv1 is never used",
        ] {
            assert!(error.message().contains(part), "{error}");
        }
        assert_eq!(error.message().matches("instance metadata:").count(), 1, "{error}");
    }
}

#[test]
fn an_https_endpoint_is_an_error() {
    for url in ["https://169.254.169.254", "HTTPS://localhost/"] {
        let error = client(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)]).generate_token(&request()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert!(error.message().contains("plain HTTP only"), "{error}");
    }
}

#[test]
fn a_role_that_cannot_be_assumed_is_reported_in_the_services_own_words() {
    let simulator = simulator();
    let body = r#"{"Code": "AssumeRoleUnauthorizedAccess", "Message": "EC2 cannot assume the role app"}"#;
    simulator.set_body(Route::ImdsCredentials, Some(body));
    let error = on_instance(&simulator).generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Provider);
    assert!(error.message().contains("AssumeRoleUnauthorizedAccess: EC2 cannot assume the role app"), "{error}");
}

#[test]
fn off_ec2_the_default_client_gives_up_within_two_seconds() {
    let hole = aws_simulator::blackhole_address().unwrap();
    let client = Client::builder()
        .environment(environment(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &hole.url())]))
        .settings(settings(&[]))
        .build();
    let bound = within(Duration::from_secs(2), || {
        let error = client.generate_token(&request()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoCredentials);
    });
    assert_eq!(bound, Ok(()));
}

#[test]
fn a_service_that_stops_answering_on_an_open_connection_counts_as_present() {
    let simulator = Simulator::start(SimulatorOptions { keep_alive: true, ..Default::default() }).unwrap();
    simulator.inject(Route::ImdsRoleList, Fault::HangBeforeAnswer, Times::Forever);
    let client = Client::builder()
        .environment(environment(&[
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", &simulator.url()),
            ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1"),
            ("AWS_METADATA_SERVICE_TIMEOUT", "0.2"),
        ]))
        .build();
    let error = client.generate_token(&request()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.message().contains("did not answer"), "{error}");
}
