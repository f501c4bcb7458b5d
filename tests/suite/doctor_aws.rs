//! The checks of `pgiam doctor` that call AWS: each test has a simulated account in the state for one cause. The simulator
//! verifies the signature of each request and enforces permissions; moto is an independent second implementation.

use std::time::{Duration, SystemTime};

use aws_simulator::{
    Account, Credentials, DbCluster, DbInstance, DbProxy, Fault, LogEvent, Metric, Principal, ProxyEndpoint,
    ProxySecret, Route, Simulator, SimulatorOptions, Statement,
};
use serde_json::Value;

use crate::moto::Moto;
use crate::support::{REGION, clean_command, product};

pub(crate) const INSTANCE: &str = "orders-prod.c9akciq32rpa.eu-central-1.rds.amazonaws.com";
pub(crate) const CLUSTER: &str = "billing.cluster-c9akciq32rpa.eu-central-1.rds.amazonaws.com";
pub(crate) const MEMBER: &str = "billing-1.c9akciq32rpa.eu-central-1.rds.amazonaws.com";
pub(crate) const CUSTOM: &str = "reports.cluster-custom-c9akciq32rpa.eu-central-1.rds.amazonaws.com";
pub(crate) const PROXY: &str = "pool.proxy-c9akciq32rpa.eu-central-1.rds.amazonaws.com";
pub(crate) const PROXY_READER: &str = "pool-ro.endpoint.proxy-c9akciq32rpa.eu-central-1.rds.amazonaws.com";
pub(crate) const DSQL: &str = "iuabtyq7pzsk4qfm2hmjz6gzqe.dsql.eu-central-1.on.aws";
pub(crate) const USER: &str = "app_user";

pub(crate) fn resource(id: &str, user: &str) -> String {
    format!("arn:aws:rds-db:eu-central-1:123456789012:dbuser:{id}/{user}")
}

pub(crate) const RIGHT_ID: &str = "db-ABCDEFGHIJKL01234";

/// An account with an instance, a cluster and a proxy, and a simulator that has it.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) user: Credentials,
    pub(crate) account: Account,
}

impl World {
    /// The user may read everything, and log in to the instance if `connects`.
    pub(crate) fn new(connects: &[&str]) -> Self {
        Self::with(SimulatorOptions::default(), connects)
    }

    pub(crate) fn with(options: SimulatorOptions, connects: &[&str]) -> Self {
        let simulator = Simulator::start(SimulatorOptions { region: REGION.into(), ..options }).unwrap();
        let user = Credentials::of_user("jane");
        simulator.register_credentials(&user);
        let mut statements: Vec<Statement> = ["rds:Describe*", "iam:*", "cloudwatch:*", "logs:*"]
            .into_iter()
            .map(|action| Statement::allow(action, "*"))
            .collect();
        statements.extend(connects.iter().map(|resource| Statement::allow("rds-db:connect", resource)));
        let principal = Principal { arn: user.principal.clone(), statements, boundary: None };
        let account = Account { principals: vec![principal], ..account() };
        Self { simulator, user, account }
    }

    pub(crate) fn statements(&mut self) -> &mut Vec<Statement> {
        &mut self.account.principals[0].statements
    }

    pub(crate) fn instance(&mut self) -> &mut DbInstance {
        &mut self.account.instances[0]
    }

    fn doctor(&self, host: &str) -> Findings {
        self.doctor_with(host, USER, &[])
    }

    /// Runs the doctor for a host that cannot be reached.
    fn doctor_with(&self, host: &str, user: &str, variables: &[(&str, &str)]) -> Findings {
        self.simulator.set_account(self.account.clone());
        doctor(host, user, &self.user, &self.simulator.url(), variables)
    }
}

