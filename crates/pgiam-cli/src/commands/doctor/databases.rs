//! Instances, clusters and proxies as Amazon RDS describes them, found by the name of an endpoint.
//!
//! The first label of an endpoint's name is the identifier that the API takes, so one resource is asked for by name and
//! no list is needed. Shapes: Amazon RDS API Reference, version 2014-10-31.

use pgiam_core::{AwsApi, AwsFailure, AwsSession, Element};

use super::name::Kind;

/// An instance or a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    Instance,
    Cluster,
}

impl ServerKind {
    /// In the names of the AWS CLI's commands and options, as in `modify-db-instance --db-instance-identifier`.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Cluster => "cluster",
        }
    }

    /// The dimension of its metrics.
    pub(crate) fn dimension(self) -> &'static str {
        match self {
            Self::Instance => "DBInstanceIdentifier",
            Self::Cluster => "DBClusterIdentifier",
        }
    }
}

/// A database server: an instance, or a cluster with its instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DbServer {
    pub(crate) kind: ServerKind,
    pub(crate) identifier: String,
    /// What policies name: `db-ABC` or `cluster-ABC`.
    pub(crate) resource_id: String,
    /// All names that lead to it. Empty while it is created.
    pub(crate) endpoints: Vec<String>,
    pub(crate) port: Option<u16>,
    pub(crate) engine: String,
    pub(crate) engine_version: String,
    pub(crate) status: String,
    pub(crate) iam_enabled: bool,
    /// A change of it that waits for the maintenance window.
    pub(crate) iam_pending: Option<bool>,
    pub(crate) log_exports: Vec<String>,
    pub(crate) master_user: String,
    /// The cluster that an instance is a member of.
    pub(crate) cluster: Option<String>,
    /// The instances of a cluster.
    pub(crate) members: Vec<String>,
}

/// An RDS Proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DbProxy {
    pub(crate) name: String,
    /// What policies name: `prx-0123`.
    pub(crate) resource_id: String,
    pub(crate) status: String,
    /// `IAM_AUTH` or `NONE`.
    pub(crate) default_auth_scheme: String,
    pub(crate) secrets: Vec<ProxySecret>,
    pub(crate) targets: Vec<ProxyTarget>,
}

/// A secret with which a proxy logs in, and whether clients must use IAM for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxySecret {
    pub(crate) arn: Option<String>,
    /// `REQUIRED`, `ENABLED` or `DISABLED`.
    pub(crate) iam_auth: String,
}

/// A database behind a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyTarget {
    pub(crate) identifier: String,
    /// `AVAILABLE`, `UNAVAILABLE`, …
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
}

/// What an endpoint's name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Server(Box<DbServer>),
    /// An instance of a cluster: policies and settings are the cluster's.
    Member {
        instance: Box<DbServer>,
        cluster: Box<DbServer>,
    },
    Proxy(DbProxy),
    /// The account has no such resource in this region, or one of this name with another endpoint.
    Missing(String),
    /// Names of this kind are not looked up.
    NotLookedUp(&'static str),
}

/// Looks up the resource of an endpoint. `host` is in lower case.
pub(crate) fn find(session: &AwsSession, host: &str) -> Result<Found, AwsFailure> {
    let identifier = host.split('.').next().unwrap_or_default();
    match Kind::of(host) {
        Kind::Instance => find_instance(session, host, identifier),
        Kind::Cluster | Kind::ClusterReader => {
            let found = cluster(session, identifier)?;
            Ok(found_at(host, format!("cluster {identifier}"), found))
        }
        Kind::ClusterCustom => find_custom_endpoint(session, host, identifier),
        Kind::Proxy => find_proxy(session, host, identifier),
        Kind::ShardGroup => Ok(Found::NotLookedUp("shard groups of Aurora Limitless are not looked up")),
        Kind::Global => Ok(Found::NotLookedUp(
            "global endpoints are not looked up; run the doctor with the endpoint of the cluster in the writer's region",
        )),
        Kind::Dsql => Ok(Found::NotLookedUp("Aurora DSQL always has IAM authentication")),
        Kind::Address | Kind::ThisMachine | Kind::Other => {
            Ok(Found::NotLookedUp("the name is not that of an endpoint; set PGIAM_HOST to the endpoint's name"))
        }
    }
}

