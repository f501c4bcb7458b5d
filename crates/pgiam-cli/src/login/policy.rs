//! Whether the caller's policies allow the login: simulated by IAM for the right resource, then for the mistakes that
//! people make, and looked up in the policies themselves.
//!
//! Shapes: IAM API Reference, `SimulatePrincipalPolicy`; resources: Amazon RDS User Guide, "Creating and using an IAM
//! policy for IAM database access".

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use pgiam_core::{AwsApi, AwsFailure, AwsSession, CallerIdentity, Element};
use serde_json::Value;

use super::report::Finding;
use crate::shell;

/// The user or role whose policies count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Principal {
    pub(crate) kind: PrincipalKind,
    pub(crate) arn: String,
    pub(crate) name: String,
}

impl Principal {
    /// Whether it is a role of IAM Identity Center, whose policies are those of a permission set.
    fn is_of_identity_center(&self) -> bool {
        self.arn.contains(":role/aws-reserved/sso.amazonaws.com/") || self.name.starts_with(SSO_ROLE)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PrincipalKind {
    User,
    Role,
}

impl PrincipalKind {
    /// As in IAM's names of actions and parameters.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Role => "Role",
        }
    }

    pub(crate) fn lower(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Role => "role",
        }
    }
}

/// Whom an ARN names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller<'a> {
    User(&'a str),
    /// A session of a role. The ARN lacks the role's path.
    Session(&'a str),
    /// A role, in an ARN of IAM.
    Role(&'a str),
    Other,
}

impl<'a> Caller<'a> {
    fn of(arn: &'a str) -> Self {
        let resource = arn.splitn(6, ':').nth(5).unwrap_or_default();
        let last = |path: &'a str| path.rsplit('/').next().unwrap_or_default();
        match resource.split_once('/') {
            Some(("user", path)) => Self::User(last(path)),
            Some(("role", path)) => Self::Role(last(path)),
            Some(("assumed-role", role)) => Self::Session(role.split('/').next().unwrap_or_default()),
            _ => Self::Other,
        }
    }
}

/// The partition in an ARN.
pub(crate) fn partition(arn: &str) -> &str {
    arn.split(':').nth(1).filter(|partition| !partition.is_empty()).unwrap_or("aws")
}

/// What a login needs to be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// `rds-db:connect`
    pub(crate) action: &'static str,
    pub(crate) resource: String,
}

impl Need {
    /// For a user of an instance, a cluster or a proxy, by its resource id.
    pub(crate) fn connect(identity: &CallerIdentity, region: &str, resource_id: &str, user: &str) -> Self {
        let (partition, account) = (partition(&identity.arn), &identity.account);
        let resource = format!("arn:{partition}:rds-db:{region}:{account}:dbuser:{resource_id}/{user}");
        Self { action: "rds-db:connect", resource }
    }

    /// For a user of Aurora DSQL.
    pub(crate) fn dsql(identity: &CallerIdentity, region: &str, cluster: &str, user: &str) -> Self {
        let (partition, account) = (partition(&identity.arn), &identity.account);
        let action = if user == "admin" { "dsql:DbConnectAdmin" } else { "dsql:DbConnect" };
        Self { action, resource: format!("arn:{partition}:dsql:{region}:{account}:cluster/{cluster}") }
    }

    /// The least policy that allows it.
    pub(crate) fn document(&self) -> String {
        let (action, resource) = (self.action, &self.resource);
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":"{action}","Resource":"{resource}"}}]}}"#
        )
    }

    /// The command that creates the least policy, for whoever it will be attached to.
    pub(crate) fn create(&self) -> String {
        let document = self.document();
        format!(
            "aws iam create-policy --policy-name {} --policy-document {}",
            self.policy_name(),
            shell::quoted(&document)
        )
    }

    /// Attaches the least policy. The error is a phrase.
    pub(crate) fn put(&self, session: &AwsSession, principal: &Principal) -> Result<(), String> {
        if principal.is_of_identity_center() {
            return Err(format!("the policies of {} are those of its permission set", principal.name));
        }
        let kind = principal.kind.name();
        let parameters = [
            (&*format!("{kind}Name"), &*principal.name),
            ("PolicyName", &self.policy_name()),
            ("PolicyDocument", &self.document()),
        ];
        let put = session.query(AwsApi::Iam, &format!("Put{kind}Policy"), &parameters);
        put.map(|_| ()).map_err(|failure| why(&failure))
    }

    /// The command that attaches the least policy.
    pub(crate) fn attach(&self, principal: &Principal) -> String {
        let document = self.document();
        let document = shell::quoted(&document);
        if principal.is_of_identity_center() {
            let set = permission_set(&principal.name);
            let (action, resource) = (self.action, &self.resource);
            let statement = format!(r#"{{"Effect":"Allow","Action":"{action}","Resource":"{resource}"}}"#);
            let of_set = format!(
                "--instance-arn \"$(aws sso-admin list-instances --query 'Instances[0].InstanceArn' --output text)\" \
                 --permission-set-arn ARN_OF_{set}"
            );
            // put-inline-policy-to-permission-set would replace the other statements.
            return format!(
                "aws sso-admin get-inline-policy-for-permission-set {of_set}\n\
                 echo {}\n\
                 aws sso-admin provision-permission-set {of_set} --target-type ALL_PROVISIONED_ACCOUNTS",
                shell::quoted(&format!("add this statement to that policy, then provision it: {statement}"))
            );
        }
        let (kind, name) = (principal.kind.lower(), shell::quoted(&principal.name));
        format!(
            "aws iam put-{kind}-policy --{kind}-name {name} --policy-name {} --policy-document {document}",
            self.policy_name()
        )
    }

    /// A name for the policy: by database and user, because a policy of the same name would be replaced.
    pub(crate) fn policy_name(&self) -> String {
        let id = self.resource.rsplit([':', '/']).find(|part| !part.is_empty()).unwrap_or_default();
        let (database, user) = match self.resource.rsplit_once(":dbuser:").and_then(|(_, rest)| rest.split_once('/')) {
            Some((database, user)) => (database, user),
            None => (id, self.action.rsplit(':').next().unwrap_or_default()),
        };
        let name = |text: &str| -> String {
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "+=,.@-_".contains(c);
            text.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect()
        };
        format!("pgiam-{}-{}", name(database), name(user))
    }
}

const SSO_ROLE: &str = "AWSReservedSSO_";

/// The permission set in the name of a role of IAM Identity Center, `AWSReservedSSO_NAME_HEX`.
fn permission_set(role: &str) -> &str {
    let name = role.strip_prefix(SSO_ROLE).unwrap_or(role);
    name.rsplit_once('_').map_or(name, |(name, _)| name)
}

/// A resource that a policy may name by mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NearMiss {
    pub(crate) cause: &'static str,
    pub(crate) resource: String,
    /// What is wrong and what is right, as in `the name mypg in place of the resource id db-ABC`.
    pub(crate) mistake: String,
}

