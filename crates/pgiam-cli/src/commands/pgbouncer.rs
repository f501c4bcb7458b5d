//! `pgiam pgbouncer`: writes PgBouncer's `[databases]` with fresh tokens into a file that its configuration includes, and
//! reloads PgBouncer.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use pgiam_core::Token;
use rustix::process::{Pid, Signal, kill_process};
use zeroize::Zeroizing;

use crate::args::{LongHelp, RefreshArguments, SigningArguments};
use crate::connection::{self, Surroundings};
use crate::failure::Failure;
use crate::health::{Health, HealthArguments};
use crate::output::warn;
use crate::refresher;
use crate::targets::{self, Target};
use crate::tokens::{self, TokenMaker};
use crate::written_file::WrittenFile;

/// PgBouncer 1.17 to 1.25 silently truncate longer passwords (`MAX_PASSWORD` in its `bouncer.h`, less one).
const LONGEST_PASSWORD: usize = 2047;

const EXAMPLES: &str = "\
Example:
  pgiam pgbouncer /etc/pgbouncer/pgiam.ini --pid-file /run/postgresql/pgbouncer.pid \\
      --database app=\"host=mydb.….rds.amazonaws.com user=app_user dbname=app sslmode=require\"

End the [pgbouncer] section of pgbouncer.ini, and let it be the last one, with: %include /etc/pgbouncer/pgiam.ini
The included file has server_tls_sslmode (and server_tls_ca_file from sslrootcert) and the [databases] with their
passwords. Run the command as PgBouncer's user.

The file is replaced every five minutes and before a token expires, and PgBouncer is reloaded with SIGHUP (--pid-file)
or RELOAD (--admin). A PgBouncer that does not run reads the file when it starts. SIGHUP makes new tokens now, SIGTERM
ends the command. Only a regular file is replaced, never a device, a FIFO or a symbolic link.

systemd learns when the file is there and fresh (Type=notify, WatchdogSec=), other supervisors by --health-file.
PGIAM_LOG=info logs what was written and when.

docs/pgbouncer.md has a complete configuration.

Exit status: 0; 1 if no token could be made at the start; 2 if the arguments are wrong.";

/// The first line of the file.
const MARK: &str = "; Written by pgiam pgbouncer.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Arguments {
    /// The file that pgbouncer.ini includes; its directory must be writable
    path: PathBuf,

    /// A database name for PgBouncer's clients, and where it is; may be repeated
    #[arg(long = "database", value_name = "NAME=CONNINFO", required = true)]
    databases: Vec<String>,

    #[command(flatten)]
    reload: ReloadArguments,

    #[command(flatten)]
    signing: SigningArguments,

    #[command(flatten)]
    refresh: RefreshArguments,

    #[command(flatten)]
    health: HealthArguments,

    /// Replace PATH even if something else wrote it
    #[arg(long)]
    force: bool,

    /// Write the file once, reload PgBouncer and exit
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    help: LongHelp,
}

// How PgBouncer is reloaded.
#[derive(Debug, Args)]
struct ReloadArguments {
    /// The pidfile of PgBouncer, which receives SIGHUP
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,

    /// PgBouncer's admin console, where psql runs RELOAD
    #[arg(long, value_name = "CONNINFO")]
    admin: Option<String>,
}

/// A line of `[databases]`, without its password.
struct Database {
    name: String,
    dbname: String,
    address: Option<String>,
    target: Target,
    user_warning: Option<String>,
}

/// The TLS settings, which PgBouncer has once for all databases.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tls {
    sslmode: String,
    sslrootcert: Option<String>,
}

/// Writes the file, and again until a signal ends the command.
pub(crate) fn run(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let (databases, tls) = read_all(&arguments.databases, surroundings)?;
    let file = WrittenFile::new(&arguments.path, MARK, arguments.force)?;
    let targets = databases.iter().map(|database| database.target.clone()).collect();
    let health = Health::new(&arguments.path, &arguments.health)?;
    let maker = TokenMaker::new(targets, &arguments.signing)?;
    let made = maker.make()?;
    if let Some(warning) = databases.iter().find_map(|database| database.user_warning.as_ref()) {
        warn(warning);
    }
    tokens::warn_if_doubtful(&made.tokens);
    warn_of_long_tokens(&databases, &made.tokens);
    let place = |tokens: &[Token]| {
        file.write(&configuration(&databases, tokens, &tls))?;
        reload(&arguments.reload)
    };
    place(&made.tokens)?;
    health.placed(&maker, &made);
    if arguments.once {
        return Ok(0);
    }
    refresher::keep(maker, &made, arguments.refresh.refresh_every, &health, |_, made| place(&made.tokens))
}

fn warn_of_long_tokens(databases: &[Database], tokens: &[Token]) {
    for (database, token) in databases.iter().zip(tokens) {
        let length = token.as_str().len();
        if length > LONGEST_PASSWORD {
            warn(&format!(
                "the token of database {} has {length} bytes. PgBouncer before 1.26 silently truncates passwords to \
                 {LONGEST_PASSWORD} bytes, so logins fail: use PgBouncer 1.26.1 or later, or credentials with a shorter \
                 session token",
                database.name
            ));
        }
    }
}

fn read_all(given: &[String], surroundings: &Surroundings<'_>) -> Result<(Vec<Database>, Tls), Failure> {
    let (mut databases, mut common) = (Vec::new(), None);
    for text in given {
        let (database, tls) = read(text, surroundings)?;
        if common.get_or_insert_with(|| tls.clone()) != &tls {
            return Err(Failure::usage(
                "PgBouncer has one sslmode and one sslrootcert for all databases; give all the same",
            ));
        }
        databases.push(database);
    }
    let tls = common.ok_or_else(|| Failure::usage("no --database is given"))?;
    Ok((databases, tls))
}

