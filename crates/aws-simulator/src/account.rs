//! The simulated account, except its credentials: databases, metrics, log lines and permissions.
//!
//! Policies are evaluated as IAM does for one account: an explicit deny wins; otherwise an identity's policy must allow
//! the action, and so must the permissions boundary and the organization's service control policy, if there are any.

use serde::{Deserialize, Serialize};

/// Databases, identities, metrics and log lines. Set it with [`Simulator::set_account`](crate::Simulator::set_account)
/// or `POST /simulator/account`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Account {
    /// DB instances, cluster members included.
    pub instances: Vec<DbInstance>,
    /// Aurora and Multi-AZ clusters.
    pub clusters: Vec<DbCluster>,
    /// RDS Proxies.
    pub proxies: Vec<DbProxy>,
    /// Users and roles with their policies. An identity that is not listed has no permissions.
    pub principals: Vec<Principal>,
    /// The organization's service control policy; `None`: everything is allowed.
    pub service_control_policy: Option<Vec<Statement>>,
    /// Sums of CloudWatch metrics over the last hours, in the namespace `AWS/RDS`.
    pub metrics: Vec<Metric>,
    /// Events of CloudWatch Logs.
    pub log_events: Vec<LogEvent>,
}

/// An RDS instance.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DbInstance {
    /// The name, `mypg`.
    pub identifier: String,
    /// `db-ABCDEFGHIJKL01234`
    pub resource_id: String,
    /// The endpoint's name; empty while the instance is created.
    pub endpoint: String,
    /// The endpoint's port.
    pub port: u16,
    /// `postgres`, `aurora-postgresql`, …
    pub engine: String,
    /// `16.3`
    pub engine_version: String,
    /// `available`, `creating`, `modifying`, …
    pub status: String,
    /// Whether IAM database authentication is enabled.
    pub iam_enabled: bool,
    /// A pending change of `iam_enabled`, to be made in the maintenance window.
    pub iam_pending: Option<bool>,
    /// Other changes that are pending, by the names of the elements.
    pub pending: Vec<String>,
    /// In how many descriptions after a change the status is `modifying`. Meanwhile no other change is accepted.
    pub change_takes: u32,
    /// Of these, how many are left.
    pub changing: u32,
    /// The cluster of which it is a member.
    pub cluster: Option<String>,
    /// Logs that are exported to CloudWatch.
    pub log_exports: Vec<String>,
    /// The master user.
    pub master_user: String,
}

/// An Aurora or Multi-AZ cluster.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DbCluster {
    /// The name.
    pub identifier: String,
    /// `cluster-ABCDEFGHIJKL01234`
    pub resource_id: String,
    /// The writer's endpoint.
    pub endpoint: String,
    /// The readers' endpoint.
    pub reader_endpoint: String,
    /// Custom endpoints.
    pub custom_endpoints: Vec<String>,
    /// The endpoints' port.
    pub port: u16,
    /// `aurora-postgresql`, `postgres`
    pub engine: String,
    /// `16.3`
    pub engine_version: String,
    /// `available`, …
    pub status: String,
    /// Whether IAM database authentication is enabled.
    pub iam_enabled: bool,
    /// A pending change of `iam_enabled`, to be made in the maintenance window.
    pub iam_pending: Option<bool>,
    /// Other changes that are pending, by the names of the elements.
    pub pending: Vec<String>,
    /// In how many descriptions after a change the status is `modifying`. Meanwhile no other change is accepted.
    pub change_takes: u32,
    /// Of these, how many are left.
    pub changing: u32,
    /// Logs that are exported to CloudWatch.
    pub log_exports: Vec<String>,
    /// The master user.
    pub master_user: String,
}

