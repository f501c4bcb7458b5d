use aws_simulator::Route;

use crate::support::*;

#[test]
fn the_paths_of_ecs_and_eks_return_the_credentials_of_the_task() {
    let simulator = start();
    let issued = simulator.container_credentials();
    for path in ["/v2/credentials/0f3b9c1e-7a51-4b39-b9a0-6a9a0b1c2d3e", "/v1/credentials", "/get-credentials"] {
        let document = request(&simulator, "GET", path, &[], "").json();
        assert_eq!(document["AccessKeyId"], issued.access_key_id, "{path}");
        assert_eq!(document["SecretAccessKey"], issued.secret_access_key);
        assert_eq!(document["Token"], issued.session_token.clone().unwrap());
        assert_eq!(document["Expiration"], "2026-01-31T18:00:00Z");
        assert_eq!(document["RoleArn"], "arn:aws:iam::123456789012:role/task-role");
    }
    assert_eq!(simulator.requests_for(Route::Container).len(), 3);
}

#[test]
fn instance_and_container_return_different_credentials() {
    let simulator = start();
    assert_ne!(simulator.instance_credentials().access_key_id, simulator.container_credentials().access_key_id);
}

#[test]
fn the_authorization_header_must_equal_the_configured_token() {
    let simulator = start_with(|options| options.container_token = Some("Basic abc".to_owned()));
    let ask = |value: &str| {
        let headers = [("Authorization", value)];
        request(&simulator, "GET", "/get-credentials", &headers, "").status
    };
    assert_eq!(ask("Basic abc"), 200);
    assert_eq!(ask("Basic abcd"), 401);
    assert_eq!(ask("Bearer Basic abc"), 401);
    assert_eq!(request(&simulator, "GET", "/get-credentials", &[], "").status, 401);
    simulator.set_container_token(Some("rotated"));
    assert_eq!(ask("Basic abc"), 401);
    assert_eq!(ask("rotated"), 200);
}

#[test]
fn an_unknown_path_is_not_found() {
    let simulator = start();
    assert_eq!(request(&simulator, "GET", "/v3/credentials", &[], "").status, 404);
    assert_eq!(simulator.requests_for(Route::Other).len(), 1);
}