fn account() -> Account {
    let text = str::to_owned;
    Account {
        instances: vec![
            DbInstance {
                identifier: text("orders-prod"),
                resource_id: text(RIGHT_ID),
                endpoint: text(INSTANCE),
                port: 5432,
                engine: text("postgres"),
                engine_version: text("16.3"),
                status: text("available"),
                iam_enabled: true,
                log_exports: vec![text("iam-db-auth-error")],
                master_user: text("postgres"),
                ..DbInstance::default()
            },
            DbInstance {
                identifier: text("billing-1"),
                resource_id: text("db-MEMBER0000000001"),
                endpoint: text(MEMBER),
                port: 5432,
                engine: text("aurora-postgresql"),
                engine_version: text("16.3"),
                status: text("available"),
                iam_enabled: true,
                cluster: Some(text("billing")),
                ..DbInstance::default()
            },
        ],
        clusters: vec![DbCluster {
            identifier: text("billing"),
            resource_id: text("cluster-ABCDEFGHIJKL01234"),
            endpoint: text(CLUSTER),
            reader_endpoint: CLUSTER.replace(".cluster-", ".cluster-ro-"),
            custom_endpoints: vec![text(CUSTOM)],
            port: 5432,
            engine: text("aurora-postgresql"),
            engine_version: text("16.3"),
            status: text("available"),
            iam_enabled: true,
            ..DbCluster::default()
        }],
        proxies: vec![DbProxy {
            name: text("pool"),
            resource_id: text("prx-0123456789abcdef0"),
            endpoint: text(PROXY),
            endpoints: vec![ProxyEndpoint { name: text("pool-ro"), endpoint: text(PROXY_READER) }],
            status: text("available"),
            secrets: vec![ProxySecret {
                arn: text("arn:aws:secretsmanager:eu-central-1:123456789012:secret:pool-AbCdEf"),
                iam_auth: text("REQUIRED"),
                client_password: text("POSTGRES_SCRAM_SHA_256"),
            }],
            role_arn: text("arn:aws:iam::123456789012:role/service-role/pool"),
            default_auth_scheme: text("NONE"),
            target: text("orders-prod"),
            target_state: text("AVAILABLE"),
        }],
        ..Account::default()
    }
}

fn doctor(host: &str, user: &str, keys: &Credentials, url: &str, variables: &[(&str, &str)]) -> Findings {
    let closed = aws_simulator::refused_port().unwrap();
    let output = clean_command(product("pgiam"))
        .args(["doctor", "--json", "-d", "app", "-U", user, "-h", host])
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGPORT", closed.port().to_string())
        .env("PGIAM_PORT", "5432")
        .env("AWS_ENDPOINT_URL", url)
        .env("AWS_ACCESS_KEY_ID", &keys.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &keys.secret_access_key)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .envs(keys.session_token.iter().map(|token| ("AWS_SESSION_TOKEN", token)))
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for secret in [Some(&keys.secret_access_key), keys.session_token.as_ref()].into_iter().flatten() {
        assert!(secret.is_empty() || !text.contains(secret), "no secret is printed: {text}");
    }
    let report: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    Findings(report["findings"].as_array().unwrap().clone())
}

/// The findings of one run.
struct Findings(Vec<Value>);

