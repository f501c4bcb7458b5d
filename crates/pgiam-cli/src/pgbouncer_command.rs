//! `pgiam pgbouncer`: keeps the passwords of PgBouncer's `[databases]` fresh, in a file that its configuration includes, and
//! tells the pooler to read it again.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use pgiam_core::Token;
use rustix::process::{Pid, Signal as KillSignal, kill_process};
use zeroize::Zeroizing;

use crate::connection::{self, Connection, Surroundings};
use crate::failure::Failure;
use crate::passfile_command::{check_it_is_ours, force, replace};
use crate::refresher;
use crate::targets::{self, Target, Tokens, warn};

/// PgBouncer 1.17 to 1.25 cuts longer passwords without a word (`MAX_PASSWORD` in its `bouncer.h`, less one).
const LONGEST_PASSWORD: usize = 2047;

const EXAMPLES: &str = "\
Example:
  pgiam pgbouncer /etc/pgbouncer/pgiam.ini --pid-file /run/postgresql/pgbouncer.pid \\
      --database app=\"host=mydb.….rds.amazonaws.com user=app_user dbname=app sslmode=require\"

pgbouncer.ini ends with its [pgbouncer] section, and that with %include /etc/pgbouncer/pgiam.ini, which gets
server_tls_sslmode (and server_tls_ca_file from sslrootcert) and the [databases] with their passwords. Run it as PgBouncer's user. The file is
replaced every five minutes and PgBouncer is reloaded by SIGHUP (--pid-file) or RELOAD (--admin); one that does not run
reads the file when it starts. SIGHUP makes new tokens now, SIGTERM ends it. docs/pgbouncer.md has a whole configuration.

Exit status: 0, 1 when no token could be made at the start, 2 when the arguments must be changed.";

/// The subcommand's flags.
pub(crate) fn command() -> Command {
    Command::new("pgbouncer").about("Keep the passwords of PgBouncer's databases fresh").defer(details)
}

/// What is needed only when the command is the one that is asked for.
fn details(command: Command) -> Command {
    command
        .after_help(EXAMPLES)
        .disable_help_flag(true)
        .args_override_self(true)
        .arg(
            Arg::new("path")
                .value_name("PATH")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The file that pgbouncer.ini includes, which is replaced"),
        )
        .arg(
            Arg::new("database")
                .long("database")
                .value_name("NAME=CONNINFO")
                .required(true)
                .action(ArgAction::Append)
                .help("A database as PgBouncer's clients name it, and where it is; again for more"),
        )
        .arg(
            Arg::new("pid-file")
                .long("pid-file")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("PgBouncer's pidfile: it gets SIGHUP"),
        )
        .arg(
            Arg::new("admin")
                .long("admin")
                .value_name("CONNINFO")
                .help("PgBouncer's admin console, for psql: it gets RELOAD"),
        )
        .args(
            targets::arguments()
                .filter(|argument| !["host", "port", "user", "connection"].contains(&argument.get_id().as_str())),
        )
        .arg(force())
        .arg(Arg::new("once").long("once").action(ArgAction::SetTrue).help("Write the file once, reload and exit"))
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Show this help"))
}

/// One line of `[databases]`, but for its password.
struct Database {
    name: String,
    dbname: String,
    address: Option<String>,
}

/// Writes the file, and again until a signal ends it.
pub(crate) fn run(matches: &ArgMatches, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let path = matches.get_one::<PathBuf>("path").ok_or_else(|| Failure::usage("no PATH"))?;
    let (mut databases, mut wanted, mut tls) = (Vec::new(), Vec::new(), None);
    for given in matches.get_many::<String>("database").unwrap_or_default() {
        let (database, target, needs) = read(given, surroundings)?;
        if tls.get_or_insert_with(|| needs.clone()) != &needs {
            return Err(Failure::usage(
                "PgBouncer has one sslmode and one sslrootcert for all databases; give them all the same",
            ));
        }
        databases.push(database);
        wanted.push(target);
    }
    check_it_is_ours(path, MARK, matches)?;
    let (sslmode, sslrootcert) = tls.unwrap_or_default();
    let tokens = Tokens::new(wanted, matches)?;
    let fresh = tokens.make()?;
    Tokens::warn_of_doubtful_regions(&fresh);
    for (database, token) in
        databases.iter().zip(&fresh.tokens).filter(|(_, token)| token.as_str().len() > LONGEST_PASSWORD)
    {
        warn(&format!(
            "the token of database {} has {} bytes; PgBouncer before 1.26 holds {LONGEST_PASSWORD} at most and cuts the \
             rest without a word, so logins fail. Use credentials with a shorter session token, or a later version",
            database.name,
            token.as_str().len()
        ));
    }
    let place = |tokens: &Tokens, made: &[Token]| {
        let text = configuration(&databases, &tokens.targets, made, &sslmode, sslrootcert.as_deref());
        replace(path, &text).map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
        reload(matches)
    };
    place(&tokens, &fresh.tokens)?;
    if matches.get_flag("once") {
        return Ok(0);
    }
    let every = matches.get_one("refresh-every").copied();
    refresher::keep(tokens, &fresh, every, |tokens, fresh| place(tokens, &fresh.tokens))
}

/// The first line of what is written.
const MARK: &str = "; Written by pgiam pgbouncer.";

