//! The credentials of the instance's role from EC2 instance metadata, in three requests: session token, role name,
//! credentials.

use crate::credentials::document::{Document, METADATA};
use crate::credentials::{Context, Outcome, Provided, Source};
use crate::error::{Error, ErrorKind, service_words};
use crate::net::metadata_service::{DISABLED, MetadataService};

pub(crate) fn provide(context: &Context<'_>) -> Outcome {
    provide_or_fail(context).into()
}

fn provide_or_fail(context: &Context<'_>) -> Result<Outcome, Error> {
    let Some(service) = MetadataService::from_config(context.config)? else {
        return Ok(Outcome::NotConfigured(DISABLED.into()));
    };
    let session = match service.session(context.deadline) {
        // Nothing listens there: this is not an EC2 instance. The chain lists it with the other sources.
        Err(error) if error.kind() == ErrorKind::NoCredentials => return Err(error),
        other => other?,
    };
    let Some(role) = session.role()? else {
        return Ok(Outcome::NotConfigured(
            "no role is attached to this instance; attach an instance profile whose role allows rds-db:connect".into(),
        ));
    };
    let in_context = |error: Error| error.context(&format!("the credentials of role {role}"));
    let response = session.role_credentials(&role)?;
    let document = Document::parse("the response", response.body).map_err(in_context)?;
    if let Some(code) = document.text("Code")
        && code != "Success"
    {
        let words = service_words(&[code, document.text("Message").unwrap_or_default()].join(": "), &[]);
        let advice = "check the role's trust policy";
        return Err(in_context(document.fault(&format!("is an error: {}; {advice}", words.trim_end_matches(':')))));
    }
    Ok(Outcome::Provided(Provided {
        credentials: document.credentials(&METADATA, "instance metadata").map_err(in_context)?,
        source: Source::InstanceMetadata,
        identity: Some(format!("instance role {role}")),
        by: "IMDSv2".into(),
    }))
}
