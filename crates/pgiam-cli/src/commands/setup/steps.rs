//! The steps: what each looks at, and what it says. Looking changes nothing.

use pgiam_core::{AwsSession, CallerIdentity};
use serde_json::Value;

use crate::connection::Surroundings;
use crate::failure::Failure;
use crate::login::admin::{self, has_group, path_to, paths};
use crate::login::databases::{self, DbProxy, DbServer, Found, LOG, ServerKind};
use crate::login::name::{Kind, normalized};
use crate::login::policy::{self, Need, Principal, described, find_principal, why};
use crate::login::report::{Finding, Outcome};
use crate::login::roots::Roots;
use crate::login::{Context, LoginArguments, Target, identity};
use crate::shell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Whose credentials these are.
    Identity,
    /// Who logs in.
    Principal,
    Database,
    /// IAM authentication of the server or the proxy.
    Iam,
    Log,
    Policy,
    /// The policy of the proxy itself, which logs in to its database.
    ProxyPolicy,
    /// The password with which a proxy logs in.
    Secret,
    Role,
    /// Who else becomes a member of rds_iam.
    Members,
    Grant,
    Ca,
}

/// What the endpoint leads to.
pub(super) enum Database {
    /// `member`: the instance of a cluster.
    Server {
        server: Box<DbServer>,
        member: Option<Box<DbServer>>,
    },
    Proxy(DbProxy),
    Dsql,
    /// There is none, and why.
    Missing(String),
}

/// What is known about the login.
pub(super) struct Setup<'a> {
    pub(super) context: Context<'a>,
    pub(super) session: AwsSession,
    /// Whose credentials these are. The errors here are phrases.
    pub(super) identity: Result<CallerIdentity, String>,
    /// The user or role that they are of.
    pub(super) caller: Result<Principal, String>,
    /// Who logs in.
    pub(super) principal: Result<Principal, String>,
    pub(super) database: Database,
    /// Why no more than the name of the database is known.
    pub(super) unknown: Option<String>,
    /// The administrator's session.
    pub(super) admin: Result<admin::Session, String>,
    /// What the catalogs say.
    pub(super) roles: Result<Value, String>,
}

impl<'a> Setup<'a> {
    pub(super) fn new(
        arguments: &LoginArguments,
        principal: Option<&str>,
        surroundings: &'a Surroundings<'a>,
    ) -> Result<Self, Failure> {
        let mut context = Context::new(arguments, surroundings)?;
        let host = normalized(&context.endpoint.host).into_owned();
        if !context.kind().is_endpoint() {
            return Err(Failure::usage(format!(
                "{host} is not the name of an endpoint; pass the endpoint's name, or set PGIAM_HOST to it"
            )));
        }
        let region = context.region().ok_or_else(|| Failure::usage("the region is not known; pass it with -r"))?;
        if context.connection.dbname.is_none() {
            // The user's name is the default of libpq, and there is rarely such a database.
            "postgres".clone_into(&mut context.database);
        }
        let session = context.client.aws_session(&region);
        let identity = session.caller_identity().map_err(|failure| failure.message().to_owned());
        let caller = identity.as_ref().map_err(Clone::clone).and_then(|it| find_principal(&session, &it.arn));
        let principal = match principal {
            Some(arn) => check_principal(arn, identity.as_ref().ok())
                .and_then(|()| {
                    find_principal(&session, arn).map_err(|why| Failure::usage(format!("--principal: {why}")))
                })
                .map(Ok)?,
            None => caller.clone(),
        };
        let (roles, database) = (Err(String::new()), Database::Dsql);
        let admin = match &context.admin {
            Some(login) => admin::Session::open(login, &context).map_err(|why| format!("--admin: {why}")),
            None => Err("not looked up; --admin CONNINFO looks it up".to_owned()),
        };
        let mut setup = Self { context, session, identity, caller, principal, database, unknown: None, admin, roles };
        setup.find_database();
        setup.find_roles();
        Ok(setup)
    }

