//! The policy, and the role that it is attached to, for Terraform and CloudFormation, both in their JSON syntax.
//!
//! Shapes: Terraform's "JSON Configuration Syntax", the resources `aws_iam_role` and `aws_iam_role_policy`; CloudFormation's
//! `AWS::IAM::Role` and `AWS::IAM::Policy`.

use serde_json::Value;

use super::steps::{Database, Setup};
use crate::failure::Failure;
use crate::login::databases::LOG;
use crate::login::policy::{Need, Principal};

/// The least policy.
pub(super) fn document(need: &Need) -> Value {
    serde_json::from_slice(need.document().as_bytes()).unwrap_or_default()
}

/// A template with the policy, attached to `--principal`, or else to a new role for EC2.
pub(super) fn of(setup: &Setup<'_>, is_terraform: bool, is_given: bool) -> Result<Value, Failure> {
    if let Some(why) = setup.identity.as_ref().err().or(setup.unknown.as_ref()) {
        return Err(Failure::failed(format!("the policy is not known: the database was {why}")));
    }
    if let Database::Missing(what) = &setup.database {
        return Err(Failure::failed(what.clone()));
    }
    let need = setup.need();
    let name = need.policy_name();
    let principal = setup.principal.as_ref().ok().filter(|_| is_given);
    let note = note(setup, is_terraform);
    Ok(if is_terraform {
        terraform(&need, &name, principal, &note)
    } else {
        cloudformation(&need, &name, principal, &note)
    })
}

/// What the database itself needs, as a comment.
fn note(setup: &Setup<'_>, is_terraform: bool) -> String {
    let new = "The role is for EC2; for ECS tasks the service is ecs-tasks.amazonaws.com, for EKS pods pods.eks.amazonaws.com \
               with the action sts:TagSession too.";
    let database = match &setup.database {
        Database::Server { server, .. } => {
            let (kind, name) = (server.kind, &server.identifier);
            if is_terraform {
                let instance = kind.option().replace("instance", "db_instance").replacen("cluster", "rds_cluster", 1);
                format!(
                    "aws_{instance} {name} needs iam_database_authentication_enabled = true, and {LOG} among \
                     enabled_cloudwatch_logs_exports."
                )
            } else {
                let kind = if kind.option() == "instance" { "DBInstance" } else { "DBCluster" };
                format!(
                    "AWS::RDS::{kind} {name} needs EnableIAMDatabaseAuthentication: true, and {LOG} among \
                     EnableCloudwatchLogsExports."
                )
            }
        }
        Database::Proxy(proxy) => format!("The proxy {} needs IAMAuth REQUIRED for each secret.", proxy.name),
        Database::Dsql | Database::Missing(_) => String::new(),
    };
    format!("{database} {new}").trim().to_owned()
}

/// Who may assume the new role.
const TRUST: &str = r#"{
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]
}"#;

const TERRAFORM_POLICY: &str = r#"{
    "//": "<note>",
    "resource": {
        "aws_iam_<kind>_policy": {"<label>": {"name": "<name>", "<kind>": "<owner>", "policy": "<policy>"}}
    }
}"#;

const TERRAFORM_ROLE: &str = r#"{
    "//": "<note>",
    "resource": {
        "aws_iam_role": {"<label>": {"name": "<name>", "assume_role_policy": "<trust>"}},
        "aws_iam_instance_profile": {"<label>": {"name": "<name>", "role": "${aws_iam_role.<label>.name}"}},
        "aws_iam_role_policy": {
            "<label>": {"name": "<name>", "role": "${aws_iam_role.<label>.id}", "policy": "<policy>"}
        }
    }
}"#;

const CLOUDFORMATION_POLICY: &str = r#"{
    "AWSTemplateFormatVersion": "2010-09-09",
    "Description": "<description>",
    "Metadata": {"Note": "<note>"},
    "Resources": {
        "Policy": {"Type": "AWS::IAM::Policy", "Properties": {"PolicyName": "<name>", "<Kind>s": ["<owner>"]}}
    }
}"#;

const CLOUDFORMATION_ROLE: &str = r#"{
    "AWSTemplateFormatVersion": "2010-09-09",
    "Description": "<description>",
    "Metadata": {"Note": "<note>"},
    "Resources": {
        "Role": {"Type": "AWS::IAM::Role", "Properties": {}},
        "InstanceProfile": {"Type": "AWS::IAM::InstanceProfile", "Properties": {"Roles": [{"Ref": "Role"}]}},
        "Policy": {"Type": "AWS::IAM::Policy", "Properties": {"PolicyName": "<name>", "Roles": [{"Ref": "Role"}]}}
    }
}"#;

/// A template with its `<words>` replaced by the values.
fn fill(template: &str, values: &[(&str, &str)]) -> Value {
    let mut parts = template.split('<');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (word, rest) = part.split_once('>').unwrap_or_default();
        let value = values.iter().find(|(known, _)| *known == word).map_or("", |(_, value)| value);
        let quoted = Value::from(value).to_string();
        text += quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
        text += rest;
    }
    serde_json::from_slice(text.as_bytes()).unwrap_or_default()
}

fn terraform(need: &Need, name: &str, principal: Option<&Principal>, note: &str) -> Value {
    // Names of resources begin with a letter, and have letters, digits, `_` and `-`.
    let label: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    // ${ begins an expression.
    let policy = need.document().replace("${", "$${");
    let trust = fill(TRUST, &[]).to_string();
    let (kind, owner) = principal.map_or(("", ""), |principal| (principal.kind.lower(), &*principal.name));
    let values = [
        ("note", note),
        ("label", &label),
        ("name", name),
        ("kind", kind),
        ("owner", owner),
        ("policy", &policy),
        ("trust", &trust),
    ];
    fill(if principal.is_some() { TERRAFORM_POLICY } else { TERRAFORM_ROLE }, &values)
}

fn cloudformation(need: &Need, name: &str, principal: Option<&Principal>, note: &str) -> Value {
    let description = format!("{} on {}", need.action, need.resource);
    let (kind, owner) = principal.map_or(("", ""), |principal| (principal.kind.name(), &*principal.name));
    let values = [("description", &*description), ("note", note), ("name", name), ("Kind", kind), ("owner", owner)];
    let mut template = fill(if principal.is_some() { CLOUDFORMATION_POLICY } else { CLOUDFORMATION_ROLE }, &values);
    let resources = &mut template["Resources"];
    resources["Policy"]["Properties"]["PolicyDocument"] = document(need);
    if principal.is_none() {
        resources["Role"]["Properties"]["AssumeRolePolicyDocument"] = fill(TRUST, &[]);
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_itself_in_the_template_whatever_it_has() {
        let value = "\"<name>\" \\ \n\"";
        assert_eq!(fill(r#"{"<a>": ["x<a><b>y"]}"#, &[("a", value), ("b", "")])[value][0], format!("x{value}y"));
    }
}
