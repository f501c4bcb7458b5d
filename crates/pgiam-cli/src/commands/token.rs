//! `pgiam token`: prints a token. Flags and a connection string, or the arguments of a PostgreSQL program, in; the token on
//! standard output. Warnings go to standard error.

use std::ffi::OsString;

use clap::Args;
use clap::builder::PossibleValuesParser;
use pgiam_core::Token;
use pgiam_libpq::rules::Endpoint;
use zeroize::Zeroizing;

use crate::args::{LongHelp, SigningArguments};
use crate::connection::{self, Connection, Surroundings};
use crate::failure::Failure;
use crate::output;
use crate::programs::{Action, PROGRAMS, Program};
use crate::targets::{self, Target};
use crate::tokens::{self, TokenMaker};

const EXAMPLES: &str = "\
Examples:
  pgiam token -h mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com -U app_user
  pgiam token \"host=mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com user=app_user\"
  pgiam token postgresql://app_user@mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com:5432/app
  pgiam token --hostname db.example.com --port 5432 --username app_user --region eu-central-1
  PGSERVICE=app pgiam token --profile production --json
  PGPASSWORD=$(pgiam token -h \"$HOST\" -U app_user) pg_dump -h \"$HOST\" -U app_user app
  URL=\"postgresql://app_user:$(pgiam token --url-encode -h \"$HOST\" -U app_user)@$HOST/app?sslmode=require\"

Missing values are taken from the service file, then from PGHOST, PGPORT and PGUSER, as psql does. The default user is
your user name on this machine, the default port 5432. AWS credentials are found as the AWS CLI finds them. The region
is part of most endpoint names; otherwise it is found as the AWS CLI finds it.

With --for, arguments with which the program would send the token in clear, or use another password, are an error.
Nothing is printed if the program would not connect (psql --help).

A token is a password for 15 minutes. Send it over TLS only: sslmode=verify-full, or at least require.

Exit status: 0; 1 if no token could be made; 2 if the arguments are wrong.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Arguments {
    /// A conninfo string ("host=… user=…") or a postgresql:// URI
    connection: Option<String>,

    /// The name of the database endpoint [PGHOST]
    #[arg(short = 'h', long, visible_alias = "hostname", value_name = "HOST")]
    host: Option<String>,

    /// The port [PGPORT, 5432]
    #[arg(short = 'p', long, value_name = "PORT")]
    port: Option<String>,

    /// The database user, who was granted rds_iam [PGUSER]
    #[arg(short = 'U', long, visible_alias = "username", value_name = "USER")]
    user: Option<String>,

    #[command(flatten)]
    signing: SigningArguments,

    /// Print a JSON object: token, host, port, user, region, expires_at (Unix seconds)
    #[arg(long)]
    json: bool,

    /// Do not print a newline after the token
    #[arg(long, conflicts_with = "json")]
    no_newline: bool,

    /// Percent-encode the token, to be part of a URL
    #[arg(long, conflicts_with = "json")]
    url_encode: bool,

    /// Read the arguments of this PostgreSQL program (psql, pg_dump, …), which follow --
    #[arg(
        long = "for",
        value_name = "PROGRAM",
        value_parser = PossibleValuesParser::new(PROGRAMS.iter().map(|program| program.name)),
        hide_possible_values = true,
        conflicts_with_all = ["connection", "host", "port", "user"]
    )]
    program: Option<String>,

    /// The arguments of the program
    #[arg(last = true, value_name = "ARGUMENT", requires = "program")]
    arguments: Vec<OsString>,

    #[command(flatten)]
    help: LongHelp,
}

/// Makes the token and prints it.
pub(crate) fn run(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let Some(connection) = connection(arguments, surroundings)? else { return Ok(0) };
    let target = target(arguments, &connection)?;
    let maker = TokenMaker::new(vec![target], &arguments.signing)?;
    let made = maker.make()?;
    let token = made.tokens.first().ok_or_else(|| Failure::failed("internal error: no token was made"))?;
    if let Some(warning) = targets::guessed_user([&connection]) {
        output::warn(&warning);
    }
    if let Err(unsafe_mode) = connection.required_sslmode() {
        output::warn(&unsafe_mode.to_string());
    }
    tokens::warn_if_doubtful(&made.tokens);
    output::result(&formatted(arguments, token, &connection.user))?;
    Ok(0)
}

/// `None`: the program would not connect.
fn connection(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<Option<Connection>, Failure> {
    if let Some(name) = &arguments.program {
        let program = PROGRAMS.iter().find(|program| program.name == name);
        let program = program.ok_or_else(|| Failure::usage(format!("--for {name}: unknown program")))?;
        return connection_of_program(program, &arguments.arguments, surroundings);
    }
    let flags = [
        ("host", "-h", arguments.host.clone()),
        ("port", "-p", arguments.port.clone()),
        ("user", "-U", arguments.user.clone()),
    ];
    let explicit = connection::explicit(flags, arguments.connection.as_deref())?;
    connection::resolve(explicit, surroundings).map(Some)
}

fn connection_of_program(
    program: &Program,
    arguments: &[OsString],
    surroundings: &Surroundings<'_>,
) -> Result<Option<Connection>, Failure> {
    let posixly_correct = surroundings.environment.has("POSIXLY_CORRECT");
    let Action::Connects(arguments) = program.read(arguments, posixly_correct)? else { return Ok(None) };
    if arguments.asks_for_password {
        return Err(Failure::usage(format!(
            "{} would ask for a password (-W) and use it instead of the token; remove -W",
            program.name
        )));
    }
    let connection = connection::resolve(connection::explicit_of_program(arguments)?, surroundings)?;
    connection.check_token_is_safe()?;
    Ok(Some(connection))
}

fn target(arguments: &Arguments, connection: &Connection) -> Result<Target, Failure> {
    let host = connection.only_host()?;
    // A flag names the endpoint itself. Other values name the host to connect to, which may be a tunnel.
    let named = connection.own.endpoint(host.index, &host.name, host.port);
    let by_flag = |given: &Option<String>, from_flag: bool| given.is_some() && from_flag;
    let endpoint = Endpoint {
        host: if by_flag(&arguments.host, connection.host_is_from_flag()) { host.name.clone() } else { named.host },
        port: if by_flag(&arguments.port, connection.port_is_from_flag()) { host.port } else { named.port },
    };
    Ok(Target {
        host: host.name,
        port: host.port,
        user: connection.user.clone(),
        endpoint,
        region: connection.own.region.clone(),
        profile: connection.own.profile.clone(),
    })
}

fn formatted(arguments: &Arguments, token: &Token, user: &str) -> Zeroizing<String> {
    let newline = if arguments.no_newline { "" } else { "\n" };
    Zeroizing::new(if arguments.json {
        let object = serde_json::json!({
            "token": token.as_str(),
            "host": token.host(),
            "port": token.port(),
            "user": user,
            "region": token.region(),
            "expires_at": token.expires_at(),
        });
        format!("{object}\n")
    } else if arguments.url_encode {
        [percent_encoded(token.as_str()).as_str(), newline].concat()
    } else {
        [token.as_str(), newline].concat()
    })
}

/// Everything but the unreserved characters of RFC 3986 is encoded.
fn percent_encoded(text: &str) -> Zeroizing<String> {
    let mut encoded = Zeroizing::new(String::with_capacity(3 * text.len()));
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
