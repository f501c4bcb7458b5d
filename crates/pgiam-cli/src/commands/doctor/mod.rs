//! `pgiam doctor`: explains why a login with a token fails. Each check is a module that adds findings to a [`Report`]; the
//! checks run in the order in which a login can fail. Nothing is changed anywhere.

mod activity;
mod admin;
pub(crate) mod aws;
mod credentials;
pub(crate) mod databases;
pub(crate) mod hint;
mod name;
mod network;
pub(crate) mod policy;
mod report;
mod server;
mod settings;
mod token;

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use pgiam_core::{Client, Clock};
use pgiam_libpq::rules::Endpoint;
use zeroize::Zeroizing;

use self::report::{Finding, Format, Outcome, Report};
use self::server::{Answer, Session};
use crate::args::{LongHelp, SigningArguments};
use crate::connection::{self, Connection, Given, Host, Source, Surroundings};
use crate::failure::Failure;
use crate::mfa;
use crate::shell;

const EXAMPLES: &str = "\
Examples:
  pgiam doctor -h mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com -U app_user -d app
  pgiam doctor \"host=mydb.….rds.amazonaws.com user=app_user sslmode=verify-full sslrootcert=global-bundle.pem\"
  PGSERVICE=app pgiam doctor --profile production --json
  aws rds generate-db-auth-token --hostname HOST --port 5432 --username app_user | pgiam doctor -h HOST -U app_user --token -
  pgiam doctor -h HOST -U app_user --admin \"host=HOST user=postgres dbname=postgres\"

Takes the connection as 'pgiam token' does and checks, in the order in which a login can fail: the name of the host, the
settings, the network, TLS, the clock, the AWS credentials, what the server asks this user for before a password is sent,
the token, and the login itself. If the login fails, it queries AWS for the reason. Each line begins with

  ok     the check passed
  FAIL   the reason, or one of the reasons; the lines after -> are commands that help
  ?      it could not be checked; the text names what is missing, such as a permission

Nothing is changed, and secrets and tokens are not printed. The token is sent to the server only over TLS and only if the
server's certificate is what sslmode and sslrootcert ask for.

Exit status: 0; 1 if there is a FAIL; 2 if the arguments are wrong.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Arguments {
    /// A conninfo string ("host=… user=…") or a postgresql:// URI
    connection: Option<String>,

    /// The host to connect to [PGHOST]
    #[arg(short = 'h', long, visible_alias = "hostname", value_name = "HOST")]
    host: Option<String>,

    /// The port [PGPORT, 5432]
    #[arg(short = 'p', long, value_name = "PORT")]
    port: Option<String>,

    /// The database user, who was granted rds_iam [PGUSER]
    #[arg(short = 'U', long, visible_alias = "username", value_name = "USER")]
    user: Option<String>,

    /// The database [PGDATABASE, the user's name]
    #[arg(short = 'd', long, value_name = "DBNAME")]
    dbname: Option<String>,

    #[command(flatten)]
    signing: SigningArguments,

    /// Check the token on standard input instead of one made here
    #[arg(long, value_name = "-", value_parser = ["-"])]
    token: Option<String>,

    /// Look up roles and memberships with psql and this connection of an administrator
    #[arg(long, value_name = "CONNINFO", conflicts_with = "offline")]
    admin: Option<String>,

    /// Print a JSON object
    #[arg(long)]
    json: bool,

    /// Check only what needs no network: name, settings, credentials and token
    #[arg(long)]
    offline: bool,

    /// Repeat the checks until none fails, for at most this long [600]
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "600",
        conflicts_with_all = ["json", "token"]
    )]
    wait: Option<u32>,

    #[command(flatten)]
    help: LongHelp,
}

