//! The way from a database with passwords to one with IAM authentication, as AWS's article "Connect to Amazon RDS for
//! PostgreSQL with IAM database authentication" goes it: enable, create a user, write a policy, attach it, log in from an EC2
//! instance and from a management host; and what is seen when the permission is missing.
//!
//! AWS is moto, which knows nothing of pgiam; the server is a real PostgreSQL, whose PAM module checks each token. That IAM
//! decides who logs in is what RDS does itself: here [`World::rds_asks_iam`] does it, with the policies that moto has.

use std::process::{Command, Output, Stdio};

use aws_simulator::{Credentials, Simulator, SimulatorOptions};
use serde_json::{Value, json};

use crate::moto::Moto;
use crate::support::{REGION, Server, clean_command, expect_success, product, python, temporary_directory, texts};

/// moto gives all instances this form of name, and one resource id.
const HOST: &str = "mypg.aaaaaaaaaa.eu-central-1.rds.amazonaws.com";
const USER: &str = "web_app";
const ROLE: &str = "arn:aws:iam::123456789012:role/app-server-role";

struct World {
    moto: Moto,
    server: Server,
    /// The metadata service of the EC2 instance. Its role's credentials are moto's.
    instance: Simulator,
    directory: tempfile::TempDir,
    /// Who has which access key.
    keys: Vec<Key>,
}

struct Key {
    /// `role/app-server-role` or `user/jane`
    owner: String,
    credentials: Credentials,
}

impl World {
    /// An account with a database without IAM authentication, a role of an EC2 instance, and two people with access keys.
    fn new() -> Self {
        let moto = Moto::start();
        let server = Server::start(&["--endpoint", HOST], &[]);
        let made = moto.python(&format!(
            "
import boto3, json
def client(service):
    return boto3.client(service, endpoint_url='{url}', region_name='{REGION}',
        aws_access_key_id='AKIAIOSFODNN7EXAMPLE', aws_secret_access_key='x')
rds, iam, sts = client('rds'), client('iam'), client('sts')
database = rds.create_db_instance(DBInstanceIdentifier='mypg', Engine='postgres', DBInstanceClass='db.t3.micro',
    AllocatedStorage=20, MasterUsername='postgres', MasterUserPassword='secret-password', Port={port})['DBInstance']
assert database['Endpoint']['Address'] == '{HOST}', database['Endpoint']
trust = json.dumps(dict(Version='2012-10-17', Statement=[
    dict(Effect='Allow', Action='sts:AssumeRole', Principal=dict(Service='ec2.amazonaws.com'))]))
iam.create_role(RoleName='app-server-role', AssumeRolePolicyDocument=trust)
keys = dict()
session = sts.assume_role(RoleArn='{ROLE}', RoleSessionName='i-0123456789abcdef0')['Credentials']
keys['role/app-server-role'] = [session['AccessKeyId'], session['SecretAccessKey'], session['SessionToken']]
for name in ['jane', 'bob']:
    iam.create_user(UserName=name)
    key = iam.create_access_key(UserName=name)['AccessKey']
    keys['user/' + name] = [key['AccessKeyId'], key['SecretAccessKey'], None]
print(json.dumps(keys))
",
            url = moto.url(),
            port = server.port,
        ));
        let made: Value = serde_json::from_str(&made).unwrap();
        let key = |(owner, key): (&String, &Value)| Key {
            owner: owner.clone(),
            credentials: Credentials {
                access_key_id: key[0].as_str().unwrap().to_owned(),
                secret_access_key: key[1].as_str().unwrap().to_owned(),
                session_token: key[2].as_str().map(str::to_owned),
                expiration: key[2]
                    .as_str()
                    .map(|_| std::time::SystemTime::now() + std::time::Duration::from_secs(3600)),
                principal: format!("arn:aws:iam::123456789012:{owner}"),
            },
        };
        let keys: Vec<Key> = made.as_object().unwrap().iter().map(key).collect();
        let options = SimulatorOptions { role: Some("app-server-role".into()), ..SimulatorOptions::default() };
        let instance = Simulator::start(options).unwrap();
        let role = keys.iter().find(|key| key.owner.starts_with("role/")).unwrap();
        instance.set_credentials(role.credentials.clone());
        let world = Self { moto, server, instance, directory: temporary_directory(), keys };
        world.rds_asks_iam();
        world
    }

