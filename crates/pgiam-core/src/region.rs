//! The region to sign for: the argument, else the endpoint's name, else the client's setting, `AWS_REGION`,
//! `AWS_DEFAULT_REGION`, the profile and the instance metadata, in that order.
//!
//! An argument that contradicts a recognised endpoint name is an error, and so is a role of another partition than the
//! region: the server would refuse the token.

use crate::config::Config;
use crate::config::region_name::check;
use crate::error::{Error, ErrorKind, invalid_argument, invalid_configuration};
use crate::net::metadata_service::{DISABLED, MetadataService};
use crate::net::partition::Partition;
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
    /// In words, for messages.
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

/// A region and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) name: String,
    pub(crate) source: RegionSource,
}

impl Region {
    pub(crate) fn new(name: &str, source: RegionSource) -> Self {
        Self { name: name.to_owned(), source }
    }
}

/// The region for a host, as far as that needs no network. `None`: only instance metadata may know it.
pub(crate) fn locate(
    host: &str,
    kind: EndpointKind<'_>,
    argument: Option<&str>,
    config: &Config,
) -> Result<Option<Region>, Error> {
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
        return Ok(Some(Region::new(region, RegionSource::Argument)));
    }
    match in_name {
        Some(region) => Ok(Some(Region::new(region, RegionSource::EndpointName))),
        None => configured(config),
    }
}

/// The region for names that carry none, as far as that needs no network.
pub(crate) fn configured(config: &Config) -> Result<Option<Region>, Error> {
    if let Some(region) = config.settings.region() {
        return Ok(Some(Region::new(region, RegionSource::Client)));
    }
    for variable in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
        if let Some(region) = config.environment.get(variable) {
            check(region).map_err(|why| invalid_configuration(format!("{variable}: {why}")))?;
            return Ok(Some(Region::new(region, RegionSource::Environment)));
        }
    }
    if let Some(profile) = config.profile()?
        && let Some(region) = profile.get("region")
    {
        check(region).map_err(|why| {
            let (file, name) = (profile.file_of("region"), profile.name());
            invalid_configuration(format!("{file}: profile {name:?}, region: {why}"))
        })?;
        return Ok(Some(Region::new(region, RegionSource::Profile)));
    }
    Ok(None)
}

/// Asks the instance metadata for the region of this machine.
pub(crate) fn from_instance_metadata(config: &Config, deadline: Deadline) -> Result<Region, Error> {
    let none = |kind: ErrorKind, why: &str| {
        Error::new(
            kind,
            format!(
                "no region: the host name has none, and none is set by argument, the region setting, AWS_REGION, \
                 AWS_DEFAULT_REGION or the profile; instance metadata: {why}; pass the region of the database"
            ),
        )
    };
    let Some(service) = MetadataService::from_config(config)? else { return Err(none(ErrorKind::NoRegion, DISABLED)) };
    let region = service.session(deadline).and_then(|session| session.region()).map_err(|error| {
        // A call that timed out may succeed later, so the caller gets to know that.
        let kind = if error.kind() == ErrorKind::Timeout { ErrorKind::Timeout } else { ErrorKind::NoRegion };
        let explained = none(kind, error.message());
        if error.is_source_unavailable() { explained.source_unavailable() } else { explained }
    })?;
    check(&region).map_err(|_| none(ErrorKind::NoRegion, "the response is not a region"))?;
    Ok(Region { name: region, source: RegionSource::InstanceMetadata })
}

/// Adds to the failure to find a region what to pass for this kind of endpoint.
pub(crate) fn explain_failure(error: Error, host: &str, kind: EndpointKind<'_>) -> Error {
    if kind != EndpointKind::RdsGlobal || !matches!(error.kind(), ErrorKind::NoRegion | ErrorKind::Timeout) {
        return error;
    }
    error.context(&format!(
        "host {host:?} is the endpoint of an Aurora global database, whose name has no region; pass the region of its \
         primary cluster, the one that accepts writes"
    ))
}

/// Refuses credentials of a role or user of another partition than the region: no server there knows them.
pub(crate) fn check_partition(identity: &str, region: &str) -> Result<(), Error> {
    let Some(("arn", rest)) = identity.split_once(':') else { return Ok(()) };
    let (partition, of_region) = (rest.split(':').next().unwrap_or_default(), Partition::of_region(region).id);
    if partition == of_region {
        return Ok(());
    }
    Err(invalid_configuration(format!(
        "the credentials of {identity} belong to the partition {partition:?}, but the region {region:?} to \
         {of_region:?}; use a role of the region's partition, or correct the region"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_of_another_partition_than_the_region_is_refused_with_both_named() {
        let role = "arn:aws:sts::123456789012:assumed-role/app/session";
        for region in ["cn-north-1", "us-gov-west-1", "us-iso-east-1", "us-isob-east-1", "eusc-de-east-1"] {
            let error = check_partition(role, region).unwrap_err();
            assert!(error.message().contains(region) && error.message().contains(role), "{error}");
        }
        check_partition(role, "eu-central-1").unwrap();
        check_partition("arn:aws-us-gov:sts::123456789012:assumed-role/app/s", "us-gov-east-1").unwrap();
        check_partition("role Developer of account 123456789012", "cn-north-1").unwrap();
    }
}
