//! The token: makes one, or takes one that was made elsewhere, and compares its fields with the connection.
//!
//! A token is `HOST:PORT/?Action=connect&DBUser=…&X-Amz-…`, a presigned URL without its scheme; one for Aurora DSQL has
//! neither port nor `DBUser`. Signature, session token and the token as a whole are never shown.

use percent_encoding::percent_decode_str;
use pgiam_core::{ErrorKind, LIFETIME_SECONDS, TokenRequest, parse_rfc3339, rfc3339};
use zeroize::Zeroizing;

use crate::login::Context;
use crate::login::name::{Kind, normalized, region_of};
use crate::login::report::{Finding, Report};
use crate::shell;

/// Servers accept a clock that is this much ahead.
const CLOCK_SKEW: i64 = 300;

/// Makes a token, or takes the given one, and judges it. `None`: there is no token to log in with.
pub(crate) fn check(context: &Context<'_>, given: Option<&str>, report: &mut Report) -> Option<Zeroizing<String>> {
    let token = match given {
        Some(given) => Zeroizing::new(given.to_owned()),
        None => make(context, report)?,
    };
    let region = context.region();
    let expected = Expected {
        host: &normalized(&context.endpoint.host),
        port: context.endpoint.port,
        user: context.user(),
        region: region.as_deref(),
        is_dsql: context.kind() == Kind::Dsql,
    };
    let text = without_final_newline(&token);
    let problems = judge(text, &expected, context.now);
    let own_port = if given.is_none() { signed_for_another_port(context) } else { None };
    if problems.is_empty() && own_port.is_none() {
        report.add(Finding::ok("token", summary(text)));
    }
    for Problem { cause, text } in problems {
        report.add(Finding::fail("token", cause, text, remedy(context)));
    }
    own_port.into_iter().for_each(|finding| report.add(finding));
    Some(Zeroizing::new(text.to_owned()))
}

fn make(context: &Context<'_>, report: &mut Report) -> Option<Zeroizing<String>> {
    let (host, own) = (&context.endpoint.host, &context.connection.own);
    if !context.kind().is_endpoint() && !own.gets_token(context.host.index, host) {
        report.add(Finding::unknown("token", format!("not made, because {host} is not the name of an endpoint")));
        return None;
    }
    report.begin("making a token");
    let request = TokenRequest {
        host,
        port: context.endpoint.port.into(),
        region: context.given_region.as_deref(),
        user: context.user(),
    };
    match context.client.generate_token(&request) {
        Ok(token) => Some(token.into_text()),
        Err(_) if report.has_cause("no-credentials") => {
            report.add(Finding::unknown("token", "not made, because there are no credentials"));
            None
        }
        Err(error) => {
            let cause = if error.kind() == ErrorKind::NoRegion { "no-region" } else { "no-token" };
            report.add(Finding::fail("token", cause, error.message(), remedy(context)));
            None
        }
    }
}

fn remedy(context: &Context<'_>) -> String {
    let endpoint = &context.endpoint;
    let has_region = region_of(&endpoint.host).is_some();
    let setting = context.connection.own.region.as_ref();
    let (region, unset) = match setting {
        // The flag -r is among the flags.
        Some(region) if !has_region && context.region_flag.is_none() => (format!(" -r {}", shell::quoted(region)), ""),
        Some(_) if has_region && context.surroundings.environment.has("PGIAM_REGION") => {
            (String::new(), "unset PGIAM_REGION\n")
        }
        _ => (String::new(), ""),
    };
    let profile = context.profile.as_ref().filter(|profile| context.connection.own.profile.as_ref() == Some(profile));
    let profile = profile.filter(|_| !context.flags().contains(" --profile "));
    let profile = profile.map(|profile| format!(" --profile {}", shell::quoted(profile))).unwrap_or_default();
    format!(
        "{unset}pgiam token -h {} -p {} -U {}{region}{}{profile}",
        shell::quoted(&endpoint.host),
        endpoint.port,
        shell::quoted(context.user()),
        context.flags()
    )
}

