//! The program `pgiam`: IAM tokens as passwords for psql, pg_dump, shell scripts, services and PgBouncer.
//!
//! From the top down; a module uses modules below it:
//!
//! * [`cli`] and [`commands`]: the command line, and one module for each command.
//! * [`command_line`]: the command of `pgiam exec`, and what its arguments say.
//! * [`supervise`]: runs it with a password file in memory ([`memory_file`]).
//! * [`refresher`]: renews tokens when they are due.
//! * [`tokens`] and [`targets`]: which tokens a connection needs, and how they are made.
//! * [`connection`]: where a program would connect, from its arguments ([`programs`], [`getopt_long`]), the service file
//!   ([`service_file`]) and the environment.
//! * [`login`]: a user's login to a database, as `pgiam doctor` and `pgiam setup` see it.
//! * [`mfa`]: the client, and the prompt for MFA codes.
//! * [`args`]: the groups of flags that commands share.
//! * [`written_file`], [`libpq_version`], [`output`], [`shell`], [`suggest`], [`os`], [`failure`]: utilities. `unsafe` is in [`os`]
//!   only.
#![deny(unsafe_code)]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "the program pgiam is for Linux: it keeps passwords in files in memory that only Linux has. Other systems can use \
     the crate pgiam-core or the C library."
);

mod args;
mod cli;
mod command_line;
mod commands;
mod connection;
mod failure;
mod getopt_long;
mod health;
mod libpq_version;
mod login;
#[cfg(feature = "manual")]
mod manual;
mod memory_file;
mod mfa;
mod os;
mod output;
mod programs;
mod refresher;
mod service_file;
mod shell;
mod suggest;
mod supervise;
mod targets;
mod tokens;
mod written_file;

use std::process::ExitCode;

use crate::cli::Command;
use crate::connection::{Environment, Surroundings};
use crate::failure::Failure;

fn main() -> ExitCode {
    #[cfg(feature = "manual")]
    if let Some(status) =
        manual::asked_for(&std::env::args_os().collect::<Vec<_>>(), <cli::Cli as clap::CommandFactory>::command)
    {
        return status.into();
    }
    let status = match cli::parse() {
        Ok(command) => run(command).unwrap_or_else(|failure| {
            output::error(&failure.to_string());
            failure.exit_status()
        }),
        Err(status) => status,
    };
    status.into()
}

/// Runs the command and returns the exit status.
fn run(command: Command) -> Result<u8, Failure> {
    let environment = Environment::new(std::env::vars_os());
    let surroundings = Surroundings {
        environment: &environment,
        user_name: pgiam_core::sys::user_name,
        home_directory: pgiam_core::sys::home_directory,
        read: &|path| std::fs::read(path),
    };
    match command {
        Command::Token(arguments) => commands::token::run(&arguments, &surroundings),
        Command::Exec(arguments) => commands::exec::run(&arguments, &surroundings),
        Command::Passfile(arguments) => commands::passfile::run(&arguments, &surroundings),
        Command::Pgbouncer(arguments) => commands::pgbouncer::run(&arguments, &surroundings),
        Command::Credentials(arguments) => commands::credentials::run(&arguments, &surroundings),
        Command::Doctor(arguments) => commands::doctor::run(&arguments, &surroundings),
        Command::Setup(arguments) => commands::setup::run(&arguments, &surroundings),
    }
}
