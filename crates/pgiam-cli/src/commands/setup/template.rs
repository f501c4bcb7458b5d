//! The policy, and the role that it is attached to, for Terraform and CloudFormation, both in their JSON syntax.
//!
//! Shapes: Terraform's "JSON Configuration Syntax", the resources `aws_iam_role` and `aws_iam_role_policy`; CloudFormation's
//! `AWS::IAM::Role` and `AWS::IAM::Policy`.

use serde_json::{Value, json};

use super::steps::{Database, Setup};
use crate::failure::Failure;
use crate::login::databases::LOG;
use crate::login::policy::{Need, Principal};

/// The least policy.
pub(super) fn document(need: &Need) -> Value {
    serde_json::from_str(&need.document()).unwrap_or_default()
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
fn trust() -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }],
    })
}

fn terraform(need: &Need, name: &str, principal: Option<&Principal>, note: &str) -> Value {
    // Names of resources begin with a letter, and have letters, digits, `_` and `-`.
    let label: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let policy = |kind: &str, owner: &str| {
        // ${ begins an expression.
        let document = document(need).to_string().replace("${", "$${");
        json!({"name": name, kind: owner, "policy": document})
    };
    let resources = match principal {
        Some(principal) => {
            let kind = principal.kind.lower();
            json!({format!("aws_iam_{kind}_policy"): {&label: policy(kind, &principal.name)}})
        }
        None => json!({
            "aws_iam_role": {&label: {"name": name, "assume_role_policy": trust().to_string()}},
            "aws_iam_instance_profile": {&label: {"name": name, "role": format!("${{aws_iam_role.{label}.name}}")}},
            "aws_iam_role_policy": {&label: policy("role", &format!("${{aws_iam_role.{label}.id}}"))},
        }),
    };
    json!({"//": note, "resource": resources})
}

fn cloudformation(need: &Need, name: &str, principal: Option<&Principal>, note: &str) -> Value {
    let policy = |owners: &str, owner: Value| {
        json!({
            "Type": "AWS::IAM::Policy",
            "Properties": {"PolicyName": name, "PolicyDocument": document(need), owners: [owner]},
        })
    };
    let resources = match principal {
        Some(principal) => json!({"Policy": policy(&format!("{}s", principal.kind.name()), json!(principal.name))}),
        None => json!({
            "Role": {
                "Type": "AWS::IAM::Role",
                "Properties": {"AssumeRolePolicyDocument": trust()},
            },
            "InstanceProfile": {
                "Type": "AWS::IAM::InstanceProfile",
                "Properties": {"Roles": [{"Ref": "Role"}]},
            },
            "Policy": policy("Roles", json!({"Ref": "Role"})),
        }),
    };
    json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": format!("{} on {}", need.action, need.resource),
        "Metadata": {"Note": note},
        "Resources": resources,
    })
}