/// Mistakes in a policy for a user of a database that need no knowledge of other resources.
pub(crate) fn common_mistakes(need: &Need, identifier: &str, master_user: &str) -> Vec<NearMiss> {
    let fields: Vec<&str> = need.resource.splitn(7, ':').collect();
    let [_, partition, "rds-db", region, account, "dbuser", database] = fields[..] else { return Vec::new() };
    let Some((id, user)) = database.split_once('/') else { return Vec::new() };
    let arn = |partition: &str, region: &str, account: &str, database: &str| {
        format!("arn:{partition}:rds-db:{region}:{account}:dbuser:{database}")
    };
    let mut mistakes = Vec::new();
    let mut add = |cause, resource: String, mistake: String| mistakes.push(NearMiss { cause, resource, mistake });
    add(
        "policy-resource-id",
        arn(partition, region, account, &format!("{identifier}/{user}")),
        format!("the name {identifier} in place of the resource id {id}"),
    );
    let service = format!("the service rds in place of rds-db and dbuser:{database}");
    let of_rds = format!("arn:{partition}:rds:{region}:{account}:");
    for resource in ["db:", "cluster:"].map(|kind| format!("{of_rds}{kind}{identifier}")) {
        add("policy-service", resource, service.clone());
    }
    add("policy-service", format!("{of_rds}dbuser:{database}"), service);
    let variants =
        [user.to_ascii_lowercase(), user.to_ascii_uppercase(), user.replace('-', "_"), user.replace('_', "-")];
    let mut others: Vec<&str> = variants.iter().map(String::as_str).chain([master_user]).collect();
    others.retain(|other| *other != user && !other.is_empty());
    others.dedup();
    for other in others {
        let resource = arn(partition, region, account, &format!("{id}/{other}"));
        add("policy-user", resource, format!("the user {other} in place of {user}"));
    }
    for other in ["aws", "aws-cn", "aws-us-gov"].into_iter().filter(|other| *other != partition) {
        let resource = arn(other, region, account, database);
        add("policy-partition", resource, format!("the partition {other} in place of {partition}"));
    }
    for other in COMMON_REGIONS.into_iter().filter(|other| *other != region) {
        let resource = arn(partition, other, account, database);
        add("policy-region", resource, format!("the region {other} in place of {region}"));
    }
    let resource = arn(partition, region, "", database);
    add("policy-account", resource, format!("no account in place of {account}"));
    mistakes
}

