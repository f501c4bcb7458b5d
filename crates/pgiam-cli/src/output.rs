//! What `pgiam` prints. Standard output is for results only; messages go to standard error, one line each.

use std::io::{self, Write};

use crate::args;
use crate::failure::Failure;

/// Prints an error. If standard error cannot be written to, nobody can be told.
pub(crate) fn error(text: &str) {
    let _ = writeln!(io::stderr(), "pgiam: {text}");
}

/// Prints a warning.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "pgiam: warning: {text}");
}

/// Writes a result to standard output, in one write.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    write_to_stdout(text).map_err(|error| Failure::failed(format!("cannot write to standard output: {error}")))
}

fn write_to_stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints help, the version or a usage error, and returns the exit status.
pub(crate) fn clap_error(error: &clap::Error) -> u8 {
    if !error.use_stderr() {
        return write_to_stdout(&error.to_string()).map_or(1, |()| 0);
    }
    let _ = write!(io::stderr(), "{error}");
    if let Some(advice) = args::advice(error) {
        let _ = writeln!(io::stderr(), "\n{advice}");
    }
    2
}
