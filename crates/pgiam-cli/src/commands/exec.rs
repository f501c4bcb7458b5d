//! `pgiam exec`: runs a command that finds fresh tokens as its passwords.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use pgiam_libpq::rules::{self, Mode, SENTINEL};

use crate::args::{ConnectionArguments, LongHelp, RefreshArguments, SigningArguments};
use crate::command_line::CommandLine;
use crate::connection::{self, Connection, Surroundings};
use crate::failure::Failure;
use crate::login::hint;
use crate::output::{note, warn};
use crate::supervise;
use crate::targets::{self, Target};
use crate::tokens::{self, TokenMaker};

const EXAMPLES: &str = "\
Examples:
  pgiam exec -- psql -h mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com -U app_user app
  pgiam exec -- pg_dump -j 4 -Fd -f dump \"host=… user=app_user dbname=app\"
  pgiam exec -h mydb.….rds.amazonaws.com -U app_user -- node server.js
  pgiam exec -h writer.… -h reader.… -U app_user -- ./report.sh
  PGIAM_HOST=mydb.….rds.amazonaws.com pgiam exec -- psql -h localhost -p 15432 -U app_user app

Host and user are taken from the options; otherwise from the arguments of PostgreSQL's own programs (psql, pg_dump,
pg_restore, pgbench, vacuumdb …; also after nohup, nice, timeout and the like); otherwise from the service file and from
PGHOST, PGPORT and PGUSER. The arguments of other commands are not read.

The command finds its passwords in a password file in memory (PGPASSFILE). The token is never written to disk and never
appears in arguments or in the environment. pgiam keeps running, renews the token every five minutes, forwards signals
and exits with the status of the command.

PGSSLMODE: exec sets it to require if it is not set, for every connection of the command. A connection to a server
without TLS then fails, as in: pgiam exec -h HOST -- sh -c 'pg_dump -h localhost app | psql -h HOST app'. Run exec for the
part that needs it (pg_dump -h localhost app | pgiam exec -- psql -h HOST app), or write sslmode=disable into the
connection string of the local server. Options, variables and connection strings that could send a token in clear are an
error, as far as exec can see them.

--preload works for libpq programs that exec cannot help: each connection makes its own token and requires TLS by itself,
so PGSSLMODE and PGPASSFILE are not set. See docs/programs.md.

Exit status: that of the command; if signal N ended it, the same signal or 128+N; 1 if no token could be made; 2 if the
arguments are wrong; 126 if the command cannot be run; 127 if it is not found.";

#[derive(Debug, Args)]
#[command(
    override_usage = "pgiam exec [OPTIONS] -- COMMAND [ARGUMENT]...",
    after_help = EXAMPLES,
    args_override_self = true
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    connections: ConnectionArguments,

    #[command(flatten)]
    signing: SigningArguments,

    #[command(flatten)]
    refresh: RefreshArguments,

    /// Put one token into PGPASSWORD, for programs that read no password file
    #[arg(long)]
    env: bool,

    /// Load libpgiam_preload.so into the command, so that every libpq connection makes its own token
    #[arg(long, conflicts_with = "env")]
    preload: bool,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,

    #[command(flatten)]
    help: LongHelp,
}

impl Arguments {
    /// The options that are given and that have no effect with `--preload`.
    fn without_effect_with_preload(&self) -> Option<&'static str> {
        let (connections, signing) = (&self.connections, &self.signing);
        [
            ("--host", !connections.host.is_empty()),
            ("--port", !connections.port.is_empty()),
            ("--user", !connections.user.is_empty()),
            ("--connection", !connections.connection.is_empty()),
            ("--service", signing.service.is_some()),
            ("--role-arn", signing.client.role_arn.is_some()),
            ("--external-id", signing.client.external_id.is_some()),
            ("--role-session-name", signing.client.role_session_name.is_some()),
            ("--timeout-ms", signing.client.timeout_ms.is_some()),
            ("--refresh-every", self.refresh.refresh_every.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }
}

/// How the command gets its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivery {
    /// It gets none and runs unchanged.
    Nothing,
    /// The preload library makes a token for each connection.
    Preload,
    /// One token in PGPASSWORD, because `--env` asks for it.
    Variable,
    /// One token in PGPASSWORD, because the libpq of the command truncates the lines of password files.
    VariableForOldLibpq,
    /// A password file in memory.
    PasswordFile,
}

