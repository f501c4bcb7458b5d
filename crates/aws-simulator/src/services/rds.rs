//! Amazon RDS: describing and modifying databases. Shapes from the Amazon RDS API Reference, version 2014-10-31.

use crate::ACCOUNT_ID;
use crate::account::{Account, DbCluster, DbInstance, DbProxy};
use crate::http::{Request, Response};
use crate::route::Route;
use crate::services::query::{QueryService, element};
use crate::state::{Call, State};

pub(crate) const RDS: QueryService = QueryService {
    name: "rds",
    version: "2014-10-31",
    namespace: "http://rds.amazonaws.com/doc/2014-10-31/",
    region: None,
};

pub(crate) fn route(request: &Request) -> Option<Route> {
    RDS.is_asked(request).then_some(Route::Rds)
}

pub(crate) fn answer(state: &State, request: &Request, call: &Call) -> Response {
    let action = request.form_parameter("Action").unwrap_or_default();
    let resource = resource(state, request, &action);
    if let Err(refused) = RDS.authorize(state, request, call, &format!("rds:{action}"), &resource) {
        return *refused;
    }
    let asked = |parameter: &str| request.form_parameter(parameter);
    let mut settings = state.settings();
    let account = &mut settings.account;
    let found = match action.as_str() {
        "DescribeDBInstances" => {
            account.instances.iter_mut().for_each(|it| go_on(&mut it.changing, &mut it.status));
            describe_instances(account, asked("DBInstanceIdentifier").as_deref())
        }
        "DescribeDBClusters" => {
            account.clusters.iter_mut().for_each(|it| go_on(&mut it.changing, &mut it.status));
            describe_clusters(account, asked("DBClusterIdentifier").as_deref())
        }
        "DescribeDBClusterEndpoints" => describe_cluster_endpoints(account, asked("DBClusterIdentifier").as_deref()),
        "DescribeDBProxies" => describe_proxies(account, asked("DBProxyName").as_deref(), &state.options.region),
        "DescribeDBProxyEndpoints" => describe_proxy_endpoints(account, asked("DBProxyName").as_deref()),
        "DescribeDBProxyTargets" => describe_proxy_targets(account, asked("DBProxyName").as_deref()),
        "ModifyDBInstance" => modify_instance(account, request),
        "ModifyDBCluster" => modify_cluster(account, request),
        _ => Err(Fault::new("InvalidAction", format!("Could not find operation {action} for version {}", RDS.version))),
    };
    match found {
        Ok(content) => RDS.result(&action, &content),
        Err(fault) => RDS.error(fault.status, fault.code, &fault.message),
    }
}

struct Fault {
    status: u16,
    code: &'static str,
    message: String,
}

impl Fault {
    fn new(code: &'static str, message: String) -> Self {
        Self { status: 400, code, message }
    }

    fn not_found(code: &'static str, what: &str, name: &str) -> Self {
        Self { status: 404, code, message: format!("{what} {name} not found.") }
    }
}

fn resource(state: &State, request: &Request, action: &str) -> String {
    let region = &state.options.region;
    let (kind, name) = if action.contains("Cluster") {
        ("cluster", request.form_parameter("DBClusterIdentifier"))
    } else if action.contains("Proxy") || action.contains("Proxies") {
        ("db-proxy", request.form_parameter("DBProxyName"))
    } else {
        ("db", request.form_parameter("DBInstanceIdentifier"))
    };
    format!("arn:aws:rds:{region}:{ACCOUNT_ID}:{kind}:{}", name.as_deref().unwrap_or("*"))
}

/// The requested ones: one by name, which must exist, or all.
fn select<'a, T>(
    all: &'a [T],
    name_of: impl Fn(&T) -> &str,
    asked: Option<&str>,
    missing: impl Fn(&str) -> Fault,
) -> Result<Vec<&'a T>, Fault> {
    match asked {
        None => Ok(all.iter().collect()),
        Some(name) => match all.iter().find(|item| name_of(item).eq_ignore_ascii_case(name)) {
            Some(item) => Ok(vec![item]),
            None => Err(missing(name)),
        },
    }
}

fn describe_instances(account: &Account, asked: Option<&str>) -> Result<String, Fault> {
    let missing = |name: &str| Fault::not_found("DBInstanceNotFound", "DBInstance", name);
    let instances = select(&account.instances, |instance| &instance.identifier, asked, missing)?;
    Ok(list("DBInstances", "DBInstance", instances.into_iter().map(instance)))
}