/// Without a tunnel the port that is signed must be the one to connect to.
fn signed_for_another_port(context: &Context<'_>) -> Option<Finding> {
    let (host, endpoint) = (&context.host, &context.endpoint);
    let direct = normalized(&host.name) == normalized(&endpoint.host) && context.connection.only_address().is_none();
    (direct && host.port != endpoint.port && context.kind() != Kind::Dsql).then(|| {
        let text = format!("signed for port {}, but the connection goes to port {}", endpoint.port, host.port);
        Finding::fail("token", "token-other-port", text, context.without("iam_port"))
    })
}

/// The access key id in a token.
pub(super) fn key_of(token: &str) -> Option<String> {
    Fields::of(token)?.scope().map(|[key, ..]| key.to_owned())
}

/// `aws rds generate-db-auth-token` and `echo` end their output with one.
fn without_final_newline(text: &str) -> &str {
    text.strip_suffix('\n').unwrap_or(text)
}

/// What a token should be for.
struct Expected<'a> {
    host: &'a str,
    port: u16,
    user: &'a str,
    /// `None`: not known.
    region: Option<&'a str>,
    is_dsql: bool,
}

/// What is wrong with a token.
#[derive(Debug, PartialEq, Eq)]
struct Problem {
    cause: &'static str,
    text: String,
}

/// The fields of a token.
struct Fields<'a> {
    /// `HOST:PORT`, or `HOST`.
    address: &'a str,
    parameters: Vec<(String, String)>,
}

impl<'a> Fields<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let (address, query) = token.split_once("/?").or_else(|| token.split_once('?'))?;
        let parameters = query.split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (name.to_owned(), percent_decode_str(value).decode_utf8_lossy().into_owned())
        });
        Some(Self { address, parameters: parameters.collect() })
    }

    fn are_of_a_token(&self) -> bool {
        self.parameters.iter().any(|(name, _)| name == "Action" || name.starts_with("X-Amz-"))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// `HOST`, `PORT`.
    fn host_and_port(&self) -> (&str, Option<&str>) {
        self.address.split_once(':').map_or((self.address, None), |(host, port)| (host, Some(port)))
    }

    /// Access key id, date, region and service of the credential scope.
    fn scope(&self) -> Option<[&str; 4]> {
        let mut parts = self.get("X-Amz-Credential")?.split('/');
        let scope = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        (parts.next() == Some("aws4_request")).then_some(scope)
    }

    /// When it was signed, in Unix seconds.
    fn signed_at(&self) -> Option<i64> {
        let date = self.get("X-Amz-Date").filter(|date| date.len() == 16 && date.is_ascii())?;
        let part = |from, to| date.get(from..to).unwrap_or_default();
        let (day, time) = (
            format!("{}-{}-{}", part(0, 4), part(4, 6), part(6, 8)),
            format!("{}:{}:{}", part(9, 11), part(11, 13), part(13, 15)),
        );
        parse_rfc3339(&format!("{day}T{time}Z"))
    }

    fn lifetime(&self) -> Option<i64> {
        self.get("X-Amz-Expires")?.parse().ok()
    }
}

/// What the token is for, without its secrets.
fn summary(token: &str) -> String {
    let Some(fields) = Fields::of(token) else { return String::new() };
    let user = fields.get("DBUser").map(|user| format!(", user {user}")).unwrap_or_default();
    let [key, _, region, service] = fields.scope().unwrap_or_default();
    let until = fields.signed_at().zip(fields.lifetime()).map(|(at, lifetime)| rfc3339(at.saturating_add(lifetime)));
    let until = until.map(|until| format!(", valid until {until}")).unwrap_or_default();
    format!("signed for {}{user}, {service} in {region}, by key {key}{until}, {} bytes", fields.address, token.len())
}

