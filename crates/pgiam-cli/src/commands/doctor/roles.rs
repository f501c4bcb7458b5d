//! Roles and memberships, as an administrator sees them.

use serde_json::Value;

use crate::login::admin::{Login, Session, has_group, path_to, paths};
use crate::login::report::{Finding, Report};
use crate::login::{Context, Target};
use crate::shell;

/// Looks up the user's role and adds what it finds.
pub(crate) fn check(admin: &Login, context: &Context<'_>, report: &mut Report) {
    match Session::open(admin, context).and_then(|mut session| session.roles()) {
        Err(why) => report.add(Finding::unknown("roles", format!("--admin: {why}"))),
        Ok(roles) => findings(&roles, context).into_iter().for_each(|finding| report.add(finding)),
    }
}

fn findings(roles: &Value, context: &Context<'_>) -> Vec<Finding> {
    let user = context.user();
    let role = shell::identifier(user);
    let fail = |cause, text: String, statement: &str| Finding::fail("roles", cause, text, context.as_admin(statement));
    if roles["role"].is_null() {
        return vec![match roles["similar"].as_str() {
            Some(similar) => Finding::fail(
                "roles",
                "no-role",
                format!("there is no role {user}, but there is {similar}; names are case-sensitive here"),
                context.command_to(Target { user: similar, ..context.target() }, "psql-iam", &[]),
            ),
            None => fail(
                "no-role",
                format!("there is no role {user}"),
                &format!("CREATE USER {role}; GRANT rds_iam TO {role}"),
            ),
        }];
    }
    let mut found = Vec::new();
    if roles["role"]["login"] == false {
        found.push(fail("no-login", format!("the role {user} cannot log in"), &format!("ALTER ROLE {role} LOGIN")));
    }
    let to_rds_iam = path_to(roles, "rds_iam");
    match &to_rds_iam {
        Some(path) if path.len() == 2 => found.push(Finding::ok("roles", format!("{user} was granted rds_iam"))),
        Some(path) => found.push(Finding::ok(
            "roles",
            format!("{user} is a member of rds_iam indirectly: {}; only a token logs it in", path.join(" -> ")),
        )),
        None if has_group(roles, "rds_iam") => found.push(fail(
            "not-granted",
            format!("the role {user} exists, but was not granted rds_iam"),
            &format!("GRANT rds_iam TO {role}"),
        )),
        None => found.push(Finding::unknown("roles", "there is no role rds_iam: this server is not RDS or Aurora")),
    }
    if let Some(path) = path_to(roles, "rds_ad") {
        let member = path.iter().rev().nth(1).map_or(user, String::as_str);
        let text = format!("{user} is a member of rds_ad, which takes precedence over rds_iam: {}", path.join(" -> "));
        found.push(fail("rds-ad", text, &format!("REVOKE rds_ad FROM {}", shell::identifier(member))));
    }
    if let Some(own) = to_rds_iam {
        let members = paths(&roles["members"]).into_iter();
        found.extend(members.map(|path| indirect_member(&[path, own[1..].to_vec()].concat(), context)));
    }
    found
}

/// A role whose password is refused because the user was granted rds_iam.
fn indirect_member(path: &[String], context: &Context<'_>) -> Finding {
    let name = |at: usize| path.get(at).map_or("", String::as_str);
    let text = format!(
        "{} is a member of rds_iam indirectly: {}. Its password is refused, only a token logs it in. If the server does \
         not permit this REVOKE (PostgreSQL 16 makes who creates a role a member of it), let it log in with a token",
        name(0),
        path.join(" -> ")
    );
    let statement = format!("REVOKE {} FROM {}", shell::identifier(name(1)), shell::identifier(name(0)));
    Finding::fail("roles", "indirect-member", text, context.as_admin(&statement))
}
