//! What AWS services say about the connection: the time, whose credentials these are, the database, and then policies,
//! metrics and log. What may not be asked is reported with the permission that is missing.

use pgiam_core::{AwsFailure, AwsSession, CallerIdentity};

use super::activity;
use crate::login::databases::{self, DbProxy, DbServer, Found};
use crate::login::identity::{Refused, describe, explain_refusal};
use crate::login::name::{Kind, normalized};
use crate::login::policy::{self, NearMiss, Need, why};
use crate::login::report::{Finding, Report};
use crate::login::{Context, Target};
use crate::shell;

/// Seconds. AWS refuses signatures of a clock that is further off.
const REFUSED: i64 = 300;

/// Seconds, within which a clock is right.
const EXACT: i64 = 2;

/// A session in the region of the database; `None`, and a finding, if that is not known.
fn session(check: &'static str, context: &Context<'_>, report: &mut Report) -> Option<AwsSession> {
    match context.region() {
        Some(region) => Some(context.client.aws_session(&region)),
        None => {
            report.add(Finding::unknown(check, "not checked, because the region of the database is not known"));
            None
        }
    }
}

/// Compares the clock of this machine with that of STS.
pub(crate) fn clock(context: &Context<'_>, report: &mut Report) {
    report.begin("asking STS for the time");
    let Some(session) = session("clock", context, report) else { return };
    report.add(match session.clock_ahead() {
        Ok(ahead) => judge_clock(ahead),
        Err(error) => Finding { cause: Some(UNREACHABLE), ..Finding::unknown("clock", error.message()) },
    });
}

/// The cause of a `?` after which no other service of AWS is asked: each would take as long to fail.
const UNREACHABLE: &str = "aws-unreachable";

/// Why AWS services cannot be asked; a phrase.
fn why_not_asked(report: &Report) -> Option<&'static str> {
    if report.has_cause("no-credentials") {
        Some("because there are no credentials")
    } else if report.has_cause(UNREACHABLE) {
        Some("because STS cannot be reached")
    } else {
        None
    }
}

fn judge_clock(ahead: i64) -> Finding {
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let text = format!("this machine's clock is {} seconds {direction} that of AWS", ahead.unsigned_abs());
    if ahead.abs() >= REFUSED {
        Finding::fail("clock", "clock", format!("{text}; tokens are not valid"), "sudo timedatectl set-ntp true")
    } else if ahead.abs() > EXACT {
        Finding::ok("clock", text)
    } else {
        Finding::ok("clock", "this machine's clock agrees with that of AWS")
    }
}

/// Asks STS whose credentials these are.
pub(crate) fn identity(context: &Context<'_>, report: &mut Report) {
    if let Some(why) = why_not_asked(report) {
        return report.add(Finding::unknown("identity", format!("not asked, {why}")));
    }
    let Some(session) = session("identity", context, report) else { return };
    report.add(match session.caller_identity() {
        Ok(identity) => Finding::ok("identity", describe(&identity)),
        Err(failure) => identity_refused(&failure, context, report.has_cause("clock")),
    });
}

/// Why STS does not accept the credentials, and what that means.
fn identity_refused(failure: &AwsFailure, context: &Context<'_>, clock_is_wrong: bool) -> Finding {
    let profile = context.profile.as_deref().map(|profile| format!(" --profile {}", shell::quoted(profile)));
    let command = format!("pgiam credentials{}", profile.unwrap_or_default());
    match explain_refusal(failure, clock_is_wrong) {
        Some(Refused { cause, meaning }) => {
            Finding::fail("identity", cause, format!("{meaning}: {}", failure.message()), command)
        }
        None => Finding::unknown("identity", failure.message()),
    }
}

/// Looks for the reason of a failed login. `key`: the access key that signed a token that was made elsewhere.
pub(crate) fn check(context: &Context<'_>, key: Option<&str>, report: &mut Report) {
    report.begin("asking AWS about the database");
    if let Some(why) = why_not_asked(report) {
        return report.add(Finding::unknown("database", format!("not looked up, {why}")));
    }
    let Some(session) = session("database", context, report) else { return };
    let identity = match session.caller_identity() {
        Ok(identity) => identity,
        Err(failure) => {
            let text = format!("not looked up, because STS does not accept the credentials: {}", failure.message());
            return report.add(Finding::unknown("database", text));
        }
    };
    let host = normalized(&context.endpoint.host);
    match databases::find(&session, &host) {
        Ok(found) => {
            let is_other = |key: &str| !context.client.explain().outcome.is_ok_and(|used| used.access_key_id == key);
            let other_key = key.filter(|key| is_other(key));
            let subject = Subject { context, session: &session, identity: &identity, other_key };
            examine(&subject, &host, found, report);
        }
        Err(failure) => report.add(Finding::unknown("database", format!("not looked up: {}", why(&failure)))),
    }
}