    /// What RDS asks IAM at each login: whether the policies of the key's owner allow `rds-db:connect` on the resource.
    fn rds_asks_iam(&self) {
        let allowed = self.moto.python(&format!(
            "
import boto3, json
def client(service):
    return boto3.client(service, endpoint_url='{url}', region_name='{REGION}',
        aws_access_key_id='AKIAIOSFODNN7EXAMPLE', aws_secret_access_key='x')
rds, iam = client('rds'), client('iam')
database = rds.describe_db_instances(DBInstanceIdentifier='mypg')['DBInstances'][0]
right = 'arn:aws:rds-db:{REGION}:123456789012:dbuser:' + database['DbiResourceId'] + '/{USER}'
def documents(kind, name):
    owner = {{kind + 'Name': name}}
    call = lambda action, **more: getattr(iam, action.replace('KIND', kind.lower()))(**owner, **more)
    for policy in call('list_KIND_policies')['PolicyNames']:
        yield call('get_KIND_policy', PolicyName=policy)['PolicyDocument']
    for policy in call('list_attached_KIND_policies')['AttachedPolicies']:
        arn = policy['PolicyArn']
        version = iam.get_policy(PolicyArn=arn)['Policy']['DefaultVersionId']
        yield iam.get_policy_version(PolicyArn=arn, VersionId=version)['PolicyVersion']['Document']
def may(kind, name):
    statements = [statement for document in documents(kind, name) for statement in document['Statement']]
    return database['IAMDatabaseAuthenticationEnabled'] and any(
        it['Effect'] == 'Allow' and it['Action'] == 'rds-db:connect' and it['Resource'] == right for it in statements)
owners = [('Role', 'app-server-role'), ('User', 'jane'), ('User', 'bob')]
print(json.dumps({{kind.lower() + '/' + name: may(kind, name) for kind, name in owners}}))
",
            url = self.moto.url(),
        ));
        let allowed: Value = serde_json::from_str(&allowed).unwrap();
        for Key { owner, credentials } in &self.keys {
            let users = if allowed[owner] == true { vec![USER] } else { Vec::new() };
            let entry = json!({
                "access_key_id": credentials.access_key_id,
                "secret_access_key": credentials.secret_access_key,
                "session_token": credentials.session_token,
                "expiration": null,
                "principal": credentials.principal,
                "allowed_users": users,
            });
            let path = self.server.credentials.join(format!("{}.json", credentials.access_key_id));
            std::fs::write(&path, entry.to_string()).unwrap();
        }
    }

    /// A shell with `pgiam`, `psql` and `aws`, where the endpoint's name leads to the server.
    fn shell(&self, script: &str) -> Command {
        let path = [product("pgiam").parent().unwrap(), python().parent().unwrap()].map(|it| it.display().to_string());
        let mut command = clean_command("sh");
        command
            .args(["-ec", script])
            .env("PATH", format!("{}:{}", path.join(":"), std::env::var("PATH").unwrap()))
            .env("AWS_ENDPOINT_URL", self.moto.url())
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("PGHOSTADDR", "127.0.0.1")
            .env("PGPORT", self.server.port.to_string())
            .env("PGSSLMODE", "verify-full")
            .env("PGSSLROOTCERT", &self.server.ca)
            .stdin(Stdio::null());
        command
    }

    /// Where the administrator of the account works.
    fn administrator(&self, script: &str) -> String {
        let mut command = self.shell(script);
        command
            .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "x")
            .env("AWS_DEFAULT_REGION", REGION);
        let output = command.output().unwrap();
        let (out, err) = texts(&output);
        // Status 1: something is to do.
        assert!(output.status.success() || script.starts_with("pgiam setup"), "{script}: {out}{err}");
        out
    }

    /// On the EC2 instance: its role is the only source of credentials.
    fn on_the_instance(&self, script: &str) -> Output {
        let mut command = self.shell(script);
        command.env_remove("AWS_EC2_METADATA_DISABLED").env("AWS_EC2_METADATA_SERVICE_ENDPOINT", self.instance.url());
        command.output().unwrap()
    }

    /// On a management host: access keys in a profile.
    fn on_the_management_host(&self, name: &str, script: &str) -> Output {
        let config = self.directory.path().join("config");
        let key = self.keys.iter().find(|key| key.owner == format!("user/{name}")).unwrap();
        let text = format!(
            "[profile {name}]\nregion = {REGION}\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            key.credentials.access_key_id, key.credentials.secret_access_key
        );
        std::fs::write(&config, text).unwrap();
        self.shell(script).env("AWS_CONFIG_FILE", config).env("AWS_PROFILE", name).output().unwrap()
    }

    /// `pgiam setup` with the connection of the database's administrator.
    fn with_admin(&self, arguments: &str) -> String {
        let Server { socket, port, .. } = &self.server;
        let admin = format!("host={} hostaddr='' port={port} user=postgres dbname=postgres", socket.display());
        format!("pgiam setup -h {HOST} -U {USER} {arguments} --admin \"{admin}\"")
    }

    /// The commands that a step of `pgiam setup` prints, and whether it is done.
    fn setup(&self, arguments: &str, step: &str) -> (String, String) {
        let out = self.administrator(&self.with_admin(&format!("{arguments} --format json")));
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"));
        let found = report["steps"].as_array().unwrap().iter().find(|found| found["step"] == step);
        let found = found.unwrap_or_else(|| panic!("no {step} in {out}"));
        let commands: Vec<&str> = found["commands"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        (found["state"].as_str().unwrap().to_owned(), commands.join("\n"))
    }

    /// Runs what a step prints; before, it is in this state, afterwards in that.
    fn do_step(&self, arguments: &str, step: &str, before: &str, after: &str) {
        let (state, commands) = self.setup(arguments, step);
        assert_eq!(state, before, "{step}: {commands}");
        self.administrator(&commands);
        assert_eq!(self.setup(arguments, step).0, after, "{step}");
        self.rds_asks_iam();
    }
}