/// Everything the checks need.
pub(crate) struct Context<'a> {
    pub(crate) surroundings: &'a Surroundings<'a>,
    pub(crate) connection: Connection,
    /// The client whose credentials sign the token.
    pub(crate) client: Client,
    /// Where to connect.
    pub(crate) host: Host,
    /// What the token is signed for. If no endpoint is named, it is replaced by the one in the server's certificate.
    pub(crate) endpoint: Endpoint,
    /// The region given by a flag or setting.
    pub(crate) given_region: Option<String>,
    /// `--profile`, or the profile of the connection.
    pub(crate) profile: Option<String>,
    pub(crate) database: String,
    /// `--admin`.
    pub(crate) admin: Option<admin::Login>,
    /// `--service`, `--profile` and others as they were given, quoted.
    flags: String,
    /// `-r`
    region_flag: Option<String>,
    /// Now, in Unix seconds.
    pub(crate) now: i64,
}

impl<'a> Context<'a> {
    fn new(arguments: &Arguments, surroundings: &'a Surroundings<'a>) -> Result<Self, Failure> {
        let connection = read_connection(arguments, surroundings)?;
        let host = connection.only_host()?;
        let own = &connection.own;
        let given_region = arguments.signing.region.clone().or_else(|| own.region.clone());
        let profile = arguments.signing.client.profile.clone().or_else(|| own.profile.clone());
        let dbname = connection.dbname.as_ref().map(|given| given.value.clone());
        Ok(Self {
            surroundings,
            client: mfa::client(arguments.signing.settings(own.profile.as_deref())?),
            endpoint: own.endpoint(host.index, &host.name, host.port),
            given_region,
            profile,
            database: dbname.unwrap_or_else(|| connection.user.clone()),
            host,
            connection,
            admin: arguments.admin.as_deref().map(admin::Login::parse).transpose()?,
            flags: flags_of(&arguments.signing),
            region_flag: arguments.signing.region.clone(),
            now: Clock::system().now(),
        })
    }

    /// The database user.
    pub(crate) fn user(&self) -> &str {
        &self.connection.user
    }

    /// What the token is signed for.
    pub(crate) fn kind(&self) -> name::Kind {
        name::Kind::of(&self.endpoint.host)
    }

    /// The region of the endpoint's name, else the one given by a flag, a setting, the environment or the profile.
    pub(crate) fn region(&self) -> Option<String> {
        name::region_of(&self.endpoint.host)
            .or_else(|| self.given_region.clone())
            .or_else(|| self.client.configured_region())
    }

    /// The first label of the endpoint's name: the identifier of the instance, cluster or proxy.
    pub(crate) fn identifier(&self) -> String {
        name::normalized(&self.endpoint.host).split('.').next().unwrap_or_default().to_owned()
    }

