//! Roles and memberships, by a query of an administrator: `--admin CONNINFO` is passed to psql, its password by `PGPASSWORD`;
//! without one, psql finds its password as always. The query reads the catalogs only.

use std::io::Write;
use std::process::{Command, Stdio};

use pgiam_libpq::conninfo::{self, Parameters};
use serde_json::Value;

use super::report::{Finding, Report};
use super::{Context, Target, hint};
use crate::failure::Failure;
use crate::shell;
use zeroize::Zeroizing;

/// One row with one JSON object. `memberships`: the paths from the user to rds_iam and rds_ad. `others`: the paths of other
/// login roles that are members of rds_iam only by way of the user.
const QUERY: &str = r"
WITH RECURSIVE path(start, role, names) AS (
    SELECT oid, oid, ARRAY[rolname::text] FROM pg_catalog.pg_roles
  UNION ALL
    SELECT path.start, m.roleid, path.names || r.rolname::text
    FROM path JOIN pg_catalog.pg_auth_members m ON m.member = path.role JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
    WHERE r.rolname <> ALL (path.names)
), found AS (
    SELECT s.rolname::text AS start, s.rolcanlogin, t.rolname::text AS role, path.names
    FROM path JOIN pg_catalog.pg_roles s ON s.oid = path.start JOIN pg_catalog.pg_roles t ON t.oid = path.role
    WHERE t.rolname IN ('rds_iam', 'rds_ad') AND path.start <> path.role
)
SELECT pg_catalog.json_build_object(
    'groups', (SELECT pg_catalog.json_agg(rolname) FROM pg_catalog.pg_roles WHERE rolname IN ('rds_iam', 'rds_ad')),
    'role', (SELECT pg_catalog.json_build_object('login', rolcanlogin)
                 FROM pg_catalog.pg_roles WHERE rolname = :'user'),
    'similar', (SELECT rolname FROM pg_catalog.pg_roles
                WHERE pg_catalog.lower(rolname) = pg_catalog.lower(:'user') AND rolname <> :'user' LIMIT 1),
    'memberships', (SELECT pg_catalog.json_agg(names) FROM found WHERE start = :'user'),
    'others', (SELECT pg_catalog.json_agg(names) FROM found WHERE start <> :'user' AND :'user' = ANY (names)
                   AND rolcanlogin AND role = 'rds_iam')
);
";

/// The administrator's connection.
pub(crate) struct Login {
    /// Without the password.
    parameters: Parameters,
    password: Option<Zeroizing<String>>,
}

impl Login {
    /// Parses `--admin`. The error does not contain the text, which may have a password.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let parameters = Some(text).filter(|text| conninfo::is_connection_string(text)).and_then(hint::parse);
        let mut parameters = parameters.ok_or_else(|| {
            Failure::usage(
                "--admin is not a valid conninfo string or postgresql:// URI; quote values that contain spaces, and in a \
                 URI write '@' and '/' of a password as %40 and %2F",
            )
        })?;
        Ok(Self { password: parameters.remove("password"), parameters })
    }

    /// For commands to copy: without secrets.
    pub(crate) fn shown(&self) -> String {
        hint::shown(&self.parameters)
    }
}

/// Looks up the user's role and adds what it finds.
pub(crate) fn check(admin: &Login, context: &Context<'_>, report: &mut Report) {
    match query(admin, context) {
        Err(why) => report.add(Finding::unknown("roles", format!("--admin: {why}"))),
        Ok(roles) => findings(&roles, context).into_iter().for_each(|finding| report.add(finding)),
    }
}

fn query(admin: &Login, context: &Context<'_>) -> Result<Value, String> {
    let (user, conninfo) = (format!("user={}", context.user()), shell::conninfo(&admin.parameters));
    let has_timeout = context.surroundings.environment.has("PGCONNECT_TIMEOUT");
    let mut psql = Command::new("psql")
        .args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-v", &user, "-f", "-", "-d", &conninfo])
        .envs(admin.password.as_ref().map(|password| ("PGPASSWORD", password.as_str())))
        .envs((!has_timeout).then_some(("PGCONNECT_TIMEOUT", "10")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run psql: {error}"))?;
    if let Some(mut input) = psql.stdin.take() {
        // psql reports it if it cannot connect.
        let _ = input.write_all(QUERY.as_bytes());
    }
    let output = psql.wait_with_output().map_err(|error| format!("psql: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let first = words.lines().find(|line| !line.is_empty()).unwrap_or("psql: failed");
        return Err(first.replacen("psql: error: ", "psql: ", 1));
    }
    serde_json::from_slice(&output.stdout).map_err(|_| "psql: the result is not JSON".to_owned())
}

/// The role names from a member to the group.
type Path = Vec<String>;

fn paths(value: &Value) -> Vec<Path> {
    let path = |names: &Value| -> Path {
        names.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    value.as_array().into_iter().flatten().map(path).collect()
}

fn findings(roles: &Value, context: &Context<'_>) -> Vec<Finding> {
    let user = context.user();
    let role = shell::identifier(user);
    let memberships = paths(&roles["memberships"]);
    let to = |group: &str| {
        memberships.iter().filter(|path| path.last().is_some_and(|last| last == group)).min_by_key(|path| path.len())
    };
    let group_exists =
        |group: &str| roles["groups"].as_array().is_some_and(|groups| groups.iter().any(|name| name == group));
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
    match to("rds_iam") {
        Some(path) if path.len() == 2 => found.push(Finding::ok("roles", format!("{user} was granted rds_iam"))),
        Some(path) => found.push(Finding::ok(
            "roles",
            format!("{user} is a member of rds_iam indirectly: {}; only a token logs it in", path.join(" -> ")),
        )),
        None if group_exists("rds_iam") => found.push(fail(
            "not-granted",
            format!("the role {user} exists, but was not granted rds_iam"),
            &format!("GRANT rds_iam TO {role}"),
        )),
        None => found.push(Finding::unknown("roles", "there is no role rds_iam: this server is not RDS or Aurora")),
    }
    if let Some(path) = to("rds_ad") {
        let member = path.iter().rev().nth(1).map_or(user, String::as_str);
        let text = format!("{user} is a member of rds_ad, which takes precedence over rds_iam: {}", path.join(" -> "));
        found.push(fail("rds-ad", text, &format!("REVOKE rds_ad FROM {}", shell::identifier(member))));
    }
    found.extend(paths(&roles["others"]).iter().map(|path| indirect_member(path, context)));
    found
}

/// A role whose password is refused because the user was granted rds_iam.
fn indirect_member(path: &Path, context: &Context<'_>) -> Finding {
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
