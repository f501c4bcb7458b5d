//! The connection's settings: those with which libpq would not send a token, or would send it in clear.

use pgiam_libpq::rules::{Mode, SENTINEL};

use crate::connection::Given;
use crate::login::Context;
use crate::login::report::{Finding, Report};

/// Checks the settings; one finding for each that prevents the login.
pub(crate) fn check(context: &Context<'_>, report: &mut Report) {
    let findings = [
        off(context),
        sslmode(context),
        password(context),
        passfile(context),
        channel_binding(context),
        require_auth(context),
    ];
    let mut found = findings.into_iter().flatten().peekable();
    if found.peek().is_none() {
        let given = |given: Option<&Given>| given.map_or("not set", |given| given.value.as_str()).to_owned();
        let (mode, root) = (given(context.connection.given_sslmode()), given(context.connection.sslrootcert.as_ref()));
        report.add(Finding::ok("settings", format!("sslmode {mode}, sslrootcert {root}, no other password")));
    }
    found.for_each(|finding| report.add(finding));
}

fn off(context: &Context<'_>) -> Option<Finding> {
    (context.connection.own.mode == Mode::Off).then(|| {
        let text = "PGIAM=off: pgiam makes no tokens for this connection";
        Finding::fail("settings", "off", text, context.without("iam"))
    })
}

fn sslmode(context: &Context<'_>) -> Option<Finding> {
    let error = context.connection.required_sslmode().err()?;
    let text = format!("{error}. The server refuses members of rds_iam without TLS");
    let remedy = context.command_with("psql-iam", &[("sslmode", "require")]);
    Some(Finding::fail("settings", "no-tls", text, remedy))
}

fn password(context: &Context<'_>) -> Option<Finding> {
    let fail = |text: String, remedy: String| Some(Finding::fail("settings", "password", text, remedy));
    if let Err(error) = context.connection.check_token_is_safe()
        && context.connection.required_sslmode().is_ok()
    {
        return fail(error.to_string(), context.command("psql-iam"));
    }
    let variable = context.surroundings.environment.get("PGPASSWORD").ok().flatten()?;
    match variable.as_str() {
        "" | SENTINEL => None,
        text if text.contains("X-Amz-") || text.contains("Action=") => fail(
            "PGPASSWORD has a token, which is used instead of a fresh one; the first command checks that token"
                .to_owned(),
            format!("printenv PGPASSWORD | {} --token -\nunset PGPASSWORD", context.command("pgiam doctor")),
        ),
        _ => fail("PGPASSWORD is set and is used instead of a token".to_owned(), "unset PGPASSWORD".to_owned()),
    }
}

/// A password file that would be read in place of the one with the token.
fn passfile(context: &Context<'_>) -> Option<Finding> {
    let source = context.connection.passfile.as_ref()?;
    let text = format!("{source} has passfile, which would be read instead of the password file with the token");
    Some(Finding::fail("settings", "password", text, context.remove("passfile", source)))
}

/// A token is a clear-text password, which has no channel binding.
fn channel_binding(context: &Context<'_>) -> Option<Finding> {
    let given = context.connection.channel_binding.as_ref().filter(|given| given.value == "require")?;
    let text = format!(
        "channel_binding=require in {}: libpq sends no clear-text password then, and a token is one",
        given.source
    );
    Some(Finding::fail("settings", "channel-binding", text, context.remove("channel_binding", &given.source)))
}

fn require_auth(context: &Context<'_>) -> Option<Finding> {
    let given = context.connection.require_auth.as_ref().filter(|given| !allows_password(&given.value))?;
    let text = format!(
        "require_auth={} in {} does not allow password, and a token is a clear-text password",
        given.value, given.source
    );
    Some(Finding::fail("settings", "require-auth", text, context.remove("require_auth", &given.source)))
}

/// Whether `require_auth` allows clear-text passwords: a list of methods, or of methods with `!` that are excluded.
fn allows_password(value: &str) -> bool {
    let methods: Vec<&str> = value.split(',').map(str::trim).filter(|method| !method.is_empty()).collect();
    match methods.first() {
        None => true,
        Some(first) if first.starts_with('!') => !methods.contains(&"!password"),
        Some(_) => methods.contains(&"password"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn require_auth_must_not_exclude_clear_text_passwords() {
        for (value, expected) in [
            ("", true),
            ("password", true),
            ("scram-sha-256,password", true),
            ("!gss,!sspi", true),
            ("scram-sha-256", false),
            ("!password, !gss", false),
            ("none", false),
        ] {
            assert_eq!(allows_password(value), expected, "{value}");
        }
    }
}