    /// Looks up the database again.
    pub(super) fn find_database(&mut self) {
        let host = normalized(&self.context.endpoint.host).into_owned();
        let kind = self.context.kind();
        let found = match &self.identity {
            Ok(_) => {
                databases::find(&self.session, &host).map_err(|failure| format!("not looked up: {}", why(&failure)))
            }
            Err(why) => Err(format!("not looked up: {why}")),
        };
        self.unknown = found.as_ref().err().filter(|_| kind != Kind::Dsql).cloned();
        let named = |kind| Database::Server {
            server: Box::new(DbServer::named(kind, &self.context.identifier())),
            member: None,
        };
        self.database = match found {
            Ok(Found::Server(server)) => Database::Server { server, member: None },
            Ok(Found::Member { instance, cluster }) => Database::Server { server: cluster, member: Some(instance) },
            Ok(Found::Proxy(proxy)) => Database::Proxy(proxy),
            _ if kind == Kind::Dsql => Database::Dsql,
            Ok(Found::Missing(what)) => Database::Missing(what),
            Ok(Found::NotLookedUp(why)) => Database::Missing(why.to_owned()),
            Err(_) => match kind {
                Kind::Proxy => Database::Proxy(DbProxy::named(&self.context.identifier())),
                Kind::Instance => named(ServerKind::Instance),
                _ => named(ServerKind::Cluster),
            },
        };
        if let Database::Server { server, .. } = &self.database {
            if !server.master_user.is_empty() {
                self.context.admin_name.clone_from(&server.master_user);
            }
            if matches!(kind, Kind::ClusterReader | Kind::ClusterCustom) {
                self.context.writer = server.endpoints.first().cloned();
            }
        }
    }

    /// Looks up the roles again.
    pub(super) fn find_roles(&mut self) {
        self.roles = match &mut self.admin {
            Ok(session) => session.roles().map_err(|why| format!("--admin: {why}")),
            Err(why) => Err(why.clone()),
        };
    }

