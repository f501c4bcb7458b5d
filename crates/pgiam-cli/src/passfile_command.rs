//! `pgiam passfile`: a password file on disk that always holds fresh tokens, for programs that live elsewhere: another
//! container of the pod, another service of the machine.
//!
//! The file is replaced whole, by rename, so a reader sees the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use zeroize::Zeroizing;

use crate::connection::{self, Explicit, Surroundings};
use crate::failure::Failure;
use crate::refresher;
use crate::targets::{self, Tokens};

const EXAMPLES: &str = "\
Examples:
  pgiam passfile /run/pgiam/passfile -h mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com -U app_user
  pgiam passfile --once ./passfile --connection \"host=… user=app_user\"

Programs read it by PGPASSFILE=/run/pgiam/passfile or passfile=/run/pgiam/passfile, and need sslmode=require or better.
The file has mode 0600, as libpq wants it, and is replaced whole every five minutes, and before a token ends. SIGHUP makes
new tokens now; SIGTERM and SIGINT end it and leave the file.

docs/sidecar.md has a systemd unit and a Kubernetes example.

Exit status: 0, 1 when no token could be made at the start, 2 when the arguments must be changed.";

/// The subcommand's flags.
pub(crate) fn command() -> Command {
    Command::new("passfile").about("Write a password file and keep its tokens fresh").defer(details)
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
                .help("The password file, which is replaced; its directory must be writable"),
        )
        .args(targets::arguments())
        .arg(force())
        .arg(Arg::new("once").long("once").action(ArgAction::SetTrue).help("Write the file once and exit"))
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Show this help"))
}

/// Writes the file, and again until a signal ends it.
pub(crate) fn run(matches: &ArgMatches, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let path = matches.get_one::<PathBuf>("path").ok_or_else(|| Failure::usage("no PATH"))?;
    let mut connections = targets::connections(matches, &Explicit::new(), surroundings)?;
    if connections.is_empty() {
        connections.push(connection::resolve(Explicit::new(), surroundings)?);
    }
    let mut wanted = Vec::new();
    for connection in &connections {
        connection.check_token_is_safe()?;
        targets::add(&mut wanted, connection)?;
    }
    if wanted.is_empty() {
        return Err(Failure::usage("PGIAM is off, so there is no token to write"));
    }
    check_it_is_ours(path, MARK, matches)?;
    let tokens = Tokens::new(wanted, matches)?;
    let fresh = tokens.make()?;
    Tokens::warn_of_doubtful_regions(&fresh);
    let place = |text: &str| {
        replace(path, &Zeroizing::new(format!("{MARK}\n{text}")))
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
    };
    place(&tokens.passfile(&fresh)?)?;
    if matches.get_flag("once") {
        return Ok(0);
    }

    let every = matches.get_one("refresh-every").copied();
    refresher::keep(tokens, &fresh, every, |tokens, fresh| place(&tokens.passfile(fresh)?))
}

/// The first line of what is written; libpq passes over it.
const MARK: &str = "# Written by pgiam passfile, and replaced whole.";

/// The flag that [`check_it_is_ours`] obeys.
pub(crate) fn force() -> Arg {
    Arg::new("force").long("force").action(ArgAction::SetTrue).help("Replace PATH even if something else wrote it")
}

/// A file that somebody keeps by hand must not be lost: what is replaced is empty, or begins with `mark`.
pub(crate) fn check_it_is_ours(path: &Path, mark: &str, matches: &ArgMatches) -> Result<(), Failure> {
    if matches.get_flag("force") {
        return Ok(());
    }
    let refuse = |what: &str| {
        Err(Failure::usage(format!(
            "{} {what} and would be replaced whole; name another file, or add --force",
            path.display()
        )))
    };
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(metadata) if metadata.is_symlink() => refuse("is a symbolic link"),
        Ok(metadata) if metadata.len() == 0 => Ok(()),
        Ok(_) => match fs::read(path) {
            Ok(text) if text.starts_with(mark.as_bytes()) => Ok(()),
            _ => refuse("was not written by this command"),
        },
    }
}

/// Writes a file that only its owner can read, under another name first.
pub(crate) fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new_name = name.to_owned();
    new_name.push(format!(".{}.new", std::process::id()));
    let new = path.with_file_name(new_name);
    // What a killed process of the same number has left behind.
    let _ = fs::remove_file(&new);
    let written = (|| {
        let mut file: File = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        command().debug_assert();
    }
}