impl Findings {
    fn of(&self, check: &str) -> &Value {
        self.0.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no {check} in {:#?}", self.0))
    }

    fn says(&self, check: &str, outcome: &str, words: &[&str]) {
        let finding = self.of(check);
        assert_eq!(finding["outcome"], outcome, "{finding:#}");
        for word in words {
            assert!(finding["text"].as_str().unwrap().contains(word), "{word}: {finding:#}");
        }
    }

    /// A FAIL with this cause, whose text has these words, and whose commands contain the last.
    fn fails(&self, check: &str, cause: &str, words: &[&str], command: &str) {
        self.says(check, "fail", words);
        let finding = self.of(check);
        assert_eq!(finding["cause"], cause, "{finding:#}");
        assert!(finding["remedy"].to_string().contains(command), "{command}: {finding:#}");
    }

    /// A `?` with this cause: refusals of other logins, because no login was tried.
    fn recorded(&self, check: &str, cause: &str, words: &[&str], command: &str) {
        self.says(check, "unknown", words);
        let finding = self.of(check);
        assert_eq!(finding["cause"], cause, "{finding:#}");
        assert!(finding["remedy"].to_string().contains(command), "{command}: {finding:#}");
    }

    /// A `?` that names the missing permission.
    fn lacks(&self, check: &str, permission: &str) {
        self.says(check, "unknown", &["missing permission", permission]);
    }
}

// --- clock and identity ---

#[test]
fn a_wrong_clock_is_found_by_comparison_with_that_of_aws() {
    let behind = SimulatorOptions {
        now: std::sync::Arc::new(|| SystemTime::now() + Duration::from_secs(1800)),
        ..SimulatorOptions::default()
    };
    let found = World::with(behind, &[]).doctor(INSTANCE);
    found.fails("clock", "clock", &["seconds behind that of AWS", "tokens are not valid"], "timedatectl set-ntp true");
    found.fails("identity", "clock", &["this machine's clock is wrong", "SignatureDoesNotMatch"], "pgiam credentials");
    found.says("database", "unknown", &["STS does not accept the credentials"]);
    World::new(&[]).doctor(INSTANCE).says("clock", "ok", &["agrees with that of AWS"]);
}

#[test]
fn credentials_that_sts_refuses_are_explained_by_its_error_code() {
    let mut world = World::new(&[]);
    world.doctor(INSTANCE).says("identity", "ok", &["arn:aws:iam::123456789012:user/jane"]);
    let right = world.user.clone();
    world.user.secret_access_key = "x".repeat(40);
    let found = world.doctor(INSTANCE);
    found.fails("identity", "secret-wrong", &["secret access key", "SignatureDoesNotMatch"], "pgiam credentials");
    world.user = Credentials::of_user("nobody");
    world.doctor(INSTANCE).fails("identity", "key-unknown", &["InvalidClientTokenId"], "pgiam credentials");
    world.user = right;
    world.simulator.inject(Route::StsCallerIdentity, Fault::StsError(403, "ExpiredToken".into()), 9);
    world.doctor(INSTANCE).fails("identity", "credentials-expired", &["have expired"], "pgiam credentials");
}

#[test]
fn a_role_that_is_not_for_programs_is_reported() {
    for (role, hint) in [("ecsTaskExecutionRole", "taskRoleArn"), ("AmazonEKSNodeRole", "Pod Identity")] {
        let mut world = World::new(&[]);
        world.user = session_of(&world.simulator, role);
        world.doctor(INSTANCE).says("identity", "ok", &[&format!("assumed-role/{role}/"), hint]);
    }
}

/// Credentials of a role session.
pub(crate) fn session_of(simulator: &Simulator, role: &str) -> Credentials {
    simulator.set_role(Some(role));
    simulator.instance_credentials()
}

#[test]
fn without_credentials_aws_is_not_queried_about_the_database() {
    let mut world = World::new(&[]);
    world.user.access_key_id.clear();
    world.user.secret_access_key.clear();
    let found = world.doctor(INSTANCE);
    found.says("identity", "unknown", &["there are no credentials"]);
    found.says("database", "unknown", &["there are no credentials"]);
}

// --- the database ---

#[test]
fn an_instance_without_iam_authentication_is_reported_with_the_command_that_enables_it() {
    let mut world = World::new(&[]);
    world.instance().iam_enabled = false;
    world.doctor(INSTANCE).fails(
        "database",
        "iam-off",
        &["instance orders-prod (postgres 16.3): IAM authentication is off"],
        "aws rds modify-db-instance --region eu-central-1 --db-instance-identifier orders-prod \
         --enable-iam-database-authentication --apply-immediately",
    );
    world.instance().iam_pending = Some(true);
    world.doctor(INSTANCE).fails("database", "iam-pending", &["is pending until"], "--apply-immediately");
}

#[test]
fn a_database_that_is_stopped_or_starting_is_reported_with_a_command() {
    let mut world = World::new(&[]);
    for (status, cause, command) in [
        ("stopped", "database-stopped", "aws rds start-db-instance --region eu-central-1"),
        ("creating", "database-not-ready", "aws rds wait db-instance-available --db-instance-identifier orders-prod"),
        ("storage-full", "database-failed", "aws rds describe-events"),
    ] {
        world.instance().status = status.into();
        world.doctor(INSTANCE).fails("database", cause, &["instance orders-prod is", status], command);
    }
    world.instance().status = "backing-up".into();
    world.doctor(INSTANCE).says("database", "ok", &["IAM authentication is on", RIGHT_ID]);
}

#[test]
fn a_port_other_than_the_endpoints_is_reported() {
    let mut world = World::new(&[]);
    world.instance().port = 5433;
    let words = ["has port 5433", "signed for port 5432"];
    world.doctor(INSTANCE).fails("database", "other-port", &words, "PGIAM_PORT=5433 pgiam doctor");
}

#[test]
fn a_database_of_another_account_is_recognized() {
    let world = World::new(&[]);
    let other = INSTANCE.replace("c9akciq32rpa", "cother000000");
    let words = ["the endpoint of instance orders-prod is", "in account 123456789012"];
    world.doctor(&other).fails("database", "other-account", &words, "--profile");
    let missing = INSTANCE.replace("orders-prod", "orders-test");
    world.doctor(&missing).fails("database", "other-account", &["there is no instance orders-test"], "--profile");
}

#[test]
fn clusters_are_found_by_each_of_their_endpoints_and_by_those_of_their_instances() {
    let world = World::new(&[&resource("cluster-ABCDEFGHIJKL01234", USER)]);
    for host in [CLUSTER, &CLUSTER.replace(".cluster-", ".cluster-ro-"), CUSTOM, MEMBER] {
        let found = world.doctor(host);
        found.says("database", "ok", &["cluster billing", "resource id cluster-ABCDEFGHIJKL01234"]);
        found.says("policy", "ok", &["rds-db:connect", "cluster-ABCDEFGHIJKL01234/app_user"]);
    }
}

#[test]
fn a_proxy_is_found_by_each_of_its_endpoints() {
    let mut world = World::new(&[&resource("prx-0123456789abcdef0", USER)]);
    for host in [PROXY, PROXY_READER] {
        let found = world.doctor(host);
        found.says("database", "ok", &["proxy pool", "prx-0123456789abcdef0", "must not have rds_iam"]);
        found.says("policy", "ok", &["prx-0123456789abcdef0/app_user"]);
    }
    world.account.proxies[0].target_state = "UNAVAILABLE".into();
    let words = ["cannot use orders-prod (UNAVAILABLE)"];
    world.doctor(PROXY).fails("database", "proxy-target", &words, "describe-db-proxy-targets");
    world.account.proxies[0].target_state = "AVAILABLE".into();
    let with_passwords = ProxySecret { iam_auth: "DISABLED".into(), ..world.account.proxies[0].secrets[0].clone() };
    world.account.proxies[0].secrets.push(with_passwords);
    world.doctor(PROXY).says("database", "ok", &["DISABLED for 1 of 2 secrets"]);
    world.account.proxies[0].secrets.remove(0);
    let words = ["does not accept IAM"];
    world.doctor(PROXY).fails("database", "proxy-iam-off", &words, "aws rds modify-db-proxy --region eu-central-1");
}

// --- policies ---

#[test]
fn a_missing_policy_is_reported_with_the_command_that_adds_a_minimal_one() {
    let command = format!(
        "aws iam put-user-policy --user-name jane --policy-name pgiam-db-ABCDEFGHIJKL01234-app_user --policy-document '{{\\\"Version\\\":\
         \\\"2012-10-17\\\",\\\"Statement\\\":[{{\\\"Effect\\\":\\\"Allow\\\",\\\"Action\\\":\\\"rds-db:connect\\\",\
         \\\"Resource\\\":\\\"{}\\\"}}]}}'",
        resource(RIGHT_ID, USER)
    );
    let found = World::new(&[]).doctor(INSTANCE);
    found.fails("policy", "policy-missing", &["no policy of user jane", &resource(RIGHT_ID, USER)], &command);
    let wildcard = "arn:aws:rds-db:eu-central-1:*:dbuser:db-*/app_*";
    World::new(&[wildcard]).doctor(INSTANCE).says("policy", "ok", &["user jane may rds-db:connect"]);
}

#[test]
fn errors_in_a_policy_are_reported() {
    let right = resource(RIGHT_ID, USER);
    for (wrong, cause, words) in [
        (resource("orders-prod", USER), "policy-resource-id", "the name orders-prod in place of the resource id"),
        ("arn:aws:rds:eu-central-1:123456789012:db:orders-prod".into(), "policy-service", "rds in place of rds-db"),
        (resource(RIGHT_ID, "APP_USER"), "policy-user", "the user APP_USER in place of app_user"),
        (resource(RIGHT_ID, "postgres"), "policy-user", "the user postgres in place of app_user"),
        (right.replace("arn:aws:", "arn:aws-cn:"), "policy-partition", "the partition aws-cn in place of aws"),
        (right.replace("eu-central-1", "eu-west-1"), "policy-region", "the region eu-west-1 in place of eu-central-1"),
        // The expected text is read from the policy.
        (resource(RIGHT_ID, "reporting"), "policy-user", "the user is reporting, but it must be app_user"),
        (right.replace("123456789012", "210987654321"), "policy-account", "the account is 210987654321"),
        (resource("db-OLD000000000000000", USER), "policy-resource-id", "the resource id is db-OLD000000000000000"),
        (right.replace("eu-central-1", "sa-east-1"), "policy-region", "the region is sa-east-1"),
    ] {
        World::new(&[&wrong]).doctor(INSTANCE).fails("policy", cause, &[words, &wrong], &right);
    }
}

#[test]
fn a_policy_for_an_instance_instead_of_its_cluster_is_reported() {
    for (id, words) in [
        ("db-MEMBER0000000001", "the resource id of the instance billing-1"),
        ("billing-1", "the name of the instance billing-1"),
    ] {
        for host in [CLUSTER, MEMBER] {
            let found = World::new(&[&resource(id, USER)]).doctor(host);
            let words = [words, "in place of that of its cluster, cluster-ABCDEFGHIJKL01234"];
            found.fails("policy", "policy-instance-of-cluster", &words, "aws iam put-user-policy");
        }
    }
}

#[test]
fn a_policy_for_the_database_instead_of_its_proxy_is_reported() {
    let found = World::new(&[&resource(RIGHT_ID, USER)]).doctor(PROXY);
    let words = ["the database behind the proxy in place of the proxy's prx-0123456789abcdef0"];
    found.fails("policy", "policy-database-of-proxy", &words, "prx-0123456789abcdef0/app_user");
}

#[test]
fn boundaries_organizations_and_explicit_denials_are_distinguished() {
    let mut world = World::new(&[&resource(RIGHT_ID, USER)]);
    let all_but_login = || ["rds:*", "iam:*", "cloudwatch:*", "logs:*"].map(|action| Statement::allow(action, "*"));
    world.account.principals[0].boundary = Some(all_but_login().into());
    world.doctor(INSTANCE).fails(
        "policy",
        "permissions-boundary",
        &["the permissions boundary of user jane"],
        "get-user",
    );
    world.account.service_control_policy = Some(all_but_login().into());
    let command = "aws organizations list-policies-for-target --target-id 123456789012";
    world.doctor(INSTANCE).fails("policy", "service-control-policy", &["of the organization"], command);
    world.account.principals[0].boundary = None;
    world.account.service_control_policy = None;
    let deny = Statement { effect: "Deny".into(), ..Statement::allow("rds-db:*", "*") };
    world.statements().push(deny);
    world.doctor(INSTANCE).fails("policy", "explicit-deny", &["denies user jane"], "aws iam list-user-policies");
}

#[test]
fn a_condition_in_the_policy_is_reported() {
    let mut world = World::new(&[]);
    let condition = serde_json::json!({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}});
    let allow = Statement::allow("rds-db:connect", &resource(RIGHT_ID, USER));
    world.statements().push(Statement { condition: Some(condition), ..allow });
    let words = ["only on conditions (aws:SourceIp)", "remove them"];
    world.doctor(INSTANCE).fails("policy", "condition", &words, "aws iam put-user-policy");
}

