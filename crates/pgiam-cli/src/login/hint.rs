//! The line that names `pgiam doctor` after a failed login of psql.

use pgiam_libpq::conninfo::{self, Parameters};

use crate::args::{ConnectionArguments, SigningArguments};
use crate::programs;
use crate::shell;

/// `pgiam doctor` with the arguments of psql and those of `pgiam exec`. `None`: they describe several connections.
pub(crate) fn command_line(
    psql: &programs::Arguments,
    connections: &ConnectionArguments,
    signing: &SigningArguments,
) -> Option<String> {
    let client = &signing.client;
    let dbname = psql.dbname.as_ref().or(connections.connection.first()).map(|text| without_secrets(text));
    let dbname = match dbname {
        Some(None) => return None,
        dbname => dbname.flatten(),
    };
    let several = |given: &[String]| given.len() > 1 || given.iter().any(|value| value.contains(','));
    if [&connections.host, &connections.port, &connections.user].into_iter().any(|given| several(given)) {
        return None;
    }
    let flags = [
        ("-h", psql.host.as_ref().or(connections.host.first())),
        ("-p", psql.port.as_ref().or(connections.port.first())),
        ("-U", psql.user.as_ref().or(connections.user.first())),
        ("-d", dbname.as_ref()),
        ("-r", signing.region.as_ref()),
        ("--service", signing.service.as_ref()),
        ("--profile", client.profile.as_ref()),
        ("--role-arn", client.role_arn.as_ref()),
        ("--external-id", client.external_id.as_ref()),
        ("--role-session-name", client.role_session_name.as_ref()),
    ];
    let given = flags.into_iter().filter_map(|(flag, value)| value.map(|value| [flag.into(), shell::quoted(value)]));
    Some(["pgiam".into(), "doctor".into()].into_iter().chain(given.flatten()).collect::<Vec<_>>().join(" "))
}

/// The keywords that suggested commands show. Others may be secrets, or are not needed to connect.
const SHOWN: [&str; 16] = [
    "channel_binding",
    "dbname",
    "host",
    "hostaddr",
    "iam",
    "iam_host",
    "iam_hosts",
    "iam_port",
    "iam_profile",
    "iam_region",
    "port",
    "require_auth",
    "service",
    "sslmode",
    "sslrootcert",
    "user",
];

/// The connection string with the keywords that may be shown.
pub(super) fn shown(parameters: &Parameters) -> String {
    let mut parameters = parameters.clone();
    parameters.retain(|keyword, _| SHOWN.contains(&keyword.as_str()));
    shell::conninfo(&parameters)
}

/// A database name, or a connection string without its secrets. `None`: it cannot be parsed.
fn without_secrets(text: &str) -> Option<String> {
    match conninfo::is_connection_string(text) {
        true => parse(text).map(|parameters| shown(&parameters)),
        false => Some(text.to_owned()),
    }
}

/// Parses a connection string. `None`: it is not valid, or a part of a password seems to be in another field, as in
/// `postgresql://app:s3cr/et@host/db`.
pub(super) fn parse(text: &str) -> Option<Parameters> {
    let parameters = conninfo::parse(text).ok()?;
    let value = |keyword: &str| parameters.get(keyword).map_or("", |value| value.as_str());
    let is_port = value("port").bytes().all(|byte| byte.is_ascii_digit() || byte == b',' || conninfo::is_space(byte));
    let has_at = |keyword: &str| conninfo::is_uri(text.as_bytes()) && value(keyword).contains('@');
    (is_port && !has_at("dbname") && value("host").find('@').is_none_or(|at| at == 0)).then_some(parameters)
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn line(own: &[&str], psql: programs::Arguments) -> Option<String> {
        let command = SigningArguments::augment_args(ConnectionArguments::augment_args(
            clap::Command::new("exec").disable_help_flag(true),
        ));
        let matches = command.get_matches_from([&["exec"], own].concat());
        let connections = ConnectionArguments::from_arg_matches(&matches).unwrap();
        command_line(&psql, &connections, &SigningArguments::from_arg_matches(&matches).unwrap())
    }

    #[test]
    fn the_line_has_the_arguments_of_psql_and_of_exec() {
        let psql = || programs::Arguments { user: Some("jane doe".into()), ..Default::default() };
        assert_eq!(
            line(&["-h", "db.x", "--profile", "dev"], psql()).as_deref(),
            Some("pgiam doctor -h db.x -U 'jane doe' --profile dev")
        );
        assert_eq!(line(&["-h", "a", "-h", "b"], psql()), None);
        let uri = "postgresql://u:rds-iam@h:5432/app?sslmode=require";
        let psql = programs::Arguments { dbname: Some(uri.into()), ..Default::default() };
        let line = line(&[], psql).unwrap();
        assert!(
            line.starts_with("pgiam doctor -d '") && line.contains("host=h ") && !line.contains("rds-iam"),
            "{line}"
        );
    }

    #[test]
    fn secrets_of_a_connection_string_are_not_shown() {
        for text in [
            "host=h user=u password=hush",
            "host=h user=u sslpassword=hush oauth_client_secret=hush scram_client_key=hush",
            "host=h user=u password=hush port",
            "host=h password='hush",
            "postgresql://u:hush/et@h:1/db",
            "postgresql://u:12/hush@h/db",
            "postgresql://u:x@hush@h/db",
        ] {
            assert!(!without_secrets(text).unwrap_or_default().contains("hush"), "{text}");
            let psql = programs::Arguments { dbname: Some(text.into()), ..Default::default() };
            assert!(!line(&[], psql).unwrap_or_default().contains("hush"), "{text}");
            let own = line(&["--connection", text], programs::Arguments::default());
            assert!(!own.unwrap_or_default().contains("hush"), "{text}");
        }
        assert_eq!(without_secrets("host=h user=u password=x").as_deref(), Some("host=h user=u"));
    }
}
