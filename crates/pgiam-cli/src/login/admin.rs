//! psql with the connection of an administrator: `--admin CONNINFO` is passed to psql, its password by `PGPASSWORD`; without
//! one, psql finds its password as always. [`ROLES`] reads the catalogs only.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pgiam_libpq::conninfo::{self, Parameters};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Context, hint};
use crate::failure::Failure;
use crate::shell;

/// One row with one JSON object. `memberships`: the paths from the user to rds_iam and rds_ad. `members`: the paths of other
/// login roles to the user. `admin`: who asks.
const ROLES: &str = r"
WITH RECURSIVE path(start, role, names) AS (
    SELECT oid, oid, ARRAY[rolname::text] FROM pg_catalog.pg_roles
  UNION ALL
    SELECT path.start, m.roleid, path.names || r.rolname::text
    FROM path JOIN pg_catalog.pg_auth_members m ON m.member = path.role JOIN pg_catalog.pg_roles r ON r.oid = m.roleid
    WHERE r.rolname <> ALL (path.names)
), found AS (
    SELECT s.rolname::text AS start, s.rolcanlogin, t.rolname::text AS role, path.names
    FROM path JOIN pg_catalog.pg_roles s ON s.oid = path.start JOIN pg_catalog.pg_roles t ON t.oid = path.role
    WHERE t.rolname IN ('rds_iam', 'rds_ad', :'user') AND path.start <> path.role
)
SELECT pg_catalog.json_build_object(
    'groups', (SELECT pg_catalog.json_agg(rolname) FROM pg_catalog.pg_roles WHERE rolname IN ('rds_iam', 'rds_ad')),
    'role', (SELECT pg_catalog.json_build_object('login', rolcanlogin)
                 FROM pg_catalog.pg_roles WHERE rolname = :'user'),
    'similar', (SELECT rolname FROM pg_catalog.pg_roles
                WHERE pg_catalog.lower(rolname) = pg_catalog.lower(:'user') AND rolname <> :'user' LIMIT 1),
    'memberships', (SELECT pg_catalog.json_agg(names) FROM found WHERE start = :'user'),
    'members', (SELECT pg_catalog.json_agg(names) FROM found WHERE role = :'user' AND rolcanlogin),
    'version', pg_catalog.current_setting('server_version_num')::int,
    'admin', (SELECT pg_catalog.json_build_object('name', rolname, 'superuser', rolsuper)
                  FROM pg_catalog.pg_roles WHERE rolname = current_user)
);
";

/// Secrets that psql takes in a connection string only; the password has a variable.
const IN_ARGUMENTS: [&str; 4] = ["oauth_client_secret", "scram_client_key", "scram_server_key", "sslpassword"];

/// A connection for psql.
pub(crate) struct Login {
    /// Without the password.
    parameters: Parameters,
    password: Option<Zeroizing<String>>,
}

impl Login {
    pub(crate) fn new(parameters: Parameters, password: Zeroizing<String>) -> Self {
        Self { parameters, password: Some(password) }
    }

    /// Parses `--admin`. The error does not contain the text, which may have a password.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        let parameters = Some(text).filter(|text| conninfo::is_connection_string(text)).and_then(hint::parse);
        let mut parameters = parameters.ok_or_else(|| {
            Failure::usage(
                "--admin is not a valid conninfo string or postgresql:// URI; quote values that contain spaces, and in a \
                 URI write '@' and '/' of a password as %40 and %2F",
            )
        })?;
        if let Some(keyword) = IN_ARGUMENTS.iter().find(|keyword| parameters.contains_key(**keyword)) {
            return Err(Failure::usage(format!(
                "--admin: {keyword} would be in the arguments of psql, which every user of this machine can read; write \
                 it into a service file and pass service=NAME"
            )));
        }
        Ok(Self { password: parameters.remove("password"), parameters })
    }

    /// For commands to copy: without secrets.
    pub(crate) fn shown(&self) -> String {
        hint::shown(&self.parameters)
    }
}