fn find_instance(session: &AwsSession, host: &str, identifier: &str) -> Result<Found, AwsFailure> {
    let found = found_at(host, format!("instance {identifier}"), instance(session, identifier)?);
    let Found::Server(instance) = found else { return Ok(found) };
    let Some(name) = &instance.cluster else { return Ok(Found::Server(instance)) };
    Ok(match cluster(session, name)? {
        Some(cluster) => Found::Member { instance, cluster: Box::new(cluster) },
        None => Found::Server(instance),
    })
}

/// A server that was found by its identifier, if the endpoint is its own: another account may have one of the same name.
fn found_at(host: &str, what: String, found: Option<DbServer>) -> Found {
    match found {
        None => Found::Missing(format!("there is no {what}")),
        Some(server) if server.endpoints.is_empty() || server.endpoints.iter().any(|name| name == host) => {
            Found::Server(Box::new(server))
        }
        Some(server) => {
            Found::Missing(format!("the endpoint of {what} is {}, not {host}", server.endpoints.join(" or ")))
        }
    }
}

/// An instance by its identifier; `None`: there is none.
pub(crate) fn instance(session: &AwsSession, identifier: &str) -> Result<Option<DbServer>, AwsFailure> {
    let parameters = [("DBInstanceIdentifier", identifier)];
    let found = unless_missing(session.query(AwsApi::Rds, "DescribeDBInstances", &parameters))?;
    Ok(found.and_then(|found| found.all("DBInstances/DBInstance").first().map(|it| read_instance(it))))
}

/// A cluster by its identifier; `None`: there is none.
pub(crate) fn cluster(session: &AwsSession, identifier: &str) -> Result<Option<DbServer>, AwsFailure> {
    let parameters = [("DBClusterIdentifier", identifier)];
    let found = unless_missing(session.query(AwsApi::Rds, "DescribeDBClusters", &parameters))?;
    Ok(found.and_then(|found| found.all("DBClusters/DBCluster").first().map(|it| read_cluster(it))))
}

