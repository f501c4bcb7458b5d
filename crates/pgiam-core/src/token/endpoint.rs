//! Host names: which are refused, which are endpoints of RDS, Aurora or DSQL, and which region they carry.
//!
//! The forms are those of the AWS advanced JDBC wrapper's `RdsUtils` and of the RDS, Aurora and Aurora DSQL user guides.
//! A name is taken apart label by label from the right, so a pattern is anchored at both ends by construction: reading a
//! region out of the middle of a hostile name is a known hole (CVE-2026-22611).

use std::borrow::Cow;
use std::net::IpAddr;

use crate::error::{Error, invalid_argument};

/// What a host name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind<'a> {
    /// An RDS or Aurora endpoint with its region.
    Rds {
        /// The region.
        region: &'a str,
    },
    /// A custom endpoint of an Aurora cluster (`cluster-custom-`) with its region. The server refuses tokens for it.
    CustomCluster {
        /// The region.
        region: &'a str,
    },
    /// The endpoint of an Aurora global database. It moves between regions, so its name carries none.
    RdsGlobal,
    /// An Aurora DSQL endpoint with its region.
    Dsql {
        /// The region.
        region: &'a str,
    },
    /// Any other name: a CNAME, a load balancer, a PrivateLink name.
    Unknown,
}

impl<'a> EndpointKind<'a> {
    /// The region in the name.
    pub fn region(self) -> Option<&'a str> {
        match self {
            Self::Rds { region } | Self::CustomCluster { region } | Self::Dsql { region } => Some(region),
            Self::RdsGlobal | Self::Unknown => None,
        }
    }
}

/// Whether `host` is the name of an endpoint of RDS, Aurora or Aurora DSQL. Case and one trailing dot do not matter.
#[must_use]
pub fn is_recognized(host: &str) -> bool {
    normalize(host).is_ok_and(|host| classify(&host) != EndpointKind::Unknown)
}

/// Whether `host` is a custom endpoint of an Aurora cluster (`NAME.cluster-custom-…`). Aurora does not accept tokens that
/// are signed for a custom endpoint: sign for the cluster's or an instance's endpoint and connect with
/// `host=ENDPOINT hostaddr=ADDRESS`.
#[must_use]
pub fn is_custom_cluster_endpoint(host: &str) -> bool {
    normalize(host).is_ok_and(|host| matches!(classify(&host), EndpointKind::CustomCluster { .. }))
}

/// Whether `host` is the endpoint of an Aurora global database, whose name carries no region.
#[must_use]
pub fn is_global_endpoint(host: &str) -> bool {
    normalize(host).is_ok_and(|host| classify(&host) == EndpointKind::RdsGlobal)
}

/// Lower-cases a host and drops one trailing dot; refuses what no token can be valid for.
pub fn normalize(host: &str) -> Result<Cow<'_, str>, Error> {
    if host.is_empty() {
        return Err(invalid_argument("host is empty; pass the endpoint's name, as the RDS console shows it"));
    }
    if host.parse::<std::net::Ipv6Addr>().is_ok() || host.starts_with('[') {
        return Err(invalid_argument(format!("host {} is an IPv6 address; {SIGN_FOR_THE_ENDPOINT}", quoted(host))));
    }
    if let Some((scheme, _)) = host.split_once("://") {
        return Err(invalid_argument(format!(
            "host {} is a URL; pass the host name alone, without {:?}",
            quoted(host),
            format!("{scheme}://")
        )));
    }
    if let Some((name, port)) = host.rsplit_once(':')
        && !name.is_empty()
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(invalid_argument(format!(
            "host {} includes a port; pass the host {} and the port as separate arguments",
            quoted(host),
            quoted(name)
        )));
    }
    if let Some(bad) = host.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))) {
        return Err(invalid_argument(format!(
            "host {} has the character {bad:?}; a host name has only letters, digits, '.', '-' and '_'",
            quoted(host)
        )));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(invalid_argument(format!(
            "host {} is not a host name: a label is empty or longer than 63 bytes, or the name is longer than 253",
            quoted(host)
        )));
    }
    Ok(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

/// An argument for a message: in quotes, on one line, cut where it is longer than any host or user name.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(300) {
        Some((end, _)) => format!("{:?}... ({} bytes)", &text[..end], text.len()),
        None => format!("{text:?}"),
    }
}

const SIGN_FOR_THE_ENDPOINT: &str = "a token is valid only for the name of a database endpoint. To connect through a tunnel or to an \
     address, sign for the endpoint's name and connect with host=ENDPOINT hostaddr=ADDRESS";