fn instance(instance: &DbInstance) -> String {
    let endpoint = if instance.endpoint.is_empty() {
        String::new()
    } else {
        let content = element("Address", &instance.endpoint) + &element("Port", &instance.port.to_string());
        format!("<Endpoint>{content}</Endpoint>")
    };
    [
        element("DBInstanceIdentifier", &instance.identifier),
        element("DbiResourceId", &instance.resource_id),
        endpoint,
        element("Engine", &instance.engine),
        element("EngineVersion", &instance.engine_version),
        element("DBInstanceStatus", &instance.status),
        element("MasterUsername", &instance.master_user),
        element("IAMDatabaseAuthenticationEnabled", if instance.iam_enabled { "true" } else { "false" }),
        pending(instance.iam_pending, &instance.pending),
        instance.cluster.as_deref().map(|name| element("DBClusterIdentifier", name)).unwrap_or_default(),
        exports(&instance.log_exports),
    ]
    .concat()
}

fn pending(iam: Option<bool>, others: &[String]) -> String {
    let iam = iam.map(|on| element("IAMDatabaseAuthenticationEnabled", if on { "true" } else { "false" }));
    let content: String = iam.into_iter().chain(others.iter().map(|name| element(name, "x"))).collect();
    format!("<PendingModifiedValues>{content}</PendingModifiedValues>")
}

fn exports(logs: &[String]) -> String {
    list("EnabledCloudwatchLogsExports", "member", logs.iter().cloned())
}

fn list(outer: &str, inner: &str, items: impl Iterator<Item = String>) -> String {
    let items: String = items.map(|item| format!("<{inner}>{item}</{inner}>")).collect();
    format!("<{outer}>{items}</{outer}>")
}

fn describe_clusters(account: &Account, asked: Option<&str>) -> Result<String, Fault> {
    let missing = |name: &str| Fault::not_found("DBClusterNotFoundFault", "DBCluster", name);
    let clusters = select(&account.clusters, |cluster| &cluster.identifier, asked, missing)?;
    Ok(list("DBClusters", "DBCluster", clusters.into_iter().map(|found| cluster(account, found))))
}

fn cluster(account: &Account, cluster: &DbCluster) -> String {
    let members = account.instances.iter().filter(|it| it.cluster.as_ref() == Some(&cluster.identifier));
    [
        element("DBClusterIdentifier", &cluster.identifier),
        element("DbClusterResourceId", &cluster.resource_id),
        element("Endpoint", &cluster.endpoint),
        element("ReaderEndpoint", &cluster.reader_endpoint),
        list("CustomEndpoints", "member", cluster.custom_endpoints.iter().cloned()),
        element("Port", &cluster.port.to_string()),
        element("Engine", &cluster.engine),
        element("EngineVersion", &cluster.engine_version),
        element("Status", &cluster.status),
        element("MasterUsername", &cluster.master_user),
        element("IAMDatabaseAuthenticationEnabled", if cluster.iam_enabled { "true" } else { "false" }),
        pending(cluster.iam_pending, &cluster.pending),
        exports(&cluster.log_exports),
        list("DBClusterMembers", "DBClusterMember", members.map(|it| element("DBInstanceIdentifier", &it.identifier))),
    ]
    .concat()
}

fn describe_cluster_endpoints(account: &Account, asked: Option<&str>) -> Result<String, Fault> {
    let clusters = account.clusters.iter().filter(|it| asked.is_none_or(|name| name == it.identifier));
    let endpoints = clusters.flat_map(|cluster| {
        let own = [(&cluster.endpoint, "WRITER"), (&cluster.reader_endpoint, "READER")];
        let custom = cluster.custom_endpoints.iter().map(|endpoint| (endpoint, "CUSTOM"));
        own.into_iter().chain(custom).map(|(endpoint, kind)| {
            [
                element("DBClusterIdentifier", &cluster.identifier),
                element("Endpoint", endpoint),
                element("EndpointType", kind),
                element("Status", "available"),
            ]
            .concat()
        })
    });
    Ok(list("DBClusterEndpoints", "DBClusterEndpointList", endpoints))
}

fn describe_proxies(account: &Account, asked: Option<&str>, region: &str) -> Result<String, Fault> {
    let missing = |name: &str| Fault::not_found("DBProxyNotFoundFault", "DB proxy", name);
    let proxies = select(&account.proxies, |proxy| &proxy.name, asked, missing)?;
    Ok(list("DBProxies", "member", proxies.into_iter().map(|found| proxy(found, region))))
}

fn proxy(proxy: &DbProxy, region: &str) -> String {
    let secrets = proxy.secrets.iter().map(|secret| {
        [
            element("AuthScheme", "SECRETS"),
            element("SecretArn", &secret.arn),
            element("IAMAuth", &secret.iam_auth),
            element("ClientPasswordAuthType", &secret.client_password),
        ]
        .concat()
    });
    [
        element("DBProxyName", &proxy.name),
        element("DBProxyArn", &format!("arn:aws:rds:{region}:{ACCOUNT_ID}:db-proxy:{}", proxy.resource_id)),
        element("Endpoint", &proxy.endpoint),
        element("Status", &proxy.status),
        element("EngineFamily", "POSTGRESQL"),
        element("RequireTLS", "true"),
        element("DefaultAuthScheme", &proxy.default_auth_scheme),
        element("RoleArn", &proxy.role_arn),
        list("Auth", "member", secrets),
    ]
    .concat()
}