/// What the checks of a database need.
struct Subject<'a> {
    context: &'a Context<'a>,
    session: &'a AwsSession,
    identity: &'a CallerIdentity,
    /// The access key that signed the given token, if it is not that of the credentials here.
    other_key: Option<&'a str>,
}

impl Subject<'_> {
    fn need(&self, resource_id: &str) -> Need {
        Need::connect(self.identity, self.session.region(), resource_id, self.context.user())
    }

    fn check_policy(&self, need: &Need, near_misses: impl FnOnce() -> Vec<NearMiss>, report: &mut Report) {
        if let Some(key) = self.other_key {
            let text = format!(
                "not simulated: the token is signed with key {key}, and the credentials here are those of {}; whoever has \
                 the key needs {} on {}",
                self.identity.arn, need.action, need.resource
            );
            return report.add(Finding::unknown("policy", text));
        }
        report.begin("simulating the policies");
        report.add(match policy::find_principal(self.session, &self.identity.arn) {
            Ok(principal) => policy::check(self.session, &principal, need, near_misses),
            Err(why) => Finding::unknown("policy", format!("not simulated: {why}")),
        });
    }

    /// An `aws rds` command in the region.
    fn rds(&self, command: &str) -> String {
        let (name, options) = command.split_once(' ').unwrap_or((command, ""));
        format!("aws rds {name} --region {} {options}", self.session.region())
    }
}

fn examine(subject: &Subject<'_>, host: &str, found: Found, report: &mut Report) {
    match found {
        Found::Server(server) => {
            report.add(judge_server(subject, &server, None));
            check_server(subject, &server, &[], report);
        }
        Found::Member { instance, cluster } => {
            report.add(judge_server(subject, &cluster, Some(&instance)));
            check_server(subject, &cluster, std::slice::from_ref(&*instance), report);
        }
        Found::Proxy(proxy) => {
            report.add(judge_proxy(subject, &proxy));
            check_proxy_policy(subject, &proxy, report);
        }
        Found::Missing(what) => {
            report.add(databases::missing(&what, &subject.identity.account, subject.session.region()));
        }
        Found::NotLookedUp(why) if Kind::of(host) == Kind::Dsql => {
            report.add(Finding::ok("database", why));
            let cluster = host.split('.').next().unwrap_or_default();
            let region = subject.session.region();
            let need = Need::dsql(subject.identity, region, cluster, subject.context.user());
            subject.check_policy(&need, Vec::new, report);
        }
        Found::NotLookedUp(why) => report.add(Finding::unknown("database", why)),
    }
}

/// Policy, metrics and log. `members` are the instances of the cluster that are known already.
fn check_server(subject: &Subject<'_>, server: &DbServer, members: &[DbServer], report: &mut Report) {
    let need = subject.need(&server.resource_id);
    subject.check_policy(&need, || server_mistakes(subject, &need, server, members), report);
    let was_refused = report.was_refused();
    activity::check(subject.session, server, subject.context.user(), was_refused, report);
}

/// Instances of a cluster that are looked up for their resource ids.
const MOST_MEMBERS: usize = 5;

fn server_mistakes(subject: &Subject<'_>, need: &Need, server: &DbServer, members: &[DbServer]) -> Vec<NearMiss> {
    let mut mistakes = policy::common_mistakes(need, &server.identifier, &server.master_user);
    let others = server.members.iter().filter(|name| members.iter().all(|known| known.identifier != **name));
    let looked_up: Vec<DbServer> = others
        .take(MOST_MEMBERS)
        .filter_map(|name| databases::instance(subject.session, name).ok().flatten())
        .collect();
    for instance in members.iter().chain(&looked_up) {
        let of_instance = [
            (&instance.resource_id, format!("the resource id of the instance {}", instance.identifier)),
            (&instance.identifier, format!("the name of the instance {}", instance.identifier)),
        ];
        mistakes.extend(of_instance.map(|(id, what)| NearMiss {
            cause: "policy-instance-of-cluster",
            resource: subject.need(id).resource,
            mistake: format!("{what} in place of that of its cluster, {}", server.resource_id),
        }));
    }
    mistakes
}