/// What the decision depends on.
#[derive(Clone, Copy, Debug)]
struct Facts {
    env: bool,
    preload: bool,
    /// `PGIAM=off` for all connections.
    off: bool,
    /// The libpq of the command truncates the lines of password files.
    truncates_lines: bool,
}

fn delivery(facts: Facts) -> Delivery {
    match facts {
        Facts { off: true, .. } => Delivery::Nothing,
        Facts { preload: true, .. } => Delivery::Preload,
        Facts { env: true, .. } => Delivery::Variable,
        Facts { truncates_lines: true, .. } => Delivery::VariableForOldLibpq,
        _ => Delivery::PasswordFile,
    }
}

/// The connections of the command.
struct Connections {
    /// Those of the options.
    by_flags: Vec<Connection>,
    /// The one that the command would open without options of pgiam, as far as it is known.
    own: Connection,
    /// Whether that one gets a token too.
    own_counts: bool,
}

impl Connections {
    fn read(arguments: &Arguments, command: &CommandLine, surroundings: &Surroundings<'_>) -> Result<Self, Failure> {
        let explicit = command.explicit()?;
        let own = connection::resolve(explicit.clone(), surroundings)?;
        let by_flags = targets::connections(&arguments.connections, &explicit, surroundings)?;
        let own_counts = by_flags.is_empty() || (command.program.is_some() && own.hosts().is_ok());
        Ok(Self { by_flags, own, own_counts })
    }

    fn all(&self) -> impl Iterator<Item = &Connection> {
        self.by_flags.iter().chain([&self.own])
    }

    /// Those that get tokens.
    fn with_tokens(&self) -> impl Iterator<Item = &Connection> {
        self.by_flags.iter().chain(self.own_counts.then_some(&self.own))
    }

    fn are_off(&self) -> bool {
        self.with_tokens().all(|connection| connection.own.mode == Mode::Off)
    }
}

/// Runs the command and returns the status to exit with.
pub(crate) fn run(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let posixly_correct = surroundings.environment.has("POSIXLY_CORRECT");
    let Some(mut command) = CommandLine::read(&arguments.command, posixly_correct)? else {
        return Ok(replace_self(Command::new(&arguments.command[0]).args(&arguments.command[1..])));
    };
    let connections = Connections::read(arguments, &command, surroundings)?;
    let facts =
        Facts { env: arguments.env, preload: arguments.preload, off: connections.are_off(), truncates_lines: false };
    let mut way = delivery(facts);
    if way == Delivery::PasswordFile {
        way = delivery(Facts { truncates_lines: command.truncates_lines(surroundings)?, ..facts });
    }
    if way != Delivery::Preload {
        command.remove_own_keywords()?;
    }
    match way {
        Delivery::Nothing => run_unchanged(&command, &connections, surroundings),
        Delivery::Preload => run_with_preload(arguments, &command, &connections, surroundings),
        Delivery::Variable | Delivery::VariableForOldLibpq | Delivery::PasswordFile => {
            run_with_tokens(way, arguments, &command, &connections, surroundings)
        }
    }
}

/// Replaces this process by the command. Returns only if that fails.
fn replace_self(process: &mut Command) -> u8 {
    let error = process.exec();
    supervise::cannot_run(process.get_program(), &error)
}

fn run_unchanged(
    command: &CommandLine,
    connections: &Connections,
    surroundings: &Surroundings<'_>,
) -> Result<u8, Failure> {
    if let Some(source) = asks_for_token(connections, surroundings)? {
        return Err(Failure::usage(format!(
            "{source} has the password {SENTINEL}, which asks for a token, but PGIAM=off: it would be sent to the server; \
             remove one of them"
        )));
    }
    Ok(replace_self(&mut command.process()))
}

/// Where the password `rds-iam` is given.
fn asks_for_token(connections: &Connections, surroundings: &Surroundings<'_>) -> Result<Option<String>, Failure> {
    if let Some(source) = connections.all().find_map(|connection| connection.asks_for_token.as_ref()) {
        return Ok(Some(source.to_string()));
    }
    let password = surroundings.environment.get("PGPASSWORD")?;
    Ok(password.filter(|password| password == SENTINEL).map(|_| "PGPASSWORD".to_owned()))
}