    /// Where the connection goes.
    pub(crate) fn target(&self) -> Target<'_> {
        Target { host: &self.host.name, port: self.host.port, user: self.user(), database: &self.database }
    }

    /// The command line of `program` for this connection.
    pub(crate) fn command(&self, program: &str) -> String {
        self.command_to(self.target(), program, &[])
    }

    /// The same with other values of some settings; an empty value removes the setting. Settings of the environment are
    /// left to it, others are in the command.
    pub(crate) fn command_with(&self, program: &str, changes: &[(&str, &str)]) -> String {
        self.command_to(self.target(), program, changes)
    }

    /// The same for another target.
    pub(crate) fn command_to(&self, target: Target<'_>, program: &str, changes: &[(&str, &str)]) -> String {
        let mut settings = self.connection.settings_of_strings();
        if name::region_of(&self.endpoint.host).is_some() {
            settings.remove("iam_region");
        }
        if program == "psql" {
            settings.retain(|keyword, _| ["hostaddr", "sslmode", "sslrootcert"].contains(&keyword.as_str()));
        }
        let mut words = Vec::new();
        for (keyword, value) in changes {
            if value.is_empty() {
                settings.remove(*keyword);
            } else if let Some(given) = settings.get_mut(*keyword) {
                (*value).clone_into(given);
            } else {
                words.push(format!("{}={}", variable_of(keyword), shell::quoted(value)));
            }
        }
        let flags = self.flags();
        match program.strip_prefix("psql-iam") {
            Some(rest) if !flags.is_empty() => words.push(format!("pgiam exec{flags} -- psql{rest}")),
            None if program == "pgiam doctor" => words.push(format!("{program}{flags}")),
            _ => words.push(program.to_owned()),
        }
        let mut option = |flag: &str, value: &str| words.extend([flag.to_owned(), shell::quoted(value).into_owned()]);
        option("-h", target.host);
        if target.port != 5432 || self.surroundings.environment.has("PGPORT") {
            option("-p", &target.port.to_string());
        }
        option("-U", target.user);
        if settings.is_empty() && !pgiam_libpq::conninfo::is_connection_string(target.database) {
            option("-d", target.database);
        } else {
            settings.insert("dbname".to_owned(), Zeroizing::new(target.database.to_owned()));
            option("-d", &shell::conninfo(&settings));
        }
        words.join(" ")
    }

    /// The command that removes a setting of pgiam, depending on where it is given.
    pub(crate) fn without(&self, keyword: &str) -> String {
        match self.connection.own_keywords.get(keyword).map(|given| &given.source) {
            None => format!("unset {}", variable_of(keyword)),
            Some(source) => self.remove(keyword, source),
        }
    }

    /// The command that removes a setting of this source.
    pub(crate) fn remove(&self, keyword: &str, source: &Source) -> String {
        match source {
            Source::Environment(variable) => format!("unset {variable}"),
            Source::Service { file, .. } => format!("${{EDITOR:-vi}} {}", shell::quoted(&file.display().to_string())),
            Source::Flag(_) | Source::ConnectionString => self.command_with("psql-iam", &[(keyword, "")]),
        }
    }

    /// The flags that choose the credentials and the region, each after a space.
    pub(crate) fn flags(&self) -> String {
        let region = self.region_flag.as_ref().filter(|_| name::region_of(&self.endpoint.host).is_none());
        let region = region.map(|region| format!(" -r {}", shell::quoted(region))).unwrap_or_default();
        format!("{region}{}", self.flags)
    }

    /// psql with the statements, for an administrator.
    pub(crate) fn as_admin(&self, statements: &str) -> String {
        let statements = shell::quoted(statements);
        if let Some(admin) = &self.admin {
            return format!("psql {} -c {statements}", shell::quoted(&admin.shown()));
        }
        format!("{} -c {statements}", self.command_to(Target { user: "ADMIN", ..self.target() }, "psql", &[]))
    }
}

/// Where a suggested command connects to, and as whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) user: &'a str,
    pub(crate) database: &'a str,
}

/// The environment variable of a setting.
fn variable_of(keyword: &str) -> String {
    let own = pgiam_libpq::rules::KEYWORDS.into_iter().find(|(known, _)| *known == keyword);
    own.map_or_else(|| format!("PG{}", keyword.to_ascii_uppercase()), |(_, variable)| variable.to_owned())
}

/// Without the region, which is not wanted if the endpoint's name has one.
fn flags_of(signing: &SigningArguments) -> String {
    let client = &signing.client;
    let flags = [
        ("--service", &signing.service),
        ("--profile", &client.profile),
        ("--role-arn", &client.role_arn),
        ("--external-id", &client.external_id),
        ("--role-session-name", &client.role_session_name),
        ("--timeout-ms", &client.timeout_ms),
    ];
    let given = flags.into_iter().filter_map(|(flag, value)| Some((flag, value.as_ref()?)));
    given.map(|(flag, value)| format!(" {flag} {}", shell::quoted(value))).collect()
}