/// Regions that a policy may have been copied from.
const COMMON_REGIONS: [&str; 10] = [
    "us-east-1",
    "us-east-2",
    "us-west-2",
    "ca-central-1",
    "eu-west-1",
    "eu-west-2",
    "eu-central-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-northeast-1",
];

/// Judges the policies of a user or role. `near_misses` is called if they do not allow the login.
pub(crate) fn check(
    session: &AwsSession,
    principal: &Principal,
    need: &Need,
    near_misses: impl FnOnce() -> Vec<NearMiss>,
) -> Finding {
    let verdict = match simulate(session, principal, need.action, std::slice::from_ref(&need.resource)) {
        Ok(verdicts) => verdicts.into_iter().next(),
        Err(failure) => return without_simulation(session, &failure, principal, need),
    };
    let Some(verdict) = verdict else {
        return Finding::unknown("policy", "IAM returned no result of the simulation");
    };
    match verdict.refusal() {
        None => conditions(session, principal, need).unwrap_or_else(|| {
            Finding::ok("policy", format!("{} may {} on {}", described(principal), need.action, need.resource))
        }),
        Some(Refusal::Implicit) => near_miss(session, principal, need, near_misses())
            .or_else(|| mistake(&statements(session, principal), principal, need))
            .unwrap_or_else(|| missing(principal, need)),
        Some(refusal) => refused(refusal, &verdict, principal, need),
    }
}

pub(crate) fn described(principal: &Principal) -> String {
    format!("{} {}", principal.kind.lower(), principal.name)
}

/// The user or role of an ARN, as STS or IAM has it. The error is a phrase.
pub(crate) fn find_principal(session: &AwsSession, arn: &str) -> Result<Principal, String> {
    let principal = |kind, name: &str| Ok(Principal { kind, arn: arn.to_owned(), name: name.to_owned() });
    match Caller::of(arn) {
        Caller::User(name) => principal(PrincipalKind::User, name),
        Caller::Role(name) => principal(PrincipalKind::Role, name),
        Caller::Session(name) => {
            let account = arn.split(':').nth(4).unwrap_or_default();
            // The path is in the role's own ARN only.
            let arn = match session.query(AwsApi::Iam, "GetRole", &[("RoleName", name)]) {
                Ok(found) => found.text("Role/Arn").unwrap_or_default().to_owned(),
                Err(failure) if failure.missing_permission().is_some() && !name.starts_with(SSO_ROLE) => {
                    format!("arn:{}:iam::{account}:role/{name}", partition(arn))
                }
                Err(failure) => return Err(why(&failure)),
            };
            Ok(Principal { kind: PrincipalKind::Role, arn, name: name.to_owned() })
        }
        Caller::Other => Err(format!("{arn} is neither a user nor a session of a role")),
    }
}

/// The missing permission, else the service's words.
pub(crate) fn why(failure: &AwsFailure) -> String {
    match failure.missing_permission() {
        Some(permission) => format!("missing permission {permission}"),
        None => failure.message().to_owned(),
    }
}

/// What a simulation came to for one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Verdict {
    resource: String,
    decision: String,
    by_boundary: Option<bool>,
    by_organization: Option<bool>,
    /// The policies with statements that match.
    policies: Vec<String>,
}

/// Why a simulation did not end with `allowed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Organization,
    Boundary,
    Explicit,
    Implicit,
}