/// What is wrong with a token. How it is written comes first: if it is cut or encoded, its fields are judged as far as they
/// can be read.
fn judge(token: &str, expected: &Expected<'_>, now: i64) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |cause, text: String| problems.push(Problem { cause, text });
    let mut text = token;
    if text.trim() != text || text.contains(char::is_whitespace) {
        wrong(
            "token-white-space",
            "it has white space or a line break in it or around it, which is sent as part of the password".to_owned(),
        );
        text = text.trim();
    }
    for quote in ['"', '\''] {
        if let Some(inner) = text.strip_prefix(quote) {
            wrong("token-quoted", "it is in quotation marks, which are sent as part of the password".to_owned());
            text = inner.strip_suffix(quote).unwrap_or(inner);
        }
    }
    let decoded;
    let encoded = |text: &str| text.contains("%3FAction%3D") || text.contains("%3FX-Amz") || text.contains("%26X-Amz");
    if encoded(text) {
        wrong(
            "token-url-encoded",
            "it is percent-encoded as a whole, which is right inside a postgresql:// URI only; anywhere else use it as it \
             was made"
                .to_owned(),
        );
        decoded = percent_decode_str(text).decode_utf8_lossy();
        text = &decoded;
    }
    for scheme in ["https://", "http://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            wrong("token-scheme", format!("it begins with {scheme}; a token begins with the host"));
            text = rest;
        }
    }
    let Some(fields) = Fields::of(text).filter(Fields::are_of_a_token) else {
        let what = if text.is_empty() { "it is empty" } else { "it is not a token: HOST:PORT/?Action=connect&…" };
        return vec![Problem { cause: "not-a-token", text: what.to_owned() }];
    };
    problems.extend(judge_fields(&fields, text, expected, now));
    problems
}

/// Whether the end is missing. The signature is the last field, or almost: 64 hexadecimal digits.
fn is_cut(fields: &Fields<'_>) -> bool {
    fields.get("X-Amz-Signature").is_none_or(|signature| signature.len() < 64)
}

fn judge_fields(fields: &Fields<'_>, text: &str, expected: &Expected<'_>, now: i64) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut wrong = |cause, text: String| problems.push(Problem { cause, text });
    let length = text.len();
    if is_cut(fields) && !text.contains("&amp;") {
        wrong(
            "token-cut",
            format!("it is cut after {length} bytes: the signature at its end is missing{}", cutter(length)),
        );
    }
    if text.contains("&amp;") {
        wrong("not-a-token", "each '&' in it is written as '&amp;', as in HTML".to_owned());
        return problems;
    }
    let required = ["Action", "DBUser", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires"];
    let is_required = |name: &&str| *name != "DBUser" || !expected.is_dsql;
    let missing: Vec<&str> =
        required.into_iter().filter(is_required).filter(|name| fields.get(name).is_none_or(str::is_empty)).collect();
    if !missing.is_empty() && !is_cut(fields) {
        wrong("not-a-token", format!("{} missing", missing.join(", ")));
    }
    let (host, port) = fields.host_and_port();
    if host.to_ascii_lowercase().trim_end_matches('.') != expected.host {
        wrong("token-other-host", format!("signed for host {host}, but the endpoint is {}", expected.host));
    } else if host != expected.host {
        wrong("token-other-host", format!("signed for host {host}; write it in lower case: {}", expected.host));
    }
    if !expected.is_dsql && port != Some(&expected.port.to_string()) {
        let port = port.map_or("no port".to_owned(), |port| format!("port {port}"));
        wrong("token-other-port", format!("signed for {port}, but the endpoint has port {}", expected.port));
    }
    match fields.get("DBUser") {
        Some(user) if user != expected.user => {
            wrong("token-other-user", format!("signed for user {user}, but the connection is for {}", expected.user));
        }
        _ => {}
    }
    if let Some([key, date, region, service]) = fields.scope() {
        if expected.region.is_some_and(|expected| expected != region) {
            let expected = expected.region.unwrap_or_default();
            wrong("token-other-region", format!("signed for region {region}, but the endpoint is in {expected}"));
        }
        let right = if expected.is_dsql { "dsql" } else { "rds-db" };
        if service != right {
            wrong("token-other-service", format!("signed for service {service}, but the endpoint needs {right}"));
        }
        if key.starts_with("ASIA") && fields.get("X-Amz-Security-Token").is_none_or(str::is_empty) && !is_cut(fields) {
            wrong(
                "token-no-session-token",
                format!("key {key} is temporary, but X-Amz-Security-Token is missing; set AWS_SESSION_TOKEN to sign"),
            );
        }
        if fields.get("X-Amz-Date").is_some_and(|at| !at.is_empty() && !at.starts_with(date)) {
            wrong("not-a-token", "X-Amz-Date and the date in X-Amz-Credential differ".to_owned());
        }
    }
    let action = match (expected.is_dsql, expected.user) {
        (false, _) => "connect",
        (true, "admin") => "DbConnectAdmin",
        (true, _) => "DbConnect",
    };
    if let Some(given) = fields.get("Action").filter(|given| *given != action) {
        wrong("token-other-action", format!("its action is {given}, but {} needs {action}", expected.user));
    }
    problems.extend(judge_time(fields, now));
    problems
}

