//! `pgiam setup`: what each step says about a database, a user and a policy in each state, and `--apply` against the
//! simulator and a real server.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use aws_simulator::{DbInstance, Principal, ProxySecret, SimulatorOptions, Statement};
use serde_json::Value;

use crate::doctor::{Postgres16, admin};
use crate::doctor_aws::{CLUSTER, CUSTOM, DSQL, INSTANCE, MEMBER, PROXY, RIGHT_ID, USER, World, resource, session_of};
use crate::support::{ENDPOINT, Server, clean_command, expect_success, product, root, server, texts};

/// `pgiam setup` with the credentials of this world's user.
fn command(world: &World, arguments: &[&str]) -> Command {
    world.simulator.set_account(world.account.clone());
    let mut command = clean_command(product("pgiam"));
    command
        .arg("setup")
        .args(arguments)
        .env("AWS_ENDPOINT_URL", world.simulator.url())
        .env("AWS_ACCESS_KEY_ID", &world.user.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", &world.user.secret_access_key)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .envs(world.user.session_token.iter().map(|token| ("AWS_SESSION_TOKEN", token)))
        .stdin(Stdio::null());
    command
}

/// The steps that `--format json` prints.
struct Steps {
    status: i32,
    steps: Vec<Value>,
    policy: Value,
}

impl Steps {
    fn of(mut command: Command) -> Self {
        let output = command.args(["--format", "json"]).output().unwrap();
        let (out, err) = texts(&output);
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
        let status = output.status.code().unwrap();
        assert_eq!(report["ok"] == true, status == 0, "{out}");
        Self { status, steps: report["steps"].as_array().unwrap().clone(), policy: report["policy"].clone() }
    }

    #[track_caller]
    fn step(&self, name: &str) -> &Value {
        let found = self.steps.iter().find(|step| step["step"] == name);
        found.unwrap_or_else(|| panic!("no step {name} in {:#?}", self.steps))
    }

    fn has(&self, name: &str) -> bool {
        self.steps.iter().any(|step| step["step"] == name)
    }

    /// The state of the step, words of its text, and its commands.
    #[track_caller]
    fn says(&self, name: &str, state: &str, words: &[&str], commands: &[&str]) {
        let step = self.step(name);
        assert_eq!(step["state"], state, "{step:#}");
        let all: Vec<&str> = step["commands"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        for word in words {
            assert!(step["text"].as_str().unwrap().contains(word), "{word}: {step:#}");
        }
        for command in commands {
            assert!(all.join("\n").contains(command), "{command}: {step:#}");
        }
    }
}

fn setup(world: &World, host: &str, arguments: &[&str]) -> Steps {
    Steps::of(command(world, &[&["-h", host, "-U", USER], arguments].concat()))
}

const ENABLE: &str = "aws rds modify-db-instance --region eu-central-1 --db-instance-identifier orders-prod \
                      --enable-iam-database-authentication --apply-immediately";
const EXPORT: &str = "aws rds modify-db-instance --region eu-central-1 --db-instance-identifier orders-prod \
                      --cloudwatch-logs-export-configuration '{\"EnableLogTypes\":[\"iam-db-auth-error\"]}'";

// --- the database and the policy ---

#[test]
fn the_steps_of_an_instance_are_printed_with_their_commands_and_whether_they_are_done() {
    let mut world = World::new(&[]);
    world.instance().iam_enabled = false;
    world.instance().log_exports.clear();
    let to_do = setup(&world, INSTANCE, &[]);
    assert_eq!(to_do.status, 1);
    to_do.says("identity", "done", &["arn:aws:iam::123456789012:user/jane"], &[]);
    to_do.says("database", "done", &["instance orders-prod (postgres 16.3)", RIGHT_ID], &[]);
    to_do.says("iam", "to do", &["IAM authentication is off"], &[ENABLE]);
    to_do.says("log", "to do", &["is not exported"], &[EXPORT]);
    let put = "aws iam put-user-policy --user-name jane --policy-name pgiam-db-ABCDEFGHIJKL01234-app_user";
    to_do.says("policy", "to do", &["no policy of user jane"], &[put, &resource(RIGHT_ID, USER)]);
    let psql = format!("psql -h {INSTANCE} -U postgres -d postgres -c 'CREATE USER \"app_user\"'");
    to_do.says("role", "unknown", &["--admin CONNINFO"], &[&psql]);
    to_do.says("grant", "unknown", &["--admin CONNINFO"], &["-c 'GRANT rds_iam TO \"app_user\"'"]);
    let bundle = "curl -fsSO https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem";
    to_do.says("ca", "to do", &["sslmode not set"], &[bundle, "PGSSLROOTCERT=global-bundle.pem"]);
    assert_eq!(to_do.policy["Statement"][0]["Resource"], resource(RIGHT_ID, USER));

    let done = setup(&World::new(&[&resource(RIGHT_ID, USER)]), INSTANCE, &[]);
    done.says("iam", "done", &["IAM authentication is on"], &[ENABLE]);
    done.says("log", "done", &["is exported"], &[EXPORT]);
    done.says("policy", "done", &["user jane may rds-db:connect", &resource(RIGHT_ID, USER)], &[put]);
    assert!(world.simulator.requests().iter().all(|request| {
        let action = request.form_parameter("Action").unwrap_or_default();
        ["Get", "Describe", "Simulate", "List"].iter().any(|start| action.starts_with(start))
    }));
}

#[test]
fn text_is_one_line_for_each_step_and_ends_with_the_line_of_doctor() {
    let mut world = World::new(&[&resource(RIGHT_ID, USER)]);
    world.instance().iam_enabled = false;
    let output = command(&world, &["-h", INSTANCE, "-U", USER, "-p", "5433", "-d", "app"]).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains(&format!("\nto do iam         IAM authentication is off\n      -> {ENABLE}\n")), "{out}");
    assert!(out.contains("\ndone  log         the log iam-db-auth-error"), "{out}");
    assert!(out.contains("\n?     role        not looked up"), "{out}");
    let last = format!("      -> pgiam doctor -h {INSTANCE} -p 5433 -U app_user -d app\n");
    assert!(out.ends_with(&last), "{out}");
}

#[test]
fn all_steps_done_is_exit_status_0() {
    let server = server();
    server.as_superuser("postgres", "CREATE ROLE setup_done LOGIN IN ROLE rds_iam");
    let world = World::new(&[&resource(RIGHT_ID, "setup_done")]);
    let arguments = ["-h", INSTANCE, "-U", "setup_done", "--admin", &admin(server)];
    let mut done = command(&world, &arguments);
    done.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", &server.ca);
    let steps = Steps::of(done);
    assert_eq!(steps.status, 0, "{:#?}", steps.steps);
    steps.says("role", "done", &["setup_done exists"], &["CREATE USER"]);
    steps.says("grant", "done", &["setup_done -> rds_iam"], &["GRANT rds_iam"]);
    steps.says("members", "done", &["nobody else"], &[]);
    steps.says("ca", "done", &["sslmode verify-full"], &[]);
    let mut without_bundle = command(&world, &arguments);
    without_bundle.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", "/nonexistent/ca.pem");
    let steps = Steps::of(without_bundle);
    steps.says("ca", "to do", &["/nonexistent/ca.pem"], &["curl -fsSO"]);
    assert_eq!(steps.status, 1);
}

#[test]
fn wrong_arguments_are_exit_status_2() {
    let world = World::new(&[]);
    let role = "arn:aws:iam::210987654321:role/app";
    for (arguments, words) in [
        (&["-h", "db.example.com", "-U", USER][..], "is not the name of an endpoint"),
        (&["-h", INSTANCE, "-U", USER, "--format", "yaml"], "--format"),
        (&["-h", INSTANCE, "-U", USER, "--yes"], "--apply"),
        (&["-h", INSTANCE, "-U", USER, "--apply", "--format", "json"], "--format"),
        (&["-h", INSTANCE, "-U", USER, "--principal", "app"], "--principal"),
        (&["-h", INSTANCE, "-U", USER, "--principal", role], "does not work across accounts"),
    ] {
        let output = command(&world, arguments).output().unwrap();
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {out}{err}");
        assert!(err.contains(words) && out.is_empty(), "{arguments:?}: {out}{err}");
    }
}

#[test]
fn a_cluster_is_set_up_by_its_own_id_and_commands_whichever_of_its_endpoints_is_given() {
    let mut world = World::new(&[]);
    world.account.clusters[0].iam_enabled = false;
    world.account.clusters[0].master_user = "master".into();
    let enable = "aws rds modify-db-cluster --region eu-central-1 --db-cluster-identifier billing --enable-iam";
    for host in [CLUSTER, MEMBER, &CLUSTER.replace(".cluster-", ".cluster-ro-"), CUSTOM] {
        let steps = setup(&world, host, &[]);
        steps.says("database", "done", &["cluster billing", "cluster-ABCDEFGHIJKL01234"], &[]);
        steps.says("iam", "to do", &["is off"], &[enable]);
        steps.says("log", "to do", &["is not exported"], &["aws rds modify-db-cluster"]);
        steps.says("policy", "to do", &[], &[&resource("cluster-ABCDEFGHIJKL01234", USER)]);
        // A reader takes no CREATE USER.
        let writer = if host == MEMBER { MEMBER } else { CLUSTER };
        steps.says("role", "unknown", &[], &[&format!("psql -h {writer} -U master")]);
    }
}

#[test]
fn a_change_that_is_pending_or_would_be_made_too_is_told() {
    let mut world = World::new(&[]);
    world.instance().iam_enabled = false;
    world.instance().iam_pending = Some(true);
    setup(&world, INSTANCE, &[]).says("iam", "to do", &["pending until the next maintenance window"], &[ENABLE]);
    world.instance().pending = vec!["DBInstanceClass".into()];
    setup(&world, INSTANCE, &[]).says("iam", "to do", &["with a restart: DBInstanceClass"], &[ENABLE]);
    world.instance().iam_enabled = true;
    world.instance().iam_pending = Some(false);
    setup(&world, INSTANCE, &[]).says("iam", "to do", &["turning it off is pending"], &[ENABLE]);
    world.instance().iam_pending = None;
    setup(&world, INSTANCE, &[]).says("iam", "done", &["is on"], &[]);
}

#[test]
fn a_database_that_is_stopped_or_of_another_account_is_told() {
    let mut world = World::new(&[]);
    world.instance().status = "stopped".into();
    let start = "aws rds start-db-instance --region eu-central-1 --db-instance-identifier orders-prod";
    setup(&world, INSTANCE, &[]).says("database", "to do", &["instance orders-prod is stopped"], &[start]);
    let other = setup(&world, &INSTANCE.replace("orders-prod", "orders-test"), &[]);
    other.says("database", "to do", &["no instance orders-test in account 123456789012"], &["--profile PROFILE"]);
    assert!(other.status == 1 && !other.has("iam"));
}

#[test]
fn each_secret_of_a_proxy_must_require_iam_and_the_user_must_not_be_a_member_of_rds_iam() {
    let secret = |number: u32, iam: &str| ProxySecret {
        arn: format!("arn:aws:secretsmanager:eu-central-1:123456789012:secret:pool-{number}"),
        iam_auth: iam.into(),
        client_password: "POSTGRES_SCRAM_SHA_256".into(),
    };
    let mut world = World::new(&[&resource("prx-0123456789abcdef0", USER)]);
    world.account.proxies[0].secrets = vec![secret(1, "REQUIRED"), secret(2, "DISABLED")];
    let steps = setup(&world, PROXY, &["--admin", &admin(server())]);
    steps.says("database", "done", &["proxy pool", "prx-0123456789abcdef0"], &[]);
    let command = "aws rds modify-db-proxy --region eu-central-1 --db-proxy-name pool --auth \
                   AuthScheme=SECRETS,IAMAuth=REQUIRED,SecretArn=arn:aws:secretsmanager:eu-central-1:123456789012:secret:\
                   pool-1,ClientPasswordAuthType=POSTGRES_SCRAM_SHA_256 AuthScheme=SECRETS,IAMAuth=REQUIRED,SecretArn=";
    steps.says("iam", "to do", &["not REQUIRED for 1 of 2 secrets"], &[command]);
    steps.says("policy", "done", &["prx-0123456789abcdef0/app_user"], &[]);
    steps.says("secret", "unknown", &["role/service-role/pool"], &["aws secretsmanager create-secret"]);
    steps.says("grant", "to do", &["app_user -> rds_iam", "forbids"], &["REVOKE rds_iam FROM \"app_user\""]);
    steps.says("ca", "to do", &["sslrootcert=system"], &["AmazonRootCA1.pem"]);
    assert!(!steps.has("log") && !steps.has("members"));
    world.account.proxies[0].secrets[1] = secret(2, "REQUIRED");
    let user = ["-h", PROXY, "-U", "not_granted", "--admin", &admin(server())];
    let steps = Steps::of(self::command(&world, &user));
    steps.says("iam", "done", &["REQUIRED for each secret"], &[]);
    steps.says("grant", "done", &["not_granted is not a member of rds_iam"], &[]);
}

#[test]
fn a_proxy_that_logs_in_with_iam_needs_a_policy_of_its_own() {
    let mut world = World::new(&[]);
    let proxy = &mut world.account.proxies[0];
    proxy.secrets.clear();
    proxy.default_auth_scheme = "IAM_AUTH".into();
    let role = Principal { arn: proxy.role_arn.clone(), ..Principal::default() };
    world.account.principals.push(role);
    let steps = setup(&world, PROXY, &[]);
    steps.says("iam", "done", &["logs in to the database with IAM"], &[]);
    let put = "aws iam put-role-policy --role-name pool";
    steps.says("proxy-role", "to do", &["no policy of role pool"], &[put, &resource(RIGHT_ID, USER)]);
    steps.says("grant", "unknown", &[], &["GRANT rds_iam TO"]);
    let allow = Statement::allow("rds-db:connect", &resource(RIGHT_ID, USER));
    world.account.principals[1].statements.push(allow);
    setup(&world, PROXY, &[]).says("proxy-role", "done", &["role pool may"], &[]);
}

#[test]
fn what_may_not_be_looked_up_is_unknown_names_the_permission_and_still_has_its_command() {
    let mut world = World::new(&[]);
    world.statements().retain(|statement| !statement.action[0].starts_with("rds:"));
    for (host, permission, command) in [
        (
            INSTANCE,
            "rds:DescribeDBInstances",
            "modify-db-instance --region eu-central-1 --db-instance-identifier orders-prod",
        ),
        (CLUSTER, "rds:DescribeDBClusters", "modify-db-cluster --region eu-central-1 --db-cluster-identifier billing"),
        (PROXY, "rds:DescribeDBProxies", "modify-db-proxy --region eu-central-1 --db-proxy-name pool"),
    ] {
        let steps = setup(&world, host, &[]);
        let words = ["missing permission", permission];
        steps.says("database", "unknown", &words, &["aws rds describe-db-"]);
        steps.says("iam", "unknown", &words, &[command]);
        steps.says("policy", "unknown", &words, &["aws iam put-user-policy", "dbuser:RESOURCE_ID/app_user"]);
    }
    world.statements().clear();
    world.statements().push(Statement::allow("rds:*", "*"));
    let steps = setup(&world, INSTANCE, &[]);
    steps.says("iam", "done", &[], &[]);
    steps.says("policy", "unknown", &["iam:SimulatePrincipalPolicy"], &["aws iam put-user-policy"]);
}

#[test]
fn without_credentials_the_commands_are_printed_with_placeholders() {
    let world = World::new(&[]);
    for (host, region, partition) in [
        ("orders-prod.c9akciq32rpa.us-gov-west-1.rds.amazonaws.com", "us-gov-west-1", "aws-us-gov"),
        ("orders-prod.c9akciq32rpa.rds.cn-north-1.amazonaws.com.cn", "cn-north-1", "aws-cn"),
        ("orders-prod.c9akciq32rpa.eusc-de-east-1.rds.amazonaws.eu", "eusc-de-east-1", "aws-eusc"),
    ] {
        let mut without = command(&world, &["-h", host, "-U", USER]);
        without.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        let steps = Steps::of(without);
        steps.says("identity", "unknown", &["no credentials"], &["pgiam credentials"]);
        let enable = format!("aws rds modify-db-instance --region {region}");
        steps.says("principal", "unknown", &["not known who logs in", "--principal"], &["pgiam credentials --verify"]);
        steps.says("iam", "unknown", &["no credentials"], &[&enable]);
        let resource = format!("arn:{partition}:rds-db:{region}:ACCOUNT:dbuser:RESOURCE_ID/app_user");
        steps.says("policy", "unknown", &["rds-db:connect"], &["aws iam create-policy", &resource]);
    }
    assert!(world.simulator.requests().is_empty());
}

#[test]
fn the_policy_is_for_the_given_role_and_else_for_the_caller_who_is_told_where_to_look() {
    let mut world = World::new(&[]);
    let arn = "arn:aws:iam::123456789012:role/apps/app-server";
    world.account.principals.push(Principal { arn: arn.into(), ..Principal::default() });
    let steps = setup(&world, INSTANCE, &["--principal", arn]);
    steps.says("principal", "done", &["role app-server logs in"], &[]);
    steps.says("policy", "to do", &["no policy of role app-server"], &["put-role-policy --role-name app-server"]);
    let steps = setup(&world, INSTANCE, &[]);
    let commands = ["pgiam credentials --verify", "aws ec2", "aws ecs", "aws eks"];
    steps.says("principal", "done", &["user jane", "EC2, ECS or EKS", "--principal"], &commands);
    world.user = session_of(&world.simulator, "ecsTaskExecutionRole");
    world.account.principals[0].arn = "arn:aws:iam::123456789012:role/ecsTaskExecutionRole".into();
    let steps = setup(&world, INSTANCE, &[]);
    steps.says("identity", "done", &["taskRoleArn"], &[]);
    steps.says("policy", "to do", &[], &["put-role-policy --role-name ecsTaskExecutionRole"]);
}

#[test]
fn names_are_quoted_for_sql_and_for_the_shell() {
    let world = World::new(&[]);
    let user = "o'neil \"x\"@corp.com";
    let steps = Steps::of(command(&world, &["-h", INSTANCE, "-U", user, "--profile", "my team"]));
    let expected = r#"-c 'CREATE USER "o'\''neil ""x""@corp.com"'"#;
    steps.says("role", "unknown", &[], &[expected]);
    steps.says("iam", "unknown", &[], &["aws --profile 'my team' rds modify-db-instance"]);
    let doctor = steps.step("login")["commands"][0].as_str().unwrap();
    assert!(doctor.starts_with("pgiam doctor --profile 'my team' -h "), "{doctor}");
    // A shell reads the commands back as they were.
    let role = steps.step("role")["commands"][0].as_str().unwrap().replacen("psql", "printf '%s\\n'", 1);
    let read = expect_success("sh", &clean_command("sh").args(["-c", &role]).output().unwrap());
    assert!(read.ends_with("-c\nCREATE USER \"o'neil \"\"x\"\"@corp.com\"\n"), "{read}");
}

// --- roles ---

fn with_admin(user: &str, admin: &str) -> Steps {
    Steps::of(command(&World::new(&[]), &["-h", INSTANCE, "-U", user, "--admin", admin]))
}

#[test]
fn roles_and_memberships_are_looked_up_with_the_administrators_connection() {
    let server = server();
    server.as_superuser("postgres", "CREATE ROLE setup_nologin; CREATE ROLE \"Setup_Case\" LOGIN");
    let missing = with_admin("setup_missing", &admin(server));
    missing.says("role", "to do", &["no role setup_missing"], &["user=postgres'", "CREATE USER \"setup_missing\""]);
    missing.says("grant", "to do", &["was not granted rds_iam"], &["GRANT rds_iam TO \"setup_missing\""]);
    // A superuser does not become a member of the roles that it creates.
    missing.says("members", "done", &["nobody else"], &[]);
    with_admin("setup_nologin", &admin(server)).says("role", "to do", &["cannot log in"], &["ALTER ROLE"]);
    with_admin("setup_case", &admin(server)).says("role", "to do", &["there is Setup_Case"], &["CREATE USER"]);
    let granted = with_admin("app_user", &admin(server));
    granted.says("role", "done", &["app_user exists"], &[]);
    granted.says("grant", "done", &["app_user -> rds_iam"], &[]);
    let unreachable = with_admin("app_user", "host=/nonexistent hostaddr='' user=postgres dbname=postgres");
    unreachable.says("role", "unknown", &["--admin: psql: ", "/nonexistent"], &["CREATE USER"]);
}

#[test]
fn in_postgresql_16_the_creator_is_told_before_the_grant_that_its_password_will_be_refused() {
    let server = Postgres16::start();
    let sql = "CREATE ROLE rds_iam; CREATE ROLE setup_master LOGIN CREATEROLE PASSWORD 'x'; CREATE ROLE rds_ad;
               CREATE ROLE setup_ad LOGIN IN ROLE rds_iam, rds_ad;
               GRANT rds_iam TO setup_master WITH ADMIN TRUE, INHERIT FALSE, SET FALSE";
    let psql = |sql: &str| {
        let output = clean_command("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &server.admin(), "-c", sql])
            .output()
            .unwrap();
        expect_success(sql, &output);
    };
    psql(sql);
    let as_master = server.admin().replace("user=postgres", "user=setup_master");
    let before = with_admin("setup_app", &as_master);
    let words = ["its members become members of rds_iam: setup_master.", "let who created setup_app revoke"];
    let test = format!("psql-iam -h {INSTANCE} -U setup_master");
    before.says("members", "to do", &words, &[&resource(RIGHT_ID, "setup_master"), &test]);
    // With a policy for its own token it is not locked out.
    let world = World::new(&[&resource(RIGHT_ID, "setup_master")]);
    let arguments = ["-h", INSTANCE, "-U", "setup_app", "--admin", &as_master];
    Steps::of(command(&world, &arguments)).says("members", "done", &["setup_master", "user jane may"], &[]);
    // Afterwards the catalogs say so.
    psql("SET ROLE setup_master; CREATE USER setup_app");
    let after = with_admin("setup_app", &as_master);
    after.says("role", "done", &[], &[]);
    after.says("members", "to do", &words[..1], &[]);
    with_admin("setup_app", &server.admin()).says("members", "unknown", &words[..1], &["REVOKE"]);
    // A superuser creates a role without becoming a member.
    with_admin("setup_other", &server.admin()).says("members", "done", &["nobody else"], &[]);
    // A ticket would be demanded of a member of rds_ad.
    let both = with_admin("setup_ad", &server.admin());
    both.says("grant", "to do", &["rds_ad, which takes precedence"], &["REVOKE rds_ad FROM \"setup_ad\""]);
    // Without --admin the step says what can happen.
    let steps = setup(&World::new(&[]), INSTANCE, &[]);
    let words = ["On PostgreSQL 16 and later", "the password of postgres is refused", "keep the session open"];
    steps.says("members", "unknown", &words, &[&resource(RIGHT_ID, "postgres")]);
}

// --- formats ---

fn template(world: &World, arguments: &[&str]) -> Value {
    let output = command(world, &[&["-h", INSTANCE, "-U", USER], arguments].concat()).output().unwrap();
    serde_json::from_str(&expect_success("the template", &output)).unwrap()
}

#[test]
fn terraform_gets_the_policy_and_a_new_role_or_the_given_one() {
    let world = World::new(&[]);
    let new = template(&world, &["--format", "terraform"]);
    let name = "pgiam-db-ABCDEFGHIJKL01234-app_user";
    let (role, policy) = (&new["resource"]["aws_iam_role"][name], &new["resource"]["aws_iam_role_policy"][name]);
    let trust: Value = serde_json::from_str(role["assume_role_policy"].as_str().unwrap()).unwrap();
    assert_eq!(trust["Statement"][0]["Principal"]["Service"], "ec2.amazonaws.com");
    let document: Value = serde_json::from_str(policy["policy"].as_str().unwrap()).unwrap();
    assert_eq!(document["Statement"][0]["Resource"], resource(RIGHT_ID, USER));
    assert_eq!(policy["role"], format!("${{aws_iam_role.{name}.id}}"));
    let note = new["//"].as_str().unwrap();
    assert!(note.contains("aws_db_instance orders-prod needs iam_database_authentication_enabled = true"), "{note}");
    let arn = "arn:aws:iam::123456789012:role/apps/app-server";
    let given = template(&world, &["--format", "terraform", "--principal", arn]);
    assert_eq!(given["resource"]["aws_iam_role_policy"][name]["role"], "app-server");
    assert!(given["resource"]["aws_iam_role"].is_null());
}

#[test]
fn cloudformation_gets_the_policy_and_a_new_role_or_the_given_user() {
    let world = World::new(&[]);
    let new = template(&world, &["--format", "cloudformation"]);
    assert_eq!(new["AWSTemplateFormatVersion"], "2010-09-09");
    let policy = &new["Resources"]["Policy"];
    assert_eq!(
        (&policy["Type"], &policy["Properties"]["Roles"][0]["Ref"]),
        (&"AWS::IAM::Policy".into(), &"Role".into())
    );
    assert_eq!(policy["Properties"]["PolicyDocument"]["Statement"][0]["Resource"], resource(RIGHT_ID, USER));
    assert_eq!(new["Resources"]["Role"]["Type"], "AWS::IAM::Role");
    let note = new["Metadata"]["Note"].as_str().unwrap();
    assert!(note.contains("AWS::RDS::DBInstance orders-prod needs EnableIAMDatabaseAuthentication"), "{note}");
    let arn = "arn:aws:iam::123456789012:user/ops/jane.doe";
    let given = template(&world, &["--format", "cloudformation", "--principal", arn]);
    assert_eq!(given["Resources"]["Policy"]["Properties"]["Users"], serde_json::json!(["jane.doe"]));
    assert_eq!(given["Resources"].as_object().unwrap().len(), 1);
}

#[test]
fn a_template_without_the_resource_id_is_not_printed() {
    let mut world = World::new(&[]);
    world.statements().clear();
    for format in ["terraform", "cloudformation"] {
        let output = command(&world, &["-h", INSTANCE, "-U", USER, "--format", format]).output().unwrap();
        let (out, err) = texts(&output);
        assert_eq!((output.status.code(), out.as_str()), (Some(1), ""));
        assert!(err.contains("missing permission rds:DescribeDBInstances"), "{err}");
    }
}

// --- Aurora DSQL ---

#[test]
fn for_dsql_the_role_is_granted_to_an_arn() {
    let mut world = World::new(&[]);
    let arn = "arn:aws:iam::123456789012:role/apps/app-server";
    world.account.principals.push(Principal { arn: arn.into(), ..Principal::default() });
    let steps = setup(&world, DSQL, &["--principal", arn]);
    let psql = format!("psql-iam -h {DSQL} -U admin -d postgres -c");
    let grant = format!("{psql} 'AWS IAM GRANT \"app_user\" TO '\\''{arn}'\\'''");
    steps.says("role", "unknown", &[], &[&format!("{psql} 'CREATE ROLE \"app_user\" WITH LOGIN'"), &grant]);
    let cluster = "arn:aws:dsql:eu-central-1:123456789012:cluster/iuabtyq7pzsk4qfm2hmjz6gzqe";
    steps.says("policy", "to do", &["dsql:DbConnect on"], &["put-role-policy --role-name app-server", cluster]);
    let admin = Steps::of(command(&world, &["-h", DSQL, "-U", "admin"]));
    admin.says("policy", "to do", &["dsql:DbConnectAdmin"], &[]);
    admin.says("role", "done", &["the role admin is there"], &[]);
    assert!(!steps.has("iam") && !steps.has("log"));
}

// --- --apply ---

const MYPG_ID: &str = "db-MYPG000000000001";

/// The account of the test server: an instance on which nothing is set up. Its policies decide who logs in.
fn unprepared(server: &Server, users: &[&str]) -> World {
    let options = SimulatorOptions { credentials_dir: Some(server.credentials.clone()), ..SimulatorOptions::default() };
    let mut world = World::with(options, &[]);
    world.statements().push(Statement::allow("rds:Modify*", "*"));
    let text = str::to_owned;
    world.account.instances = vec![DbInstance {
        identifier: text("mypg"),
        resource_id: text(MYPG_ID),
        endpoint: text(ENDPOINT),
        port: server.port,
        engine: text("postgres"),
        engine_version: text("15.4"),
        status: text("available"),
        master_user: text("postgres"),
        change_takes: 2,
        ..DbInstance::default()
    }];
    world.simulator.decide_logins(MYPG_ID, users);
    world
}

/// `pgiam setup` for the test server.
fn on_server(world: &World, server: &Server, arguments: &[&str]) -> Command {
    let mut command = command(world, &[&["-h", ENDPOINT, "-d", "app"], arguments].concat());
    command
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGPORT", server.port.to_string())
        .env("PGSSLMODE", "verify-full")
        .env("PGSSLROOTCERT", &server.ca);
    command
}

/// The connection with a password of a role that is no superuser.
fn by_password(server: &Server, role: &str) -> String {
    format!("host=127.0.0.1 port={} user={role} password={role} dbname=app sslmode=require", server.port)
}

fn is_granted(server: &Server, user: &str) -> bool {
    let sql = format!(
        "SELECT count(*) FROM pg_auth_members WHERE member = (SELECT oid FROM pg_roles WHERE rolname = '{user}')
        AND roleid = 'rds_iam'::regrole"
    );
    server.as_superuser("postgres", &sql) == "1"
}

/// What was changed by requests.
fn changes(world: &World) -> Vec<String> {
    let requests = world.simulator.requests();
    let actions = requests.iter().filter_map(|request| request.form_parameter("Action"));
    actions.filter(|action| action.starts_with("Modify") || action.starts_with("Put")).collect()
}

#[test]
fn apply_does_each_step_and_logs_in_with_a_token() {
    let server = server();
    let world = unprepared(server, &["setup_new"]);
    let arguments = ["-U", "setup_new", "--admin", &admin(server), "--apply", "--yes"];
    let output = on_server(&world, server, &arguments).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    for step in ["iam", "log", "policy", "role", "members", "grant", "ca", "login"] {
        assert!(out.contains(&format!("\ndone  {step} ")), "{step}: {out}");
    }
    assert!(
        out.contains(&format!(
            "\nto do policy      no policy of user jane allows rds-db:connect on {}",
            resource(MYPG_ID, "setup_new")
        )),
        "{out}"
    );
    assert!(err.contains("waiting for AWS, at most 600 seconds"), "{err}");
    assert_eq!(changes(&world), ["ModifyDBInstance", "ModifyDBInstance", "PutUserPolicy"]);
    let instance = &world.simulator.account().instances[0];
    assert!(instance.iam_enabled && instance.log_exports == ["iam-db-auth-error"]);
    assert!(is_granted(server, "setup_new"));
    assert_eq!(server.decision(&world.user.access_key_id), "accepted");
    // Then nothing is left.
    let again = World { account: world.simulator.account(), ..world };
    again.simulator.clear_requests();
    let output = on_server(&again, server, &arguments).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert!(!out.contains("to do") && changes(&again).is_empty(), "{out}");
}

#[test]
fn apply_sets_up_a_cluster_by_its_own_call() {
    let mut world = World::new(&[&resource("cluster-ABCDEFGHIJKL01234", USER)]);
    world.statements().push(Statement::allow("rds:Modify*", "*"));
    let cluster = &mut world.account.clusters[0];
    (cluster.iam_enabled, cluster.change_takes) = (false, 1);
    let output = command(&world, &["-h", MEMBER, "-U", USER, "--apply", "--yes", "--wait=5"])
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGPORT", aws_simulator::refused_port().unwrap().port().to_string())
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert!(out.contains("\ndone  iam ") && out.contains("\ndone  log "), "{out}{err}");
    assert_eq!(changes(&world), ["ModifyDBCluster", "ModifyDBCluster"]);
    // The roles were not looked up, and the server cannot be reached.
    assert!(
        out.contains("\n?     grant ") && out.contains("\nto do login       app_user cannot log in with a token: "),
        "{out}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn without_a_terminal_apply_needs_yes_and_asks_aws_nothing() {
    let world = World::new(&[]);
    let mut setsid = clean_command("setsid");
    let pgiam = command(&world, &["-h", INSTANCE, "-U", USER, "--apply"]);
    setsid.arg("--wait").arg(pgiam.get_program()).args(pgiam.get_args());
    setsid.envs(pgiam.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdin(Stdio::null());
    let output = setsid.output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(2), "{out}{err}");
    assert!(err.contains("there is no terminal to ask at; --yes"), "{err}");
    assert!(out.is_empty() && world.simulator.requests().is_empty());
}

/// Runs the command on a terminal at which somebody types. Returns whether it succeeded, and what the terminal shows.
fn on_a_terminal(pgiam: &Command, typed: &str) -> (bool, String) {
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"));
    let words: Vec<String> = std::iter::once(pgiam.get_program()).chain(pgiam.get_args()).map(quoted).collect();
    let mut process = clean_command("script")
        .args(["-qec", &words.join(" "), "/dev/null"])
        .envs(pgiam.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("script runs");
    process.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    let output: Output = process.wait_with_output().unwrap();
    (output.status.success(), texts(&output).0.replace('\r', ""))
}

#[test]
fn at_a_terminal_each_step_is_asked_for_and_no_changes_nothing() {
    let server = server();
    let world = unprepared(server, &["setup_asked"]);
    let admin = admin(server);
    let arguments = ["-U", "setup_asked", "--admin", admin.as_str(), "--apply"];
    let (succeeded, shown) = on_a_terminal(&on_server(&world, server, &arguments), "n\n\nno\nx\nn\n");
    assert!(!succeeded, "{shown}");
    assert_eq!(shown.matches("Do this? [y/N]").count(), 5, "{shown}");
    assert!(shown.contains("IAM authentication is off; no policy of user jane allows"), "before the grant: {shown}");
    assert!(shown.contains("?     login       not tried"), "{shown}");
    assert_eq!(changes(&world), Vec::<String>::new());
    let roles = server.as_superuser("postgres", "SELECT count(*) FROM pg_roles WHERE rolname = 'setup_asked'");
    assert_eq!(roles, "0");
    let (succeeded, shown) = on_a_terminal(&on_server(&world, server, &arguments), "y\ny\ny\nyes\nY\n");
    assert!(succeeded, "{shown}");
    assert_eq!(shown.matches("[y/N]").count(), 5, "{shown}");
    assert!(shown.contains("done  login       setup_asked is logged in with a token"), "{shown}");
    assert!(is_granted(server, "setup_asked"));
}

#[test]
fn a_grant_after_which_the_token_is_refused_is_revoked() {
    let server = server();
    // The server refuses tokens of setup_refused whatever the policy says.
    let world = unprepared(server, &["somebody_else"]);
    let arguments = ["-U", "setup_refused", "--admin", &admin(server), "--apply", "--yes", "--wait=3"];
    let output = on_server(&world, server, &arguments).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    let words = "PAM authentication failed for user \"setup_refused\". The grant is undone: REVOKE rds_iam FROM \"setup_refused\"";
    assert!(out.contains("done  grant ") && out.contains(words), "{out}");
    assert!(out.contains(&format!("-> pgiam doctor -h {ENDPOINT}")), "{out}");
    assert!(!is_granted(server, "setup_refused"));
}

/// On PostgreSQL 16 and later who creates a role is a member of it. Here it was granted. There CREATEROLE is not enough to
/// grant rds_iam, which on RDS the master user may; a superuser may on each version, and logs in by the same rules.
fn administrator_in(server: &Server, user: &str, admin: &str) {
    server.as_superuser(
        "postgres",
        &format!("CREATE ROLE {user} LOGIN; CREATE ROLE {admin} LOGIN SUPERUSER PASSWORD '{admin}' IN ROLE {user}"),
    );
}

#[test]
fn an_administrator_whose_password_is_refused_after_the_grant_logs_in_with_a_token() {
    let server = server();
    administrator_in(server, "setup_app1", "setup_master1");
    let world = unprepared(server, &["setup_app1", "setup_master1"]);
    let arguments = ["-U", "setup_app1", "--admin", &by_password(server, "setup_master1"), "--apply", "--yes"];
    let output = on_server(&world, server, &arguments).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    assert!(out.contains(&format!("user jane may rds-db:connect on {}", resource(MYPG_ID, "setup_master1"))), "{out}");
    let refused = server.log_in("setup_master1", "setup_master1").unwrap_err();
    assert!(refused.contains("PAM authentication failed"), "{refused}");
    assert!(!out.contains("password=") && !err.contains("password="), "{out}{err}");
}

#[test]
fn an_administrator_who_could_not_log_in_any_more_is_saved_by_the_open_session() {
    let server = server();
    administrator_in(server, "setup_app2", "setup_master2");
    // Only the user's tokens are accepted.
    let world = unprepared(server, &["setup_app2"]);
    let arguments =
        ["-U", "setup_app2", "--admin", &by_password(server, "setup_master2"), "--apply", "--yes", "--wait=3"];
    let output = on_server(&world, server, &arguments).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("setup_master2 cannot log in with a token: ") && out.contains("The grant is undone"), "{out}");
    assert!(!is_granted(server, "setup_app2"));
    assert_eq!(server.log_in("setup_master2", "setup_master2").as_deref(), Ok("setup_master2"));
}

#[test]
fn nothing_is_granted_while_the_administrator_would_be_locked_out() {
    let server = server();
    administrator_in(server, "setup_app3", "setup_master3");
    let mut world = unprepared(server, &["setup_app3", "setup_master3"]);
    // The policy for the administrator cannot be attached.
    let deny = |action: &str, resource: &str| Statement { effect: "Deny".into(), ..Statement::allow(action, resource) };
    world.statements().push(deny("rds-db:connect", &resource(MYPG_ID, "setup_master3")));
    let arguments =
        ["-U", "setup_app3", "--admin", &by_password(server, "setup_master3"), "--apply", "--yes", "--wait=1"];
    let output = on_server(&world, server, &arguments).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("\nto do grant       not done: with setup_app3, its members become"), "{out}");
    assert!(!is_granted(server, "setup_app3"));
    assert_eq!(server.log_in("setup_master3", "setup_master3").as_deref(), Ok("setup_master3"));
}

#[test]
fn who_logs_in_from_elsewhere_is_asked_whether_it_worked() {
    let server = server();
    let mut world = unprepared(server, &["setup_elsewhere"]);
    let arn = "arn:aws:iam::123456789012:role/apps/app-server";
    world.account.principals.push(Principal { arn: arn.into(), ..Principal::default() });
    let admin = admin(server);
    let arguments = ["-U", "setup_elsewhere", "--principal", arn, "--admin", admin.as_str(), "--apply"];
    let (succeeded, shown) = on_a_terminal(&on_server(&world, server, &arguments), "y\ny\ny\ny\ny\nn\ny\n");
    assert!(!succeeded, "{shown}");
    assert!(
        shown.contains("Try this as role app-server: psql-iam -h ") && shown.contains("Did it log in? [y/N]"),
        "{shown}"
    );
    assert!(shown.contains("Undo the grant with REVOKE rds_iam FROM \"setup_elsewhere\"? [y/N]"), "{shown}");
    assert!(!is_granted(server, "setup_elsewhere"), "{shown}");
    assert_eq!(changes(&world), ["ModifyDBInstance", "ModifyDBInstance", "PutRolePolicy"]);
    let world = World { account: world.simulator.account(), ..world };
    let (succeeded, shown) = on_a_terminal(&on_server(&world, server, &arguments), "y\ny\n");
    assert!(succeeded && is_granted(server, "setup_elsewhere"), "{shown}");
    // Nobody can be asked.
    let output = on_server(&world, server, &[&arguments[..], &["--yes"]].concat()).output().unwrap();
    assert!(texts(&output).0.contains("\n?     login       not tried: it is to be tried as role app-server"));
}

#[test]
fn other_pending_changes_are_not_made_without_somebody_who_decides_it() {
    let server = server();
    let mut world = unprepared(server, &["setup_pending"]);
    world.instance().pending = vec!["DBInstanceClass".into(), "EngineVersion".into()];
    let admin = admin(server);
    let arguments = ["-U", "setup_pending", "--admin", admin.as_str(), "--apply"];
    let output = on_server(&world, server, &[&arguments[..], &["--yes"]].concat()).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(
        out.contains("not done: other pending changes would be made with it: DBInstanceClass, EngineVersion"),
        "{out}"
    );
    assert!(!world.simulator.account().instances[0].iam_enabled && !is_granted(server, "setup_pending"));
    let (_, shown) = on_a_terminal(&on_server(&world, server, &arguments), "y\nn\nn\nn\nn\n");
    assert!(shown.contains("DBInstanceClass, EngineVersion. Do this? [y/N]"), "{shown}");
    assert!(world.simulator.account().instances[0].iam_enabled);
}

#[test]
fn a_change_that_does_not_end_is_told_after_the_time_for_it() {
    let server = server();
    let mut world = unprepared(server, &["setup_slow"]);
    world.instance().change_takes = 1_000_000;
    let arguments = ["-U", "setup_slow", "--admin", &admin(server), "--apply", "--yes", "--wait=1"];
    let output = on_server(&world, server, &arguments).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(err.contains("waiting for AWS, at most 1 seconds"), "{err}");
    assert!(
        out.contains("to do iam         IAM authentication is on after 1 seconds, and its status is modifying"),
        "{out}"
    );
    assert!(out.contains("to do log         not done: ") && out.contains("InvalidDBInstanceState"), "{out}");
    assert_eq!(changes(&world), ["ModifyDBInstance", "ModifyDBInstance"], "nothing is changed after a failure");
    assert!(!is_granted(server, "setup_slow"));
}

#[test]
fn a_step_that_is_not_permitted_names_the_permission_and_ends_the_changes() {
    let server = server();
    let mut world = unprepared(server, &["setup_denied"]);
    world.statements().retain(|statement| statement.action[0] != "rds:Modify*");
    let arguments = ["-U", "setup_denied", "--admin", &admin(server), "--apply", "--yes"];
    let output = on_server(&world, server, &arguments).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("to do iam         not done: missing permission rds:ModifyDBInstance"), "{out}");
    assert_eq!(changes(&world), ["ModifyDBInstance"]);
}

// --- the page ---

#[test]
fn the_page_about_setup_has_every_step_and_option() {
    let page = std::fs::read_to_string(root().join("docs/setup.md")).unwrap();
    let source = std::fs::read_to_string(root().join("tests/suite/setup.rs")).unwrap();
    for step in source.split(".says(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(page.contains(&format!("| `{step}` |")) || step == ", ", "docs/setup.md has no row for {step}");
    }
    let help = expect_success("--help", &clean_command(product("pgiam")).args(["setup", "--help"]).output().unwrap());
    for flag in ["--admin", "--principal", "--format", "--apply", "--yes", "--wait"] {
        assert!(help.contains(flag) && page.contains(flag), "{flag}");
    }
    let mut named = 0;
    for row in page.lines().filter(|line| line.ends_with("` |") && !line.starts_with("| `--")) {
        let test = row.trim_matches('|').rsplit('|').next().unwrap().trim().trim_matches('`');
        assert!(source.contains(&format!("fn {test}()")), "{row}");
        named += 1;
    }
    assert_eq!(named, 21);
}
