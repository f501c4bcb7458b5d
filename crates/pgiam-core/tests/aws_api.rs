//! Calls of AWS services with a client's credentials: signatures, refusals and the clock.

use std::time::{Duration, SystemTime};

use aws_simulator::{
    Account, Credentials, DbInstance, LogEvent, Metric, Principal, Route, Simulator, SimulatorOptions, Statement,
};
use pgiam_core::{AwsApi, AwsSession, Client, Clock, Environment};

const REGION: &str = "eu-central-1";
const GROUP: &str = "/aws/rds/instance/orders-prod/iam-db-auth-error";

fn simulator() -> Simulator {
    Simulator::start(SimulatorOptions { region: REGION.into(), ..SimulatorOptions::default() }).unwrap()
}

fn session(simulator: &Simulator, user: &Credentials, more: &[(&str, &str)]) -> AwsSession {
    let url = simulator.url();
    let variables = [
        ("AWS_ACCESS_KEY_ID", user.access_key_id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", &user.secret_access_key),
        ("AWS_ENDPOINT_URL", &url),
        ("AWS_CONFIG_FILE", "/dev/null"),
        ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
    ];
    let environment: Environment = variables.into_iter().chain(more.iter().copied()).collect();
    Client::builder().environment(environment).build().aws_session(REGION)
}

fn known_user(simulator: &Simulator, statements: Vec<Statement>) -> Credentials {
    let user = Credentials::of_user("jane");
    simulator.register_credentials(&user);
    simulator.set_account(Account {
        instances: vec![DbInstance { identifier: "orders-prod".into(), ..DbInstance::default() }],
        principals: vec![Principal { arn: user.principal.clone(), statements, boundary: None }],
        metrics: vec![Metric { name: "IamDbAuthConnectionFailure".into(), identifier: "orders-prod".into(), sum: 3.0 }],
        log_events: vec![LogEvent { group: GROUP.into(), time: None, message: "refused \"app user\"\tfor 7".into() }],
        ..Account::default()
    });
    user
}

#[test]
fn calls_of_every_service_are_signed_so_that_the_service_accepts_them() {
    let simulator = simulator();
    let user = known_user(&simulator, vec![Statement::allow("*", "*")]);
    let session = session(&simulator, &user, &[]);
    let identity = session.caller_identity().unwrap();
    assert_eq!((identity.arn.as_str(), identity.account.as_str()), (user.principal.as_str(), "123456789012"));

    let name = [("DBInstanceIdentifier", "orders-prod")];
    let found = session.query(AwsApi::Rds, "DescribeDBInstances", &name).unwrap();
    assert_eq!(found.text("DBInstances/DBInstance/DBInstanceIdentifier"), Some("orders-prod"));

    let found = session.query(AwsApi::Iam, "GetUser", &[("UserName", "jane")]).unwrap();
    assert_eq!(found.text("User/Arn"), Some(user.principal.as_str()));

    let parameters = [
        ("MetricName", "IamDbAuthConnectionFailure"),
        ("Dimensions.member.1.Name", "DBInstanceIdentifier"),
        ("Dimensions.member.1.Value", "orders-prod"),
    ];
    let found = session.query(AwsApi::CloudWatch, "GetMetricStatistics", &parameters).unwrap();
    assert_eq!(found.text("Datapoints/member/Sum"), Some("3"));

    assert_eq!(session.log_messages(GROUP, 0, "app user").unwrap(), ["refused \"app user\" for 7"]);
    assert!(session.log_messages(GROUP, 0, "nobody").unwrap().is_empty());
}

#[test]
fn a_refusal_names_the_permission_or_the_services_code() {
    let simulator = simulator();
    let user = known_user(&simulator, vec![Statement::allow("iam:GetUser", "*")]);
    let allowed = session(&simulator, &user, &[]);
    let denied = allowed.query(AwsApi::Rds, "DescribeDBInstances", &[]).unwrap_err();
    assert_eq!(denied.missing_permission(), Some("rds:DescribeDBInstances"));
    assert!(denied.message().contains("is not authorized to perform"), "{}", denied.message());
    let denied = allowed.log_messages(GROUP, 0, "x").unwrap_err();
    assert_eq!(denied.missing_permission(), Some("logs:FilterLogEvents"));

    let unknown = session(&simulator, &Credentials::of_user("nobody"), &[]).caller_identity().unwrap_err();
    assert_eq!((unknown.code(), unknown.missing_permission()), (Some("InvalidClientTokenId"), None));
    let wrong = Credentials { secret_access_key: "x".repeat(40), ..user };
    let wrong = session(&simulator, &wrong, &[]).caller_identity().unwrap_err();
    assert_eq!(wrong.code(), Some("SignatureDoesNotMatch"));
}

#[test]
fn each_service_has_its_own_endpoint_variable() {
    let (simulator, other) = (simulator(), simulator());
    let user = known_user(&simulator, vec![Statement::allow("*", "*")]);
    let url = simulator.url();
    let own: Vec<(&str, &str)> = ["STS", "RDS", "IAM", "CLOUDWATCH", "CLOUDWATCH_LOGS"]
        .into_iter()
        .map(|service| (&*format!("AWS_ENDPOINT_URL_{service}").leak(), url.as_str()))
        .collect();
    let session = session(&other, &user, &own);
    session.caller_identity().unwrap();
    session.query(AwsApi::Rds, "DescribeDBInstances", &[]).unwrap();
    session.query(AwsApi::Iam, "GetUser", &[("UserName", "jane")]).unwrap();
    session.query(AwsApi::CloudWatch, "GetMetricStatistics", &[("MetricName", "x")]).unwrap();
    session.log_messages(GROUP, 0, "x").unwrap();
    assert!(other.requests().is_empty());
}

#[test]
fn a_service_that_is_throttling_is_called_again() {
    let simulator = simulator();
    let user = known_user(&simulator, vec![Statement::allow("*", "*")]);
    simulator.inject(Route::Rds, aws_simulator::Fault::Throttling, 2);
    session(&simulator, &user, &[]).query(AwsApi::Rds, "DescribeDBInstances", &[]).unwrap();
    assert_eq!(simulator.requests_for(Route::Rds).len(), 3);
}

#[test]
fn the_clock_is_compared_without_credentials() {
    const NOW: u64 = 1_792_000_000;
    let options = SimulatorOptions {
        now: std::sync::Arc::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(NOW)),
        ..SimulatorOptions::default()
    };
    let simulator = Simulator::start(options).unwrap();
    for ahead in [0, -420, 86_400] {
        let environment: Environment = [
            ("AWS_ENDPOINT_URL_STS", simulator.url().as_str()),
            ("AWS_EC2_METADATA_DISABLED", "true"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ]
        .into_iter()
        .collect();
        let clock = Clock::fixed(i64::try_from(NOW).unwrap() + ahead);
        let session = Client::builder().environment(environment).clock(clock).build().aws_session(REGION);
        assert_eq!(session.clock_ahead(), Ok(ahead));
        assert_eq!(session.caller_identity().unwrap_err().code(), None);
    }
}
