//! The line that names `pgiam doctor` after a failed login of psql.

use pgiam_libpq::conninfo;

use crate::args::{ConnectionArguments, SigningArguments};
use crate::programs;
use crate::shell;

/// `pgiam doctor` with the arguments of psql and those of `pgiam exec`. `None`: they describe several connections.
pub(crate) fn command_line(
    psql: &programs::Arguments,
    connections: &ConnectionArguments,
    signing: &SigningArguments,
) -> Option<String> {
    let (client, dbname) = (&signing.client, psql.dbname.as_deref().map(without_passwords));
    let several = |given: &[String]| given.len() > 1 || given.iter().any(|value| value.contains(','));
    if [&connections.host, &connections.port, &connections.user].into_iter().any(|given| several(given)) {
        return None;
    }
    let flags = [
        ("-h", psql.host.as_ref().or(connections.host.first())),
        ("-p", psql.port.as_ref().or(connections.port.first())),
        ("-U", psql.user.as_ref().or(connections.user.first())),
        ("-d", dbname.as_ref().or(connections.connection.first())),
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

/// A connection string without the passwords in it.
pub(super) fn without_passwords(text: &str) -> String {
    let mut parameters = match conninfo::parse(text) {
        Ok(parameters) if conninfo::is_connection_string(text) => parameters,
        _ => return text.to_owned(),
    };
    let before = parameters.len();
    parameters.retain(|keyword, _| !keyword.ends_with("password"));
    if parameters.len() == before { text.to_owned() } else { conninfo::write(&parameters) }
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
        assert!(line.starts_with("pgiam doctor -d '") && line.contains("host=") && !line.contains("rds-iam"), "{line}");
    }
}