impl Verdict {
    fn refusal(&self) -> Option<Refusal> {
        if self.decision == "allowed" {
            None
        } else if self.by_organization == Some(false) {
            Some(Refusal::Organization)
        } else if self.by_boundary == Some(false) {
            Some(Refusal::Boundary)
        } else if self.decision == "explicitDeny" {
            Some(Refusal::Explicit)
        } else {
            Some(Refusal::Implicit)
        }
    }

    fn read(element: &Element, decision: &str) -> Self {
        let text = |path: &str| element.text(path).unwrap_or_default().to_owned();
        let is_true = |path: &str| element.text(path).map(|value| value == "true");
        let mut policies = element.texts("MatchedStatements/member/SourcePolicyId");
        policies.dedup();
        Self {
            resource: text("EvalResourceName"),
            decision: text(decision),
            by_boundary: is_true("PermissionsBoundaryDecisionDetail/AllowedByPermissionsBoundary"),
            by_organization: is_true("OrganizationsDecisionDetail/AllowedByOrganizations"),
            policies,
        }
    }
}

fn simulate(
    session: &AwsSession,
    principal: &Principal,
    action: &str,
    resources: &[String],
) -> Result<Vec<Verdict>, AwsFailure> {
    let names: Vec<String> = (1..=resources.len()).map(|number| format!("ResourceArns.member.{number}")).collect();
    let mut parameters = vec![("PolicySourceArn", principal.arn.as_str()), ("ActionNames.member.1", action)];
    parameters.extend(names.iter().zip(resources).map(|(name, resource)| (name.as_str(), resource.as_str())));
    let found = session.query(AwsApi::Iam, "SimulatePrincipalPolicy", &parameters)?;
    let results = found.all("EvaluationResults/member");
    // With several resources, the results of each may be below those of the action.
    let specific = results.iter().flat_map(|result| result.all("ResourceSpecificResults/member"));
    let specific = specific.map(|result| Verdict::read(result, "EvalResourceDecision"));
    Ok(specific.chain(results.iter().map(|result| Verdict::read(result, "EvalDecision"))).collect())
}

/// Judges the principal's own policies, if they may be read. They are not all that counts: groups, boundaries and the
/// organization may allow or deny more.
fn without_simulation(session: &AwsSession, failure: &AwsFailure, principal: &Principal, need: &Need) -> Finding {
    let statements = statements(session, principal);
    let covering = || statements.iter().filter(|statement| statement.covers(need) && statement.is_unconditional());
    if let Some(statement) = covering().find(|statement| !statement.allows) {
        return denied(&format!("policy {}", statement.policy), principal, need);
    }
    if covering().next().is_some() {
        let text = format!(
            "the policies of {} allow {} on {}; whether a permissions boundary or the organization denies it was not \
             simulated: {}",
            described(principal),
            need.action,
            need.resource,
            why(failure)
        );
        return Finding { remedy: Some(simulation(principal, need)), ..Finding::unknown("policy", text) };
    }
    mistake(&statements, principal, need).unwrap_or_else(|| not_simulated(failure, principal, need))
}

fn not_simulated(failure: &AwsFailure, principal: &Principal, need: &Need) -> Finding {
    let text =
        format!("not simulated: {}; {} needs {} on {}", why(failure), described(principal), need.action, need.resource);
    Finding { remedy: Some(simulation(principal, need)), ..Finding::unknown("policy", text) }
}

/// The command that simulates, for somebody who may.
fn simulation(principal: &Principal, need: &Need) -> String {
    format!(
        "aws iam simulate-principal-policy --policy-source-arn {} --action-names {} --resource-arns {}",
        shell::quoted(&principal.arn),
        need.action,
        shell::quoted(&need.resource)
    )
}

fn missing(principal: &Principal, need: &Need) -> Finding {
    let text = format!("no policy of {} allows {} on {}", described(principal), need.action, need.resource);
    Finding::fail("policy", "policy-missing", text, need.attach(principal))
}

