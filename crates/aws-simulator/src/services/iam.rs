//! Identity and Access Management: roles, their policies, and the policy simulator. Shapes from the IAM API Reference.

use serde_json::{Value, json};

use crate::account::{Account, Principal, Statement};
use crate::http::{Request, Response};
use crate::route::Route;
use crate::services::query::{QueryService, element, escape};
use crate::state::{Call, State};

const IAM: QueryService = QueryService {
    name: "iam",
    version: "2010-05-08",
    namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
    region: Some("us-east-1"),
};

pub(crate) fn route(request: &Request) -> Option<Route> {
    IAM.is_asked(request).then_some(Route::Iam)
}

pub(crate) fn answer(state: &State, request: &Request, call: &Call) -> Response {
    let asked = |parameter: &str| request.form_parameter(parameter).unwrap_or_default();
    let action = asked("Action");
    let name = asked("RoleName") + &asked("UserName");
    let resource = match action.as_str() {
        "SimulatePrincipalPolicy" => asked("PolicySourceArn"),
        _ => find(&state.settings().account, &name).map_or_else(|| name.clone(), |found| found.arn.clone()),
    };
    if let Err(refused) = IAM.authorize(state, request, call, &format!("iam:{action}"), &resource) {
        return *refused;
    }
    if action.starts_with("Put") {
        let put = put_policy(&mut state.settings().account, &action, &name, &asked("PolicyDocument"));
        return match state.publish_policies() {
            Ok(()) => put,
            Err(error) => IAM.error(500, "ServiceFailure", &error.to_string()),
        };
    }
    let settings = state.settings();
    let account = &settings.account;
    match action.as_str() {
        "SimulatePrincipalPolicy" => simulate(account, request),
        "GetRole" | "GetUser" => match find(account, &name) {
            Some(principal) => IAM.result(&action, &described(&action["Get".len()..], principal)),
            None => missing(&name),
        },
        "ListRolePolicies" | "ListUserPolicies" | "ListAttachedRolePolicies" | "ListAttachedUserPolicies" => {
            list_policies(account, &action, &name)
        }
        "GetRolePolicy" | "GetUserPolicy" => match find(account, &name) {
            Some(principal) => IAM.result(&action, &element("PolicyDocument", &document(&principal.statements))),
            None => missing(&name),
        },
        _ => IAM.error(400, "InvalidAction", &format!("Could not find operation {action}")),
    }
}

fn find<'a>(account: &'a Account, name: &str) -> Option<&'a Principal> {
    account.principals.iter().find(|principal| principal.arn.rsplit('/').next() == Some(name))
}

fn missing(name: &str) -> Response {
    IAM.error(404, "NoSuchEntity", &format!("The role or user with name {name} cannot be found."))
}

fn described(kind: &str, principal: &Principal) -> String {
    let name = principal.arn.rsplit('/').next().unwrap_or_default();
    let boundary = principal.boundary.as_ref().map(|_| {
        let arn = element("PermissionsBoundaryArn", "arn:aws:iam::123456789012:policy/boundary");
        format!("<PermissionsBoundary>{arn}</PermissionsBoundary>")
    });
    let arn = element("Arn", &principal.arn);
    format!("<{kind}>{}{arn}{}</{kind}>", element(&format!("{kind}Name"), name), boundary.unwrap_or_default())
}

fn simulate(account: &Account, request: &Request) -> Response {
    let members = |name: &str| -> Vec<String> {
        let parameter = |number| request.form_parameter(&format!("{name}.member.{number}"));
        (1..).map_while(parameter).collect()
    };
    let source = request.form_parameter("PolicySourceArn").unwrap_or_default();
    let Some(principal) = account.principals.iter().find(|principal| principal.arn == source) else {
        return IAM.error(404, "NoSuchEntity", &format!("{} cannot be found.", escape(&source)));
    };
    let mut results = String::new();
    for action in members("ActionNames") {
        for resource in members("ResourceArns") {
            let decision = account.decide(principal, &action, &resource);
            let detail = |allowed: Option<bool>, outer: &str, inner: &str| {
                let content = allowed.map(|allowed| element(inner, if allowed { "true" } else { "false" }));
                content.map(|content| format!("<{outer}>{content}</{outer}>")).unwrap_or_default()
            };
            let boundary =
                detail(decision.by_boundary, "PermissionsBoundaryDecisionDetail", "AllowedByPermissionsBoundary");
            let organization =
                detail(decision.by_organization, "OrganizationsDecisionDetail", "AllowedByOrganizations");
            results.push_str(&format!(
                "<member>{}{}{}{boundary}{organization}</member>",
                element("EvalActionName", &action),
                element("EvalResourceName", &resource),
                element("EvalDecision", decision.name),
            ));
        }
    }
    let content = format!("<IsTruncated>false</IsTruncated><EvaluationResults>{results}</EvaluationResults>");
    IAM.result("SimulatePrincipalPolicy", &content)
}

/// All statements of a user or role are in one inline policy.
const INLINE_POLICY: &str = "inline";

fn list_policies(account: &Account, action: &str, name: &str) -> Response {
    let Some(principal) = find(account, name) else { return missing(name) };
    let content = if action.starts_with("ListAttached") {
        "<AttachedPolicies/>".to_owned()
    } else if principal.statements.is_empty() {
        "<PolicyNames/>".to_owned()
    } else {
        format!("<PolicyNames>{}</PolicyNames>", element("member", INLINE_POLICY))
    };
    IAM.result(action, &format!("<IsTruncated>false</IsTruncated>{content}"))
}

/// A policy document, percent-encoded as IAM returns it.
fn document(statements: &[Statement]) -> String {
    let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn put_policy(account: &mut Account, action: &str, name: &str, document: &str) -> Response {
    if !["PutRolePolicy", "PutUserPolicy"].contains(&action) {
        return IAM.error(400, "InvalidAction", &format!("Could not find operation {action}"));
    }
    let Some(statements) = statements(document) else {
        return IAM.error(400, "MalformedPolicyDocument", "Syntax errors in policy.");
    };
    match account.principals.iter_mut().find(|principal| principal.arn.rsplit('/').next() == Some(name)) {
        Some(principal) => {
            principal.statements.extend(statements);
            IAM.result(action, "")
        }
        None => missing(name),
    }
}

/// The statements of a policy document; actions and resources can be a string or a list.
fn statements(document: &str) -> Option<Vec<Statement>> {
    let document: Value = serde_json::from_str(document).ok()?;
    let texts = |value: &Value| match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(all) => all.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    let one = |value: &Value| Statement {
        effect: value["Effect"].as_str().unwrap_or_default().to_owned(),
        action: texts(&value["Action"]),
        resource: texts(&value["Resource"]),
        condition: value.get("Condition").cloned(),
    };
    match document.get("Statement")? {
        Value::Array(all) => Some(all.iter().map(one).collect()),
        single => Some(vec![one(single)]),
    }
}
