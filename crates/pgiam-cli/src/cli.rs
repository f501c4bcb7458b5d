//! The command line of `pgiam`: the list of commands, and messages for wrong arguments.

use std::io::{self, Write};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Parser, Subcommand};

use crate::commands::{credentials, doctor, exec, passfile, pgbouncer, setup, token};
use crate::output;

/// AWS IAM tokens as passwords for PostgreSQL on Amazon RDS, Aurora and Aurora DSQL
#[derive(Debug, Parser)]
#[command(
    name = "pgiam",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true,
    // -h is the host in most commands, as in psql.
    disable_help_flag = true,
    after_help = "\
'pgiam COMMAND --help' shows the options of a command and examples. In most commands -h is the host, as in psql.
'psql-iam' is short for 'pgiam exec -- psql'. Environment variables: docs/settings.md."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Show this help
    #[arg(short = 'h', long, action = ArgAction::Help)]
    help: Option<bool>,
}

#[derive(Debug, Subcommand)]
// The flags of a command are declared when it is parsed: 122 page faults a run instead of 136.
#[command(args_override_self = true, defer = true)]
pub(crate) enum Command {
    /// Print a token, the password for one host, port and user
    Token(token::Arguments),
    /// Run a command with fresh tokens as its passwords
    Exec(exec::Arguments),
    /// Write a password file and keep its tokens fresh
    Passfile(passfile::Arguments),
    /// Keep the passwords of PgBouncer's databases fresh
    Pgbouncer(pgbouncer::Arguments),
    /// Show which AWS credentials are used and why, without secrets
    Credentials(credentials::Arguments),
    /// Explain why a login with a token fails
    Doctor(doctor::Arguments),
    /// Prepare a database, a user and a policy for logins with tokens
    Setup(setup::Arguments),
}

/// Parses the arguments of this process. If there is nothing to run, it prints why and returns the exit status.
pub(crate) fn parse() -> Result<Command, u8> {
    Cli::try_parse().map(|cli| cli.command).map_err(|error| print(&error))
}

/// Prints help, the version or a usage error, and returns the exit status.
fn print(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        return output::write_to_stdout(&error.to_string()).map_or(1, |()| 0);
    }
    let _ = write!(io::stderr(), "{error}");
    if let Some(advice) = advice(error) {
        let _ = writeln!(io::stderr(), "\n{advice}");
    }
    2
}

/// A line that clap cannot know, to add to its message.
fn advice(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    match error.kind() {
        ErrorKind::UnknownArgument if is_command_of_exec(error) && !argument.starts_with('-') => Some(format!(
            "put -- before the command: pgiam exec [OPTIONS] -- {argument} [ARGUMENT]...\n\
             Options of {argument} itself come after it."
        )),
        ErrorKind::InvalidValue if argument.starts_with("--host") => {
            Some("-h is the host, as in psql; --help shows the help".to_owned())
        }
        _ => None,
    }
}

fn is_command_of_exec(error: &clap::Error) -> bool {
    matches!(error.get(ContextKind::Usage), Some(ContextValue::StyledStr(usage))
        if usage.to_string().contains("pgiam exec"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_a_command_begins_with_its_line_in_the_list_of_commands() {
        let listed = Cli::command();
        let mut built = Cli::command();
        built.build();
        for command in listed.get_subcommands() {
            let about = |command: &clap::Command| command.get_about().map(ToString::to_string);
            let name = command.get_name();
            assert_eq!(about(built.find_subcommand(name).unwrap()), about(command), "{name}");
        }
    }

    #[test]
    fn every_command_and_flag_has_a_help_text_of_one_line() {
        let mut command = Cli::command();
        command.build();
        for command in std::iter::once(&command).chain(command.get_subcommands()) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                let help = argument.get_help().unwrap_or_else(|| panic!("{argument} of {}", command.get_name()));
                assert!(!help.to_string().contains('\n') && !help.to_string().ends_with('.'), "{argument}: {help}");
            }
        }
    }
}
