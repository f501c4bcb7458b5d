//! Whose credentials STS says they are, and what its refusals mean.

use pgiam_core::{AwsFailure, CallerIdentity};

/// Who it is, and a hint if it looks like a role that a program is not meant to use.
pub(crate) fn describe(identity: &CallerIdentity) -> String {
    let role = identity.arn.split_once(":assumed-role/").and_then(|(_, rest)| rest.split('/').next());
    let lower = role.unwrap_or_default().to_ascii_lowercase().replace(['-', '_'], "");
    let hint = if lower.contains("executionrole") || lower.contains("taskexecution") || lower.contains("ecsexecution") {
        "; this looks like a task execution role of ECS: the program should use the task role (taskRoleArn)"
    } else if lower.contains("noderole") || lower.contains("nodeinstancerole") || lower.contains("nodegroup") {
        "; this looks like the role of an EKS node: give the pod a role of its own, with EKS Pod Identity or IRSA"
    } else {
        ""
    };
    format!("{}{hint}", identity.arn)
}

/// What an error code of STS means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) cause: &'static str,
    pub(crate) meaning: &'static str,
}

/// `None`: STS did not refuse the credentials.
pub(crate) fn explain_refusal(failure: &AwsFailure, clock_is_wrong: bool) -> Option<Refused> {
    let words = failure.message();
    let of_time = clock_is_wrong || words.contains("Signature expired") || words.contains("not yet current");
    let (cause, meaning) = match failure.code()? {
        "InvalidClientTokenId" | "UnrecognizedClientException" => (
            "key-unknown",
            "AWS does not know the access key: it was deleted or deactivated, is for another partition, or lacks its \
             session token",
        ),
        "SignatureDoesNotMatch" if of_time => ("clock", "this machine's clock is wrong"),
        "SignatureDoesNotMatch" => ("secret-wrong", "the secret access key does not belong to the access key"),
        "ExpiredToken" | "ExpiredTokenException" => ("credentials-expired", "the credentials have expired"),
        "RegionDisabledException" => ("region-disabled", "the account has not enabled STS in this region"),
        _ => return None,
    };
    Some(Refused { cause, meaning })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_that_programs_are_not_meant_to_use_are_recognized() {
        let hint = |role: &str| {
            let arn = format!("arn:aws:sts::123456789012:assumed-role/{role}/session");
            describe(&CallerIdentity { arn: arn.clone(), account: String::new() })[arn.len()..].to_owned()
        };
        for role in ["ecsTaskExecutionRole", "orders-prod-task-execution", "orders-ecs-execution-role"] {
            assert!(hint(role).contains("taskRoleArn"), "{role}");
        }
        for role in ["eksctl-prod-nodegroup-NodeInstanceRole-1ABC", "AmazonEKSNodeRole", "prod-eks-node-role"] {
            assert!(hint(role).contains("Pod Identity"), "{role}");
        }
        for role in ["orders-prod", "AWSReservedSSO_Developer_0123456789abcdef", "ecs-task-role"] {
            assert_eq!(hint(role), "", "{role}");
        }
    }
}