fn refused(refusal: Refusal, verdict: &Verdict, principal: &Principal, need: &Need) -> Finding {
    let (who, account) = (described(principal), principal.arn.split(':').nth(4).unwrap_or_default());
    let (kind, name) = (principal.kind.lower(), shell::quoted(&principal.name));
    let (action, resource) = (need.action, &need.resource);
    match refusal {
        Refusal::Organization => Finding::fail(
            "policy",
            "service-control-policy",
            format!("a service control policy of the organization does not allow {who} to {action} on {resource}"),
            format!("aws organizations list-policies-for-target --target-id {account} --filter SERVICE_CONTROL_POLICY"),
        ),
        Refusal::Boundary => Finding::fail(
            "policy",
            "permissions-boundary",
            format!("the permissions boundary of {who} does not allow {action} on {resource}"),
            format!("aws iam get-{kind} --{kind}-name {name} --query {}.PermissionsBoundary", principal.kind.name()),
        ),
        Refusal::Explicit | Refusal::Implicit => {
            let policies = match verdict.policies.join(", ") {
                names if names.is_empty() => "a policy".to_owned(),
                names => format!("policy {names}"),
            };
            denied(&policies, principal, need)
        }
    }
}

/// `policies` is the subject of the sentence.
fn denied(policies: &str, principal: &Principal, need: &Need) -> Finding {
    let (kind, name) = (principal.kind.lower(), shell::quoted(&principal.name));
    Finding::fail(
        "policy",
        "explicit-deny",
        format!("{policies} denies {} to {} on {}", described(principal), need.action, need.resource),
        format!(
            "aws iam list-attached-{kind}-policies --{kind}-name {name}\n\
             aws iam list-{kind}-policies --{kind}-name {name}"
        ),
    )
}

/// Simulates the mistakes; the first that is allowed is reported.
fn near_miss(session: &AwsSession, principal: &Principal, need: &Need, mistakes: Vec<NearMiss>) -> Option<Finding> {
    let resources: Vec<String> = mistakes.iter().map(|mistake| mistake.resource.clone()).collect();
    if resources.is_empty() {
        return None;
    }
    let verdicts = simulate(session, principal, need.action, &resources).ok()?;
    let is_allowed =
        |resource: &str| verdicts.iter().any(|verdict| verdict.resource == resource && verdict.decision == "allowed");
    let found = mistakes.into_iter().find(|mistake| is_allowed(&mistake.resource))?;
    let text =
        format!("a policy of {} allows {} on {}: {}", described(principal), need.action, found.resource, found.mistake);
    Some(Finding::fail("policy", found.cause, text, need.attach(principal)))
}

/// A statement of one of the principal's policies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    policy: String,
    allows: bool,
    actions: Vec<String>,
    resources: Vec<String>,
    condition_keys: Vec<String>,
}

impl Statement {
    fn has_action(&self, action: &str) -> bool {
        self.actions.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase()))
    }

    fn is_unconditional(&self) -> bool {
        self.condition_keys.is_empty()
    }

    fn covers(&self, need: &Need) -> bool {
        self.has_action(need.action) && self.resources.iter().any(|pattern| matches(pattern, &need.resource))
    }
}

/// A warning if the only statements that allow the login have a condition. IAM database authentication does not have
/// the values of all condition keys.
fn conditions(session: &AwsSession, principal: &Principal, need: &Need) -> Option<Finding> {
    let statements = statements(session, principal);
    let covering: Vec<&Statement> =
        statements.iter().filter(|statement| statement.allows && statement.covers(need)).collect();
    let conditional = covering.iter().find(|statement| !statement.is_unconditional())?;
    if covering.iter().any(|statement| statement.is_unconditional()) {
        return None;
    }
    let keys = conditional.condition_keys.join(", ");
    let text = format!(
        "policy {} allows {} on {} on conditions ({keys}); IAM database authentication does not support all condition \
         keys",
        conditional.policy, need.action, need.resource
    );
    Some(Finding { remedy: Some(need.attach(principal)), cause: Some("condition"), ..Finding::unknown("policy", text) })
}

/// What is wrong in the policies themselves.
fn mistake(statements: &[Statement], principal: &Principal, need: &Need) -> Option<Finding> {
    let allowing = || statements.iter().filter(|statement| statement.allows && statement.has_action(need.action));
    let fail = |cause, text: String| Some(Finding::fail("policy", cause, text, need.attach(principal)));
    let conditional = allowing().find(|statement| statement.covers(need) && !statement.is_unconditional());
    if let Some(Statement { policy, condition_keys, .. }) = conditional {
        let keys = condition_keys.join(", ");
        return fail(
            "condition",
            format!(
                "policy {policy} allows {} on {} only on conditions ({keys}), and IAM database authentication does not \
                 support all condition keys: remove them",
                need.action, need.resource
            ),
        );
    }
    let differing = allowing()
        .flat_map(|statement| statement.resources.iter().map(move |pattern| (&statement.policy, pattern)))
        .find_map(|(policy, pattern)| Some((policy, pattern, difference(pattern, &need.resource)?)));
    let (policy, pattern, difference) = differing?;
    let text = format!("policy {policy} allows {} on {pattern}: {}", need.action, difference.mistake);
    fail(difference.cause, text)
}