/// Under `service=auto` addresses and `localhost` are refused: a server accepts tokens only for its endpoint's name.
pub(crate) fn refuse_addresses(host: &str) -> Result<(), Error> {
    let what = if host.parse::<IpAddr>().is_ok() || host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        "an IP address"
    } else if host == "localhost" || host.ends_with(".localhost") {
        "this machine"
    } else {
        return Ok(());
    };
    Err(invalid_argument(format!(
        "host {host:?} is {what}; {SIGN_FOR_THE_ENDPOINT} (set service=rds to sign for {host:?} anyway)"
    )))
}

/// What a normalized name is.
pub fn classify(host: &str) -> EndpointKind<'_> {
    let labels: Vec<&str> = host.split('.').collect();
    let kind = match labels.as_slice() {
        [before @ .., "on", "aws"] => dsql(before),
        [before @ .., "amazonaws", "com"] | [before @ .., "amazonaws", "com", "cn"] => {
            region_first(before).or_else(|| rds_first(before))
        }
        [before @ .., "amazonaws", "au" | "eu" | "uk"] => region_first(before),
        [before @ .., "c2s", "ic", "gov"] | [before @ .., "sc2s", "sgov", "gov"] => rds_first(before),
        _ => None,
    };
    kind.unwrap_or(EndpointKind::Unknown)
}

/// `ID.dsql.R`, or `ID.dsql-X.R` for PrivateLink.
fn dsql<'a>(labels: &[&'a str]) -> Option<EndpointKind<'a>> {
    let &[id, service, region] = labels else { return None };
    let is_dsql = service == "dsql" || service.strip_prefix("dsql-").is_some_and(is_identifier);
    (is_dsql && is_alphanumeric(id) && is_region_like(region)).then_some(EndpointKind::Dsql { region })
}

/// `X.R.rds`, `X.R.rds-fips`, and `NAME.global-ID.global.rds`.
fn region_first<'a>(labels: &[&'a str]) -> Option<EndpointKind<'a>> {
    let &[ref x @ .., region, "rds" | "rds-fips"] = labels else { return None };
    // Otherwise `global` would be read as a region.
    if region == "global" {
        let (id, name) = x.split_last()?;
        let is_global = !name.is_empty() && id.strip_prefix("global-").is_some_and(is_identifier);
        return is_global.then_some(EndpointKind::RdsGlobal);
    }
    in_region(x, region)
}

/// `X.rds.R`, as in China, GovCloud and the isolated partitions.
fn rds_first<'a>(labels: &[&'a str]) -> Option<EndpointKind<'a>> {
    let &[ref x @ .., "rds" | "rds-fips", region] = labels else { return None };
    if region == "global" { None } else { in_region(x, region) }
}

/// X is at least one label, then the account's part with an optional prefix.
fn in_region<'a>(x: &[&str], region: &'a str) -> Option<EndpointKind<'a>> {
    let (account, name) = x.split_last()?;
    // The longer prefixes first: what `cluster-` leaves of `cluster-ro-…` is not the account's part.
    let prefix = ["cluster-custom-", "cluster-ro-", "cluster-", "proxy-", "shardgrp-"]
        .into_iter()
        .find(|prefix| account.starts_with(prefix))
        .unwrap_or("");
    let is_endpoint = !name.is_empty() && is_alphanumeric(&account[prefix.len()..]) && is_region_like(region);
    is_endpoint.then_some(match prefix {
        "cluster-custom-" => EndpointKind::CustomCluster { region },
        _ => EndpointKind::Rds { region },
    })
}

/// Lower-case letters, digits and hyphens, as in every region's name. Aurora's identifiers look the same.
fn is_region_like(label: &str) -> bool {
    is_identifier(label)
}

fn is_identifier(label: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !label.is_empty() && !label.starts_with('-') && !label.ends_with('-') && label.bytes().all(is_allowed)
}