type Tls = (String, Option<String>);

/// `NAME=CONNINFO`.
fn read(given: &str, surroundings: &Surroundings<'_>) -> Result<(Database, Target, Tls), Failure> {
    let usage =
        |what: &str| Failure::usage(format!("--database {}: {what}", given.split('=').next().unwrap_or_default()));
    let (name, conninfo) = given.split_once('=').ok_or_else(|| usage("NAME=CONNINFO is needed"))?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Err(usage("a name has letters, digits and _ - . only"));
    }
    let explicit = connection::explicit([], Some(conninfo))?;
    let value = |keyword: &str| explicit.get(keyword).map(|given| given.value.clone());
    let (dbname, address) = (value("dbname"), value("hostaddr"));
    let connection: Connection = connection::resolve(explicit, surroundings)?;
    let sslmode = connection.check_token_is_safe()?;
    connection.only_host()?;
    let mut targets = Vec::new();
    targets::add(&mut targets, &connection)?;
    let target = targets.pop().ok_or_else(|| usage("PGIAM is off, so there is no token to write"))?;
    let root = connection.sslrootcert.as_ref().map(|given| given.value.clone());
    // PgBouncer knows no word for the system's store, and with verify and no file nothing could be verified.
    if root.as_deref() == Some("system") || (sslmode.starts_with("verify") && root.is_none()) {
        return Err(usage("PgBouncer verifies the server by a file only: add sslrootcert=FILE, the RDS bundle"));
    }
    for text in
        [Some(&target.host), Some(&target.user), dbname.as_ref(), address.as_ref(), root.as_ref()].into_iter().flatten()
    {
        if text.chars().any(char::is_control) {
            return Err(usage("a value has a control character"));
        }
    }
    let dbname = dbname.unwrap_or_else(|| name.to_owned());
    Ok((Database { name: name.to_owned(), dbname, address }, target, (sslmode, root)))
}

fn configuration(
    databases: &[Database],
    targets: &[Target],
    tokens: &[Token],
    sslmode: &str,
    sslrootcert: Option<&str>,
) -> Zeroizing<String> {
    let length: usize = tokens.iter().map(|token| token.as_str().len() + 1024).sum();
    let mut text = Zeroizing::new(String::with_capacity(length + 4096));
    // No [pgbouncer] above it: a section that begins again forgets what it had. The include stands at the section's end.
    text.push_str(&format!("{MARK}\nserver_tls_sslmode = {sslmode}\n"));
    if let Some(root) = sslrootcert {
        text.push_str(&format!("server_tls_ca_file = {root}\n"));
    }
    text.push_str("[databases]\n");
    for ((database, target), token) in databases.iter().zip(targets).zip(tokens) {
        let host = database.address.as_deref().unwrap_or(&target.host);
        let quoted = |value: &str| format!("'{}'", value.replace('\'', "''"));
        text.push_str(&format!(
            "{} = host={} port={} dbname={} user={} password='",
            database.name,
            quoted(host),
            target.port,
            quoted(&database.dbname),
            quoted(&target.user)
        ));
        // A token has no quote.
        text.push_str(token.as_str());
        text.push_str("'\n");
    }
    text
}

/// Makes PgBouncer read its configuration again. One that does not run will read it when it starts.
fn reload(matches: &ArgMatches) -> Result<(), Failure> {
    if let Some(file) = matches.get_one::<PathBuf>("pid-file") {
        return reload_by_signal(file);
    }
    if let Some(conninfo) = matches.get_one::<String>("admin")
        && let Err(why) = reload_over_console(conninfo)?
    {
        warn(&format!("PgBouncer was not reloaded: {why}"));
    }
    Ok(())
}

/// The inner `Err` is a pooler's own trouble. A pooler that does not answer is given up: the file must be kept fresh.
fn reload_over_console(conninfo: &str) -> Result<Result<(), String>, Failure> {
    const LONGEST: Duration = Duration::from_secs(10);
    let failed = |error: std::io::Error| Failure::failed(format!("cannot run psql for RELOAD: {error}"));
    let mut psql = Process::new("psql")
        .args(["-Xqw", "-c", "RELOAD", "-d", conninfo])
        .env("PGCONNECT_TIMEOUT", "5")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let began = Instant::now();
    let status = loop {
        match psql.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if began.elapsed() < LONGEST => std::thread::sleep(Duration::from_millis(20)),
            None => {
                psql.kill().ok();
                psql.wait().ok();
                return Ok(Err(format!("its console did not answer within {} seconds", LONGEST.as_secs())));
            }
        }
    };
    if status.success() {
        return Ok(Ok(()));
    }
    let mut said = String::new();
    if let Some(mut stderr) = psql.stderr.take() {
        stderr.read_to_string(&mut said).ok();
    }
    Ok(Err(said.trim().to_owned()))
}

fn reload_by_signal(file: &Path) -> Result<(), Failure> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::failed(format!("{}: {error}", file.display()))),
    };
    let pid = text.trim().parse().ok().filter(|pid: &i32| *pid > 1).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::failed(format!("{} holds no process id", file.display())))?;
    match kill_process(pid, KillSignal::HUP) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(Failure::failed(format!("cannot signal PgBouncer (process {}): {error}", text.trim()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        command().debug_assert();
    }
}
