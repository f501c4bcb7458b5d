//! The region to sign for: the argument, else the endpoint's name, else the client's setting, `AWS_REGION`,
//! `AWS_DEFAULT_REGION`, the profile and the instance metadata, in that order.
//!
//! An argument that contradicts a recognised endpoint name is an error: the server could only refuse the token.

use crate::config::Config;
use crate::config::region_name::check;
use crate::error::{Error, ErrorKind, invalid_argument, invalid_configuration};
use crate::net::metadata_service::MetadataService;
use crate::time::Deadline;
use crate::token::endpoint::EndpointKind;

/// Where a region came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionSource {
    /// The caller's argument.
    Argument,
    /// The endpoint's name.
    EndpointName,
    /// The client's `region` setting.
    Client,
    /// `AWS_REGION` or `AWS_DEFAULT_REGION`.
    Environment,
    /// The profile in use.
    Profile,
    /// EC2 instance metadata.
    InstanceMetadata,
}

impl RegionSource {
    /// In words, for people.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Argument => "the argument",
            Self::EndpointName => "the endpoint's name",
            Self::Client => "the region setting",
            Self::Environment => "AWS_REGION or AWS_DEFAULT_REGION",
            Self::Profile => "the profile",
            Self::InstanceMetadata => "instance metadata",
        }
    }
}

/// A region found without asking the network, or the news that only instance metadata can tell.
pub(crate) enum Located<'a> {
    Known(&'a str, RegionSource),
    AskInstanceMetadata,
}

/// Finds the region for a host of a kind, as far as that needs no network.
pub(crate) fn locate<'a>(
    host: &str,
    kind: EndpointKind<'a>,
    argument: Option<&'a str>,
    config: &'a Config,
) -> Result<Located<'a>, Error> {
    let in_name = kind.region();
    if let Some(region) = argument.filter(|region| !region.is_empty()) {
        check(region).map_err(|why| invalid_argument(format!("region: {why}")))?;
        if let Some(in_name) = in_name
            && in_name != region
        {
            return Err(invalid_argument(format!(
                "region {region:?} contradicts the endpoint {host:?}, which is in {in_name:?}; \
                 leave the region out or correct one of the two"
            )));
        }
        return Ok(Located::Known(region, RegionSource::Argument));
    }
    if let Some(region) = in_name {
        return Ok(Located::Known(region, RegionSource::EndpointName));
    }
    configured(config)
}

/// The region for names that carry none, as far as that needs no network.
fn configured(config: &Config) -> Result<Located<'_>, Error> {
    if let Some(region) = config.settings.region() {
        return Ok(Located::Known(region, RegionSource::Client));
    }
    for variable in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if let Some(region) = config.environment.get(variable) {
            check(region).map_err(|why| invalid_configuration(format!("{variable}: {why}")))?;
            return Ok(Located::Known(region, RegionSource::Environment));
        }
    }
    if let Some(profile) = config.profile()?
        && let Some(region) = profile.get("region")
    {
        check(region).map_err(|why| {
            let (file, name) = (profile.file_of("region"), profile.name());
            invalid_configuration(format!("{file}: profile {name:?}, region: {why}"))
        })?;
        return Ok(Located::Known(region, RegionSource::Profile));
    }
    Ok(Located::AskInstanceMetadata)
}

/// The region for names that carry none, asking instance metadata if need be.
pub(crate) fn without_endpoint(config: &Config, deadline: Deadline) -> Result<(String, RegionSource), Error> {
    match configured(config)? {
        Located::Known(region, source) => Ok((region.to_owned(), source)),
        Located::AskInstanceMetadata => {
            from_instance_metadata(config, deadline).map(|region| (region, RegionSource::InstanceMetadata))
        }
    }
}

/// Asks the instance metadata for the region of this machine.
pub(crate) fn from_instance_metadata(config: &Config, deadline: Deadline) -> Result<String, Error> {
    let none = |why: &str| {
        Error::new(
            ErrorKind::NoRegion,
            format!(
                "no region: the host's name carries none, and none is given by argument, the region setting, AWS_REGION, AWS_DEFAULT_REGION or the profile; instance metadata: {why}; \
                 pass the region of the database"
            ),
        )
    };
    let service = match MetadataService::from_config(config)? {
        Ok(service) => service,
        Err(disabled) => return Err(none(disabled)),
    };
    let region = service.session(deadline).and_then(|session| session.region()).map_err(|error| {
        let explained = none(error.message());
        if error.is_source_unavailable() { explained.source_unavailable() } else { explained }
    })?;
    check(&region).map_err(|_| none("the answer is not a region"))?;
    Ok(region)
}