fn judge_time(fields: &Fields<'_>, now: i64) -> Option<Problem> {
    let unreadable = |name: &str| fields.get(name).map(|_| format!("{name} cannot be read"));
    let (Some(signed_at), Some(lifetime)) = (fields.signed_at(), fields.lifetime()) else {
        let name = if fields.signed_at().is_none() { "X-Amz-Date" } else { "X-Amz-Expires" };
        let text =
            unreadable(name).filter(|_| !is_cut(fields) && fields.get(name).is_some_and(|value| !value.is_empty()));
        return text.map(|text| Problem { cause: "not-a-token", text });
    };
    let end = signed_at.saturating_add(lifetime.min(LIFETIME_SECONDS));
    let problem = |cause, text| Some(Problem { cause, text });
    if lifetime > LIFETIME_SECONDS {
        return problem("token-lifetime", format!("X-Amz-Expires is {lifetime}; more than 900 seconds are refused"));
    }
    if end <= now {
        let ago = now - end;
        return problem("token-expired", format!("it expired at {}, {ago} seconds ago", rfc3339(end)));
    }
    if signed_at > now + CLOCK_SKEW {
        let text =
            format!("signed at {}, which is in the future: the clock where it was made is wrong", rfc3339(signed_at));
        return problem("token-future", text);
    }
    None
}

