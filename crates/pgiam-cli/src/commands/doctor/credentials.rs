//! The AWS credentials that sign the token: which source has them, and until when.

use pgiam_core::rfc3339;

use crate::login::Context;
use crate::login::report::{Finding, Report};
use crate::shell;

/// Credentials that end sooner cannot be expected to outlive a login.
const TOO_SHORT: i64 = 60;

/// Queries the sources as making a token does.
pub(crate) fn check(context: &Context<'_>, report: &mut Report) {
    report.begin("looking for AWS credentials");
    let explanation = context.client.explain();
    let profile = context.profile.as_deref().map(shell::quoted);
    let with_profile = profile.map(|profile| format!(" --profile {profile}")).unwrap_or_default();
    report.add(match explanation.outcome {
        Err(error) => {
            Finding::fail("credentials", "no-credentials", error.message(), format!("pgiam credentials{with_profile}"))
        }
        Ok(used) => {
            let identity = used.identity.map(|identity| format!(", {identity}")).unwrap_or_default();
            let text = format!("{} from {}{identity}", used.access_key_id, used.by);
            match used.expires_at {
                Some(end) if end < context.now + TOO_SHORT => Finding::fail(
                    "credentials",
                    "credentials-expire",
                    format!("{text}; they expire at {}, and tokens that they signed expire with them", rfc3339(end)),
                    format!("aws sts get-caller-identity{with_profile}"),
                ),
                Some(end) => Finding::ok("credentials", format!("{text}, until {}", rfc3339(end))),
                None => Finding::ok("credentials", text),
            }
        }
    });
}