/// Reads `NAME=CONNINFO`.
fn read(given: &str, surroundings: &Surroundings<'_>) -> Result<(Database, Tls), Failure> {
    let usage =
        |what: &str| Failure::usage(format!("--database {}: {what}", given.split('=').next().unwrap_or_default()));
    let (name, conninfo) = given.split_once('=').ok_or_else(|| usage("write NAME=CONNINFO"))?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
        return Err(usage("a name consists of letters, digits, '_', '-' and '.'"));
    }
    let explicit = connection::explicit([], Some(conninfo))?;
    let connection = connection::resolve(explicit, surroundings)?;
    // PGDATABASE is not meant for one of several databases.
    let dbname =
        connection.dbname.as_ref().filter(|given| !given.source.is_environment()).map(|given| given.value.clone());
    let address = connection.only_address().map(str::to_owned);
    let sslmode = connection.check_token_is_safe()?;
    connection.only_host()?;
    let mut targets = Vec::new();
    targets::add(&mut targets, &connection)?;
    let target = targets.pop().ok_or_else(|| usage("PGIAM is off, so there is no token to write"))?;
    let sslrootcert = connection.sslrootcert.as_ref().map(|given| given.value.clone());
    // PgBouncer cannot use the trust store of the system, and without a file it could verify nothing.
    if sslrootcert.as_deref() == Some("system") || (sslmode.starts_with("verify") && sslrootcert.is_none()) {
        return Err(usage("PgBouncer verifies the server with a file only: add sslrootcert=FILE, the RDS bundle"));
    }
    let dbname = dbname.unwrap_or_else(|| name.to_owned());
    let texts = [Some(&target.host), Some(&target.user), Some(&dbname), address.as_ref(), sslrootcert.as_ref()];
    if texts.into_iter().flatten().any(|text| text.chars().any(char::is_control)) {
        return Err(usage("a value contains a control character"));
    }
    let user_warning = targets::guessed_user([&connection]);
    let database = Database { name: name.to_owned(), dbname, address, target, user_warning };
    Ok((database, Tls { sslmode, sslrootcert }))
}

fn configuration(databases: &[Database], tokens: &[Token], tls: &Tls) -> Zeroizing<String> {
    let length: usize = tokens.iter().map(|token| token.as_str().len() + 1024).sum();
    let mut text = Zeroizing::new(String::with_capacity(length + 4096));
    // Without a [pgbouncer] line: a section that begins again loses its settings. The %include is at the end of it.
    text.push_str(&format!("server_tls_sslmode = {}\n", tls.sslmode));
    if let Some(root) = &tls.sslrootcert {
        text.push_str(&format!("server_tls_ca_file = {root}\n"));
    }
    text.push_str("[databases]\n");
    let quoted = |value: &str| format!("'{}'", value.replace('\'', "''"));
    for (database, token) in databases.iter().zip(tokens) {
        let host = database.address.as_deref().unwrap_or(&database.target.host);
        text.push_str(&format!(
            "{} = host={} port={} dbname={} user={} password='",
            database.name,
            quoted(host),
            database.target.port,
            quoted(&database.dbname),
            quoted(&database.target.user)
        ));
        // A token contains no quotes.
        text.push_str(token.as_str());
        text.push_str("'\n");
    }
    text
}

/// Makes PgBouncer read its configuration again. If it does not run, it reads it when it starts.
fn reload(arguments: &ReloadArguments) -> Result<(), Failure> {
    if let Some(file) = &arguments.pid_file {
        return reload_by_signal(file);
    }
    if let Some(conninfo) = &arguments.admin
        && let Reload::Refused(why) = reload_over_console(conninfo)?
    {
        warn(&format!("PgBouncer was not reloaded: {why}"));
    }
    Ok(())
}

enum Reload {
    Done,
    /// PgBouncer's own problem, which must not keep the file from being refreshed.
    Refused(String),
}

fn reload_over_console(conninfo: &str) -> Result<Reload, Failure> {
    const LONGEST: Duration = Duration::from_secs(10);
    let failed = |error: std::io::Error| Failure::failed(format!("cannot run psql for RELOAD: {error}"));
    let mut psql = Command::new("psql")
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
                return Ok(Reload::Refused(format!("its console did not answer within {} seconds", LONGEST.as_secs())));
            }
        }
    };
    if status.success() {
        return Ok(Reload::Done);
    }
    let mut message = String::new();
    if let Some(mut stderr) = psql.stderr.take() {
        stderr.read_to_string(&mut message).ok();
    }
    Ok(Reload::Refused(message.split_whitespace().collect::<Vec<_>>().join(" ")))
}

fn reload_by_signal(file: &Path) -> Result<(), Failure> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::failed(format!("cannot read {}: {error}", file.display()))),
    };
    let pid = text.trim().parse().ok().filter(|pid: &i32| *pid > 1).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::failed(format!("{} does not contain a process id", file.display())))?;
    // SIGHUP ends most programs, and the number in a stale file may be another process' by now.
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_pid())).unwrap_or_default();
    if !name.trim().is_empty() && !name.contains("pgbouncer") {
        warn(&format!("PgBouncer was not reloaded: process {} in {} is {}", text.trim(), file.display(), name.trim()));
        return Ok(());
    }
    match kill_process(pid, Signal::HUP) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => {
            Err(Failure::failed(format!("cannot send SIGHUP to PgBouncer (process {}): {error}", text.trim())))
        }
    }
}