/// The command that logs in.
fn log_in() -> String {
    format!("pgiam exec -- psql -XAtc 'SELECT current_user' -h {HOST} -U {USER} -d app")
}

#[test]
fn from_passwords_to_iam_authentication_as_the_article_goes_it() {
    let world = World::new();
    let for_role = format!("--principal {ROLE}");

    // Enable IAM authentication, and export the log that says why a login is refused.
    world.do_step(&for_role, "iam", "to do", "done");
    world.do_step(&for_role, "log", "to do", "done");

    // Create a database user, and let it log in with tokens only.
    world.do_step(&for_role, "role", "to do", "done");
    world.do_step(&for_role, "grant", "to do", "done");

    // The instance has a role, but the role has no policy yet: the login is refused, and the doctor says why.
    let (_, err) = texts(&world.on_the_instance(&log_in()));
    assert!(err.contains("PAM authentication failed for user \"web_app\""), "{err}");
    let (out, _) = texts(&world.on_the_instance(&format!("pgiam doctor -h {HOST} -U {USER} -d app")));
    assert!(out.contains("FAIL  login ") && out.contains("database    instance mypg"), "{out}");
    assert!(out.contains("role app-server-role needs rds-db:connect on arn:aws:rds-db:eu-central-1"), "{out}");

    // Write the policy and attach it to the role. moto has no simulator of policies: they are read.
    world.do_step(&for_role, "policy", "unknown", "unknown");
    let logged_in = world.on_the_instance(&log_in());
    assert_eq!(expect_success("the login from the instance", &logged_in), "web_app\n");
    let (out, _) = texts(&world.on_the_instance(&format!("pgiam doctor -h {HOST} -U {USER} -d app")));
    assert!(out.contains("ok    login       web_app is logged in"), "{out}");

    // A person on a management host logs in with the keys of a profile, by a managed policy.
    let (_, err) = texts(&world.on_the_management_host("jane", &log_in()));
    assert!(err.contains("PAM authentication failed"), "{err}");
    let template = world.administrator(&format!("pgiam setup -h {HOST} -U {USER} --format json || true"));
    let policy = serde_json::from_str::<Value>(&template).unwrap()["policy"].to_string();
    world.administrator(&format!(
        "aws iam create-policy --policy-name web-app-db --policy-document '{policy}'
         aws iam attach-user-policy --user-name jane --policy-arn arn:aws:iam::123456789012:policy/web-app-db"
    ));
    world.rds_asks_iam();
    let logged_in = world.on_the_management_host("jane", &log_in());
    assert_eq!(expect_success("the login from the management host", &logged_in), "web_app\n");

    // Somebody else's keys do not log in, nor do these as another user.
    let (_, err) = texts(&world.on_the_management_host("bob", &log_in()));
    assert!(err.contains("PAM authentication failed for user \"web_app\""), "{err}");
    let (_, err) = texts(&world.on_the_management_host("jane", &log_in().replace("web_app", "app_user")));
    assert!(err.contains("PAM authentication failed for user \"app_user\""), "{err}");

    // The same for somebody else, with pgiam's own requests in place of the AWS CLI.
    let off = "--no-enable-iam-database-authentication --apply-immediately";
    world.administrator(&format!("aws rds modify-db-instance --db-instance-identifier mypg {off}"));
    let bob = "--principal arn:aws:iam::123456789012:user/bob";
    let done = world.administrator(&world.with_admin(&format!("{bob} --apply --yes")));
    assert!(done.contains("to do iam ") && done.contains("done  iam ") && done.contains("?     login "), "{done}");
    world.rds_asks_iam();
    let logged_in = world.on_the_management_host("bob", &log_in());
    assert_eq!(expect_success("the login of bob", &logged_in), "web_app\n");
}