/// An RDS Proxy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DbProxy {
    /// The name.
    pub name: String,
    /// `prx-0123456789abcdef0`
    pub resource_id: String,
    /// The proxy's own endpoint.
    pub endpoint: String,
    /// Additional endpoints, by name.
    pub endpoints: Vec<ProxyEndpoint>,
    /// `available`, …
    pub status: String,
    /// Its secrets.
    pub secrets: Vec<ProxySecret>,
    /// The role with which it reads the secrets or logs in.
    pub role_arn: String,
    /// `DefaultAuthScheme`: `IAM_AUTH` or `NONE`.
    pub default_auth_scheme: String,
    /// The target database, and its health: `AVAILABLE`, `UNAVAILABLE`, …
    pub target: String,
    /// See `target`.
    pub target_state: String,
}

/// A secret of a proxy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxySecret {
    /// `arn:aws:secretsmanager:…`
    pub arn: String,
    /// `IAMAuth`: `REQUIRED` or `DISABLED`.
    pub iam_auth: String,
    /// `ClientPasswordAuthType`, such as `POSTGRES_SCRAM_SHA_256`.
    pub client_password: String,
}

/// An additional endpoint of a proxy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProxyEndpoint {
    /// The name.
    pub name: String,
    /// The endpoint.
    pub endpoint: String,
}

/// A user or a role.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Principal {
    /// `arn:aws:iam::123456789012:role/path/name`, or `user/…`.
    pub arn: String,
    /// Its identity-based policies.
    pub statements: Vec<Statement>,
    /// Its permissions boundary.
    pub boundary: Option<Vec<Statement>>,
}

/// A statement of a policy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields, rename_all = "PascalCase")]
pub struct Statement {
    /// `Allow` or `Deny`.
    pub effect: String,
    /// Actions, with IAM's wildcards `*` and `?`.
    pub action: Vec<String>,
    /// Resources, with the same wildcards.
    pub resource: Vec<String>,
    /// A statement with a condition never applies: IAM database authentication supports no conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<serde_json::Value>,
}

impl Statement {
    /// Allows an action on a resource.
    #[must_use]
    pub fn allow(action: &str, resource: &str) -> Self {
        Self { effect: "Allow".into(), action: vec![action.into()], resource: vec![resource.into()], condition: None }
    }

    fn applies(&self, action: &str, resource: &str) -> bool {
        let action_matches = |pattern: &String| matches(&pattern.to_lowercase(), &action.to_lowercase());
        self.condition.is_none()
            && self.action.iter().any(action_matches)
            && self.resource.iter().any(|pattern| matches(pattern, resource))
    }
}

/// The sum of a metric for one instance, cluster or proxy.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metric {
    /// `IamDbAuthConnectionFailureInvalidToken`, …
    pub name: String,
    /// The value of the dimension `DBInstanceIdentifier` or `DBClusterIdentifier`.
    pub identifier: String,
    /// The sum.
    pub sum: f64,
}

/// A line in a log group.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogEvent {
    /// `/aws/rds/instance/mypg/iam-db-auth-error`
    pub group: String,
    /// Unix seconds; `None`: a minute ago.
    pub time: Option<i64>,
    /// The line.
    pub message: String,
}

/// The result of evaluating the policies, as `SimulatePrincipalPolicy` reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// `allowed`, `explicitDeny` or `implicitDeny`
    pub(crate) name: &'static str,
    pub(crate) by_boundary: Option<bool>,
    pub(crate) by_organization: Option<bool>,
}

impl Account {
    /// The user or role that a caller's ARN belongs to. The ARN of a role's session has no path.
    pub(crate) fn principal_of(&self, caller: &str) -> Option<&Principal> {
        let session_role = caller.split_once(":assumed-role/").and_then(|(_, rest)| rest.split('/').next());
        self.principals.iter().find(|principal| match session_role {
            Some(role) => principal.arn.contains(":role/") && principal.arn.rsplit('/').next() == Some(role),
            None => principal.arn == caller,
        })
    }

    /// Whether a user or role may perform an action on a resource.
    pub(crate) fn decide(&self, principal: &Principal, action: &str, resource: &str) -> Decision {
        let boundary = principal.boundary.as_deref().map(|statements| effect(statements, action, resource));
        let organization = self.service_control_policy.as_deref().map(|it| effect(it, action, resource));
        let own = effect(&principal.statements, action, resource);
        let all = [Some(own), boundary, organization].into_iter().flatten();
        let name = match all.min() {
            Some(Effect::ExplicitDeny) => "explicitDeny",
            Some(Effect::ImplicitDeny) | None => "implicitDeny",
            Some(Effect::Allow) => "allowed",
        };
        Decision {
            name,
            by_boundary: boundary.map(|effect| effect == Effect::Allow),
            by_organization: organization.map(|effect| effect == Effect::Allow),
        }
    }
}

