//! `credential_process`: a program that prints credentials as JSON.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "Process credential provider". The command is split as the AWS CLI splits
//! it (POSIX quoting, no shell). It runs in a process group of its own and is killed with all it started when the
//! deadline passes. What it prints appears in no message: it is where the secrets are.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use aws_credential_types::Credentials;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::credentials::{Context, Provided, Source};
use crate::error::{Error, ErrorKind, invalid_configuration};
use crate::sys;
use crate::time::{parse_rfc3339, system_time};

/// The most that is read of what the program prints.
const MAX_OUTPUT: usize = 1024 * 1024;

/// `place` says where the command stands, for messages: file and profile.
pub(crate) fn provide(context: &Context<'_>, command: &str, place: &str) -> Result<Provided, Error> {
    let fault = |what: String| Error::new(ErrorKind::Provider, format!("{place}: credential_process: {what}"));
    let words = shlex::split(command).filter(|words| !words.is_empty()).ok_or_else(|| {
        invalid_configuration(format!("{place}: credential_process: a quote is not closed, or it is empty"))
    })?;
    let program = &words[0];
    let mut child = Command::new(program);
    child.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    sys::default_child_signal(&mut child);
    let mut child = child.spawn().map_err(|error| fault(format!("cannot start {program:?}: {}", error.kind())))?;
    let leader = child.id();

    let mut output = Zeroizing::new(Vec::with_capacity(16 * 1024));
    let mut pipe = child.stdout.take();
    let ended = loop {
        let Some(pipe) = pipe.as_mut() else { break false };
        let Some(left) = context.deadline.remaining() else { break false };
        if !sys::wait_readable(pipe, left) {
            continue;
        }
        let mut chunk = Zeroizing::new([0_u8; 8192]);
        match pipe.read(&mut *chunk) {
            Ok(0) => break true,
            Ok(read) if output.len() + read <= MAX_OUTPUT => output.extend_from_slice(&chunk[..read]),
            Ok(_) => {
                sys::kill_group(leader);
                child.wait().ok();
                return Err(fault(format!("{program:?} prints more than {} KiB", MAX_OUTPUT / 1024)));
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break true,
        }
    };
    // The pipe is closed; the program has a moment more to end by itself.
    let status = loop {
        match child.try_wait() {
            // A host that ignores SIGCHLD, or reaps every child itself, leaves no status to read.
            Err(_) => break None,
            Ok(Some(status)) => break Some(status),
            Ok(None) if ended && context.deadline.remaining().is_some() => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Ok(None) => {
                sys::kill_group(leader);
                child.wait().ok();
                return Err(Error::new(
                    ErrorKind::Timeout,
                    format!("{place}: credential_process: {program:?} did not end within the time-out and was killed"),
                ));
            }
        }
    };
    if !ended {
        // It ended and left something behind that holds the pipe open.
        sys::kill_group(leader);
        return Err(Error::new(
            ErrorKind::Timeout,
            format!("{place}: credential_process: {program:?} left its output open past the time-out"),
        ));
    }
    if let Some(status) = status
        && !status.success()
    {
        return Err(fault(format!("{program:?} ended with {status}; run it by hand to see why")));
    }
    let document: Value =
        serde_json::from_slice(&output).map_err(|_| fault(format!("{program:?} printed no JSON object")))?;
    if document["Version"] != 1 {
        return Err(fault(format!("{program:?} printed no \"Version\": 1, the only one there is")));
    }
    let text = |name: &str| {
        document[name]
            .as_str()
            .filter(|text| !text.is_empty())
            .ok_or_else(|| fault(format!("{program:?} printed no {name}")))
    };
    let expiry = match document["Expiration"].as_str() {
        None => None,
        Some(text) => Some(parse_rfc3339(text).map(system_time).ok_or_else(|| {
            fault(format!("{program:?} printed an Expiration that is not like 2026-01-02T03:04:05Z"))
        })?),
    };
    Ok(Provided {
        credentials: Credentials::new(
            text("AccessKeyId")?,
            text("SecretAccessKey")?,
            document["SessionToken"].as_str().filter(|token| !token.is_empty()).map(str::to_owned),
            expiry,
            "process",
        ),
        source: Source::Profile,
        identity: document["AccountId"].as_str().map(|account| format!("account {account}")),
        by: format!("credential_process {program:?}"),
    })
}
