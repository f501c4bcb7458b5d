//! `pgiam credentials`: queries each source of AWS credentials in order and reports the results, without secrets.

use clap::{ArgAction, Args};

use pgiam_core::{Client, Explanation, rfc3339};
use serde_json::{Value, json};

use crate::args::ClientArguments;
use crate::failure::Failure;
use crate::output;

const EXAMPLES: &str = "\
Examples:
  pgiam credentials
  pgiam credentials --profile production --json

Queries the sources in order, as making a token does. The last line is the region for hosts whose name does not contain
one.

Exit status: 0; 1 if there are no credentials; 2 if the arguments are wrong.";

/// Show which AWS credentials are used and why, without secrets
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// Print a JSON object
    #[arg(long)]
    json: bool,

    /// Show this help
    #[arg(short = 'h', long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// Queries the sources and prints the results. If there are no credentials, the reason is on standard error too.
pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let explanation = Client::new(arguments.client.settings()?).explain();
    let text = if arguments.json { format!("{}\n", as_json(&explanation)) } else { as_text(&explanation) };
    output::result(&text)?;
    match &explanation.outcome {
        Ok(_) => Ok(0),
        Err(error) => Err(Failure::failed(error.message())),
    }
}

fn as_text(explanation: &Explanation) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:18} {value}\n"));
    for (source, result) in &explanation.steps {
        line(source, result);
    }
    if let Ok(used) = &explanation.outcome {
        line("access key id", &used.access_key_id);
        if let Some(identity) = &used.identity {
            line("identity", identity);
        }
        match used.expires_at {
            Some(expires_at) => line("expires at", &rfc3339(expires_at)),
            // The prefix of temporary keys.
            None if used.access_key_id.starts_with("ASIA") => line("expires at", "not known"),
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
        explanation.steps.iter().map(|(source, result)| json!({"source": source, "said": result})).collect();
    let used = explanation.outcome.as_ref().ok().map(|used| {
        json!({
            "source": used.source,
            "by": used.by,
            "identity": used.identity,
            "access_key_id": used.access_key_id,
            "expires_at": used.expires_at,
        })
    });
    let region = explanation.region.as_ref().ok();
    json!({
        "steps": steps,
        "serving": used,
        "error": explanation.outcome.as_ref().err().map(|error| error.message()),
        "region": region.map(|(region, source)| json!({"name": region, "from": source.describe()})),
    })
}