/// A database whose server reads from the files of credentials who may log in.
pub(crate) struct Logins {
    /// `arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABC`
    pub(crate) resource: String,
    /// The database users for whom it is decided.
    pub(crate) users: Vec<String>,
    pub(crate) account: Account,
}

impl Logins {
    /// The users as whom a caller may log in.
    pub(crate) fn of(&self, caller: &str) -> Vec<String> {
        let Some(principal) = self.account.principal_of(caller) else { return Vec::new() };
        let resource = |user: &String| format!("{}/{user}", self.resource);
        let may = |user: &&String| self.account.decide(principal, "rds-db:connect", &resource(user)).name == "allowed";
        self.users.iter().filter(may).cloned().collect()
    }
}

/// In order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    ExplicitDeny,
    ImplicitDeny,
    Allow,
}

fn effect(statements: &[Statement], action: &str, resource: &str) -> Effect {
    let applying = statements.iter().filter(|statement| statement.applies(action, resource));
    let effects = applying.map(|statement| match statement.effect.as_str() {
        "Deny" => Effect::ExplicitDeny,
        _ => Effect::Allow,
    });
    effects.min().unwrap_or(Effect::ImplicitDeny)
}

/// `*` matches any sequence of characters, `?` any one character.
fn matches(pattern: &str, text: &str) -> bool {
    let text = text.as_bytes();
    // At which lengths of the text the pattern so far may end.
    let mut ends = vec![false; text.len() + 1];
    ends[0] = true;
    for byte in pattern.bytes() {
        if byte == b'*' {
            let first = ends.iter().position(|ends| *ends).unwrap_or(ends.len());
            ends[first..].fill(true);
        } else {
            for length in (1..ends.len()).rev() {
                ends[length] = ends[length - 1] && (byte == b'?' || byte == text[length - 1]);
            }
            ends[0] = false;
        }
    }
    ends[text.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCE: &str = "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABC/app_user";

    fn account(boundary: Option<Vec<Statement>>, organization: Option<Vec<Statement>>) -> Account {
        Account {
            principals: vec![Principal {
                arn: "arn:aws:iam::123456789012:role/app/reader".into(),
                statements: vec![Statement::allow("rds-db:connect", "arn:aws:rds-db:*:*:dbuser:db-ABC/app_*")],
                boundary,
            }],
            service_control_policy: organization,
            ..Account::default()
        }
    }

    fn decide(account: &Account, resource: &str) -> Decision {
        let principal = account.principal_of("arn:aws:sts::123456789012:assumed-role/reader/session").unwrap();
        account.decide(principal, "rds-db:connect", resource)
    }

    #[test]
    fn an_action_is_allowed_only_if_policy_boundary_and_organization_allow_it() {
        let nothing = || Some(Vec::new());
        assert_eq!(decide(&account(None, None), RESOURCE).name, "allowed");
        assert_eq!(decide(&account(None, None), &RESOURCE.replace("db-ABC", "mypg")).name, "implicitDeny");
        let bounded = decide(&account(nothing(), None), RESOURCE);
        assert_eq!((bounded.name, bounded.by_boundary), ("implicitDeny", Some(false)));
        let governed = decide(&account(None, nothing()), RESOURCE);
        assert_eq!((governed.name, governed.by_organization), ("implicitDeny", Some(false)));
    }

    #[test]
    fn an_explicit_deny_overrides_an_allow() {
        let mut account = account(None, None);
        let deny = Statement { effect: "Deny".into(), ..Statement::allow("*", "*") };
        account.principals[0].statements.push(deny);
        assert_eq!(decide(&account, RESOURCE).name, "explicitDeny");
    }
}