/// The first field in which a resource of a policy differs from the one that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    cause: &'static str,
    mistake: String,
}

fn difference(pattern: &str, resource: &str) -> Option<Difference> {
    /// Partition, service, region, account, resource id, user.
    fn fields(arn: &str) -> Option<[&str; 6]> {
        let parts: Vec<&str> = arn.splitn(7, ':').collect();
        let ["arn", partition, service, region, account, "dbuser", database] = parts[..] else { return None };
        let (id, user) = database.split_once('/').unwrap_or((database, ""));
        Some([partition, service, region, account, id, user])
    }
    const NAMES: [(&str, &str); 6] = [
        ("policy-partition", "partition"),
        ("policy-service", "service"),
        ("policy-region", "region"),
        ("policy-account", "account"),
        ("policy-resource-id", "resource id"),
        ("policy-user", "user"),
    ];
    let (found, needed) = (fields(pattern)?, fields(resource)?);
    let fields = NAMES.into_iter().zip(found).zip(needed);
    let mut differing = fields.filter(|((_, found), needed)| !matches(found, needed));
    differing.next().map(|(((cause, name), found), needed)| {
        let found = if found.is_empty() { "nothing" } else { found };
        Difference { cause, mistake: format!("the {name} is {found}, but it must be {needed}") }
    })
}

/// `*` matches any sequence of characters, `?` any one.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// Policies that are read at most.
const MOST_POLICIES: usize = 30;

/// The statements of the principal's own policies, as far as they may be read. Those of a user's groups are not read, nor
/// those that AWS manages.
fn statements(session: &AwsSession, principal: &Principal) -> Vec<Statement> {
    let kind = principal.kind.name();
    let owner = (format!("{kind}Name"), principal.name.as_str());
    let query = |action: &str, more: Option<(&str, &str)>| {
        let parameters: Vec<(&str, &str)> = [(owner.0.as_str(), owner.1)].into_iter().chain(more).collect();
        session.query(AwsApi::Iam, action, &parameters).unwrap_or_default()
    };
    let mut statements = Vec::new();
    for name in query(&format!("List{kind}Policies"), None).texts("PolicyNames/member").iter().take(MOST_POLICIES) {
        let policy = query(&format!("Get{kind}Policy"), Some(("PolicyName", name)));
        statements.extend(read_document(name, policy.text("PolicyDocument").unwrap_or_default()));
    }
    let attached = query(&format!("ListAttached{kind}Policies"), None).texts("AttachedPolicies/member/PolicyArn");
    for arn in attached.iter().filter(|arn| !arn.contains(":iam::aws:policy/")).take(MOST_POLICIES) {
        statements.extend(managed_policy(session, arn).unwrap_or_default());
    }
    statements
}

fn managed_policy(session: &AwsSession, arn: &str) -> Result<Vec<Statement>, AwsFailure> {
    let policy = session.query(AwsApi::Iam, "GetPolicy", &[("PolicyArn", arn)])?;
    let version = policy.text("Policy/DefaultVersionId").unwrap_or_default();
    let parameters = [("PolicyArn", arn), ("VersionId", version)];
    let version = session.query(AwsApi::Iam, "GetPolicyVersion", &parameters)?;
    Ok(read_document(arn, version.text("PolicyVersion/Document").unwrap_or_default()))
}

/// Reads a policy document, which IAM percent-encodes.
fn read_document(policy: &str, document: &str) -> Vec<Statement> {
    let document: Value = serde_json::from_slice(&Cow::from(percent_decode_str(document))).unwrap_or_default();
    let read = |value: &Value| Statement {
        policy: policy.to_owned(),
        allows: value["Effect"] == "Allow",
        actions: one_or_many(&value["Action"]),
        resources: one_or_many(&value["Resource"]),
        condition_keys: match &value["Condition"] {
            Value::Object(operators) => {
                operators.values().filter_map(Value::as_object).flat_map(|keys| keys.keys().cloned()).collect()
            }
            _ => Vec::new(),
        },
    };
    match &document["Statement"] {
        Value::Array(all) => all.iter().map(read).collect(),
        single @ Value::Object(_) => vec![read(single)],
        _ => Vec::new(),
    }
}

