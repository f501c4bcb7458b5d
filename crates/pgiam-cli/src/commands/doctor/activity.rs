//! What CloudWatch recorded of logins with IAM: the metrics `IamDbAuthConnection…` and the log `iam-db-auth-error`.
//!
//! Names: Amazon RDS User Guide, "Monitoring IAM database authentication".

use pgiam_core::{AwsApi, AwsFailure, AwsSession, rfc3339};

use crate::login::databases::{DbServer, LOG, ServerKind};
use crate::login::policy::why;
use crate::login::report::{Finding, Outcome, Report};
use crate::shell;

/// How far back metrics and log are read, in seconds.
const SPAN: i64 = 3 * 3600;
const HOURS: i64 = SPAN / 3600;

/// A reason for refusals that has a metric of its own.
struct Reason {
    metric: &'static str,
    cause: &'static str,
    meaning: &'static str,
    /// The word for it in the log.
    word: &'static str,
}

const REASONS: [Reason; 4] = [
    Reason {
        metric: "IamDbAuthConnectionFailureInsufficientPermissions",
        cause: "not-authorized",
        meaning: "no policy allows the login",
        word: "NotAuthorized",
    },
    Reason {
        metric: "IamDbAuthConnectionFailureInvalidToken",
        cause: "invalid-token",
        meaning: "the token is invalid or has expired",
        word: "Token",
    },
    Reason {
        metric: "IamDbAuthConnectionFailureThrottling",
        cause: "throttling",
        meaning: "there are too many new connections a second; use a connection pool",
        word: "Throttling",
    },
    Reason {
        metric: "IamDbAuthConnectionFailureServerError",
        cause: "server-error",
        meaning: "the server failed; IAM authentication needs 300 to 1,000 MiB of free memory",
        word: "InternalError",
    },
];

/// Reads metrics and log. They have the logins of 3 hours: a refusal is the reason only if this login `was_refused`.
pub(crate) fn check(session: &AwsSession, server: &DbServer, user: &str, was_refused: bool, report: &mut Report) {
    let judged = |finding: Finding| if was_refused { finding } else { earlier(finding) };
    report.begin("reading metrics of CloudWatch");
    report.add(judged(metrics(session, server)));
    report.begin("reading the log of IAM authentication");
    report.add(judged(log(session, server, user)));
}

/// Refusals of other logins than the one of this run.
fn earlier(finding: Finding) -> Finding {
    match finding.outcome {
        Outcome::Fail => Finding { outcome: Outcome::Unknown, ..finding },
        Outcome::Ok | Outcome::Unknown => finding,
    }
}

fn metrics(session: &AwsSession, server: &DbServer) -> Finding {
    let sum = |metric: &str| sum(session, server, metric);
    let sums = sum("IamDbAuthConnectionRequests").and_then(|requests| {
        let failures = REASONS.iter().map(|reason| Ok((reason, sum(reason.metric)?)));
        Ok((requests, failures.collect::<Result<Vec<_>, AwsFailure>>()?))
    });
    let (requests, mut failures) = match sums {
        Ok(sums) => sums,
        Err(failure) => return Finding::unknown("metrics", format!("not read: {}", why(&failure))),
    };
    failures.retain(|(_, count)| *count > 0);
    let Some((first, _)) = failures.iter().rev().max_by_key(|(_, count)| *count) else {
        let text = format!("no refused login with IAM among {requests} in the last {HOURS} hours");
        return Finding::ok("metrics", text);
    };
    let counts: Vec<String> =
        failures.iter().map(|(reason, count)| format!("{count} times {}", reason.meaning)).collect();
    let text =
        format!("logins of all users refused in the last {HOURS} hours: {} ({requests} requests)", counts.join(", "));
    Finding::fail("metrics", first.cause, text, graph(session, server, first))
}

