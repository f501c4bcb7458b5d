//! `pgiam credentials`: which sources of AWS credentials were looked at, what each said, which one serves. Never a
//! secret.

use std::io::{self, Write};

use clap::{Arg, ArgAction, ArgMatches, Command};
use pgiam_core::{Client, Explanation, rfc3339};
use serde_json::{Value, json};

use crate::client_flags;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  pgiam credentials
  pgiam credentials --profile production --json

Looks at the sources in their order, now, as a token would. The last line is the region for hosts whose name
carries none.

Exit status: 0, 1 when there are no credentials, 2 when the arguments must be changed.";

/// The subcommand's flags.
pub(crate) fn command() -> Command {
    Command::new("credentials").about("Tell which AWS credentials would sign, and why; never a secret").defer(details)
}

/// What is needed only when the command is the one that is asked for.
fn details(command: Command) -> Command {
    command
        .after_help(EXAMPLES)
        .disable_help_flag(true)
        .args_override_self(true)
        .args(client_flags::arguments())
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object"))
        .arg(Arg::new("help").long("help").action(ArgAction::Help).help("Show this help"))
}

/// Looks, and prints what was seen; a failure is told on standard error too.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let explanation = Client::new(client_flags::settings(matches)?).explain();
    let text = if matches.get_flag("json") { format!("{}\n", as_json(&explanation)) } else { as_text(&explanation) };
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| Failure::failed(format!("cannot write to standard output: {error}")))?;
    match &explanation.outcome {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::failed(error.message())),
    }
}

fn as_text(explanation: &Explanation) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:18} {value}\n"));
    for (source, said) in &explanation.steps {
        line(source, said);
    }
    if let Ok(serving) = &explanation.outcome {
        line("access key id", &serving.access_key_id);
        if let Some(identity) = &serving.identity {
            line("identity", identity);
        }
        match serving.expires_at {
            Some(expires_at) => line("expires at", &rfc3339(expires_at)),
            // AWS' mark of a temporary key.
            None if serving.access_key_id.starts_with("ASIA") => line("expires at", "not told"),
            None => line("expires at", "never"),
        }
    }
    match &explanation.region {
        Ok((region, source)) => line("region", &format!("{region}, from {}", source.describe())),
        Err(error) => line("region", error.message()),
    }
    text
}

fn as_json(explanation: &Explanation) -> Value {
    let steps: Vec<Value> =
        explanation.steps.iter().map(|(source, said)| json!({"source": source, "said": said})).collect();
    let serving = explanation.outcome.as_ref().ok().map(|serving| {
        json!({
            "source": serving.source,
            "by": serving.by,
            "identity": serving.identity,
            "access_key_id": serving.access_key_id,
            "expires_at": serving.expires_at,
        })
    });
    json!({
        "steps": steps,
        "serving": serving,
        "error": explanation.outcome.as_ref().err().map(|error| error.message()),
        "region": explanation.region.as_ref().ok().map(|(region, source)| json!({"name": region, "from": source.describe()})),
    })
}
