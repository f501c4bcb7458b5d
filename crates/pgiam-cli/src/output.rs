//! What `pgiam` prints. Standard output is for results only; messages go to standard error, one line each.

use std::io::{self, Write};

use crate::failure::Failure;

/// Prints an error. If standard error cannot be written to, there is no place for the message.
pub(crate) fn error(text: &str) {
    let _ = writeln!(io::stderr(), "pgiam: {text}");
}

/// Prints a warning.
pub(crate) fn warn(text: &str) {
    let _ = writeln!(io::stderr(), "pgiam: warning: {text}");
}

/// Prints a note.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "pgiam: {text}");
}

/// Writes a result to standard output, in one write.
pub(crate) fn result(text: &str) -> Result<(), Failure> {
    write_to_stdout(text).map_err(|error| Failure::failed(format!("cannot write to standard output: {error}")))
}

/// Writes to standard output.
pub(crate) fn write_to_stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