fn one_or_many(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(all) => all.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCE: &str = "arn:aws:rds-db:eu-central-1:123456789012:dbuser:db-ABCDEFGHIJKL01234/jane@corp.com";

    #[test]
    fn each_database_and_user_has_a_policy_of_its_own_name() {
        let name = |action, resource: &str| Need { action, resource: resource.to_owned() }.policy_name();
        assert_eq!(name("rds-db:connect", RESOURCE), "pgiam-db-ABCDEFGHIJKL01234-jane@corp.com");
        assert_eq!(
            name("rds-db:connect", &RESOURCE.replace("jane@corp.com", "a b/c")),
            "pgiam-db-ABCDEFGHIJKL01234-a_b_c"
        );
        let cluster = "arn:aws:dsql:us-east-1:123456789012:cluster/iuabtyq7pzsk4qfm2hmjz6gzqe";
        assert_eq!(name("dsql:DbConnectAdmin", cluster), "pgiam-iuabtyq7pzsk4qfm2hmjz6gzqe-DbConnectAdmin");
    }

    #[test]
    fn a_difference_between_a_policy_and_the_login_is_named_by_field() {
        for (from, to, cause) in [
            ("arn:aws:", "arn:aws-cn:", "policy-partition"),
            ("rds-db", "rds", "policy-service"),
            ("eu-central-1", "eu-west-*", "policy-region"),
            ("123456789012", "210987654321", "policy-account"),
            ("123456789012", "", "policy-account"),
            ("db-ABCDEFGHIJKL01234", "orders-prod", "policy-resource-id"),
            ("db-ABCDEFGHIJKL01234", "db-abcdefghijkl01234", "policy-resource-id"),
            ("/jane@corp.com", "/jane", "policy-user"),
            ("/jane@corp.com", "", "policy-user"),
        ] {
            let difference = difference(&RESOURCE.replace(from, to), RESOURCE).unwrap();
            assert_eq!(difference.cause, cause, "{to}");
        }
        for same in [RESOURCE, "arn:aws:rds-db:*:*:dbuser:*/*", "arn:aws:rds-db:eu-*:123456789012:dbuser:db-*/jane*"] {
            assert_eq!(difference(same, RESOURCE), None, "{same}");
        }
        assert_eq!(difference("*", RESOURCE), None);
    }

    #[test]
    fn the_role_of_a_session_and_the_permission_set_of_a_role_are_in_their_names() {
        let session = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Db_Admin_0123456789abcdef/jane@corp.com";
        assert_eq!(Caller::of(session), Caller::Session("AWSReservedSSO_Db_Admin_0123456789abcdef"));
        assert_eq!(permission_set("AWSReservedSSO_Db_Admin_0123456789abcdef"), "Db_Admin");
        assert_eq!(Caller::of("arn:aws:iam::123456789012:user/ops/jane"), Caller::User("jane"));
        assert_eq!(Caller::of("arn:aws:iam::123456789012:role/apps/orders"), Caller::Role("orders"));
        for other in ["arn:aws:iam::123456789012:root", "arn:aws:sts::123456789012:federated-user/jane", ""] {
            assert_eq!(Caller::of(other), Caller::Other, "{other}");
        }
    }

    #[test]
    fn policy_documents_are_read_however_they_are_written() {
        let encoded = "%7B%22Statement%22%3A%7B%22Effect%22%3A%22Allow%22%2C%22Action%22%3A%22rds-db%3Aconnect%22%2C\
                       %22Resource%22%3A%5B%22a%22%2C%22b%22%5D%2C%22Condition%22%3A%7B%22StringEquals%22%3A%7B\
                       %22aws%3ASourceVpc%22%3A%22x%22%7D%7D%7D%7D";
        let statements = read_document("p", encoded);
        assert_eq!(statements.len(), 1);
        assert_eq!(statements[0].resources, ["a", "b"]);
        assert_eq!(statements[0].condition_keys, ["aws:SourceVpc"]);
        assert!(statements[0].has_action("rds-db:Connect"));
        assert!(read_document("p", "%7Bnothing").is_empty());
    }
}
