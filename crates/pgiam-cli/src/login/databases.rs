//! Instances, clusters and proxies as Amazon RDS describes them, found by the name of an endpoint.
//!
//! The first label of an endpoint's name is the identifier that the API takes, so one resource is asked for by name and
//! no list is needed. Shapes: Amazon RDS API Reference, version 2014-10-31.

use pgiam_core::{AwsApi, AwsFailure, AwsSession, Element};

use super::name::Kind;
use super::report::Finding;
use crate::shell;

/// The log with the reasons of refused logins.
pub(crate) const LOG: &str = "iam-db-auth-error";

/// In commands and policies, in place of a resource id that is not known.
const UNKNOWN_ID: &str = "RESOURCE_ID";

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
    /// Other changes that wait for the maintenance window, by name.
    pub(crate) pending: Vec<String>,
    pub(crate) log_exports: Vec<String>,
    pub(crate) master_user: String,
    /// The cluster that an instance is a member of.
    pub(crate) cluster: Option<String>,
    /// The instances of a cluster.
    pub(crate) members: Vec<String>,
}

impl DbServer {
    /// For people. `member`: the instance of this cluster to which the endpoint leads.
    pub(crate) fn describe(&self, member: Option<&Self>) -> String {
        let Self { engine, engine_version, identifier, .. } = self;
        let instance = member.map(|member| format!("instance {} of ", member.identifier)).unwrap_or_default();
        format!("{instance}{} {identifier} ({engine} {engine_version})", self.kind.option())
    }

    /// A server of which only the name is known.
    pub(crate) fn named(kind: ServerKind, identifier: &str) -> Self {
        let (identifier, resource_id) = (identifier.to_owned(), UNKNOWN_ID.to_owned());
        Self { kind, identifier, resource_id, ..read_common(&Element::default()) }
    }

    /// The command of the AWS CLI for this server; `more` are further options, after a space.
    pub(crate) fn command(&self, region: &str, action: &str, more: &str) -> String {
        let (kind, identifier) = (self.kind.option(), shell::quoted(&self.identifier));
        format!("aws rds {action}-db-{kind} --region {region} --db-{kind}-identifier {identifier}{more}")
    }

    /// The command that turns IAM authentication on.
    pub(crate) fn enable(&self, region: &str) -> String {
        self.command(region, "modify", " --enable-iam-database-authentication --apply-immediately")
    }

    /// The command that exports the log, which takes effect immediately.
    pub(crate) fn export_log(&self, region: &str) -> String {
        let logs = format!(" --cloudwatch-logs-export-configuration '{{\"EnableLogTypes\":[\"{LOG}\"]}}'");
        self.command(region, "modify", &logs)
    }

    /// A FAIL if the server does not accept logins in its status, or not yet.
    pub(crate) fn obstacle(&self, region: &str) -> Option<Finding> {
        let (kind, status) = (self.kind.option(), self.status.as_str());
        let identifier = shell::quoted(&self.identifier);
        let (cause, command) = match status {
            "stopped" | "stopping" => ("database-stopped", self.command(region, "start", "")),
            "creating"
            | "starting"
            | "rebooting"
            | "upgrading"
            | "renaming"
            | "configuring-iam-database-auth"
            | "resetting-master-credentials" => (
                "database-not-ready",
                format!("aws rds wait db-{kind}-available --db-{kind}-identifier {identifier} --region {region}"),
            ),
            "failed"
            | "deleting"
            | "storage-full"
            | "restore-error"
            | "incompatible-network"
            | "incompatible-parameters"
            | "incompatible-restore"
            | "inaccessible-encryption-credentials"
            | "inaccessible-encryption-credentials-recoverable" => (
                "database-failed",
                format!(
                    "aws rds describe-events --region {region} --source-type db-{kind} --source-identifier {identifier}"
                ),
            ),
            _ => return None,
        };
        let text = format!("{kind} {} is {status}", self.identifier);
        Some(Finding::fail("database", cause, text, command))
    }
}

/// An RDS Proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DbProxy {
    pub(crate) name: String,
    /// What policies name: `prx-0123`.
    pub(crate) resource_id: String,
    pub(crate) status: String,
    /// `IAM_AUTH` or `NONE`.
    pub(crate) default_auth_scheme: String,
    pub(crate) secrets: Vec<ProxySecret>,
    /// The role with which it reads secrets, or logs in to databases.
    pub(crate) role_arn: String,
    pub(crate) targets: Vec<ProxyTarget>,
}

/// A secret with which a proxy logs in, and whether clients must use IAM for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxySecret {
    pub(crate) arn: Option<String>,
    /// `REQUIRED`, `ENABLED` or `DISABLED`.
    pub(crate) iam_auth: String,
    /// `POSTGRES_SCRAM_SHA_256`, …
    client_password: Option<String>,
}

impl DbProxy {
    /// A proxy of which only the name is known.
    pub(crate) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), resource_id: UNKNOWN_ID.to_owned(), ..Self::default() }
    }

    /// Whether the proxy logs in to the database with IAM, and needs no secrets.
    pub(crate) fn is_end_to_end(&self) -> bool {
        self.default_auth_scheme == "IAM_AUTH"
    }

    /// The command that makes the proxy require IAM of its clients, for each secret.
    pub(crate) fn require_iam(&self, region: &str) -> String {
        // The list replaces the one of the proxy.
        let secret = |secret: &ProxySecret| {
            let arn = secret.arn.as_ref()?;
            let client = secret.client_password.as_ref().map(|kind| format!(",ClientPasswordAuthType={kind}"));
            let entry = format!("AuthScheme=SECRETS,IAMAuth=REQUIRED,SecretArn={arn}{}", client.unwrap_or_default());
            Some(format!(" {}", shell::quoted(&entry)))
        };
        let auth = match self.secrets.iter().filter_map(secret).collect::<String>() {
            secrets if secrets.is_empty() => "--default-auth-scheme IAM_AUTH".to_owned(),
            secrets => format!("--auth{secrets}"),
        };
        format!("aws rds modify-db-proxy --region {region} --db-proxy-name {} {auth}", shell::quoted(&self.name))
    }
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

/// A FAIL: the account has no such resource.
pub(crate) fn missing(what: &str, account: &str, region: &str) -> Finding {
    let text = format!(
        "{what} in account {account} in {region}: use credentials of the account that the database is in, or correct the \
         host"
    );
    Finding::fail("database", "other-account", text, "aws sts get-caller-identity --profile PROFILE")
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
            "global endpoints are not looked up; use the endpoint of the cluster in the writer's region",
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
const PENDING: &str = "PendingModifiedValues";
const PENDING_LOGS: &str = "PendingCloudwatchLogsExports";

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
        iam_pending: element.text(&format!("{PENDING}/{IAM}")).map(|value| value == "true"),
        pending: element
            .names(PENDING)
            .into_iter()
            .filter(|name| ![IAM, PENDING_LOGS].contains(name))
            .map(str::to_owned)
            .collect(),
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
        role_arn: text(found, "RoleArn"),
        targets: targets.collect(),
        name,
    }))
}

fn read_secret(element: &Element) -> ProxySecret {
    ProxySecret {
        arn: element.text("SecretArn").map(str::to_owned),
        iam_auth: text(element, "IAMAuth"),
        client_password: element.text("ClientPasswordAuthType").map(str::to_owned),
    }
}
