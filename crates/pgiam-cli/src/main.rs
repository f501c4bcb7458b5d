//! The helper `pgiam`: prints IAM tokens for psql, pg_dump, shell scripts and pgAdmin.
//!
//! Downwards: [`token_command`] and [`credentials_command`] read the flags and print; [`exec_command`] runs a command and
//! stays with it through [`supervise`]; [`passfile_command`] and [`pgbouncer_command`]
//! keep files fresh. [`connection`] composes where to connect from [`postgres_arguments`],
//! `pgiam-libpq` and [`service_file`]; [`targets`] makes tokens for that, and [`refresher`] makes them anew. The tokens are
//! `pgiam-core`'s. The process' environment is read here and nowhere else; `unsafe` stands in [`os`].
//!
//! The process begins in [`os`], which calls [`run`].
#![deny(unsafe_code)]
#![cfg_attr(not(test), no_main)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the program pgiam is for Linux: it keeps passwords in files in memory that only Linux has. Other systems can use \
     the crate pgiam-core or the C library."
);

mod client_flags;
mod connection;
mod credentials_command;
mod exec_command;
mod failure;
mod libpq_version;
#[cfg(feature = "manual")]
mod manual;
mod os;
mod passfile_command;
mod pgbouncer_command;
mod postgres_arguments;
mod refresher;
mod service_file;
mod supervise;
mod targets;
mod token_command;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Arg, ArgAction, Command};

use crate::connection::{Environment, Surroundings};

fn command() -> Command {
    Command::new("pgiam")
        .version(env!("CARGO_PKG_VERSION"))
        .about("AWS IAM tokens for PostgreSQL on Amazon RDS, Aurora and Aurora DSQL")
        .after_help("pgiam COMMAND --help shows examples. psql-iam is pgiam exec -- psql. Settings: docs/settings.md.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_flag(true)
        .disable_help_subcommand(true)
        .propagate_version(true)
        // -h is the host, as in psql.
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Show this help"))
        .subcommand(token_command::command())
        .subcommand(exec_command::command())
        .subcommand(passfile_command::command())
        .subcommand(pgbouncer_command::command())
        .subcommand(credentials_command::command())
}

/// Does what the arguments say and gives the status to exit with.
#[cfg_attr(test, allow(dead_code))]
fn run(arguments: Vec<OsString>) -> u8 {
    #[cfg(feature = "manual")]
    if let Some(status) = manual::asked_for(&arguments, command) {
        return status;
    }
    let matches = match command().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if error.use_stderr() => {
            let _ = write!(io::stderr(), "{error}");
            return 2;
        }
        // Help or the version was asked for.
        Err(asked) => {
            let mut out = io::stdout().lock();
            return match write!(out, "{asked}").and_then(|()| out.flush()) {
                Ok(()) => 0,
                Err(_) => 1,
            };
        }
    };
    let environment = Environment::new(std::env::vars_os());
    let surroundings = Surroundings {
        environment: &environment,
        user_name: pgiam_core::sys::user_name,
        home_directory: pgiam_core::sys::home_directory,
        read: &|path| std::fs::read(path),
    };
    let result = match matches.subcommand() {
        Some(("token", matches)) => token_command::run(matches, &surroundings).map(|()| 0),
        Some(("exec", matches)) => exec_command::run(matches, &surroundings),
        Some(("passfile", matches)) => passfile_command::run(matches, &surroundings),
        Some(("pgbouncer", matches)) => pgbouncer_command::run(matches, &surroundings),
        Some(("credentials", matches)) => credentials_command::run(matches).map(|()| 0),
        _ => Ok(0),
    };
    match result {
        Ok(status) => status,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "pgiam: {failure}");
            failure.exit_status()
        }
    }
}