fn judge_server(subject: &Subject<'_>, server: &DbServer, member: Option<&DbServer>) -> Finding {
    let fail = |cause, text: String, remedy: String| Finding::fail("database", cause, text, remedy);
    let what = server.describe(member);
    let enable = || format!("{}\n{}", server.enable(subject.session.region()), subject.context.command("pgiam setup"));
    if let Some(finding) =
        [member, Some(server)].into_iter().flatten().find_map(|it| it.obstacle(subject.session.region()))
    {
        return finding;
    }
    match (server.iam_enabled, server.iam_pending) {
        (false, Some(true)) => fail(
            "iam-pending",
            format!("{what}: IAM authentication is pending until the next maintenance window"),
            enable(),
        ),
        (false, _) => fail("iam-off", format!("{what}: IAM authentication is off"), enable()),
        (true, pending) => {
            let port = member.unwrap_or(server).port;
            let signed = subject.context.endpoint.port;
            match port {
                Some(port) if port != signed => fail(
                    "other-port",
                    format!("{what} has port {port}, but the token is signed for port {signed}"),
                    on_port(subject.context, port),
                ),
                _ => {
                    let ends = if pending == Some(false) { "; switching it off is pending" } else { "" };
                    let id = &server.resource_id;
                    Finding::ok("database", format!("{what}: IAM authentication is on, resource id {id}{ends}"))
                }
            }
        }
    }
}

/// The doctor's own command with another port.
fn on_port(context: &Context<'_>, port: u16) -> String {
    if context.endpoint.port == context.host.port {
        context.command_to(Target { port, ..context.target() }, "pgiam doctor", &[])
    } else {
        context.command_with("pgiam doctor", &[("iam_port", &port.to_string())])
    }
}

fn judge_proxy(subject: &Subject<'_>, proxy: &DbProxy) -> Finding {
    let name = shell::quoted(&proxy.name);
    let fail = |cause, text: String, command: String| Finding::fail("database", cause, text, subject.rds(&command));
    if proxy.status != "available" {
        let text = format!("proxy {} is {}", proxy.name, proxy.status);
        return fail("database-not-ready", text, format!("describe-db-proxies --db-proxy-name {name}"));
    }
    let disabled = proxy.secrets.iter().filter(|secret| secret.iam_auth == "DISABLED").count();
    let all = proxy.secrets.len();
    if !proxy.is_end_to_end() && disabled == all {
        let text = format!("proxy {} does not accept IAM authentication", proxy.name);
        return Finding::fail("database", "proxy-iam-off", text, proxy.require_iam(subject.session.region()));
    }
    let is_usable = |state: &str| state.is_empty() || state == "AVAILABLE";
    if let Some(target) = proxy.targets.iter().find(|target| !is_usable(&target.state)) {
        let reason = target.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let text = format!("proxy {} cannot use {} ({}){reason}", proxy.name, target.identifier, target.state);
        return fail("proxy-target", text, format!("describe-db-proxy-targets --db-proxy-name {name}"));
    }
    let user = subject.context.user();
    let behind = if proxy.is_end_to_end() {
        String::new()
    } else {
        format!(". It logs in with a password of Secrets Manager: {user} needs a secret, and must not have rds_iam")
    };
    // Which user a secret is for stands in the secret, which only the proxy reads.
    let refused = match disabled {
        0 => String::new(),
        _ => format!(". IAMAuth is DISABLED for {disabled} of {all} secrets, whose users cannot log in with a token"),
    };
    let id = &proxy.resource_id;
    Finding::ok(
        "database",
        format!("proxy {}: IAM authentication is on, resource id {id}{behind}{refused}", proxy.name),
    )
}

fn check_proxy_policy(subject: &Subject<'_>, proxy: &DbProxy, report: &mut Report) {
    let need = subject.need(&proxy.resource_id);
    let mistakes = || {
        let mut mistakes = policy::common_mistakes(&need, &proxy.name, "");
        for target in &proxy.targets {
            let looked_up = databases::instance(subject.session, &target.identifier).ok().flatten();
            let id = looked_up.map(|instance| instance.resource_id);
            mistakes.extend(id.into_iter().chain([target.identifier.clone()]).map(|id| NearMiss {
                cause: "policy-database-of-proxy",
                resource: subject.need(&id).resource,
                mistake: format!("the database behind the proxy in place of the proxy's {}", proxy.resource_id),
            }));
        }
        mistakes
    };
    subject.check_policy(&need, mistakes, report);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::login::report::Outcome;

    #[test]
    fn a_clock_that_is_five_minutes_off_is_the_reason() {
        for (ahead, outcome) in
            [(0, Outcome::Ok), (-1, Outcome::Ok), (120, Outcome::Ok), (300, Outcome::Fail), (-86_400, Outcome::Fail)]
        {
            assert_eq!(judge_clock(ahead).outcome, outcome, "{ahead}");
        }
        assert!(judge_clock(-400).text.contains("400 seconds behind"));
    }
}
