//! `pgiam exec`: a command in; the same command out, finding fresh tokens as its passwords.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pgiam_libpq::own_settings::{Mode, SENTINEL};
use pgiam_libpq::{conninfo, tls};

use crate::connection::{self, Connection, Explicit, Surroundings};
use crate::failure::Failure;
use crate::libpq_version;
use crate::postgres_arguments::{Arguments, Program};
use crate::supervise;
use crate::targets::{self, Tokens, warn};

const EXAMPLES: &str = "\
Examples:
  pgiam exec -- psql -h mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com -U app_user app
  pgiam exec -- pg_dump -j 4 -Fd -f dump \"host=… user=app_user dbname=app\"
  pgiam exec -h mydb.….rds.amazonaws.com -U app_user -- node server.js
  pgiam exec -h writer.… -h reader.… -U app_user -- ./report.sh
  PGIAM_HOST=mydb.….rds.amazonaws.com pgiam exec -- psql -h localhost -p 15432 -U app_user app

The command finds its passwords in a password file in memory (PGPASSFILE); nothing is written to disk and no token
stands in arguments or environment. pgiam stays beside the command, puts a new token into the file every five minutes,
hands signals on and exits as the command does. PGSSLMODE is set to require where there is none; what could send a
token in clear is refused, and so is a password of your own.

Host and user come from the flags, else from the arguments of a program of PostgreSQL's (psql, pg_dump, pg_restore,
pgbench, vacuumdb …), else from the service file and PGHOST, PGPORT, PGUSER. Which hosts get tokens: see PGIAM in
docs/settings.md.

Exit status: the command's own, 128+N or the signal itself if signal N ended it; 1 when no token could be made, 2 when
the arguments must be changed, 126 when the command cannot be run, 127 when there is none of that name.";

/// The subcommand's flags.
pub(crate) fn command() -> Command {
    Command::new("exec").about("Run a command that finds fresh tokens as its passwords").defer(details)
}

/// What is needed only when the command is the one that is asked for.
fn details(command: Command) -> Command {
    command
        .override_usage("pgiam exec [OPTIONS] -- COMMAND [ARGUMENT]...")
        .after_help(EXAMPLES)
        .disable_help_flag(true)
        .args_override_self(true)
        .args(targets::arguments())
        .arg(
            Arg::new("env")
                .long("env")
                .action(ArgAction::SetTrue)
                .help("Put the token into PGPASSWORD, once, for programs that read no password file"),
        )
        .arg(
            Arg::new("preload")
                .long("preload")
                .action(ArgAction::SetTrue)
                .conflicts_with("env")
                .help("Load libpgiam_preload.so into the command: every libpq connection makes its own token"),
        )
        .arg(
            Arg::new("command")
                .value_name("COMMAND")
                .last(true)
                .required(true)
                .num_args(1..)
                .value_parser(value_parser!(OsString))
                .help("The command and its arguments"),
        )
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Show this help"))
}

/// Runs the command and gives the status to exit with.
pub(crate) fn run(matches: &ArgMatches, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let mut words: Vec<OsString> = matches.get_many("command").unwrap_or_default().cloned().collect();
    let name = if words.is_empty() { OsString::new() } else { words.remove(0) };
    let environment = surroundings.environment;
    let preload = matches.get_flag("preload");
    let program = Program::find(&name);

    let mut said = None;
    if let Some(program) = program {
        match program.read(&words, environment.has("POSIXLY_CORRECT"))? {
            Some(arguments) => said = Some(arguments),
            None => return Ok(replace_self(Process::new(&name).args(&words))),
        }
    }
    let explicit = match &said {
        Some(arguments) => connection::explicit_of_program(arguments.clone())?,
        None => Explicit::new(),
    };
    // What the command itself would do, as far as it can be told.
    let own = connection::resolve(explicit.clone(), surroundings)?;
    let mut connections = targets::connections(matches, &explicit, surroundings)?;
    let by_flags = !connections.is_empty();
    let off = own.own.mode == Mode::Off && connections.iter().all(|connection| connection.own.mode == Mode::Off);
    let own_counts = !by_flags || (program.is_some() && own.hosts().is_ok());

    if let Some(arguments) = &said
        && !preload
    {
        without_own_keywords(arguments, &mut words)?;
    }
    let mut process = Process::new(&name);
    process.args(&words);
    if off {
        return Ok(replace_self(&mut process));
    }
    let sslmode = check_safety(&own, &connections, said.as_ref(), program, surroundings)?;
    if own_counts {
        connections.push(own);
    }
    let mut wanted = Vec::new();
    for connection in &connections {
        match targets::add(&mut wanted, connection) {
            Err(_) if preload && !by_flags => {}
            other => other?,
        }
    }

    if environment.get("PGSSLMODE")?.is_none_or(|mode| mode.is_empty()) {
        process.env("PGSSLMODE", sslmode);
    }
    if preload {
        process.env("LD_PRELOAD", preload_list(surroundings)?);
        for (flag, variable) in [("region", "PGIAM_REGION"), ("profile", "PGIAM_PROFILE")] {
            if let Some(value) = matches.get_one::<String>(flag) {
                process.env(variable, value);
            }
        }
    } else {
        // It can only be empty or ask for a token; other ones were refused.
        process.env_remove("PGPASSWORD");
    }
    if wanted.is_empty() {
        // The preloaded library makes the tokens, or every connection has PGIAM=off.
        return Ok(replace_self(&mut process));
    }
    let tokens = Tokens::new(wanted, matches)?;
    let fresh = tokens.make()?;
    Tokens::warn_of_doubtful_regions(&fresh);

    let in_environment = matches.get_flag("env") || (!preload && cuts_lines(&name, program, surroundings)?);
    if in_environment {
        let [token] = fresh.tokens.as_slice() else {
            return Err(Failure::usage(if matches.get_flag("env") {
                "PGPASSWORD holds one token, and there are several hosts or users; name one, or leave --env out"
                    .to_owned()
            } else {
                format!(
                    "{} runs with a libpq before 14, which cuts a password file's lines at 319 bytes, and PGPASSWORD \
                     holds one token only; name one host and user, use libpq 14 or later, or --preload",
                    name.display()
                )
            }));
        };
        if !matches.get_flag("env") {
            warn(&format!(
                "{} runs with a libpq before 14, which cuts a password file's lines at 319 bytes: the token is given in \
                 PGPASSWORD instead and ends in 15 minutes",
                name.display()
            ));
        }
        process.env("PGPASSWORD", token.as_str());
        return Ok(replace_self(&mut process));
    }
    supervise::run(&mut process, tokens, fresh, matches.get_one("refresh-every").copied(), others(surroundings)?)
}