/// The sum of a metric.
fn sum(session: &AwsSession, server: &DbServer, metric: &str) -> Result<u64, AwsFailure> {
    let now = session.now();
    // The end does not belong to the time, and a refusal of this second should.
    let (start, end) = (rfc3339(now - SPAN), rfc3339(now + 60));
    let parameters = [
        ("Namespace", "AWS/RDS"),
        ("MetricName", metric),
        ("Dimensions.member.1.Name", server.kind.dimension()),
        ("Dimensions.member.1.Value", &server.identifier),
        ("StartTime", &start),
        ("EndTime", &end),
        ("Period", "3600"),
        ("Statistics.member.1", "Sum"),
    ];
    let found = session.query(AwsApi::CloudWatch, "GetMetricStatistics", &parameters)?;
    Ok(found.texts("Datapoints/member/Sum").iter().filter_map(|sum| whole_number(sum)).sum())
}

/// A count as CloudWatch writes it: `3.0`, and from ten millions on `1.2E7`.
fn whole_number(text: &str) -> Option<u64> {
    let (mantissa, exponent) = text.split_once('E').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let zeros = std::iter::repeat('0');
    let shifted: String = fraction.chars().chain(zeros).take(exponent.parse::<u8>().ok()?.into()).collect();
    format!("{whole}{shifted}").parse().ok()
}

/// The command that shows more: free memory if the server failed, else the refusals by time.
fn graph(session: &AwsSession, server: &DbServer, reason: &Reason) -> String {
    let (metric, statistic) =
        if reason.cause == "server-error" { ("FreeableMemory", "Minimum") } else { (reason.metric, "Sum") };
    format!(
        "aws cloudwatch get-metric-statistics --region {} --namespace AWS/RDS --metric-name {metric} --dimensions \
         Name={},Value={} --start-time {} --end-time {} --period 300 --statistics {statistic}",
        session.region(),
        server.kind.dimension(),
        shell::quoted(&server.identifier),
        rfc3339(session.now() - SPAN),
        rfc3339(session.now()),
    )
}

/// Lines of the log that are shown.
const LINES: usize = 3;

fn log(session: &AwsSession, server: &DbServer, user: &str) -> Finding {
    if !server.log_exports.iter().any(|log| log == LOG) {
        let text = format!("the log {LOG}, which has the reasons for refusals, is not exported to CloudWatch");
        return Finding { remedy: Some(server.export_log(session.region())), ..Finding::unknown("log", text) };
    }
    let group = group(server);
    let lines = match session.log_messages(&group, session.now() - SPAN, user) {
        Ok(lines) => lines,
        // CloudWatch makes the group with the first line.
        Err(failure) if failure.code() == Some("ResourceNotFoundException") => Vec::new(),
        Err(failure) => return Finding::unknown("log", format!("{group} not read: {}", why(&failure))),
    };
    let Some(last) = lines.last() else {
        return Finding::ok("log", format!("{group} has no line about {user} in the last {HOURS} hours"));
    };
    let reason = REASONS.iter().find(|reason| last.contains(reason.word));
    let shown = lines[lines.len().saturating_sub(LINES)..].join(" | ");
    let meaning = reason.map(|reason| format!("{}: ", reason.meaning)).unwrap_or_default();
    let command = format!("aws logs tail {group} --since {HOURS}h --region {}", session.region());
    Finding::fail("log", reason.map_or("refused", |reason| reason.cause), format!("{meaning}{shown}"), command)
}

fn group(server: &DbServer) -> String {
    let kind = match server.kind {
        ServerKind::Instance => "instance",
        ServerKind::Cluster => "cluster",
    };
    format!("/aws/rds/{kind}/{}/{LOG}", server.identifier)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_as_cloudwatch_writes_them() {
        for (text, number) in [("0.0", 0), ("3.0", 3), ("17", 17), ("1.2E7", 12_000_000), ("1.2345678E7", 12_345_678)] {
            assert_eq!(whole_number(text), Some(number), "{text}");
        }
        for text in ["", "-1.0", "NaN", "1.0E-3", "1.0E99"] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }
}
