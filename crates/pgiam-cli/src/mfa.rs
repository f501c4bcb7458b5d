//! The code of an MFA device, for profiles with `mfa_serial`: asked for at the terminal, once in each run, before the tokens
//! are first made. Later the terminal belongs to the command that `pgiam exec` runs.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use pgiam_core::{Client, Settings};

static MAY_ASK: AtomicBool = AtomicBool::new(true);

/// More than any code or answer has.
pub(crate) const LONGEST_LINE: u64 = 256;

/// A client that asks for a code if this process runs in the foreground of a terminal.
pub(crate) fn client(settings: Settings) -> Client {
    let builder = Client::builder().settings(settings);
    let builder = if terminal().is_some() { builder.mfa_prompt(ask) } else { builder };
    builder.build()
}

/// From now on nobody is asked.
pub(crate) fn stop_asking() {
    MAY_ASK.store(false, Ordering::Relaxed);
}

fn ask(device: &str) -> io::Result<String> {
    if !MAY_ASK.swap(false, Ordering::Relaxed) {
        return Err(io::Error::other(
            "pgiam asks for one code in each run, when it starts: run it again (duration_seconds makes the session of a \
             role longer)",
        ));
    }
    let mut terminal = terminal().ok_or_else(|| io::Error::other("there is no terminal to ask at"))?;
    // In one piece: what is typed meanwhile is echoed after it.
    terminal.write_all(format!("MFA code of {}: ", device.escape_debug()).as_bytes())?;
    let mut line = String::new();
    BufReader::new(terminal.take(LONGEST_LINE)).read_line(&mut line)?;
    Ok(line)
}

/// The controlling terminal, if this process is in its foreground: in the background, reading would stop it.
pub(crate) fn terminal() -> Option<File> {
    let terminal = File::options().read(true).write(true).open("/dev/tty").ok()?;
    let foreground = rustix::termios::tcgetpgrp(&terminal).ok()?;
    (foreground == rustix::process::getpgrp()).then_some(terminal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_after_the_first_tokens_were_made() {
        stop_asking();
        let error = ask("arn:aws:iam::123456789012:mfa/jane").unwrap_err();
        assert!(error.to_string().contains("duration_seconds"), "{error}");
    }
}
