//! `pgiam token`: flags and a connection string, or a PostgreSQL program's arguments, in; the token on standard output.
//! Everything else, warnings included, goes to standard error.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pgiam_core::{Client, ErrorKind, Token, TokenRequest};
use zeroize::Zeroizing;

use crate::client_flags;
use crate::connection::{self, Connection, Surroundings};
use crate::failure::Failure;
use crate::postgres_arguments::{PROGRAMS, Program};
use crate::targets;

const EXAMPLES: &str = "\
Examples:
  pgiam token -h mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com -U app_user
  pgiam token \"host=mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com user=app_user\"
  pgiam token postgresql://app_user@mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com:5432/app
  pgiam token --hostname db.example.com --port 5432 --username app_user --region eu-central-1
  PGSERVICE=app pgiam token --profile production --json
  PGPASSWORD=$(pgiam token -h \"$HOST\" -U app_user) pg_dump -h \"$HOST\" -U app_user app

What is not given comes from the service file, then from PGHOST, PGPORT and PGUSER, as for psql. The user is
otherwise the operating system's, the port 5432. AWS credentials and the region are found as the AWS command
line finds them; the region is read from the endpoint's name where it has one.

With --for, an sslmode that could send the token in clear is refused, and so is a password that would be used
instead of it; nothing is printed where the program would not connect (psql --help).

A token is a password for 15 minutes: send it over TLS only (sslmode=verify-full, or at least require).

Exit status: 0, 1 when no token could be made, 2 when the arguments must be changed.";

/// The subcommand's flags.
pub(crate) fn command() -> Command {
    Command::new("token").about("Print a fresh token: the password for one host, port and user").defer(details)
}

/// What is needed only when the command is the one that is asked for.
fn details(command: Command) -> Command {
    command
        .after_help(EXAMPLES)
        .disable_help_flag(true)
        .args_override_self(true)
        .arg(
            Arg::new("connection")
                .value_name("CONNECTION")
                .help("A conninfo string (\"host=… user=…\") or a postgresql:// URI"),
        )
        .arg(
            Arg::new("host")
                .short('h')
                .long("host")
                .visible_alias("hostname")
                .value_name("HOST")
                .help("The database endpoint's name [PGHOST]"),
        )
        .arg(Arg::new("port").short('p').long("port").value_name("PORT").help("The port [PGPORT, 5432]"))
        .arg(
            Arg::new("user")
                .short('U')
                .long("user")
                .visible_alias("username")
                .value_name("USER")
                .help("The database user that was granted rds_iam [PGUSER]"),
        )
        .arg(Arg::new("region").short('r').long("region").value_name("REGION").help("The database's AWS region"))
        .args(client_flags::arguments())
        .arg(
            Arg::new("service")
                .long("service")
                .value_name("SERVICE")
                .value_parser(["auto", "rds", "dsql"])
                .help("The kind of token; auto tells by the endpoint's name [auto]"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print an object: token, host, port, user, region, expires_at (Unix seconds)"),
        )
        .arg(
            Arg::new("for")
                .long("for")
                .value_name("PROGRAM")
                .value_parser(PROGRAMS.iter().map(|program| program.name()).collect::<Vec<_>>())
                .conflicts_with_all(["connection", "host", "port", "user"])
                .help("Read this program's arguments, after --; see below"),
        )
        .arg(
            Arg::new("arguments")
                .value_name("ARGUMENT")
                .last(true)
                .num_args(0..)
                .value_parser(value_parser!(OsString))
                .requires("for")
                .help("The program's own arguments"),
        )
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Show this help"))
}

/// Makes the token and prints it.
pub(crate) fn run(matches: &ArgMatches, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let connection = match text("for") {
        None => {
            let flags = [("host", "-h", text("host")), ("port", "-p", text("port")), ("user", "-U", text("user"))];
            let explicit = connection::explicit(flags, text("connection").as_deref())?;
            connection::resolve(explicit, surroundings)?
        }
        Some(name) => {
            let program = PROGRAMS.iter().find(|program| program.name() == name);
            let program = program.ok_or_else(|| Failure::usage(format!("--for {name}: unknown program")))?;
            let arguments: Vec<OsString> = matches.get_many("arguments").unwrap_or_default().cloned().collect();
            match connection_of_program(program, &arguments, surroundings)? {
                Some(connection) => connection,
                None => return Ok(()),
            }
        }
    };

    let mut settings = client_flags::settings(matches)?;
    if let Some(service) = text("service") {
        client_flags::set(&mut settings, "service", "service", &service)?;
    }
    let host = connection.only_host()?;
    // A flag names the endpoint itself; elsewhere stands the connection's host, which a tunnel may have.
    let mut endpoint = connection.own.endpoint(host.index, &host.name, host.port);
    if text("host").is_some() && connection.host_is_from_flag() {
        endpoint.host.clone_from(&host.name);
    }
    if text("port").is_some() && connection.port_is_from_flag() {
        endpoint.port = host.port;
    }
    if let Some(profile) = connection.own.profile.as_deref().filter(|_| text("profile").is_none()) {
        client_flags::set(&mut settings, "profile", "profile", profile)?;
    }
    let region = text("region").or_else(|| connection.own.region.clone());
    let request = TokenRequest {
        host: &endpoint.host,
        port: endpoint.port.into(),
        region: region.as_deref(),
        user: &connection.user,
    };
    let token = Client::new(settings).generate_token(&request).map_err(|error| match error.kind() {
        ErrorKind::InvalidArgument => Failure::usage(error.message()),
        _ => Failure::failed(error.message()),
    })?;
    if let Some(warning) = targets::doubtful_region(&token) {
        targets::warn(&warning);
    }
    print(&token, &connection.user, matches.get_flag("json"))
        .map_err(|error| Failure::failed(format!("cannot write the token to standard output: {error}")))
}

/// `None`: the program would not connect.
fn connection_of_program(
    program: &Program,
    arguments: &[OsString],
    surroundings: &Surroundings<'_>,
) -> Result<Option<Connection>, Failure> {
    let posixly_correct = surroundings.environment.has("POSIXLY_CORRECT");
    let Some(arguments) = program.read(arguments, posixly_correct)? else { return Ok(None) };
    if arguments.asks_for_password {
        return Err(Failure::usage(format!(
            "{} would ask for a password (-W) and use it instead of the token; leave -W out",
            program.name()
        )));
    }
    let connection = connection::resolve(connection::explicit_of_program(arguments)?, surroundings)?;
    connection.check_token_is_safe()?;
    Ok(Some(connection))
}

fn print(token: &Token, user: &str, json: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if json {
        let object = serde_json::json!({
            "token": token.as_str(),
            "host": token.host(),
            "port": token.port(),
            "user": user,
            "region": token.region(),
            "expires_at": token.expires_at(),
        });
        writeln!(out, "{object}")?;
    } else {
        // One write, whatever the length.
        let line = Zeroizing::new([token.as_str(), "\n"].concat());
        out.write_all(line.as_bytes())?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        command().debug_assert();
    }
}
