//! The name of the host: which kind of endpoint it is, and whether a token can be valid for it.

use std::borrow::Cow;
use std::net::IpAddr;

use pgiam_core::token::endpoint::{self, EndpointKind};

use super::Context;
use super::report::{Finding, Report};
use crate::shell;

/// What a host name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Instance,
    Cluster,
    ClusterReader,
    ClusterCustom,
    Proxy,
    ShardGroup,
    Global,
    Dsql,
    Address,
    ThisMachine,
    /// A CNAME, a load balancer, a name of one's own.
    Other,
}

impl Kind {
    /// Of a host name, as people write it.
    pub(crate) fn of(host: &str) -> Self {
        let host = normalized(host);
        match endpoint::classify(&host) {
            EndpointKind::Dsql { .. } => Self::Dsql,
            EndpointKind::RdsGlobal => Self::Global,
            EndpointKind::Rds { .. } | EndpointKind::CustomCluster { .. } => Self::of_labels(&host),
            EndpointKind::Unknown if host.parse::<IpAddr>().is_ok() => Self::Address,
            EndpointKind::Unknown if host == "localhost" || host.ends_with(".localhost") => Self::ThisMachine,
            EndpointKind::Unknown => Self::Other,
        }
    }

    /// By the second label, `cluster-ID`, or the third of `NAME.endpoint.proxy-ID`.
    fn of_labels(host: &str) -> Self {
        let mut labels = host.split('.').skip(1);
        let label = match labels.next() {
            Some("endpoint") => labels.next(),
            label => label,
        };
        let label = label.unwrap_or_default();
        for (prefix, kind) in [
            ("cluster-custom-", Self::ClusterCustom),
            ("cluster-ro-", Self::ClusterReader),
            ("cluster-", Self::Cluster),
            ("proxy-", Self::Proxy),
            ("shardgrp-", Self::ShardGroup),
        ] {
            if label.starts_with(prefix) {
                return kind;
            }
        }
        Self::Instance
    }

    /// Whether it is the name of an AWS endpoint.
    pub(crate) fn is_endpoint(self) -> bool {
        !matches!(self, Self::Address | Self::ThisMachine | Self::Other)
    }

    fn describe(self) -> &'static str {
        match self {
            Self::Instance => "the endpoint of an RDS or Aurora instance",
            Self::Cluster => "the endpoint of a cluster",
            Self::ClusterReader => "the reader endpoint of a cluster",
            Self::ClusterCustom => "a custom endpoint of an Aurora cluster",
            Self::Proxy => "an endpoint of RDS Proxy",
            Self::ShardGroup => "the endpoint of an Aurora shard group",
            Self::Global => "the endpoint of an Aurora global database",
            Self::Dsql => "the endpoint of an Aurora DSQL cluster",
            Self::Address => "an IP address",
            Self::ThisMachine => "this machine",
            Self::Other => "not an endpoint name of RDS, Aurora or Aurora DSQL",
        }
    }
}

/// Lower case, without a trailing dot.
pub(crate) fn normalized(host: &str) -> Cow<'_, str> {
    endpoint::normalize(host).unwrap_or(Cow::Borrowed(host))
}

/// The region in an endpoint's name.
pub(crate) fn region_of(host: &str) -> Option<String> {
    endpoint::classify(&normalized(host)).region().map(str::to_owned)
}

/// Where the name that the token is signed for is given.
fn iam_host(context: &Context<'_>) -> String {
    let keyword = context.connection.own_keywords.get("iam_host");
    keyword.map_or("PGIAM_HOST".to_owned(), |given| format!("iam_host in {}", given.source))
}

/// Checks the name that the token is signed for.
pub(crate) fn check(context: &Context<'_>, offline: bool, report: &mut Report) {
    report.add(finding(context, offline));
}

