//! The command of `pgiam exec`: which program connects, and what its arguments say about the connection.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Command;

use pgiam_libpq::conninfo;
use pgiam_libpq::rules::SENTINEL;

use crate::connection::{self, Explicit, Surroundings};
use crate::failure::Failure;
use crate::libpq_version;
use crate::programs::{self, Action, Program};

/// The command, and what is known about its connection.
pub(crate) struct CommandLine {
    pub(crate) words: Vec<OsString>,
    /// The index of the program that connects, after `nohup` and the like.
    at: usize,
    pub(crate) program: Option<&'static Program>,
    /// What its arguments say; `None` for programs whose arguments are not read.
    pub(crate) arguments: Option<programs::Arguments>,
}

impl CommandLine {
    /// `None`: it is known that the command does not connect.
    pub(crate) fn read(words: &[OsString], posixly_correct: bool) -> Result<Option<Self>, Failure> {
        let at = programs::command_index(words);
        let program = words.get(at).and_then(|name| Program::find(name));
        let arguments = match program.map(|program| program.read(&words[at + 1..], posixly_correct)).transpose()? {
            Some(Action::DoesNotConnect) => return Ok(None),
            Some(Action::Connects(arguments)) => Some(arguments),
            None => None,
        };
        Ok(Some(Self { words: words.to_vec(), at, program, arguments }))
    }

    /// The program that connects.
    pub(crate) fn name(&self) -> &OsStr {
        self.words.get(self.at).map_or(OsStr::new(""), OsString::as_os_str)
    }

    /// What the arguments say about the connection.
    pub(crate) fn explicit(&self) -> Result<Explicit, Failure> {
        self.arguments.as_ref().map_or_else(
            || Ok(Explicit::new()),
            |arguments| connection::explicit_of_program(arguments.clone()), //
        )
    }

    /// Removes pgiam's own keywords, which libpq does not know, and the password `rds-iam` from the connection string.
    pub(crate) fn remove_own_keywords(&mut self) -> Result<(), Failure> {
        let Some(arguments) = &self.arguments else { return Ok(()) };
        let Some(text) = arguments.dbname.as_deref().filter(|text| conninfo::is_connection_string(text)) else {
            return Ok(());
        };
        let (own, rest) = conninfo::split_own(text).map_err(Failure::usage)?;
        let mut parameters = conninfo::parse(&rest).map_err(Failure::usage)?;
        let asks_for_token = parameters.get("password").is_some_and(|password| password.as_str() == SENTINEL);
        if asks_for_token {
            parameters.remove("password");
        }
        if asks_for_token || !own.is_empty() {
            arguments.replace_connection_string(&mut self.words[self.at + 1..], &conninfo::write(&parameters));
        }
        Ok(())
    }

    /// The command, ready to run.
    pub(crate) fn process(&self) -> Command {
        let (name, arguments) = self.words.split_first().map_or((OsStr::new(""), &[][..]), |(name, rest)| (name, rest));
        let mut process = Command::new(name);
        process.args(arguments);
        process
    }

    /// Whether the libpq of the command truncates the lines of a password file.
    pub(crate) fn truncates_lines(&self, surroundings: &Surroundings<'_>) -> Result<bool, Failure> {
        if self.program.is_none() {
            return Ok(false);
        }
        let library_path = surroundings.environment.get("LD_LIBRARY_PATH")?.map(OsString::from);
        let path = surroundings.environment.get("PATH")?.map(OsString::from);
        let version = libpq_version::of_program(Path::new(self.name()), library_path.as_deref(), path.as_deref());
        Ok(version.is_some_and(|version| version < libpq_version::READS_LONG_LINES))
    }

    /// Whether the program exists.
    pub(crate) fn is_found(&self, surroundings: &Surroundings<'_>) -> Result<bool, Failure> {
        let program = Path::new(self.name());
        if program.components().count() > 1 {
            return Ok(program.exists());
        }
        let path = surroundings.environment.get("PATH")?;
        // Without PATH the system has a default.
        Ok(path.is_none_or(|list| std::env::split_paths(&list).any(|directory| directory.join(program).exists())))
    }

    /// The error for a command whose arguments are not read while nothing else names a host: what to write instead.
    pub(crate) fn no_host(&self) -> Failure {
        let text =
            |words: &[OsString]| words.iter().map(|word| word.display().to_string()).collect::<Vec<_>>().join(" ");
        let or_inside = match self.inner_program() {
            Some(at) => format!(
                ", or run pgiam inside: {} pgiam exec -- {} ...",
                text(&self.words[..at]),
                self.words[at].display()
            ),
            None => ", or set PGHOST and PGUSER".to_owned(),
        };
        Failure::usage(format!(
            "no host: pgiam does not read the arguments of {}. Name the host before --: pgiam exec -h HOST -U USER -- {} \
             ...{or_inside}",
            self.name().display(),
            text(&self.words[..=self.at]),
        ))
    }

    /// The index of a PostgreSQL program among the arguments of another command. A word after `-c` is a script.
    fn inner_program(&self) -> Option<usize> {
        let words = &self.words;
        (self.at + 1..words.len()).find(|at| Program::find(&words[*at]).is_some() && words[at - 1] != "-c")
    }
}
