//! The instance role's credentials from EC2 metadata: session token, role, credentials, in three requests.

use aws_credential_types::Credentials;
use serde_json::Value;

use crate::credentials::{Context, Outcome, Provided, Source};
use crate::error::{Error, ErrorKind};
use crate::net::metadata_service::{DISABLED, MetadataService};
use crate::time::{parse_rfc3339, system_time};

pub(crate) fn provide(context: &Context<'_>) -> Outcome {
    provide_or_fail(context).into()
}

fn provide_or_fail(context: &Context<'_>) -> Result<Outcome, Error> {
    let Some(service) = MetadataService::from_config(context.config)? else {
        return Ok(Outcome::NotConfigured(DISABLED.into()));
    };
    let session = match service.session(context.deadline) {
        // Nobody listens there: this machine is no EC2 instance. The chain lists it with the rest.
        Err(error) if error.kind() == ErrorKind::NoCredentials => return Err(error),
        other => other?,
    };
    let Some(role) = session.role()? else {
        return Ok(Outcome::NotConfigured(
            "no role is attached to this instance; attach an instance profile whose role allows rds-db:connect".into(),
        ));
    };
    let response = session.role_credentials(&role)?;
    let fault = |what: &str| Error::new(ErrorKind::Provider, format!("the credentials of role {role}: {what}"));
    let document: Value = serde_json::from_slice(&response.body).map_err(|_| fault("the answer is not JSON"))?;
    if let Some(code) = document["Code"].as_str()
        && code != "Success"
    {
        return Err(fault(&format!("the service answers {}; check the role's trust policy", response.words())));
    }
    let text = |name: &str| {
        document[name]
            .as_str()
            .filter(|value| !value.is_empty())
            .ok_or_else(|| fault(&format!("the answer has no {name}")))
    };
    let expiration = parse_rfc3339(text("Expiration")?).ok_or_else(|| fault("Expiration is not a time"))?;
    Ok(Outcome::Provided(Provided {
        credentials: Credentials::new(
            text("AccessKeyId")?,
            text("SecretAccessKey")?,
            Some(text("Token")?.to_owned()),
            Some(system_time(expiration)),
            "instance metadata",
        ),
        source: Source::InstanceMetadata,
        identity: Some(format!("instance role {role}")),
        by: "IMDSv2".into(),
    }))
}