fn finding(context: &Context<'_>, offline: bool) -> Finding {
    let (connected, signed) = (normalized(&context.host.name), normalized(&context.endpoint.host));
    let kind = Kind::of(&signed);
    let what = kind.describe();
    let in_region = region_of(&signed).map(|region| format!(" in {region}")).unwrap_or_default();
    if !kind.is_endpoint() {
        return not_an_endpoint(context, what, offline);
    }
    if connected != signed && !matches!(Kind::of(&connected), Kind::ClusterCustom) && Kind::of(&connected).is_endpoint()
    {
        return Finding::fail(
            "name",
            "other-endpoint",
            format!("the connection goes to {connected}, but {} has the token signed for {signed}", iam_host(context)),
            context.without("iam_host"),
        );
    }
    match kind {
        Kind::ClusterCustom => Finding::fail(
            "name",
            "custom-endpoint",
            format!(
                "{signed} is {what}, for which Aurora accepts no tokens; set PGIAM_HOST to the endpoint of the cluster, \
                 which this prints"
            ),
            cluster_of_custom_endpoint(&signed),
        ),
        Kind::Global if context.region().is_none() => Finding::fail(
            "name",
            "no-region",
            format!("{signed} is {what} and contains no region; pass the region where the writer is now with -r"),
            format!(
                "aws rds describe-global-clusters --query \"GlobalClusters[?Endpoint=='{signed}'].GlobalClusterMembers[?IsWriter].DBClusterArn\""
            ),
        ),
        _ if connected != signed => {
            Finding::ok("name", format!("the token is signed for {signed}, {what}{in_region}; {connected} leads there"))
        }
        _ => Finding::ok("name", format!("{signed} is {what}{in_region}")),
    }
}

fn cluster_of_custom_endpoint(host: &str) -> String {
    let identifier = shell::quoted(host.split('.').next().unwrap_or_default());
    let region = region_of(host).unwrap_or_default();
    format!(
        "aws rds describe-db-clusters --region {region} --db-cluster-identifier \"$(aws rds describe-db-cluster-endpoints \
         --region {region} --filters Name=db-cluster-endpoint-id,Values={identifier} --query \
         'DBClusterEndpoints[0].DBClusterIdentifier' --output text)\" --query 'DBClusters[0].Endpoint' --output text"
    )
}

fn not_an_endpoint(context: &Context<'_>, what: &str, offline: bool) -> Finding {
    let host = &context.endpoint.host;
    let text = format!("{host} is {what}; a token is valid only for the name of the endpoint");
    if offline {
        let text = format!("{text}, which is missing here");
        Finding::fail("name", "not-an-endpoint", text, name_the_endpoint(context, ""))
    } else {
        Finding::unknown("name", format!("{text}. The server's certificate may contain it"))
    }
}

/// A command of the AWS CLI that lists endpoints.
struct Endpoints {
    command: &'static str,
    query: &'static str,
}

/// What to do if the endpoint's name cannot be found out: lists the names, and shows how to give one. `wildcard`: what the
/// server's certificate is for, or empty.
pub(crate) fn name_the_endpoint(context: &Context<'_>, wildcard: &str) -> String {
    let example = wildcard.replacen('*', "x", 1);
    let list = match Kind::of(&example) {
        Kind::Proxy => Endpoints { command: "describe-db-proxies", query: "DBProxies[].Endpoint" },
        _ => Endpoints { command: "describe-db-instances", query: "DBInstances[].Endpoint.Address" },
    };
    let region = region_of(&example)
        .or_else(|| context.region())
        .map(|region| format!(" --region {}", shell::quoted(&region)))
        .unwrap_or_default();
    format!(
        "aws rds {}{region} --query '{}'\n{}",
        list.command,
        list.query,
        context.command_with("psql-iam", &[("iam_host", "ENDPOINT")])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_an_endpoint_is_in_its_name() {
        for (host, expected) in [
            ("orders-prod.c9akciq32rpa.eu-central-1.rds.amazonaws.com", Kind::Instance),
            ("Orders-Prod.C9akciq32rpa.eu-central-1.rds.amazonaws.com.", Kind::Instance),
            ("orders-prod.cluster-c9akciq32rpa.eu-central-1.rds.amazonaws.com", Kind::Cluster),
            ("orders-prod.cluster-ro-c9akciq32rpa.rds.cn-north-1.amazonaws.com.cn", Kind::ClusterReader),
            ("reporting.cluster-custom-c9akciq32rpa.us-gov-west-1.rds.amazonaws.com", Kind::ClusterCustom),
            ("pool.proxy-c9akciq32rpa.eu-central-1.rds.amazonaws.com", Kind::Proxy),
            ("reader.endpoint.proxy-c9akciq32rpa.eu-central-1.rds.amazonaws.com", Kind::Proxy),
            ("orders.global-c9akciq32rpa.global.rds.amazonaws.com", Kind::Global),
            ("iuabtyq7pzsk4qfm2hmjz6gzqe.dsql.us-east-1.on.aws", Kind::Dsql),
            ("10.0.3.17", Kind::Address),
            ("fd00:ec2::17", Kind::Address),
            ("localhost", Kind::ThisMachine),
            ("db.example.com", Kind::Other),
            ("mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com.example.com", Kind::Other),
        ] {
            assert_eq!(Kind::of(host), expected, "{host}");
        }
    }
}