#[test]
fn the_role_of_a_session_is_found_with_its_path() {
    let mut world = World::new(&[]);
    world.user = session_of(&world.simulator, "orders");
    world.account.principals[0].arn = "arn:aws:iam::123456789012:role/apps/orders".into();
    world.doctor(INSTANCE).fails(
        "policy",
        "policy-missing",
        &["role orders"],
        "aws iam put-role-policy --role-name orders",
    );
    world.statements().push(Statement::allow("rds-db:connect", &resource(RIGHT_ID, USER)));
    world.doctor(INSTANCE).says("policy", "ok", &["role orders may rds-db:connect"]);
    let requests = world.simulator.requests_for(Route::Iam);
    let simulated = requests.iter().filter_map(|request| request.form_parameter("PolicySourceArn"));
    assert!(simulated.into_iter().all(|arn| arn == "arn:aws:iam::123456789012:role/apps/orders"));
}

#[test]
fn a_role_of_iam_identity_center_gets_the_policy_by_its_permission_set() {
    let mut world = World::new(&[]);
    let role = "AWSReservedSSO_DbUsers_0123456789abcdef";
    world.user = session_of(&world.simulator, role);
    world.account.principals[0].arn =
        format!("arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/eu-central-1/{role}");
    let command = "aws sso-admin provision-permission-set";
    let found = world.doctor(INSTANCE);
    found.fails("policy", "policy-missing", &[role], command);
    let remedy = found.of("policy")["remedy"].to_string();
    assert!(remedy.contains("ARN_OF_DbUsers") && remedy.contains(&resource(RIGHT_ID, USER)), "{remedy}");
}