/// The library decides for each connection. Here only a connection that is known and gets a token is checked.
fn run_with_preload(
    arguments: &Arguments,
    command: &CommandLine,
    connections: &Connections,
    surroundings: &Surroundings<'_>,
) -> Result<u8, Failure> {
    if let Some(flag) = arguments.without_effect_with_preload() {
        return Err(Failure::usage(format!(
            "{flag} has no effect with --preload: the library makes a token for whatever connection the command opens. \
             Remove {flag}; PGIAM_HOST names the endpoint behind a tunnel"
        )));
    }
    let own = &connections.own;
    let gets_token = own.hosts().is_ok_and(|hosts| hosts.iter().any(|host| own.own.gets_token(host.index, &host.name)));
    if gets_token {
        check_password(command, surroundings)?;
        own.check_token_is_safe()?;
    } else if command.program.is_some() && asks_for_token(connections, surroundings)?.is_some() {
        // The password would be sent to the server: the error says why there is no token.
        targets::add(&mut Vec::new(), own)?;
    }
    let mut process = command.process();
    process.env("LD_PRELOAD", preload_list(surroundings)?);
    let signing = &arguments.signing;
    for (variable, value) in [("PGIAM_REGION", &signing.region), ("PGIAM_PROFILE", &signing.client.profile)] {
        if let Some(value) = value {
            process.env(variable, value);
        }
    }
    Ok(replace_self(&mut process))
}

fn run_with_tokens(
    way: Delivery,
    arguments: &Arguments,
    command: &CommandLine,
    connections: &Connections,
    surroundings: &Surroundings<'_>,
) -> Result<u8, Failure> {
    if command.program.is_none() && connections.by_flags.is_empty() && !connections.own.names_a_host() {
        if command.is_found(surroundings)? {
            return Err(command.no_host());
        }
        return Ok(supervise::cannot_run(command.name(), &std::io::ErrorKind::NotFound.into()));
    }
    check_password(command, surroundings)?;
    let sslmode = check_connections(connections)?;
    let targets = targets(connections)?;
    let maker = TokenMaker::new(targets, &arguments.signing)?;
    let made = maker.make()?;
    if let Some(warning) = targets::guessed_user(connections.with_tokens()) {
        warn(&warning);
    }
    tokens::warn_if_doubtful(&made.tokens);

    let mut process = command.process();
    if surroundings.environment.get("PGSSLMODE")?.is_none_or(|mode| mode.is_empty()) {
        process.env("PGSSLMODE", sslmode);
    }
    // It is empty or asks for a token; others were refused.
    process.env_remove("PGPASSWORD");
    if way == Delivery::PasswordFile {
        let refresh_every = arguments.refresh.refresh_every;
        let status = supervise::run(&mut process, maker, made, refresh_every, users_passfile(surroundings)?)?;
        name_doctor(status, arguments, command);
        return Ok(status);
    }
    let [token] = made.tokens.as_slice() else { return Err(several_tokens(way, command)) };
    if way == Delivery::VariableForOldLibpq {
        warn(&format!(
            "{} uses a libpq before 14, which truncates the lines of a password file to 319 bytes: the token is passed in \
             PGPASSWORD instead and expires in 15 minutes",
            command.name().display()
        ));
    }
    process.env("PGPASSWORD", token.as_str());
    Ok(replace_self(&mut process))
}

/// The exit status of psql if it cannot connect.
const PSQL_CANNOT_CONNECT: u8 = 2;

/// Names `pgiam doctor` on a terminal if psql could not connect.
fn name_doctor(status: u8, arguments: &Arguments, command: &CommandLine) {
    let Some(psql) =
        command.arguments.as_ref().filter(|_| command.program.is_some_and(|program| program.name == "psql"))
    else {
        return;
    };
    if status == PSQL_CANNOT_CONNECT
        && io::stderr().is_terminal()
        && let Some(line) = hint::command_line(psql, &arguments.connections, &arguments.signing)
    {
        note(&format!("if the login failed, this explains why: {line}"));
    }
}