fn read_connection(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<Connection, Failure> {
    let flags = [
        ("host", "-h", arguments.host.clone()),
        ("port", "-p", arguments.port.clone()),
        ("user", "-U", arguments.user.clone()),
    ];
    let is_string = |text: &&String| pgiam_libpq::conninfo::is_connection_string(text);
    let in_dbname = arguments.dbname.as_ref().filter(is_string);
    if in_dbname.is_some() && arguments.connection.is_some() {
        return Err(Failure::usage("there are two connection strings, one of them with -d; leave one out"));
    }
    let is_name = |text: &&String| !text.is_empty() && !text.contains(['=', ':', '/', '@']);
    if let Some(database) = arguments.connection.as_ref().filter(is_name).filter(|_| arguments.host.is_some()) {
        let database = shell::quoted(database);
        return Err(Failure::usage(format!("to pass the name of a database, write -d {database}")));
    }
    let text = arguments.connection.as_ref().or(in_dbname).map(String::as_str);
    let mut explicit = connection::explicit(flags, text)?;
    if text.is_some_and(|text| hint::parse(text).is_none()) {
        return Err(Failure::usage(
            "the connection string: the port or the database is not valid; in a URI, write '@' and '/' of a password as \
             %40 and %2F",
        ));
    }
    if let Some(dbname) = arguments.dbname.as_ref().filter(|text| in_dbname.is_none() && !text.is_empty()) {
        explicit.insert("dbname".to_owned(), Given { value: dbname.clone(), source: Source::Flag("-d") });
    }
    connection::resolve(explicit, surroundings)
}

/// The time between two rounds of `--wait`.
const ROUND: Duration = Duration::from_secs(5);

/// Runs the checks.
pub(crate) fn run(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let given = arguments.token.as_ref().map(|_| read_token()).transpose()?;
    let start = Instant::now();
    let most = Duration::from_secs(arguments.wait.unwrap_or(0).into());
    loop {
        let mut report = Report::new(if arguments.json { Format::Json } else { Format::Text });
        let mut context = Context::new(arguments, surroundings)?;
        report.use_profile(context.profile.as_deref());
        check(&mut context, arguments, given.as_ref().map(|token| token.as_str()), &mut report);
        if !report.has_failure() || start.elapsed() + ROUND > most {
            return report.finish();
        }
        report.finish()?;
        crate::output::result(&format!("\nagain in {} seconds\n\n", ROUND.as_secs()))?;
        thread::sleep(ROUND);
    }
}

/// More than any token has.
const MAX_TOKEN: u64 = 256 * 1024;

/// The token on standard input.
fn read_token() -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(8192));
    std::io::stdin()
        .lock()
        .take(MAX_TOKEN)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("--token: cannot read standard input: {error}")))?;
    Ok(text)
}

/// Runs the checks in the order in which a login can fail.
fn check(context: &mut Context<'_>, arguments: &Arguments, given: Option<&str>, report: &mut Report) {
    name::check(context, arguments.offline, report);
    settings::check(context, report);
    let mut session = if arguments.offline { None } else { connect(context, report) };
    let made = given.is_none();
    if !arguments.offline {
        aws::clock(context, report);
    }
    if made {
        credentials::check(context, report);
        if !arguments.offline {
            report.begin("asking STS whose credentials these are");
            aws::identity(context, report);
        }
    }
    let answer = session.as_mut().map(|session| server::ask(session, context, report));
    let token = token::check(context, given, report);
    if arguments.offline {
        return;
    }
    let key = token.as_ref().filter(|_| !made).and_then(|token| token::key_of(token));
    let logged_in = match (session, token) {
        (Some(session), Some(token)) => log_in(session, answer, &token, context, report),
        (_, None) => {
            report.add(Finding::unknown("login", "not tried, because there is no token"));
            false
        }
        (None, _) => {
            report.add(Finding::unknown("login", "not tried, because there is no connection"));
            false
        }
    };
    if !logged_in {
        aws::check(context, key.as_deref(), report);
    }
    if let Some(admin) = &context.admin {
        report.begin("looking up the roles");
        admin::check(admin, context, report);
    }
}

/// Connects, and finds out what the certificate says about the endpoint.
fn connect(context: &mut Context<'_>, report: &mut Report) -> Option<Session> {
    report.begin("connecting");
    let stream = network::connect(context, report);
    report.begin("negotiating TLS");
    let session = stream.and_then(|stream| server::start_tls(stream, context, report));
    server::endpoint_by_certificate(session.as_ref(), context, report);
    session
}

fn log_in(session: Session, answer: Option<Answer>, token: &str, context: &Context<'_>, report: &mut Report) -> bool {
    report.begin("logging in");
    let finding = server::log_in(session, answer, token, context);
    let logged_in = finding.outcome == Outcome::Ok;
    report.add(finding);
    logged_in
}