#[test]
fn the_user_admin_of_dsql_needs_another_action() {
    let cluster = "arn:aws:dsql:eu-central-1:123456789012:cluster/iuabtyq7pzsk4qfm2hmjz6gzqe";
    let mut world = World::new(&[]);
    world.statements().push(Statement::allow("dsql:DbConnect", cluster));
    world.doctor(DSQL).says("policy", "ok", &["dsql:DbConnect", cluster]);
    let found = world.doctor_with(DSQL, "admin", &[]);
    found.fails("policy", "policy-missing", &["dsql:DbConnectAdmin"], "dsql:DbConnectAdmin");
}

// --- metrics and log ---

#[test]
fn refused_logins_in_the_metrics_are_counted_by_reason() {
    let mut world = World::new(&[]);
    let metric =
        |name: &str, sum| Metric { name: format!("IamDbAuthConnection{name}"), identifier: "orders-prod".into(), sum };
    world.account.metrics = vec![metric("Requests", 9.0)];
    world.doctor(INSTANCE).says("metrics", "ok", &["no refused login with IAM among 9"]);
    for (name, cause, words, command) in [
        ("FailureThrottling", "throttling", "use a connection pool", "IamDbAuthConnectionFailureThrottling"),
        ("FailureServerError", "server-error", "300 to 1,000 MiB", "FreeableMemory"),
        ("FailureInvalidToken", "invalid-token", "invalid or has expired", "InvalidToken"),
        ("FailureInsufficientPermissions", "not-authorized", "no policy allows", "InsufficientPermissions"),
    ] {
        world.account.metrics = vec![metric("Requests", 9.0), metric(name, 4.0)];
        world.doctor(INSTANCE).recorded("metrics", cause, &["4 times", words, "9 requests"], command);
    }
}