fn several_tokens(way: Delivery, command: &CommandLine) -> Failure {
    Failure::usage(if way == Delivery::Variable {
        "PGPASSWORD holds one token, and there are several hosts or users; name one, or remove --env".to_owned()
    } else {
        format!(
            "{} uses a libpq before 14, which truncates the lines of a password file to 319 bytes, and PGPASSWORD holds one \
             token only; name one host and user, use libpq 14 or later, or --preload",
            command.name().display()
        )
    })
}

/// An error if the command would use a password instead of the token.
fn check_password(command: &CommandLine, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
    let name = command.program.map_or("the command", |program| program.name);
    if command.arguments.as_ref().is_some_and(|arguments| arguments.asks_for_password) {
        return Err(Failure::usage(format!(
            "{name} would ask for a password (-W) and use it instead of the token; remove -W"
        )));
    }
    let password = surroundings.environment.get("PGPASSWORD")?;
    if password.is_some_and(|password| !password.is_empty() && password != SENTINEL) {
        return Err(Failure::usage("PGPASSWORD is set and would be used instead of the token; unset it"));
    }
    Ok(())
}

/// The `PGSSLMODE` for connections that do not set it. An error if one of them could send a token in clear, or would use
/// something else instead of it.
fn check_connections(connections: &Connections) -> Result<&'static str, Failure> {
    let mut mode = rules::required_sslmode(None, None).unwrap_or("require");
    for connection in connections.all() {
        let required = connection.check_token_is_safe()?;
        if connection.has_no_sslmode() && required == "verify-full" {
            mode = "verify-full";
        }
        if let Some(source) = &connection.passfile {
            return Err(Failure::usage(format!(
                "{source} names a passfile, which would be read instead of pgiam's; remove passfile"
            )));
        }
    }
    Ok(mode)
}

fn targets(connections: &Connections) -> Result<Vec<Target>, Failure> {
    let mut targets = Vec::new();
    for connection in connections.with_tokens() {
        targets::add(&mut targets, connection)?;
    }
    Ok(targets)
}

/// The password file that the command would have read.
fn users_passfile(surroundings: &Surroundings<'_>) -> Result<Option<PathBuf>, Failure> {
    let environment = surroundings.environment;
    if let Some(path) = environment.get("PGPASSFILE")?.filter(|path| !path.is_empty()) {
        return Ok(Some(path.into()));
    }
    let home = environment.get("HOME")?.filter(|home| !home.is_empty()).map(PathBuf::from);
    Ok(home.or_else(surroundings.home_directory).map(|home| home.join(".pgpass")))
}

const PRELOAD: &str = "libpgiam_preload.so";

/// The value of `LD_PRELOAD`, with our library first.
fn preload_list(surroundings: &Surroundings<'_>) -> Result<OsString, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::failed(format!("--preload: cannot find the directory of pgiam: {error}")))?;
    let bin = program.parent().unwrap_or(Path::new("/"));
    let multiarch = format!("../lib/{}-linux-gnu", std::env::consts::ARCH);
    let places = [bin.to_owned(), bin.join("../lib"), bin.join("../lib64"), bin.join(multiarch)];
    let found = places.iter().map(|place| place.join(PRELOAD)).find(|file| file.exists());
    let Some(file) = found.and_then(|file| file.canonicalize().ok()) else {
        let places: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
        return Err(Failure::failed(format!(
            "--preload: {PRELOAD} is not in {}; make install puts it there",
            places.join(", ")
        )));
    };
    let mut list = file.into_os_string();
    if let Some(others) = surroundings.environment.get("LD_PRELOAD")?.filter(|others| !others.is_empty()) {
        list.push(":");
        list.push(others);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_file_is_used_unless_something_else_is_asked_for_or_needed() {
        let facts = Facts { env: false, preload: false, off: false, truncates_lines: false };
        for (facts, expected) in [
            (facts, Delivery::PasswordFile),
            (Facts { truncates_lines: true, ..facts }, Delivery::VariableForOldLibpq),
            (Facts { env: true, truncates_lines: true, ..facts }, Delivery::Variable),
            (Facts { preload: true, truncates_lines: true, ..facts }, Delivery::Preload),
            (Facts { off: true, preload: true, ..facts }, Delivery::Nothing),
            (Facts { off: true, env: true, ..facts }, Delivery::Nothing),
        ] {
            assert_eq!(delivery(facts), expected, "{facts:?}");
        }
    }
}
