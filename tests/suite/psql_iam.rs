//! `psql-iam` and `pgiam token` with a real server.

use std::process::Output;

use aws_simulator::SimulatorOptions;

use crate::examples_support::{installed, on_instance};
use crate::support::{ENDPOINT, clean_command, expect_success, server, texts};

/// Runs the installed psql-iam with this shell, on an EC2 instance.
fn psql_iam(shell: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let installed = installed();
    let simulator = server().simulator(SimulatorOptions::default());
    let mut command = clean_command(shell);
    command.arg(installed.prefix.join("bin/psql-iam")).args(arguments);
    on_instance(&mut command, &simulator, installed);
    command.env("PGPORT", server().port.to_string()).envs(variables.iter().copied()).output().unwrap()
}

#[test]
fn psql_iam_logs_in_with_every_form_of_connection_arguments() {
    let port = server().port.to_string();
    let conninfo = format!("host={ENDPOINT} port={port} user=app_user dbname=app sslmode=verify-full");
    let uri = format!("postgresql://app_user@{ENDPOINT}:{port}/app?sslmode=verify-full");
    let query = "select current_user || ' it''s \"quoted\"'";
    for shell in ["dash", "bash"] {
        for connection in [
            vec!["-h", ENDPOINT, "-p", &port, "-U", "app_user", "app"],
            vec!["-h", ENDPOINT, "app", "app_user"],
            vec![conninfo.as_str()],
            vec![uri.as_str()],
            vec!["-d", uri.as_str()],
        ] {
            let output = psql_iam(shell, &[&["-XAt", "-c", query], connection.as_slice()].concat(), &[]);
            let out = expect_success(&format!("{shell} psql-iam {connection:?}"), &output);
            assert_eq!(out.trim(), "app_user it's \"quoted\"");
        }
        let variables = [("PGHOST", ENDPOINT), ("PGUSER", "app_user"), ("PGDATABASE", "app")];
        let output =
            psql_iam(shell, &["-XAtc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"], &variables);
        assert_eq!(expect_success("psql-iam by variables", &output).trim(), "t", "without sslmode it is require");
    }
}

#[test]
fn psql_iam_refuses_to_send_a_token_without_tls() {
    for mode in ["disable", "allow", "prefer"] {
        let conninfo = format!("host={ENDPOINT} user=app_user dbname=app sslmode={mode}");
        let given = ["-h", ENDPOINT, "-U", "app_user", "app"];
        for output in [psql_iam("sh", &[&conninfo], &[]), psql_iam("sh", &given, &[("PGSSLMODE", mode)])] {
            let (_, err) = texts(&output);
            assert_eq!(output.status.code(), Some(2), "{err}");
            assert!(err.contains(&format!("sslmode={mode}")) && err.contains("in clear"), "{err}");
        }
    }
}

#[test]
fn a_refused_login_shows_the_message_of_the_server() {
    let output = psql_iam("sh", &["-h", ENDPOINT, "-U", "nobody", "-c", "select 1", "app"], &[]);
    let (_, err) = texts(&output);
    assert!(err.contains("authentication failed for user \"nobody\""), "{err}");
}

/// The recipe in docs/recipes.md.
#[test]
fn an_encoded_token_is_the_password_in_a_url() {
    let installed = installed();
    let simulator = server().simulator(SimulatorOptions::default());
    let port = server().port.to_string();
    for user in ["app_user", "jane@corp.com"] {
        let mut token = clean_command(installed.prefix.join("bin/pgiam"));
        token.args(["token", "--url-encode", "--no-newline", "-h", ENDPOINT, "-p", &port, "-U", user]);
        on_instance(&mut token, &simulator, installed);
        let token = expect_success("pgiam token --url-encode", &token.output().unwrap());
        let user_in_url = user.replace('@', "%40");
        let url = format!(
            "postgresql://{user_in_url}:{token}@{ENDPOINT}:{port}/app?sslmode=verify-full&hostaddr=127.0.0.1&sslrootcert={}",
            server().ca
        );
        let output = clean_command("psql").args(["-XAtwc", "select current_user", "-d", &url]).output().unwrap();
        assert_eq!(expect_success("psql with a URL", &output).trim(), user);
    }
}

#[test]
fn help_of_the_installed_psql_iam_is_followed_by_the_help_of_psql() {
    let out = expect_success("psql-iam --help", &psql_iam("sh", &["--help"], &[]));
    assert!(
        out.starts_with("psql-iam runs psql") && out.contains("psql is the PostgreSQL interactive terminal"),
        "{out}"
    );
}