fn is_alphanumeric(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rds(region: &str) -> EndpointKind<'_> {
        EndpointKind::Rds { region }
    }

    fn custom(region: &str) -> EndpointKind<'_> {
        EndpointKind::CustomCluster { region }
    }

    #[test]
    fn every_form_of_endpoint_gives_its_region() {
        for (host, expected) in [
            ("mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com", rds("eu-central-1")),
            ("mypg.cluster-c9akciq32rpa.us-east-2.rds.amazonaws.com", rds("us-east-2")),
            ("mypg.cluster-ro-c9akciq32rpa.us-east-2.rds.amazonaws.com", rds("us-east-2")),
            ("mypg.cluster-custom-c9akciq32rpa.us-east-2.rds.amazonaws.com", custom("us-east-2")),
            ("analytics-ro.cluster-custom-c9akciq32rpa.rds.cn-north-1.amazonaws.com.cn", custom("cn-north-1")),
            ("mypg.proxy-c9akciq32rpa.us-east-2.rds.amazonaws.com", rds("us-east-2")),
            ("mypg.shardgrp-c9akciq32rpa.us-east-2.rds.amazonaws.com", rds("us-east-2")),
            ("reader.endpoint.proxy-c9akciq32rpa.us-east-2.rds.amazonaws.com", rds("us-east-2")),
            ("mypg.c9akciq32rpa.us-gov-west-1.rds-fips.amazonaws.com", rds("us-gov-west-1")),
            ("mypg.c9akciq32rpa.eusc-de-east-1.rds.amazonaws.eu", rds("eusc-de-east-1")),
            ("mypg.c9akciq32rpa.ap-southeast-2.rds.amazonaws.au", rds("ap-southeast-2")),
            ("mypg.c9akciq32rpa.eu-west-2.rds.amazonaws.uk", rds("eu-west-2")),
            ("mypg.c9akciq32rpa.rds.cn-north-1.amazonaws.com.cn", rds("cn-north-1")),
            ("mypg.c9akciq32rpa.cn-north-1.rds.amazonaws.com.cn", rds("cn-north-1")),
            ("a.endpoint.proxy-c9ak.rds.cn-north-1.amazonaws.com.cn", rds("cn-north-1")),
            ("mypg.cluster-c9akciq32rpa.rds.us-gov-west-1.amazonaws.com", rds("us-gov-west-1")),
            ("mypg.c9akciq32rpa.rds.us-iso-east-1.c2s.ic.gov", rds("us-iso-east-1")),
            ("mypg.c9akciq32rpa.rds.us-isob-east-1.sc2s.sgov.gov", rds("us-isob-east-1")),
            ("mypg-green-ab12cd.c9akciq32rpa.eu-central-1.rds.amazonaws.com", rds("eu-central-1")),
            ("mypg-old1.c9akciq32rpa.eu-central-1.rds.amazonaws.com", rds("eu-central-1")),
            ("orders-prod-2-green-ab12cd.cluster-c9akciq32rpa.eu-west-1.rds.amazonaws.com", rds("eu-west-1")),
            ("orders-prod-old1.cluster-ro-c9akciq32rpa.eu-west-1.rds.amazonaws.com", rds("eu-west-1")),
            ("orders-prod-instance-1-us-east-1b.c9akciq32rpa.us-east-1.rds.amazonaws.com", rds("us-east-1")),
            ("7.c9akciq32rpa.us-east-1.rds.amazonaws.com", rds("us-east-1")),
            ("orders-prod.proxy-c9akciq32rpa.us-east-1.rds.amazonaws.com", rds("us-east-1")),
            ("read-only-2.endpoint.proxy-c9akciq32rpa.us-east-1.rds.amazonaws.com", rds("us-east-1")),
            ("orders-prod.shardgrp-c9akciq32rpa.us-east-1.rds.amazonaws.com", rds("us-east-1")),
            ("orders-prod.cluster-c9akciq32rpa.rds-fips.us-gov-west-1.amazonaws.com", rds("us-gov-west-1")),
            ("name.global-abc123.global.rds.amazonaws.com", EndpointKind::RdsGlobal),
            ("orders-prod.global-abcd1234.global.rds.amazonaws.com", EndpointKind::RdsGlobal),
            ("orders-prod-2.global-ab-cd-1234.global.rds.amazonaws.com", EndpointKind::RdsGlobal),
            ("orders-prod.global-abcd1234.global.rds.amazonaws.com.cn", EndpointKind::RdsGlobal),
            ("4foobar1234abcd.dsql-fnh4.us-gov-west-1.on.aws", EndpointKind::Dsql { region: "us-gov-west-1" }),
            ("abc123.dsql.us-east-1.on.aws", EndpointKind::Dsql { region: "us-east-1" }),
            ("abc123.dsql-fnh4.us-east-1.on.aws", EndpointKind::Dsql { region: "us-east-1" }),
        ] {
            assert_eq!(classify(host), expected, "{host}");
        }
    }

    #[test]
    fn look_alikes_are_not_endpoints() {
        for host in [
            "mypg.c9ak.eu-central-1.rds.amazonaws.com.attacker.com",
            "mypg.c9ak.eu-central-1.rds.notamazonaws.com",
            "mypg.c9ak.eu_central_1.rds.amazonaws.com",
            "eu-central-1.rds.amazonaws.com",
            "mypg.cluster-.us-east-2.rds.amazonaws.com",
            "mypg.proxy-.us-east-2.rds.amazonaws.com",
            "mypg.cluster-custom-.us-east-2.rds.amazonaws.com",
            "mypg.cluster-c9-ak.us-east-2.rds.amazonaws.com",
            "mypg.c9ak.-us-east-2.rds.amazonaws.com",
            "mypg.c9ak.us-east-2-.rds.amazonaws.com",
            "mypg.c9ak.rds.global.amazonaws.com",
            "mypg.c9ak.us-east-2.rds.rds.amazonaws.com",
            "name.id.global.rds.amazonaws.com",
            "name.global-.global.rds.amazonaws.com",
            "global-abcd1234.global.rds.amazonaws.com",
            "mypg.global.rds.amazonaws.com",
            "global.rds.amazonaws.com",
            "rds.us-east-1.amazonaws.com",
            "vpce-0a1b2c-3d4e.rds.us-east-1.vpce.amazonaws.com",
            "abc123.dsql-.us-east-1.on.aws",
            "abc-123.dsql.us-east-1.on.aws",
            "abc123.dsql.us_east_1.on.aws",
            "db.example.com",
            "dsql.us-east-1.on.aws",
            "a.b.dsql.us-east-1.on.aws",
            "s3.amazonaws.com",
        ] {
            assert_eq!(classify(host), EndpointKind::Unknown, "{host}");
        }
    }

    #[test]
    fn a_custom_endpoint_and_a_global_endpoint_are_told_from_the_others() {
        assert!(is_custom_cluster_endpoint("Analytics-RO.cluster-custom-c9ak.us-east-2.rds.amazonaws.com."));
        assert!(!is_custom_cluster_endpoint("cluster-custom-1.cluster-c9ak.us-east-2.rds.amazonaws.com"));
        assert!(!is_custom_cluster_endpoint("db.cluster-custom-c9ak.example.com"));
        assert!(is_global_endpoint("Orders-Prod.global-abcd1234.global.rds.amazonaws.com."));
        assert!(!is_global_endpoint("global-1.cluster-c9ak.us-east-2.rds.amazonaws.com"));
        assert!(is_recognized("Orders-Prod.global-abcd1234.global.rds.amazonaws.com."));
        assert!(!is_recognized("mypg..us-east-2.rds.amazonaws.com"));
    }

    #[test]
    fn a_host_of_any_size_gives_a_message_of_one_short_line() {
        for host in ["a/".repeat(100_000), "é".repeat(100_000), "a\n".repeat(100_000)] {
            let error = normalize(&host).unwrap_err();
            assert!(error.message().len() < 2500 && !error.message().contains('\n'), "{}", error.message().len());
        }
    }

    #[test]
    fn a_host_is_lower_cased_and_loses_one_trailing_dot() {
        assert_eq!(normalize("MyPG.Example.COM.").unwrap(), "mypg.example.com");
        assert!(normalize("mypg.example.com..").is_err());
    }

    #[test]
    fn hosts_that_cannot_be_names_are_refused_with_a_reason() {
        for (host, part) in [
            ("", "empty"),
            ("db.example.com:5432", "separate arguments"),
            ("https://db.example.com", "URL"),
            ("user@db.example.com", "'@'"),
            ("db.example.com/x", "'/'"),
            ("db.example.com#x", "'#'"),
            ("db.example.com?x", "'?'"),
            ("db example.com", "' '"),
            ("db\n.example.com", "'\\n'"),
            ("dö.example.com", "'ö'"),
            ("::1", "IPv6"),
            ("[::1]", "IPv6"),
            (".", "label"),
            ("a..b", "label"),
            (&format!("{}.example.com", "a".repeat(64)), "63 bytes"),
            (&"a.".repeat(128), "253"),
        ] {
            let error = normalize(host).unwrap_err();
            assert!(error.message().contains(part), "{host:?}: {error}");
        }
        assert!(normalize(&format!("{}.example.com", "a".repeat(63))).is_ok());
        assert!(normalize(&"a.".repeat(127)).is_ok());
    }

    #[test]
    fn addresses_and_localhost_are_refused_with_the_way_out() {
        for host in ["127.0.0.1", "10.1", "localhost", "db.localhost"] {
            let error = refuse_addresses(host).unwrap_err();
            assert!(error.message().contains("hostaddr=ADDRESS"), "{error}");
        }
        assert!(refuse_addresses("db.example.com").is_ok());
    }
}