#[test]
fn the_last_log_lines_about_this_user_are_shown() {
    let mut world = World::new(&[]);
    let group = "/aws/rds/instance/orders-prod/iam-db-auth-error";
    let event = |message: &str| LogEvent { group: group.into(), time: None, message: message.into() };
    world.account.log_events = vec![
        event("InvalidToken: someone_else"),
        event("ExpiredToken: the token of app_user has expired"),
        event("NotAuthorized: app_user, arn:aws:iam::123456789012:user/jane"),
    ];
    let words = ["no policy allows the login", "ExpiredToken: the token of app_user has expired | NotAuthorized"];
    let found = world.doctor(INSTANCE);
    found.recorded("log", "not-authorized", &words, "aws logs tail /aws/rds/instance/orders-prod/iam-db-auth-error");
    assert!(!found.of("log")["text"].to_string().contains("someone_else"));
    world.account.log_events.truncate(1);
    world.doctor(INSTANCE).says("log", "ok", &["no line about app_user"]);
    world.instance().log_exports.clear();
    let found = world.doctor(INSTANCE);
    found.says("log", "unknown", &["is not exported"]);
    assert!(found.of("log")["remedy"].to_string().contains("--cloudwatch-logs-export-configuration"));
}

// --- missing permissions ---

#[test]
fn a_missing_permission_of_doctor_itself_is_reported() {
    let mut world = World::new(&[]);
    world.statements().retain(|statement| !statement.action[0].starts_with("rds:"));
    world.doctor(INSTANCE).lacks("database", "rds:DescribeDBInstances");
    world.doctor(CLUSTER).lacks("database", "rds:DescribeDBClusters");
    world.doctor(PROXY).lacks("database", "rds:DescribeDBProxies");
    world.statements().clear();
    world.statements().push(Statement::allow("rds:*", "*"));
    let found = world.doctor(INSTANCE);
    found.lacks("policy", "iam:SimulatePrincipalPolicy");
    assert!(found.of("policy")["remedy"].to_string().contains("aws iam simulate-principal-policy"));
    found.lacks("metrics", "cloudwatch:GetMetricStatistics");
    found.lacks("log", "logs:FilterLogEvents");
}