/// Becomes the command: nothing of ours stays.
fn replace_self(process: &mut Process) -> u8 {
    let error = process.exec();
    supervise::cannot_run(process.get_program().to_owned(), &error)
}

/// The `sslmode` for where there is none. Refuses what would send a token in clear, or something else instead of it.
fn check_safety(
    own: &Connection,
    connections: &[Connection],
    said: Option<&Arguments>,
    program: Option<&Program>,
    surroundings: &Surroundings<'_>,
) -> Result<&'static str, Failure> {
    let name = program.map_or("the command", Program::name);
    if said.is_some_and(|arguments| arguments.asks_for_password) {
        return Err(Failure::usage(format!(
            "{name} would ask for a password (-W) and use it instead of the token; leave -W out"
        )));
    }
    let password = surroundings.environment.get("PGPASSWORD")?;
    if password.is_some_and(|password| !password.is_empty() && password != SENTINEL) {
        return Err(Failure::usage("PGPASSWORD is set and would be used instead of the token; unset it"));
    }
    let mut mode = tls::required_sslmode(None, None).unwrap_or("require");
    for connection in connections.iter().chain([own]) {
        let required = connection.check_token_is_safe()?;
        if connection.sslmode.is_none() && required == "verify-full" {
            mode = "verify-full";
        }
        if let Some(source) = &connection.passfile {
            return Err(Failure::usage(format!(
                "{source} names a passfile, which would be read instead of pgiam's; leave passfile out"
            )));
        }
    }
    Ok(mode)
}

/// Takes pgiam's own keywords, and a password that only asks for a token, out of the command's arguments: its libpq does
/// not know them.
fn without_own_keywords(arguments: &Arguments, words: &mut [OsString]) -> Result<(), Failure> {
    let Some(text) = arguments.dbname.as_deref().filter(|text| conninfo::is_connection_string(text)) else {
        return Ok(());
    };
    let (own, rest) = conninfo::split_own(text).map_err(Failure::usage)?;
    let mut parameters = conninfo::parse(&rest).map_err(Failure::usage)?;
    let asks_for_token = parameters.get("password").is_some_and(|password| password == SENTINEL);
    if asks_for_token {
        parameters.remove("password");
    }
    if asks_for_token || !own.is_empty() {
        arguments.replace_connection_string(words, &conninfo::write(&parameters));
    }
    Ok(())
}

/// Whether the program's libpq would cut the lines of a password file.
fn cuts_lines(name: &OsStr, program: Option<&Program>, surroundings: &Surroundings<'_>) -> Result<bool, Failure> {
    if program.is_none() {
        return Ok(false);
    }
    let library_path = surroundings.environment.get("LD_LIBRARY_PATH")?.map(OsString::from);
    let path = surroundings.environment.get("PATH")?.map(OsString::from);
    let version = libpq_version::of_program(Path::new(name), library_path.as_deref(), path.as_deref());
    Ok(version.is_some_and(|version| version < libpq_version::READS_LONG_LINES))
}

/// The password file that the command would have read.
fn others(surroundings: &Surroundings<'_>) -> Result<Option<PathBuf>, Failure> {
    let environment = surroundings.environment;
    if let Some(path) = environment.get("PGPASSFILE")?.filter(|path| !path.is_empty()) {
        return Ok(Some(path.into()));
    }
    let home = environment.get("HOME")?.filter(|home| !home.is_empty()).map(PathBuf::from);
    Ok(home.or_else(surroundings.home_directory).map(|home| home.join(".pgpass")))
}

const PRELOAD: &str = "libpgiam_preload.so";

/// `LD_PRELOAD` with our library first.
fn preload_list(surroundings: &Surroundings<'_>) -> Result<OsString, Failure> {
    let helper =
        std::env::current_exe().map_err(|error| Failure::failed(format!("cannot tell where pgiam is: {error}")))?;
    let bin = helper.parent().unwrap_or(Path::new("/"));
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
    fn the_flags_are_consistent() {
        command().debug_assert();
    }
}
