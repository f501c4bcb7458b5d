//! One login: a user of a database, through an endpoint, with a token. `pgiam doctor` explains why it fails, `pgiam setup`
//! prepares what it needs; both know it by the same [`Context`] and report on it line by line ([`report`]).

pub(crate) mod admin;
pub(crate) mod databases;
pub(crate) mod hint;
pub(crate) mod identity;
pub(crate) mod name;
pub(crate) mod policy;
pub(crate) mod report;
pub(crate) mod roots;

use clap::Args;
use pgiam_core::{Client, Clock, TokenRequest};
use pgiam_libpq::rules::Endpoint;
use zeroize::Zeroizing;

use self::name::Kind;
use crate::args::SigningArguments;
use crate::connection::{self, Connection, Given, Host, Source, Surroundings};
use crate::failure::Failure;
use crate::mfa;
use crate::shell;

// Which login it is about.
#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// A conninfo string ("host=… user=…") or a postgresql:// URI
    connection: Option<String>,

    /// The host to connect to [PGHOST]
    #[arg(short = 'h', long, visible_alias = "hostname", value_name = "HOST")]
    host: Option<String>,

    /// The port [PGPORT, 5432]
    #[arg(short = 'p', long, value_name = "PORT")]
    port: Option<String>,

    /// The database user, who logs in with a token [PGUSER]
    #[arg(short = 'U', long, visible_alias = "username", value_name = "USER")]
    user: Option<String>,

    /// The database [PGDATABASE, the user's name]
    #[arg(short = 'd', long, value_name = "DBNAME")]
    dbname: Option<String>,

    #[command(flatten)]
    signing: SigningArguments,

    /// Look up roles and memberships with psql and this connection of an administrator
    #[arg(long, value_name = "CONNINFO")]
    admin: Option<String>,
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
    /// The administrator's name in commands, if `--admin` is not given.
    pub(crate) admin_name: String,
    /// Where the administrator connects to, if not to the host.
    pub(crate) writer: Option<String>,
    /// `--service`, `--profile` and others as they were given, quoted.
    flags: String,
    /// `-r`
    pub(crate) region_flag: Option<String>,
    /// Now, in Unix seconds.
    pub(crate) now: i64,
}

impl<'a> Context<'a> {
    pub(crate) fn new(arguments: &LoginArguments, surroundings: &'a Surroundings<'a>) -> Result<Self, Failure> {
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
            admin_name: "ADMIN".to_owned(),
            writer: None,
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
    pub(crate) fn kind(&self) -> Kind {
        Kind::of(&self.endpoint.host)
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
            None if program.starts_with("pgiam ") => words.push(format!("{program}{flags}")),
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
        let target = Target { user: &self.admin_name, ..self.target() };
        let command = match &self.writer {
            Some(host) => self.command_to(Target { host, ..target }, "psql", &[("hostaddr", "")]),
            None => self.command_to(target, "psql", &[]),
        };
        format!("{command} -c {statements}")
    }

    /// The connection with a token of this user, for psql.
    pub(crate) fn with_token(&self, user: &str) -> Result<admin::Login, String> {
        let mut parameters = self.connection.settings_of_strings();
        parameters.retain(|keyword, _| ["hostaddr", "sslrootcert"].contains(&keyword.as_str()));
        let mode = self.connection.required_sslmode().map_err(|failure| failure.to_string())?;
        let port = self.host.port.to_string();
        let database = &self.database;
        let more = [("host", &self.host.name), ("port", &port), ("dbname", database), ("sslmode", &mode)];
        parameters.extend(more.map(|(keyword, value)| (keyword.to_owned(), Zeroizing::new(value.clone()))));
        parameters.insert("user".to_owned(), Zeroizing::new(user.to_owned()));
        let request = TokenRequest {
            host: &self.endpoint.host,
            port: self.endpoint.port.into(),
            region: self.given_region.as_deref(),
            user,
        };
        let token = self.client.generate_token(&request).map_err(|error| error.message().to_owned())?;
        Ok(admin::Login::new(parameters, token.into_text()))
    }

    /// Downloads the CA bundle, and connects with it. Certificates of RDS Proxy and Aurora DSQL are not issued by the CAs of
    /// RDS.
    pub(crate) fn ca_bundle(&self) -> String {
        let (file, url) = match self.kind() {
            Kind::Proxy | Kind::Dsql => {
                ("AmazonRootCA1.pem", "https://www.amazontrust.com/repository/AmazonRootCA1.pem")
            }
            _ => ("global-bundle.pem", rds_bundle(&self.region().unwrap_or_default())),
        };
        let settings = [("sslmode", "verify-full"), ("sslrootcert", file)];
        format!("curl -fsSO {url}\n{}", self.command_with("psql-iam", &settings))
    }
}

/// Where the CA bundle of RDS is, by the partition of the region.
fn rds_bundle(region: &str) -> &'static str {
    match region {
        region if region.starts_with("cn-") => {
            "https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/global/global-bundle.pem"
        }
        region if region.starts_with("us-gov-") => {
            "https://truststore.pki.us-gov-west-1.rds.amazonaws.com/global/global-bundle.pem"
        }
        _ => "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem",
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

fn read_connection(arguments: &LoginArguments, surroundings: &Surroundings<'_>) -> Result<Connection, Failure> {
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
        explicit.insert("dbname", Given { value: dbname.clone(), source: Source::Flag("-d") });
    }
    connection::resolve(explicit, surroundings)
}