#[test]
fn policies_are_read_and_evaluated_when_simulating_them_is_not_permitted() {
    let mut world = World::new(&[&resource("db-OLD000000000000000", USER)]);
    let deny = |action: &str| Statement { effect: "Deny".into(), ..Statement::allow(action, "*") };
    world.statements().push(deny("iam:SimulatePrincipalPolicy"));
    let words = ["policy inline allows", "the resource id is db-OLD000000000000000, but it must be db-ABC"];
    world.doctor(INSTANCE).fails("policy", "policy-resource-id", &words, "aws iam put-user-policy");
    world.statements().push(Statement::allow("rds-db:connect", &resource(RIGHT_ID, USER)));
    let found = world.doctor(INSTANCE);
    found.says("policy", "unknown", &["the policies of user jane allow", "missing permission iam:Simulate"]);
    world.statements().push(deny("rds-db:*"));
    world.doctor(INSTANCE).fails("policy", "explicit-deny", &["policy inline denies user jane"], "list-user-policies");
}

#[test]
fn when_sts_cannot_be_reached_no_other_service_is_called() {
    let world = World::new(&[]);
    let closed = aws_simulator::refused_port().unwrap();
    let found = world.doctor_with(INSTANCE, USER, &[("AWS_ENDPOINT_URL_STS", &closed.url())]);
    found.says("clock", "unknown", &["STS at", "cannot connect"]);
    found.says("identity", "unknown", &["STS cannot be reached"]);
    found.says("database", "unknown", &["STS cannot be reached"]);
    assert!(world.simulator.requests().is_empty());
}

// --- pgiam credentials --verify ---

