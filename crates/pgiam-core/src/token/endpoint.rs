//! Host names: which are refused, which are endpoints of RDS, Aurora or DSQL, and what region they carry.
//!
//! The forms are those of the AWS advanced JDBC wrapper's `RdsUtils` and of the RDS and Aurora DSQL user guides. Names
//! are taken apart label by label from the right, so a pattern is anchored at both ends by construction: reading a
//! region out of the middle of a hostile name is a known hole (CVE-2026-22611).

use std::borrow::Cow;
use std::net::IpAddr;

use crate::error::{Error, invalid_argument};

/// What a host name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointKind<'a> {
    /// An RDS or Aurora endpoint with its region.
    Rds {
        /// The region.
        region: &'a str,
    },
    /// An Aurora global database's endpoint: it moves between regions and names none.
    RdsGlobal,
    /// An Aurora DSQL endpoint with its region.
    Dsql {
        /// The region.
        region: &'a str,
    },
    /// Some other name: a CNAME, a load balancer, a PrivateLink name.
    Unknown,
}

/// Lower-cases a host and drops one trailing dot; refuses what no token can be valid for.
pub fn normalize(host: &str) -> Result<Cow<'_, str>, Error> {
    if host.is_empty() {
        return Err(invalid_argument("host is empty; pass the endpoint's name, as the RDS console shows it"));
    }
    if host.parse::<std::net::Ipv6Addr>().is_ok() || host.starts_with('[') {
        return Err(invalid_argument(format!("host {host:?} is an IPv6 address; {SIGN_FOR_THE_ENDPOINT}")));
    }
    if let Some((name, port)) = host.rsplit_once(':')
        && !name.is_empty()
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(invalid_argument(format!(
            "host {host:?} includes a port; pass the host as {name:?} and the port apart"
        )));
    }
    if let Some(bad) = host.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))) {
        return Err(invalid_argument(format!(
            "host {host:?} has the character {bad:?}; a host name has letters, digits, '.', '-' and '_' only"
        )));
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if name.len() > 253 || name.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(invalid_argument(format!(
            "host {host:?} is not a host name: a label is empty or longer than 63 bytes, or the name is longer than 253"
        )));
    }
    Ok(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    })
}

const SIGN_FOR_THE_ENDPOINT: &str = "a token is valid only for the name of a database endpoint. To go through a tunnel or to an \
     address, sign for the endpoint's name and connect with host=ENDPOINT hostaddr=ADDRESS";

/// Under `service=auto` addresses and `localhost` are refused: the server knows itself by its endpoint's name, so a token
/// for them can only be turned down.
pub(crate) fn refuse_addresses(host: &str) -> Result<(), Error> {
    let what = if host.parse::<IpAddr>().is_ok() || host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        "an IP address"
    } else if host == "localhost" || host.ends_with(".localhost") {
        "this machine"
    } else {
        return Ok(());
    };
    Err(invalid_argument(format!(
        "host {host:?} is {what}; {SIGN_FOR_THE_ENDPOINT} (service=rds signs for {host:?} all the same)"
    )))
}

/// Whether a name, letters of either case and one trailing dot allowed, is that of an endpoint of RDS, Aurora or Aurora
/// DSQL.
#[must_use]
pub fn is_recognized(host: &str) -> bool {
    normalize(host).is_ok_and(|host| classify(&host) != EndpointKind::Unknown)
}

/// Tells what a normalized name is.
pub fn classify(host: &str) -> EndpointKind<'_> {
    classify_labels(host).unwrap_or(EndpointKind::Unknown)
}

/// What stands before and after the last dot.
fn split_last_label(name: &str) -> Option<(&str, &str)> {
    let dot = name.bytes().rposition(|byte| byte == b'.')?;
    Some((&name[..dot], &name[dot + 1..]))
}

fn classify_labels(host: &str) -> Option<EndpointKind<'_>> {
    if let Some(rest) = host.strip_suffix(".on.aws") {
        let (name, region) = split_last_label(rest)?;
        let (id, service) = split_last_label(name)?;
        let is_dsql = service == "dsql" || service.strip_prefix("dsql-").is_some_and(is_region_like);
        let whole = is_dsql && is_alphanumeric(id) && is_region_like(region);
        return whole.then_some(EndpointKind::Dsql { region });
    }
    // `X.R.rds` before the partition's domain, with `rds-fips` beside `rds`.
    for domain in [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.au", ".amazonaws.eu", ".amazonaws.uk"] {
        let Some(rest) = host.strip_suffix(domain) else { continue };
        let Some(rest) = rest.strip_suffix(".rds").or_else(|| rest.strip_suffix(".rds-fips")) else {
            continue;
        };
        let (x, region) = split_last_label(rest)?;
        // Before the region: `global` would otherwise be read as one.
        if region == "global" {
            let (name, id) = split_last_label(x)?;
            let whole = is_instance_part(name) && id.strip_prefix("global-").is_some_and(is_alphanumeric);
            return whole.then_some(EndpointKind::RdsGlobal);
        }
        return (is_instance_part(x) && is_region_like(region)).then_some(EndpointKind::Rds { region });
    }
    // `X.rds.R` before the domain: China, GovCloud and the isolated partitions.
    for domain in [".amazonaws.com.cn", ".amazonaws.com", ".c2s.ic.gov", ".sc2s.sgov.gov"] {
        let Some(rest) = host.strip_suffix(domain) else { continue };
        let (rest, region) = split_last_label(rest)?;
        let x = rest.strip_suffix(".rds").or_else(|| rest.strip_suffix(".rds-fips"))?;
        return (is_instance_part(x) && is_region_like(region)).then_some(EndpointKind::Rds { region });
    }
    None
}

fn is_region_like(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_alphanumeric(label: &str) -> bool {
    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// X of the forms: any labels, then the account's part with an optional prefix.
fn is_instance_part(x: &str) -> bool {
    let last = split_last_label(x).map_or(x, |(_, last)| last);
    // The longer prefixes first: `cluster-` would leave `ro-…`, which is none.
    let bare = ["cluster-custom-", "cluster-ro-", "cluster-", "proxy-", "shardgrp-"]
        .iter()
        .find_map(|prefix| last.strip_prefix(prefix))
        .unwrap_or(last);
    is_alphanumeric(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rds(region: &str) -> EndpointKind<'_> {
        EndpointKind::Rds { region }
    }

    #[test]
    fn every_form_of_endpoint_gives_its_region() {
        for (host, expected) in [
            ("mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com", rds("eu-central-1")),
            ("mypg.cluster-c9akciq32rpa.us-east-2.rds.amazonaws.com", rds("us-east-2")),
            ("mypg.cluster-ro-c9akciq32rpa.us-east-2.rds.amazonaws.com", rds("us-east-2")),
            ("mypg.cluster-custom-c9akciq32rpa.us-east-2.rds.amazonaws.com", rds("us-east-2")),
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
            ("name.global-abc123.global.rds.amazonaws.com", EndpointKind::RdsGlobal),
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
            "name.id.global.rds.amazonaws.com",
            "db.example.com",
            "dsql.us-east-1.on.aws",
            "a.b.dsql.us-east-1.on.aws",
            "s3.amazonaws.com",
        ] {
            assert_eq!(classify(host), EndpointKind::Unknown, "{host}");
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
            ("db.example.com:5432", "port apart"),
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
