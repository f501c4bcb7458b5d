//! `pgiam credentials`: queries each source of AWS credentials in order and reports the results, without secrets.

use clap::{ArgAction, Args};
use pgiam_core::{AwsFailure, CallerIdentity, Client, Explanation, rfc3339};
use serde_json::{Value, json};

use crate::args::ClientArguments;
use crate::connection::Surroundings;
use crate::failure::Failure;
use crate::login::identity;
use crate::{mfa, output};

const EXAMPLES: &str = "\
Examples:
  pgiam credentials
  pgiam credentials --profile production --json
  pgiam credentials --verify

Queries the sources in order, as making a token does. The last line is the region for hosts whose name does not contain
one. With --verify, STS is asked whose credentials these are, which needs no permission.

Exit status: 0; 1 if there are no credentials, or STS does not accept them; 2 if the arguments are wrong.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: ClientArguments,

    /// Ask STS whose credentials these are
    #[arg(long)]
    verify: bool,

    /// Print a JSON object
    #[arg(long)]
    json: bool,

    /// Show this help
    #[arg(short = 'h', long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What STS said of the credentials.
type Verified = Result<CallerIdentity, AwsFailure>;

/// Where STS is asked if no region is configured.
const DEFAULT_REGION: &str = "us-east-1";

/// Queries the sources and prints the results. If there are no credentials, or STS does not accept them, the reason is on
/// standard error too.
pub(crate) fn run(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let profile = surroundings.environment.get("PGIAM_PROFILE")?.filter(|profile| !profile.is_empty());
    let client = mfa::client(arguments.client.settings(profile.as_deref())?);
    let explanation = client.explain();
    let verified = (arguments.verify && explanation.outcome.is_ok()).then(|| verify(&client, &explanation));
    let text = if arguments.json {
        format!("{}\n", as_json(&explanation, verified.as_ref()))
    } else {
        as_text(&explanation, verified.as_ref())
    };
    output::result(&text)?;
    match (&explanation.outcome, &verified) {
        (Err(error), _) => Err(Failure::failed(error.message())),
        (_, Some(Err(failure))) => Err(Failure::failed(refusal(failure))),
        _ => Ok(0),
    }
}

fn verify(client: &Client, explanation: &Explanation) -> Verified {
    let region = explanation.region.as_ref().map_or(DEFAULT_REGION, |(region, _)| region);
    client.aws_session(region).caller_identity()
}

/// Why STS does not accept the credentials.
fn refusal(failure: &AwsFailure) -> String {
    match identity::explain_refusal(failure, false) {
        Some(refused) => format!("{}: {}", refused.meaning, failure.message()),
        None => failure.message().to_owned(),
    }
}

fn as_text(explanation: &Explanation, verified: Option<&Verified>) -> String {
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
    match verified {
        Some(Ok(identity)) => line("STS identity", &identity::describe(identity)),
        Some(Err(failure)) => line("STS identity", &refusal(failure)),
        None => {}
    }
    match &explanation.region {
        Ok((region, source)) => line("region", &format!("{region}, from {}", source.describe())),
        Err(error) => line("region", error.message()),
    }
    text
}

fn as_json(explanation: &Explanation, verified: Option<&Verified>) -> Value {
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
    let verified = verified.map(|verified| match verified {
        Ok(identity) => json!({"arn": identity.arn, "account": identity.account}),
        Err(failure) => json!({"error": refusal(failure)}),
    });
    json!({
        "steps": steps,
        "serving": used,
        "verified": verified,
        "error": explanation.outcome.as_ref().err().map(|error| error.message()),
        "region": region.map(|(region, source)| json!({"name": region, "from": source.describe()})),
    })
}