fn credentials(world: &World, arguments: &[&str]) -> (bool, String) {
    world.simulator.set_account(world.account.clone());
    let output = clean_command(product("pgiam"))
        .args(["credentials", "--verify"])
        .args(arguments)
        .env("AWS_ENDPOINT_URL", world.simulator.url())
        .env("AWS_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", &world.user.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &world.user.secret_access_key)
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn credentials_verify_prints_the_identity_that_sts_returns() {
    let mut world = World::new(&[]);
    let (succeeds, text) = credentials(&world, &[]);
    assert!(succeeds && text.contains("STS identity       arn:aws:iam::123456789012:user/jane\n"), "{text}");
    let (_, text) = credentials(&world, &["--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(report["verified"]["account"], "123456789012");
    world.user.secret_access_key = "x".repeat(40);
    let (succeeds, text) = credentials(&world, &[]);
    assert!(!succeeds && text.contains("does not belong to the access key"), "{text}");
}

// --- moto ---

#[test]
fn moto_answers_the_same_calls_for_an_instance() {
    let moto = Moto::start();
    let setup = format!(
        "
import boto3, sys, time
def client(service):
    return boto3.client(service, endpoint_url='{url}', region_name='{REGION}',
        aws_access_key_id='AKIAIOSFODNN7EXAMPLE', aws_secret_access_key='x')
database = client('rds').create_db_instance(DBInstanceIdentifier='orders-prod', Engine='postgres', DBInstanceClass='db.t3.micro',
    AllocatedStorage=20, MasterUsername='postgres', MasterUserPassword='secret-password', Port=5432)['DBInstance']
client('cloudwatch').put_metric_data(Namespace='AWS/RDS', MetricData=[dict(
    MetricName='IamDbAuthConnectionFailureInvalidToken', Value=2, Unit='Count',
    Dimensions=[dict(Name='DBInstanceIdentifier', Value='orders-prod')])])
print(database['Endpoint']['Address'])
",
        url = moto.url()
    );
    let host = moto.python(&setup);
    let keys = Credentials { access_key_id: "AKIAIOSFODNN7EXAMPLE".into(), ..Credentials::of_user("moto") };
    let found = doctor(&host, USER, &keys, moto.url(), &[]);
    found.says("identity", "ok", &["arn:aws:sts::123456789012:user/moto"]);
    found.fails("database", "iam-off", &["instance orders-prod (postgres"], "modify-db-instance");
    found.recorded("metrics", "invalid-token", &["2 times the token is invalid"], "InvalidToken");

    moto.python(&format!(
        "
import boto3, time
def client(service):
    return boto3.client(service, endpoint_url='{url}', region_name='{REGION}',
        aws_access_key_id='AKIAIOSFODNN7EXAMPLE', aws_secret_access_key='x')
client('rds').modify_db_instance(DBInstanceIdentifier='orders-prod', EnableIAMDatabaseAuthentication=True,
    CloudwatchLogsExportConfiguration=dict(EnableLogTypes=['iam-db-auth-error']), ApplyImmediately=True)
logs, group = client('logs'), '/aws/rds/instance/orders-prod/iam-db-auth-error'
logs.create_log_group(logGroupName=group)
logs.create_log_stream(logGroupName=group, logStreamName='s')
logs.put_log_events(logGroupName=group, logStreamName='s', logEvents=[
    dict(timestamp=int(time.time() * 1000), message='ExpiredToken for app_user')])
",
        url = moto.url()
    ));
    let found = doctor(&host, USER, &keys, moto.url(), &[]);
    found.says("database", "ok", &["IAM authentication is on", "resource id db-"]);
    found.says("policy", "unknown", &["not simulated", "SimulatePrincipalPolicy"]);
    found.recorded("log", "invalid-token", &["ExpiredToken for app_user"], "aws logs tail");
}

#[test]
fn policies_of_a_role_are_read_from_moto_too() {
    let moto = Moto::start();
    let keys = moto.python(&format!(
        "
import boto3, json
def client(service):
    return boto3.client(service, endpoint_url='{url}', region_name='{REGION}',
        aws_access_key_id='AKIAIOSFODNN7EXAMPLE', aws_secret_access_key='x')
rds, iam, sts = client('rds'), client('iam'), client('sts')
rds.create_db_instance(DBInstanceIdentifier='orders-prod', Engine='postgres', DBInstanceClass='db.t3.micro',
    AllocatedStorage=20, MasterUsername='postgres', MasterUserPassword='secret-password', Port=5432,
    EnableIAMDatabaseAuthentication=True)
def document(resource):
    return json.dumps(dict(Version='2012-10-17', Statement=[
        dict(Effect='Allow', Action='rds-db:connect', Resource=resource)]))
trust = json.dumps(dict(Version='2012-10-17', Statement=[
    dict(Effect='Allow', Action='sts:AssumeRole', Principal=dict(AWS='*'))]))
iam.create_role(Path='/apps/', RoleName='orders', AssumeRolePolicyDocument=trust)
managed = iam.create_policy(PolicyName='orders-db', PolicyDocument=document(
    'arn:aws:rds-db:{REGION}:123456789012:dbuser:orders-prod/*'))['Policy']['Arn']
iam.attach_role_policy(RoleName='orders', PolicyArn=managed)
keys = sts.assume_role(RoleArn='arn:aws:iam::123456789012:role/apps/orders', RoleSessionName='pod')['Credentials']
host = rds.describe_db_instances()['DBInstances'][0]['Endpoint']['Address']
print(host, keys['AccessKeyId'], keys['SecretAccessKey'], keys['SessionToken'])
",
        url = moto.url()
    ));
    let [host, id, secret, token] = keys.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{keys}") };
    let keys = Credentials {
        access_key_id: id.into(),
        secret_access_key: secret.into(),
        session_token: Some(token.into()),
        ..Credentials::of_user("moto")
    };
    let found = doctor(host, USER, &keys, moto.url(), &[]);
    found.says("identity", "ok", &["assumed-role/orders/pod"]);
    let words =
        ["policy arn:aws:iam::123456789012:policy/orders-db", "the resource id is orders-prod, but it must be db-"];
    found.fails("policy", "policy-resource-id", &words, "aws iam put-role-policy --role-name orders");
}
