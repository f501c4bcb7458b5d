//! `pgiam passfile`: a password file on disk with fresh tokens, for programs that `pgiam exec` cannot start: services, and
//! other containers of a pod.

use std::path::PathBuf;

use clap::Args;

use crate::args::{ConnectionArguments, LongHelp, RefreshArguments, SigningArguments};
use crate::connection::{self, Connection, Explicit, Surroundings};
use crate::failure::Failure;
use crate::health::{Health, HealthArguments};
use crate::output::warn;
use crate::refresher;
use crate::targets;
use crate::tokens::{self, TokenMaker, TokenSet};
use crate::written_file::WrittenFile;

const EXAMPLES: &str = "\
Examples:
  pgiam passfile /run/pgiam/passfile -h mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com -U app_user
  pgiam passfile --once ./passfile --connection \"host=… user=app_user\"

Programs find the file with PGPASSFILE=/run/pgiam/passfile or passfile=/run/pgiam/passfile. They must use
sslmode=require or better themselves: a password file cannot enforce it.

The file has mode 0600, as libpq requires, and is replaced every five minutes and before a token expires. SIGHUP makes
new tokens now; SIGTERM and SIGINT end the command and leave the file. Only a regular file is replaced, never a device,
a FIFO or a symbolic link.

systemd learns when the file is there and fresh (Type=notify, WatchdogSec=), other supervisors by --health-file.
PGIAM_LOG=info logs what was written and when.

docs/sidecar.md has a systemd unit and a Kubernetes example.

Exit status: 0; 1 if no token could be made at the start; 2 if the arguments are wrong.";

/// The first line of the file; libpq ignores it.
const MARK: &str = "# Written by pgiam passfile. Changes will be overwritten.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Arguments {
    /// The password file; its directory must be writable
    path: PathBuf,

    #[command(flatten)]
    connections: ConnectionArguments,

    #[command(flatten)]
    signing: SigningArguments,

    #[command(flatten)]
    refresh: RefreshArguments,

    #[command(flatten)]
    health: HealthArguments,

    /// Replace PATH even if something else wrote it
    #[arg(long)]
    force: bool,

    /// Write the file once and exit
    #[arg(long)]
    once: bool,

    #[command(flatten)]
    help: LongHelp,
}

/// Writes the file, and again until a signal ends the command.
pub(crate) fn run(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let connections = connections(arguments, surroundings)?;
    let mut wanted = Vec::new();
    for connection in &connections {
        connection.check_token_is_safe()?;
        targets::add(&mut wanted, connection)?;
    }
    if wanted.is_empty() {
        return Err(Failure::usage("PGIAM is off, so there is no token to write"));
    }
    let file = WrittenFile::new(&arguments.path, MARK, arguments.force)?;
    let health = Health::new(&arguments.path, &arguments.health)?;
    let maker = TokenMaker::new(wanted, &arguments.signing)?;
    let made = maker.make()?;
    if let Some(warning) = targets::guessed_user(&connections) {
        warn(&warning);
    }
    tokens::warn_if_doubtful(&made.tokens);
    file.write(&maker.passfile(&made)?)?;
    health.placed(&maker, &made);
    if arguments.once {
        return Ok(0);
    }
    let place = |maker: &TokenMaker, made: &TokenSet| file.write(&maker.passfile(made)?);
    refresher::keep(maker, &made, arguments.refresh.refresh_every, &health, place)
}

/// The connections of the flags; without any, the one that the environment names.
fn connections(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<Vec<Connection>, Failure> {
    let mut connections = targets::connections(&arguments.connections, &Explicit::new(), surroundings)?;
    if connections.is_empty() {
        connections.push(connection::resolve(Explicit::new(), surroundings)?);
    }
    Ok(connections)
}