fn describe_proxy_endpoints(account: &Account, asked: Option<&str>) -> Result<String, Fault> {
    let proxies = account.proxies.iter().filter(|it| asked.is_none_or(|name| name == it.name));
    let endpoints = proxies.flat_map(|proxy| {
        proxy.endpoints.iter().map(|endpoint| {
            [
                element("DBProxyEndpointName", &endpoint.name),
                element("DBProxyName", &proxy.name),
                element("Endpoint", &endpoint.endpoint),
                element("Status", "available"),
            ]
            .concat()
        })
    });
    Ok(list("DBProxyEndpoints", "member", endpoints))
}

fn describe_proxy_targets(account: &Account, asked: Option<&str>) -> Result<String, Fault> {
    let missing = |name: &str| Fault::not_found("DBProxyNotFoundFault", "DB proxy", name);
    let proxies = select(&account.proxies, |proxy| &proxy.name, asked, missing)?;
    let targets = proxies.into_iter().map(|proxy| {
        let health = element("State", &proxy.target_state);
        element("RdsResourceId", &proxy.target) + &format!("<TargetHealth>{health}</TargetHealth>")
    });
    Ok(list("Targets", "member", targets))
}

/// The supported changes: IAM database authentication and exported logs.
struct Change {
    iam: Option<bool>,
    logs: Vec<String>,
    at_once: bool,
}

impl Change {
    fn of(request: &Request) -> Self {
        let asked = |name: &str| request.form_parameter(name);
        let log = |number| asked(&format!("CloudwatchLogsExportConfiguration.EnableLogTypes.member.{number}"));
        Self {
            iam: asked("EnableIAMDatabaseAuthentication").map(|value| value == "true"),
            logs: (1..).map_while(log).collect(),
            at_once: asked("ApplyImmediately").as_deref() == Some("true"),
        }
    }

    fn apply(self, enabled: &mut bool, pending: &mut Option<bool>, exports: &mut Vec<String>) {
        match self.iam {
            Some(on) if self.at_once => (*enabled, *pending) = (on, None),
            Some(on) => *pending = Some(on),
            None => {}
        }
        exports.extend(self.logs.into_iter().filter(|log| !exports.contains(log)).collect::<Vec<_>>());
    }
}

/// A change takes some descriptions.
fn go_on(changing: &mut u32, status: &mut String) {
    match changing {
        0 => {}
        1 => (*changing, *status) = (0, "available".to_owned()),
        _ => *changing -= 1,
    }
}

/// Refuses a change while there is another one.
fn begin(takes: u32, changing: &mut u32, status: &mut String, code: &'static str, what: &str) -> Result<(), Fault> {
    if status != "available" {
        return Err(Fault::new(code, format!("{what} is not in available state.")));
    }
    if takes > 0 {
        (*changing, *status) = (takes, "modifying".to_owned());
    }
    Ok(())
}

fn modify_instance(account: &mut Account, request: &Request) -> Result<String, Fault> {
    let name = request.form_parameter("DBInstanceIdentifier").unwrap_or_default();
    let found = account.instances.iter_mut().find(|it| it.identifier.eq_ignore_ascii_case(&name));
    let found = found.ok_or_else(|| Fault::not_found("DBInstanceNotFound", "DBInstance", &name))?;
    let state = (&mut found.changing, &mut found.status);
    begin(found.change_takes, state.0, state.1, "InvalidDBInstanceState", "Database instance")?;
    Change::of(request).apply(&mut found.iam_enabled, &mut found.iam_pending, &mut found.log_exports);
    Ok(format!("<DBInstance>{}</DBInstance>", instance(found)))
}

fn modify_cluster(account: &mut Account, request: &Request) -> Result<String, Fault> {
    let name = request.form_parameter("DBClusterIdentifier").unwrap_or_default();
    let found = account.clusters.iter_mut().find(|it| it.identifier.eq_ignore_ascii_case(&name));
    let found = found.ok_or_else(|| Fault::not_found("DBClusterNotFoundFault", "DBCluster", &name))?;
    let state = (&mut found.changing, &mut found.status);
    begin(found.change_takes, state.0, state.1, "InvalidDBClusterStateFault", "Database cluster")?;
    Change::of(request).apply(&mut found.iam_enabled, &mut found.iam_pending, &mut found.log_exports);
    let found = found.clone();
    Ok(format!("<DBCluster>{}</DBCluster>", cluster(account, &found)))
}