/// `None` where the service says that there is no such resource.
fn unless_missing(response: Result<Element, AwsFailure>) -> Result<Option<Element>, AwsFailure> {
    match response {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.code().is_some_and(|code| code.contains("NotFound")) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn text(element: &Element, path: &str) -> String {
    element.text(path).unwrap_or_default().to_owned()
}

const IAM: &str = "IAMDatabaseAuthenticationEnabled";

fn read_instance(element: &Element) -> DbServer {
    DbServer {
        kind: ServerKind::Instance,
        identifier: text(element, "DBInstanceIdentifier"),
        resource_id: text(element, "DbiResourceId"),
        endpoints: element.texts("Endpoint/Address"),
        port: element.text("Endpoint/Port").and_then(|port| port.parse().ok()),
        status: text(element, "DBInstanceStatus"),
        cluster: element.text("DBClusterIdentifier").map(str::to_owned),
        members: Vec::new(),
        ..read_common(element)
    }
}

fn read_cluster(element: &Element) -> DbServer {
    let names = ["Endpoint", "ReaderEndpoint", "CustomEndpoints/member"].map(|path| element.texts(path));
    DbServer {
        kind: ServerKind::Cluster,
        identifier: text(element, "DBClusterIdentifier"),
        resource_id: text(element, "DbClusterResourceId"),
        endpoints: names.concat().into_iter().filter(|name| !name.is_empty()).collect(),
        port: element.text("Port").and_then(|port| port.parse().ok()),
        status: text(element, "Status"),
        cluster: None,
        members: element.texts("DBClusterMembers/DBClusterMember/DBInstanceIdentifier"),
        ..read_common(element)
    }
}

/// What instances and clusters have under the same names.
fn read_common(element: &Element) -> DbServer {
    DbServer {
        kind: ServerKind::Instance,
        identifier: String::new(),
        resource_id: String::new(),
        endpoints: Vec::new(),
        port: None,
        engine: text(element, "Engine"),
        engine_version: text(element, "EngineVersion"),
        status: String::new(),
        iam_enabled: element.text(IAM) == Some("true"),
        iam_pending: element.text(&format!("PendingModifiedValues/{IAM}")).map(|value| value == "true"),
        log_exports: element.texts("EnabledCloudwatchLogsExports/member"),
        master_user: text(element, "MasterUsername"),
        cluster: None,
        members: Vec::new(),
    }
}

fn find_custom_endpoint(session: &AwsSession, host: &str, identifier: &str) -> Result<Found, AwsFailure> {
    let parameters = [("DBClusterEndpointIdentifier", identifier)];
    let found = unless_missing(session.query(AwsApi::Rds, "DescribeDBClusterEndpoints", &parameters))?;
    let missing = || Found::Missing(format!("there is no custom endpoint {identifier}"));
    let Some(found) = found else { return Ok(missing()) };
    let endpoints = found.all("DBClusterEndpoints/DBClusterEndpointList");
    let Some(endpoint) = endpoints.into_iter().find(|endpoint| endpoint.text("Endpoint") == Some(host)) else {
        return Ok(missing());
    };
    Ok(cluster(session, &text(endpoint, "DBClusterIdentifier"))?
        .map_or_else(missing, |cluster| Found::Server(Box::new(cluster))))
}

fn find_proxy(session: &AwsSession, host: &str, identifier: &str) -> Result<Found, AwsFailure> {
    let is_further_endpoint = host.split('.').nth(1) == Some("endpoint");
    let name = if is_further_endpoint {
        let parameters = [("DBProxyEndpointName", identifier)];
        let found = unless_missing(session.query(AwsApi::Rds, "DescribeDBProxyEndpoints", &parameters))?;
        let endpoints = found.iter().flat_map(|found| found.all("DBProxyEndpoints/member"));
        let mut of_host = endpoints.filter(|endpoint| endpoint.text("Endpoint") == Some(host));
        of_host.next().map(|endpoint| text(endpoint, "DBProxyName"))
    } else {
        Some(identifier.to_owned())
    };
    let Some(name) = name else { return Ok(Found::Missing(format!("there is no proxy endpoint {identifier}"))) };
    let parameters = [("DBProxyName", name.as_str())];
    let found = unless_missing(session.query(AwsApi::Rds, "DescribeDBProxies", &parameters))?;
    let Some(found) = found.as_ref().and_then(|found| found.all("DBProxies/member").into_iter().next()) else {
        return Ok(Found::Missing(format!("there is no proxy {name}")));
    };
    let endpoint = text(found, "Endpoint");
    if !is_further_endpoint && endpoint != host {
        return Ok(Found::Missing(format!("the endpoint of proxy {name} is {endpoint}, not {host}")));
    }
    let targets = unless_missing(session.query(AwsApi::Rds, "DescribeDBProxyTargets", &parameters))?;
    let targets = targets.iter().flat_map(|found| found.all("Targets/member")).map(|target| ProxyTarget {
        identifier: text(target, "RdsResourceId"),
        state: text(target, "TargetHealth/State"),
        reason: target.text("TargetHealth/Description").or(target.text("TargetHealth/Reason")).map(str::to_owned),
    });
    Ok(Found::Proxy(DbProxy {
        resource_id: text(found, "DBProxyArn").rsplit(':').next().unwrap_or_default().to_owned(),
        status: text(found, "Status"),
        default_auth_scheme: text(found, "DefaultAuthScheme"),
        secrets: found.all("Auth/member").into_iter().map(read_secret).collect(),
        targets: targets.collect(),
        name,
    }))
}

fn read_secret(element: &Element) -> ProxySecret {
    ProxySecret { arn: element.text("SecretArn").map(str::to_owned), iam_auth: text(element, "IAMAuth") }
}