/// A running psql, which keeps its connection until this is dropped.
pub(crate) struct Session {
    psql: Child,
    /// `None`: closed, so that psql ends.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Why a statement was not run.
enum Failed {
    /// The server's words.
    Statement(String),
    /// psql has ended.
    Psql,
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Self {
        Self::Psql
    }
}

/// Ends the output of each statement.
const END: &str = "pgiam:end";

impl Session {
    /// Connects. The error is a phrase.
    pub(crate) fn open(login: &Login, context: &Context<'_>) -> Result<Self, String> {
        let (user, conninfo) = (format!("user={}", context.user()), shell::conninfo(&login.parameters));
        let has_timeout = context.surroundings.environment.has("PGCONNECT_TIMEOUT");
        let mut psql = Command::new("psql")
            .args(["-XAtqw", "-v", &user, "-f", "-", "-d", &conninfo])
            .envs(login.password.as_ref().map(|password| ("PGPASSWORD", password.as_str())))
            .envs((!has_timeout).then_some(("PGCONNECT_TIMEOUT", "10")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run psql: {error}"))?;
        let (input, output) = (psql.stdin.take(), psql.stdout.take().ok_or("psql: no output")?);
        let mut session = Self { psql, input, output: BufReader::new(output) };
        session.run("")?;
        Ok(session)
    }

    /// Runs a statement and returns its rows. The error is a phrase with the server's words.
    pub(crate) fn run(&mut self, statement: &str) -> Result<String, String> {
        self.try_to_run(statement).map_err(|failed| match failed {
            Failed::Statement(words) => format!("psql: {words}"),
            Failed::Psql => self.why_ended(),
        })
    }

    fn try_to_run(&mut self, statement: &str) -> Result<String, Failed> {
        let input = self.input.as_mut().ok_or(Failed::Psql)?;
        writeln!(input, "{statement};\n\\echo {END} :ERROR :LAST_ERROR_MESSAGE")?;
        let mut rows = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line)? == 0 {
                return Err(Failed::Psql);
            }
            let Some(status) = line.strip_prefix(END) else {
                rows.push_str(&line);
                continue;
            };
            return match status.trim().strip_prefix("true") {
                Some(words) => Err(Failed::Statement(words.trim().to_owned())),
                None => Ok(rows),
            };
        }
    }

    /// The first line of what psql printed when it ended.
    fn why_ended(&mut self) -> String {
        self.input = None;
        let mut words = Vec::new();
        if let Some(mut stderr) = self.psql.stderr.take() {
            // What could be read is shown.
            let _ = stderr.read_to_end(&mut words);
        }
        let words = String::from_utf8_lossy(&words);
        let first = words.lines().find(|line| !line.is_empty()).unwrap_or("psql: failed");
        first.replacen("psql: error: ", "psql: ", 1)
    }

    /// What the catalogs say about the user's role.
    pub(crate) fn roles(&mut self) -> Result<Value, String> {
        let rows = self.run(ROLES)?;
        serde_json::from_slice(rows.as_bytes()).map_err(|_| "psql: the result is not JSON".to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.input = None;
        // It ends at the end of its input.
        let _ = self.psql.wait();
    }
}

/// The role names from a member to a group.
pub(crate) type Path = Vec<String>;

/// A list of paths in the result of [`Session::roles`].
pub(crate) fn paths(value: &Value) -> Vec<Path> {
    let path = |names: &Value| -> Path {
        names.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    value.as_array().into_iter().flatten().map(path).collect()
}

/// The shortest path from the user to this group.
pub(crate) fn path_to(roles: &Value, group: &str) -> Option<Path> {
    let paths = paths(&roles["memberships"]).into_iter();
    paths.filter(|path| path.last().is_some_and(|last| last == group)).min_by_key(Vec::len)
}

/// Whether the server has this group.
pub(crate) fn has_group(roles: &Value, group: &str) -> bool {
    roles["groups"].as_array().is_some_and(|groups| groups.iter().any(|name| name == group))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_would_be_in_the_arguments_of_psql_is_refused_and_not_repeated() {
        for keyword in IN_ARGUMENTS {
            let Err(Failure::Usage(message)) = Login::parse(&format!("host=h user=u {keyword}=hush")) else {
                panic!("{keyword} is accepted")
            };
            assert!(message.contains(keyword) && !message.contains("hush"), "{message}");
        }
        assert!(Login::parse("host=h user=u password=hush").is_ok_and(|login| !login.shown().contains("hush")));
    }
}