/// Who is known to cut passwords at this length.
fn cutter(length: usize) -> &'static str {
    match length {
        200..=319 => "; libpq before 14 reads 319 bytes of a line of a password file",
        511 => "; pam_exec passes 511 bytes",
        999..=1000 => "; PostgreSQL before 14 takes 1,000 bytes of password",
        2046..=2047 => "; PgBouncer before 1.19 takes 2,047 bytes of password",
        4095 => "; a terminal takes 4,095 bytes of a line",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "orders-prod.c9akciq32rpa.eu-central-1.rds.amazonaws.com";
    const SIGNED_AT: i64 = 1_724_709_600;

    fn token() -> String {
        format!(
            "{HOST}:5432/?Action=connect&DBUser=jane%40corp.com&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=\
             AKIAIOSFODNN7EXAMPLE%2F20240826%2Feu-central-1%2Frds-db%2Faws4_request&X-Amz-Date=20240826T220000Z&X-Amz-Expires=\
             900&X-Amz-SignedHeaders=host&X-Amz-Signature={}",
            "0f".repeat(32)
        )
    }

    fn causes_of(token: &str) -> Vec<&'static str> {
        let region = Some("eu-central-1");
        let expected = Expected { host: HOST, port: 5432, user: "jane@corp.com", region, is_dsql: false };
        judge(token, &expected, SIGNED_AT + 10).into_iter().map(|problem| problem.cause).collect()
    }

    #[test]
    fn nothing_is_wrong_with_the_right_token() {
        assert_eq!(causes_of(&token()), Vec::<&str>::new());
        let summary = summary(&token());
        assert!(summary.contains("user jane@corp.com") && summary.contains("until 2024-08-26T22:15:00Z"), "{summary}");
        assert!(!summary.contains("0f0f"), "no signature: {summary}");
    }

    #[test]
    fn a_field_that_is_not_of_this_connection_is_named() {
        for (from, to, cause) in [
            ("orders-prod.", "orders-test.", "token-other-host"),
            ("orders-prod.", "Orders-Prod.", "token-other-host"),
            (":5432/", ":5433/", "token-other-port"),
            ("DBUser=jane", "DBUser=john", "token-other-user"),
            ("%2Feu-central-1%2F", "%2Feu-west-1%2F", "token-other-region"),
            ("%2Frds-db%2F", "%2Frds%2F", "token-other-service"),
            ("=AKIA", "=ASIA", "token-no-session-token"),
            ("Expires=900", "Expires=3600", "token-lifetime"),
            ("20240826T220000Z", "20240826T214000Z", "token-expired"),
            ("20240826T220000Z", "20240826T230000Z", "token-future"),
            ("Action=connect", "Action=DbConnect", "token-other-action"),
        ] {
            assert!(token().contains(from), "{from}");
            assert_eq!(causes_of(&token().replace(from, to)), [cause], "{to}");
        }
    }

    #[test]
    fn each_missing_field_of_a_token_is_a_problem() {
        for name in ["Action", "DBUser", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires"] {
            let token = token();
            let (address, query) = token.split_once('?').unwrap();
            let without = |pair: &&str| !pair.starts_with(&format!("{name}="));
            let rest: Vec<&str> = query.split('&').filter(without).collect();
            assert_eq!(causes_of(&format!("{address}?{}", rest.join("&"))), ["not-a-token"], "{name}");
            let empty: Vec<String> = query
                .split('&')
                .map(|pair| if without(&pair) { pair.to_owned() } else { format!("{name}=") })
                .collect();
            assert!(causes_of(&format!("{address}?{}", empty.join("&"))).contains(&"not-a-token"), "{name}");
        }
        assert_eq!(causes_of(&token().replace("X-Amz-Date=2024", "X-Amz-Date=x024")).first(), Some(&"not-a-token"));
        assert_eq!(causes_of(&token().replace("Expires=900", "Expires=soon")), ["not-a-token"]);
    }

    #[test]
    fn how_a_token_was_damaged_is_named() {
        let right = token();
        let encoded: String = right
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        for (damaged, cause) in [
            (right[..319].to_owned(), "token-cut"),
            (right[..right.len() - 1].to_owned(), "token-cut"),
            (encoded, "token-url-encoded"),
            (format!("{right}\n"), "token-white-space"),
            (format!("{right}\r"), "token-white-space"),
            (format!("\"{right}\""), "token-quoted"),
            (format!("https://{right}"), "token-scheme"),
            (right.replace('&', "&amp;"), "not-a-token"),
            (String::new(), "not-a-token"),
            ("correct horse".to_owned(), "not-a-token"),
        ] {
            assert_eq!(causes_of(&damaged), [cause], "{damaged:?}");
        }
    }

    #[test]
    fn one_final_newline_is_that_of_the_command_that_printed_the_token() {
        assert_eq!(without_final_newline("a\n"), "a");
        assert_eq!(without_final_newline("a\n\n"), "a\n");
    }

    #[test]
    fn tokens_for_dsql_have_no_port_and_their_action_is_by_user() {
        let host = "iuabtyq7pzsk4qfm2hmjz6gzqe.dsql.us-east-1.on.aws";
        let token = token()
            .replace(&format!("{HOST}:5432"), host)
            .replace("&DBUser=jane%40corp.com", "")
            .replace("eu-central-1%2Frds-db", "us-east-1%2Fdsql")
            .replace("Action=connect", "Action=DbConnect");
        let judged = |user| {
            let expected = Expected { host, port: 5432, user, region: Some("us-east-1"), is_dsql: true };
            judge(&token, &expected, SIGNED_AT).into_iter().map(|problem| problem.cause).collect::<Vec<_>>()
        };
        assert_eq!(judged("app_user"), Vec::<&str>::new());
        assert_eq!(judged("admin"), ["token-other-action"]);
    }
}