    /// The steps, in the order in which they are done. Before rds_iam is granted, a token must be accepted: the grant ends
    /// logins with a password.
    pub(super) fn steps(&self) -> &'static [Step] {
        use Step::{
            Ca, Database as Db, Grant, Iam, Identity, Log, Members, Policy, Principal, ProxyPolicy, Role, Secret,
        };
        match &self.database {
            Database::Server { .. } => &[Identity, Principal, Db, Iam, Log, Policy, Role, Members, Grant, Ca],
            Database::Proxy(proxy) if proxy.is_end_to_end() => {
                &[Identity, Principal, Db, Iam, Policy, ProxyPolicy, Role, Members, Grant, Ca]
            }
            Database::Proxy(_) => &[Identity, Principal, Db, Iam, Policy, Role, Secret, Grant, Ca],
            Database::Dsql => &[Identity, Principal, Policy, Role, Ca],
            Database::Missing(_) => &[Identity, Db],
        }
    }

    pub(super) fn look(&self, step: Step) -> Finding {
        match step {
            Step::Identity => self.whose_credentials(),
            Step::Principal => self.who_logs_in(),
            Step::Database => self.which_database(),
            Step::Iam => self.iam(),
            Step::Log => self.log(),
            Step::Policy => self.policy(),
            Step::ProxyPolicy => self.proxy_policy(),
            Step::Secret => self.secret(),
            Step::Role => self.role(),
            Step::Members => self.members(),
            Step::Grant => self.grant(),
            Step::Ca => self.ca(),
        }
    }

    fn user(&self) -> &str {
        self.context.user()
    }

    /// Whether somebody else than the one whose credentials these are logs in.
    pub(super) fn is_other(&self) -> bool {
        self.principal != self.caller
    }

    pub(super) fn region(&self) -> &str {
        self.session.region()
    }

    /// The account, for ARNs and texts.
    fn account(&self) -> CallerIdentity {
        let partition = self.session.partition();
        let placeholder = || CallerIdentity { arn: format!("arn:{partition}"), account: "ACCOUNT".to_owned() };
        self.identity.clone().unwrap_or_else(|_| placeholder())
    }

    /// What the login needs to be allowed.
    pub(super) fn need(&self) -> Need {
        self.need_of(self.user())
    }

    /// The same for another user of the database.
    pub(super) fn need_of(&self, user: &str) -> Need {
        let id = match &self.database {
            Database::Server { server, .. } => &server.resource_id,
            Database::Proxy(proxy) => &proxy.resource_id,
            Database::Dsql | Database::Missing(_) => {
                return Need::dsql(&self.account(), self.region(), &self.context.identifier(), user);
            }
        };
        Need::connect(&self.account(), self.region(), id, user)
    }

    fn whose_credentials(&self) -> Finding {
        match &self.identity {
            Ok(caller) => Finding::ok("identity", identity::describe(caller)),
            Err(why) => Finding::unknown("identity", why.clone()).with_remedy("pgiam credentials"),
        }
    }

    fn who_logs_in(&self) -> Finding {
        let region = self.region();
        let remedy = format!(
            "pgiam credentials --verify\n\
             aws ec2 describe-iam-instance-profile-associations --region {region}\n\
             aws ecs describe-task-definition --region {region} --task-definition NAME --query taskDefinition.taskRoleArn\n\
             aws eks list-pod-identity-associations --region {region} --cluster-name NAME"
        );
        let advice = "A program on EC2, ECS or EKS logs in as its own role: pass that with --principal. The first command prints it \
            where the program runs, the others here";
        let finding = match &self.principal {
            Ok(principal) if self.is_other() => {
                return Finding::ok("principal", format!("{} logs in", described(principal)));
            }
            Ok(principal) => {
                let who = described(principal);
                Finding::ok("principal", format!("{who} logs in, whose credentials these are. {advice}"))
            }
            Err(why) => Finding::unknown("principal", format!("not known who logs in: {why}. {advice}")),
        };
        finding.with_remedy(remedy)
    }

    fn which_database(&self) -> Finding {
        let region = self.region();
        let (text, command) = match &self.database {
            Database::Server { server, member } => {
                let member = member.as_deref();
                let obstacle = [member, Some(&**server)].into_iter().flatten().find_map(|it| it.obstacle(region));
                if let Some(obstacle) = obstacle {
                    return obstacle;
                }
                let text = format!("{}, resource id {}", server.describe(member), server.resource_id);
                (text, server.command(region, "describe", "").replacen(" --region", "s --region", 1))
            }
            Database::Proxy(proxy) => {
                let text = format!("proxy {}, resource id {}", proxy.name, proxy.resource_id);
                let name = shell::quoted(&proxy.name);
                (text, format!("aws rds describe-db-proxies --region {region} --db-proxy-name {name}"))
            }
            Database::Missing(what) => return databases::missing(what, &self.account().account, region),
            Database::Dsql => (String::new(), String::new()),
        };
        match &self.unknown {
            Some(why) => Finding::unknown("database", why.clone()).with_remedy(command),
            None => Finding::ok("database", text),
        }
    }

    /// A step that is done or not, if the database could be looked up.
    fn judged(&self, check: &'static str, is_done: bool, text: String) -> Finding {
        match &self.unknown {
            Some(why) => Finding::unknown(check, why.clone()),
            None => judged(check, is_done, text),
        }
    }

    fn iam(&self) -> Finding {
        match &self.database {
            Database::Server { server, .. } => {
                let is_done = server.iam_enabled && server.iam_pending.is_none();
                let mut text = match (server.iam_enabled, server.iam_pending) {
                    (true, None | Some(true)) => "IAM authentication is on",
                    (true, Some(false)) => "IAM authentication is on, and turning it off is pending",
                    (false, Some(true)) => "IAM authentication is pending until the next maintenance window",
                    (false, _) => "IAM authentication is off",
                }
                .to_owned();
                if !is_done && !server.pending.is_empty() {
                    let pending = server.pending.join(", ");
                    text.push_str(&format!(
                        ". Other changes are pending, which --apply-immediately makes too, if need be with a restart: {pending}"
                    ));
                }
                self.judged("iam", is_done, text).with_remedy(server.enable(self.region()))
            }
            Database::Proxy(proxy) => {
                let open = proxy.secrets.iter().filter(|secret| secret.iam_auth != "REQUIRED").count();
                let all = proxy.secrets.len();
                let is_done = proxy.is_end_to_end() || (open == 0 && all > 0);
                let text = match (proxy.is_end_to_end(), is_done) {
                    (true, _) => "the proxy takes tokens, and logs in to the database with IAM".to_owned(),
                    (_, true) => format!("IAMAuth is REQUIRED for each secret of the proxy ({all})"),
                    _ => format!("IAMAuth is not REQUIRED for {open} of {all} secrets of the proxy"),
                };
                self.judged("iam", is_done, text).with_remedy(proxy.require_iam(self.region()))
            }
            Database::Dsql | Database::Missing(_) => Finding::ok("iam", ""),
        }
    }

    fn log(&self) -> Finding {
        let Database::Server { server, .. } = &self.database else { return Finding::ok("log", "") };
        let is_done = server.log_exports.iter().any(|log| log == LOG);
        let is = if is_done { "is" } else { "is not" };
        let text = format!("the log {LOG}, which has the reasons of refused logins, {is} exported to CloudWatch");
        self.judged("log", is_done, text).with_remedy(server.export_log(self.region()))
    }

    fn policy(&self) -> Finding {
        let need = self.need();
        let (identifier, master) = match &self.database {
            Database::Server { server, .. } => (server.identifier.as_str(), server.master_user.as_str()),
            _ => ("", ""),
        };
        self.judge_policy("policy", &self.principal, &need, || policy::common_mistakes(&need, identifier, master))
    }

    /// Whether a policy is there. The commands attach it.
    fn judge_policy(
        &self,
        check: &'static str,
        principal: &Result<Principal, String>,
        need: &Need,
        near_misses: impl FnOnce() -> Vec<policy::NearMiss>,
    ) -> Finding {
        let finding = match (principal, &self.unknown) {
            (Err(why), _) => Finding::unknown(check, format!("{} is needed on {}; {why}", need.action, need.resource)),
            (Ok(_), Some(why)) => Finding::unknown(check, why.clone()),
            (Ok(principal), None) => policy::check(&self.session, principal, need, near_misses),
        };
        let command = match principal {
            Ok(principal) => need.attach(principal),
            Err(_) => need.create(),
        };
        let keep = finding.outcome == Outcome::Fail && finding.remedy.is_some();
        Finding { check, ..if keep { finding } else { finding.with_remedy(command) } }
    }

    fn proxy_policy(&self) -> Finding {
        let Database::Proxy(proxy) = &self.database else { return Finding::ok("proxy-role", "") };
        let target = proxy.targets.first().map(|target| target.identifier.as_str()).unwrap_or_default();
        let server = databases::instance(&self.session, target).and_then(|found| match found {
            Some(DbServer { cluster: Some(cluster), .. }) => databases::cluster(&self.session, &cluster),
            Some(instance) => Ok(Some(instance)),
            None => databases::cluster(&self.session, target),
        });
        let id = match server {
            Ok(Some(server)) => server.resource_id,
            Ok(None) => return Finding::unknown("proxy-role", format!("the proxy has no database {target}")),
            Err(failure) => return Finding::unknown("proxy-role", format!("not looked up: {}", why(&failure))),
        };
        let need = Need::connect(&self.account(), self.region(), &id, self.user());
        self.judge_policy("proxy-role", &find_principal(&self.session, &proxy.role_arn), &need, Vec::new)
    }

    fn secret(&self) -> Finding {
        let Database::Proxy(proxy) = &self.database else { return Finding::ok("secret", "") };
        let user = self.user();
        let text = format!(
            "not looked up: the proxy logs in to the database with a password, and needs a secret with the one of {user}: \
             {{\"username\":\"{user}\",\"password\":\"…\"}}. Its role {} reads it, and --auth of modify-db-proxy names it",
            proxy.role_arn
        );
        let name = shell::quoted(&format!("{}/{user}", proxy.name)).into_owned();
        Finding::unknown("secret", text).with_remedy(format!(
            "aws secretsmanager create-secret --region {} --name {name} --secret-string file://secret.json",
            self.region()
        ))
    }

    /// The statement that creates the role or lets it log in.
    pub(super) fn role_statement(&self) -> String {
        let role = shell::identifier(self.user());
        match &self.roles {
            Ok(roles) if roles["role"]["login"] == false => format!("ALTER ROLE {role} LOGIN"),
            _ => format!("CREATE USER {role}"),
        }
    }

    fn role(&self) -> Finding {
        let user = self.user();
        if let Database::Dsql = self.database {
            return self.dsql_role();
        }
        let mut command = self.context.as_admin(&self.role_statement());
        if matches!(&self.database, Database::Proxy(proxy) if !proxy.is_end_to_end()) {
            command.push_str(&format!(" -c {}", shell::quoted(&format!("\\password {}", shell::identifier(user)))));
        }
        let finding = match &self.roles {
            Err(why) => Finding::unknown("role", why.clone()),
            Ok(roles) => match (&roles["role"]["login"], roles["similar"].as_str()) {
                (Value::Bool(true), _) => judged("role", true, format!("the role {user} exists and can log in")),
                (Value::Bool(false), _) => judged("role", false, format!("the role {user} cannot log in")),
                (_, Some(similar)) => judged(
                    "role",
                    false,
                    format!("there is no role {user}, but there is {similar}; names are case-sensitive here"),
                ),
                _ => judged("role", false, format!("there is no role {user}")),
            },
        };
        finding.with_remedy(command)
    }

    fn dsql_role(&self) -> Finding {
        let (user, context) = (self.user(), &self.context);
        if user == "admin" {
            return Finding::ok("role", "the role admin is there, and needs dsql:DbConnectAdmin only");
        }
        let role = shell::identifier(user);
        let arn = self.principal.as_ref().map_or("ARN_OF_ROLE_OR_USER", |principal| principal.arn.as_str());
        let target = Target { user: "admin", database: "postgres", ..context.target() };
        let as_admin = context.command_to(target, "psql-iam", &[]);
        let statements = [
            format!("CREATE ROLE {role} WITH LOGIN"),
            format!("AWS IAM GRANT {role} TO '{}'", arn.replace('\'', "''")),
            "SELECT * FROM sys.iam_pg_role_mappings".to_owned(),
        ];
        let commands = statements.map(|statement| format!("{as_admin} -c {}", shell::quoted(&statement)));
        Finding::unknown("role", "not looked up; the last command shows which roles were granted to whom")
            .with_remedy(commands.join("\n"))
    }

    /// The login roles that are members of the user's role, or become so when the administrator creates it.
    pub(super) fn people(&self) -> Vec<String> {
        let Ok(roles) = &self.roles else { return Vec::new() };
        let members = paths(&roles["members"]).into_iter().filter_map(|path| path.into_iter().next());
        let is_new = roles["version"].as_i64() >= Some(160_000);
        let becomes_member = is_new && roles["role"].is_null() && roles["admin"]["superuser"] == false;
        let mut people = Vec::new();
        for name in members.chain(self.admin_role().filter(|_| becomes_member)) {
            if !people.contains(&name) {
                people.push(name);
            }
        }
        people
    }

    /// The role of the administrator's session.
    pub(super) fn admin_role(&self) -> Option<String> {
        Some(self.roles.as_ref().ok()?["admin"]["name"].as_str()?.to_owned())
    }

    fn members(&self) -> Finding {
        let (user, people) = (self.user(), self.people());
        let test =
            |name: &str| self.context.command_to(Target { user: name, ..self.context.target() }, "psql-iam", &[]);
        let names = people.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let text = format!(
            "with {user}, its members become members of rds_iam: {names}. Their passwords are refused then, only a token logs \
             them in; PostgreSQL 16 and later do not let who created {user} revoke its membership"
        );
        let admin = self.admin_role().unwrap_or_else(|| self.context.admin_name.clone());
        if let Err(why) = &self.roles {
            let text = format!(
                "{why}. On PostgreSQL 16 and later, CREATE USER makes who creates {user} a member of it, and so of rds_iam: the \
                 password of {admin} is refused then. Before the grant, let {admin} log in with a token, and keep the session \
                 open until that has succeeded"
            );
            let need = self.need_of(&admin);
            let attach = self.caller.as_ref().map_or_else(|_| need.create(), |caller| need.attach(caller));
            return Finding::unknown("members", text).with_remedy(format!("{attach}\n{}", test(&admin)));
        }
        if people.is_empty() {
            return Finding::ok("members", format!("nobody else becomes a member of rds_iam with {user}"));
        }
        if !people.contains(&admin) {
            let revoke = |name: &String| {
                let statement = format!("REVOKE {} FROM {}", shell::identifier(user), shell::identifier(name));
                self.context.as_admin(&statement)
            };
            let commands: Vec<String> = people.iter().map(revoke).collect();
            return Finding::unknown("members", text).with_remedy(commands.join("\n"));
        }
        let finding = self.judge_policy("members", &self.caller, &self.need_of(&admin), Vec::new);
        let commands = format!("{}\n{}", finding.remedy.as_deref().unwrap_or_default(), test(&admin));
        Finding { text: format!("{text}. {}", finding.text), ..finding }.with_remedy(commands)
    }

    /// The statement that makes only a token log the user in; for a proxy with secrets, the reverse.
    pub(super) fn grant_statement(&self) -> String {
        let role = shell::identifier(self.user());
        match &self.database {
            Database::Proxy(proxy) if !proxy.is_end_to_end() => format!("REVOKE rds_iam FROM {role}"),
            _ => format!("GRANT rds_iam TO {role}"),
        }
    }

    fn grant(&self) -> Finding {
        let (user, statement) = (self.user(), self.grant_statement());
        let command = self.context.as_admin(&statement);
        let roles = match &self.roles {
            Err(why) => return Finding::unknown("grant", why.clone()).with_remedy(command),
            Ok(roles) => roles,
        };
        let path = path_to(roles, "rds_iam").map(|path| path.join(" -> "));
        let finding = match (path, statement.starts_with("REVOKE")) {
            (Some(path), true) => {
                judged("grant", false, format!("{path}: the proxy logs in with a password, which rds_iam forbids"))
            }
            (None, true) => judged("grant", true, format!("{user} is not a member of rds_iam, as the proxy needs it")),
            (Some(_), false) if path_to(roles, "rds_ad").is_some() => {
                let command = self.context.as_admin(&format!("REVOKE rds_ad FROM {}", shell::identifier(user)));
                let text = format!("{user} is a member of rds_ad, which takes precedence over rds_iam");
                return judged("grant", false, text).with_remedy(command);
            }
            (Some(path), false) => judged("grant", true, format!("{path}: only a token logs {user} in")),
            (None, false) if !has_group(roles, "rds_iam") => {
                Finding::unknown("grant", "there is no role rds_iam: this server is not RDS or Aurora")
            }
            (None, false) => judged(
                "grant",
                false,
                format!(
                    "{user} was not granted rds_iam; from then on only a token logs {user} in, until REVOKE rds_iam"
                ),
            ),
        };
        finding.with_remedy(command)
    }

    fn ca(&self) -> Finding {
        let (context, connection) = (&self.context, &self.context.connection);
        let mode = connection.given_sslmode().map_or("not set", |given| given.value.as_str());
        let root = connection.sslrootcert.as_ref().map_or("not set", |given| given.value.as_str());
        let certificates = Roots::of(context, "verify-full").read(context);
        let mut text = format!("sslmode {mode}, sslrootcert {root}");
        if let Err(why) = &certificates {
            text.push_str(&format!("; {why}"));
        }
        if matches!(context.kind(), Kind::Proxy | Kind::Dsql) {
            text.push_str(". The CA is Amazon's public one: sslrootcert=system (libpq 16 and later) will do too");
        }
        judged("ca", mode == "verify-full" && certificates.is_ok(), text).with_remedy(context.ca_bundle())
    }
}

/// Whether a principal can have a policy for the database: it must be of the same account.
fn check_principal(arn: &str, identity: Option<&CallerIdentity>) -> Result<(), Failure> {
    let account = arn.split(':').nth(4).unwrap_or_default();
    match identity {
        Some(identity) if identity.account != account => Err(Failure::usage(format!(
            "--principal: {arn} is not in account {}, and IAM authentication does not work across accounts; log in as a \
             role of that account, which the other one may assume",
            identity.account
        ))),
        _ => Ok(()),
    }
}

/// A step that is done or not.
pub(super) fn judged(check: &'static str, is_done: bool, text: String) -> Finding {
    Finding { outcome: if is_done { Outcome::Ok } else { Outcome::Fail }, ..Finding::ok(check, text) }
}
