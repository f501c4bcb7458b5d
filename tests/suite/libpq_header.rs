//! `include/pgiam-libpq.h`: libpq's functions with a token as the password, against the real server.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use aws_simulator::{Fault, Route, Simulator, SimulatorOptions};

use crate::c_programs;
use crate::support::{ENDPOINT, clean_command, products, root, run, server, temporary_directory, texts};

const SECOND_HOST: &str = "other.c9akciq32rpa.eu-central-1.rds.amazonaws.com";

/// The driver, built once, as C99 with every warning an error.
pub(crate) fn driver() -> &'static PathBuf {
    static DRIVER: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, program) = DRIVER.get_or_init(|| {
        let directory = temporary_directory();
        let flags = run("pkg-config", ["--cflags", "libpq"], None::<&str>);
        let mut flags: Vec<&str> = flags.split_whitespace().collect();
        // Before the library's flags, so that the linker keeps libpq.
        flags.extend(["-std=c99", "-Wl,--no-as-needed", "-lpq"]);
        let program = c_programs::build("libpq.c", directory.path(), &flags);
        (directory, program)
    });
    program
}

/// Runs the driver on a simulated EC2 instance, in an otherwise empty environment.
fn drive_on(simulator: &Simulator, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = clean_command(driver())
        .args(arguments)
        .env("LD_LIBRARY_PATH", products())
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url())
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    assert!(err.is_empty(), "{err}");
    out
}

fn drive(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    drive_on(&server().simulator(SimulatorOptions::default()), arguments, variables)
}

/// `host= hostaddr= port= dbname= sslrootcert=`, no user, no sslmode.
fn place() -> String {
    let server = server();
    format!("host={ENDPOINT} hostaddr=127.0.0.1 port={} dbname=app sslrootcert={}", server.port, server.ca)
}

#[test]
fn a_connection_to_an_endpoint_gets_a_token_with_every_form_of_arguments() {
    let (server, place) = (server(), place());
    let uri = format!(
        "postgresql://app_user@{ENDPOINT}:{}/app?hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert={}",
        server.port, server.ca
    );
    let port = server.port.to_string();
    let full = "user app_user, sslmode verify-full, ticks 0\n";
    assert_eq!(drive(&["connectdb", &format!("{place} user=app_user sslmode=verify-full")], &[]), full);
    assert_eq!(drive(&["connectdb", &uri], &[]), full);
    assert_eq!(drive(&["params", "dbname", &uri], &[]), full);
    let words = ["host", ENDPOINT, "hostaddr", "127.0.0.1", "port", &port, "user", "app_user", "dbname", "app"];
    let params = [&["params"][..], &words, &["sslmode", "verify-full", "sslrootcert", &server.ca]].concat();
    assert_eq!(drive(&params, &[]), full);
    let variables = [
        ("PGHOST", ENDPOINT),
        ("PGHOSTADDR", "127.0.0.1"),
        ("PGPORT", &port),
        ("PGUSER", "app_user"),
        ("PGDATABASE", "app"),
        ("PGSSLROOTCERT", &server.ca),
    ];
    assert_eq!(drive(&["connectdb", ""], &variables), "user app_user, sslmode require, ticks 0\n", "raised");
    assert_eq!(
        drive(&["connectdb", "  "], &variables),
        "user app_user, sslmode require, ticks 0\n",
        "as libpq: defaults"
    );
    let directory = temporary_directory();
    let services = directory.path().join("services");
    std::fs::write(&services, format!("[app]\n{}\nuser=app_user\n", place.replace(' ', "\n"))).unwrap();
    let service = [("PGSERVICEFILE", services.to_str().unwrap())];
    assert_eq!(drive(&["connectdb", "service=app"], &service), "user app_user, sslmode require, ticks 0\n");
    assert_eq!(drive(&["connectdb", &format!("{place} user='jane@corp.com'")], &[]), {
        "user jane@corp.com, sslmode require, ticks 0\n"
    });
}

#[test]
fn the_password_rds_iam_requests_a_token_and_a_real_password_is_not_changed() {
    let place = place();
    let asked = drive(&["connectdb", &format!("{place} user=app_user password=rds-iam")], &[]);
    assert!(asked.starts_with("user app_user"), "{asked}");
    let asked = drive(&["connectdb", &format!("{place} user=app_user")], &[("PGPASSWORD", "rds-iam")]);
    assert!(asked.starts_with("user app_user"), "{asked}");
    for own in [
        drive(&["connectdb", &format!("{place} user=app_user password=mine")], &[]),
        drive(&["connectdb", &format!("{place} user=app_user")], &[("PGPASSWORD", "mine")]),
        drive(&["connectdb", &format!("{place} user=app_user iam=off")], &[]),
        drive(&["connectdb", &format!("{place} user=app_user")], &[("PGIAM", "off")]),
    ] {
        assert!(own.starts_with("libpq: "), "{own}");
    }
}

#[test]
fn several_hosts_get_a_token_each() {
    let server = server();
    let nobody = aws_simulator::refused_port().unwrap();
    let (port, refused) = (server.port, nobody.port());
    for (hosts, ports) in [
        (format!("{SECOND_HOST},{ENDPOINT}"), format!("{refused},{port}")),
        (format!("{ENDPOINT},{SECOND_HOST}"), port.to_string()),
        // As libpq compares it with a password file, a port is a text.
        (format!("{SECOND_HOST},{ENDPOINT}"), format!("{refused},0{port}")),
        (format!("{ENDPOINT},{SECOND_HOST}"), format!("' {port} '")),
    ] {
        let conninfo = format!(
            "host={hosts} hostaddr=127.0.0.1,127.0.0.1 port={ports} user=app_user dbname=app sslmode=verify-ca sslrootcert={}",
            server.ca
        );
        assert_eq!(drive(&["connectdb", &conninfo], &[]), "user app_user, sslmode verify-ca, ticks 0\n", "{hosts}");
    }
}

#[test]
fn the_users_password_file_is_still_used_for_the_other_hosts() {
    let (server, nobody) = (server(), aws_simulator::refused_port().unwrap());
    let simulator = server.simulator(SimulatorOptions::default());
    let credentials = simulator.instance_credentials();
    // The test uses a password that the server accepts in place of the user's.
    let environment: pgiam_core::Environment = [
        ("AWS_ACCESS_KEY_ID", credentials.access_key_id.as_str()),
        ("AWS_SECRET_ACCESS_KEY", &credentials.secret_access_key),
        ("AWS_SESSION_TOKEN", credentials.session_token.as_deref().unwrap()),
    ]
    .into_iter()
    .collect();
    let request = pgiam_core::TokenRequest { host: ENDPOINT, port: server.port.into(), region: None, user: "app_user" };
    let own = pgiam_core::Client::builder().environment(environment).build().generate_token(&request).unwrap();
    let directory = temporary_directory();
    let passfile = directory.path().join("passfile");
    let line = format!("localhost:{}:*:app_user:{}\n", server.port, own.as_str().replace(':', "\\:"));
    std::fs::write(&passfile, line).unwrap();
    std::fs::set_permissions(&passfile, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for (hosts, ports) in [
        (format!("{SECOND_HOST},localhost"), format!("{},{}", nobody.port(), server.port)),
        (format!("localhost,{SECOND_HOST}"), format!("{},{}", server.port, nobody.port())),
    ] {
        let conninfo = format!(
            "host={hosts} hostaddr=127.0.0.1,127.0.0.1 port={ports} user=app_user dbname=app passfile={}",
            passfile.display()
        );
        assert_eq!(drive(&["connectdb", &conninfo], &[]), "user app_user, sslmode require, ticks 0\n", "{hosts}");
    }
}

#[test]
fn the_functions_for_tokens_and_for_connections_share_their_credentials() {
    let server = server();
    let simulator = server.simulator(SimulatorOptions::default());
    let credentials = simulator.instance_credentials();
    let directory = temporary_directory();
    let (script, count) = (directory.path().join("process"), directory.path().join("count"));
    let document = serde_json::json!({
        "Version": 1, "AccessKeyId": credentials.access_key_id, "SecretAccessKey": credentials.secret_access_key,
        "SessionToken": credentials.session_token, "Expiration": "2099-01-01T00:00:00Z",
    });
    std::fs::write(&script, format!("echo asked >>'{}'\necho '{document}'\n", count.display())).unwrap();
    let config = directory.path().join("config");
    std::fs::write(&config, format!("[default]\ncredential_process = sh {}\n", script.display())).unwrap();
    let out = drive_on(
        &simulator,
        &["both", &format!("{} user=app_user", place()), ENDPOINT],
        &[("AWS_CONFIG_FILE", config.to_str().unwrap())],
    );
    assert_eq!(out, "user app_user, sslmode require, ticks 0\n");
    assert_eq!(std::fs::read_to_string(&count).unwrap(), "asked\n");
}

#[test]
fn behind_a_tunnel_the_token_is_signed_for_the_configured_endpoint() {
    let server = server();
    let (port, sign_port) = (server.port, server.port.to_string());
    let tunnel = format!("host=localhost port={port} user=app_user dbname=app");
    for (more, variables) in [
        (format!("iam_host={ENDPOINT}"), vec![]),
        (format!("iam_host='{ENDPOINT}' iam_port={sign_port} iam_region=eu-central-1"), vec![]),
        (String::new(), vec![("PGIAM_HOST", ENDPOINT), ("PGIAM_PORT", sign_port.as_str())]),
    ] {
        let out = drive(&["connectdb", &format!("{tunnel} {more}")], &variables);
        assert_eq!(out, "user app_user, sslmode require, ticks 0\n", "{more} {variables:?}");
    }
    let uri = format!(
        "postgresql://app_user@localhost:{port}/app?iam_host={ENDPOINT}&connect_timeout=20&iam_port={sign_port}"
    );
    assert_eq!(drive(&["connectdb", &uri], &[]), "user app_user, sslmode require, ticks 0\n");
    let words = ["params", "dbname", &tunnel, "iam_host", ENDPOINT];
    assert_eq!(drive(&words, &[]), "user app_user, sslmode require, ticks 0\n");
    // No endpoint is configured: libpq connects, and the server requests a password.
    let out = drive(&["connectdb", &tunnel], &[]);
    assert!(out.starts_with("libpq: "), "{out}");
}

#[test]
fn a_token_is_never_sent_without_tls() {
    let place = place();
    for mode in ["disable", "allow", "prefer"] {
        for out in [
            drive(&["connectdb", &format!("{place} user=app_user sslmode={mode}")], &[]),
            drive(&["params", "dbname", &place, "user", "app_user", "sslmode", mode], &[]),
            drive(&["connectdb", &format!("{place} user=app_user")], &[("PGSSLMODE", mode)]),
        ] {
            assert!(out.starts_with(&format!("refused: pgiam: sslmode={mode} could send the token in clear")), "{out}");
        }
    }
    let out = drive(&["connectdb", &format!("{place} user=app_user")], &[("PGSSLMODE", "verify-full")]);
    assert_eq!(out, "user app_user, sslmode verify-full, ticks 0\n");
}

#[test]
fn error_messages_name_the_wrong_setting() {
    let place = place();
    let simulator = server().simulator(SimulatorOptions::default());
    simulator.set_role(None);
    let out = drive_on(&simulator, &["connectdb", &format!("{place} user=app_user")], &[]);
    let expected = format!("refused: pgiam: no token for {ENDPOINT}: no credentials: ");
    assert!(out.starts_with(&expected), "{out}");
    for (conninfo, part) in [
        ("iam=maybe host=x", "refused: pgiam: iam is \"maybe\"; it must be off, auto or on"),
        ("iam=on host=localhost", "refused: pgiam: no token for localhost: host \"localhost\" is this machine"),
        ("iam=on host=db.example.com port=70000", "70000"),
        ("host=x iam_port", "libpq: missing \"=\" after \"iam_port\""),
        ("host='x", "libpq: unterminated quoted string"),
        ("nonsense", "libpq: missing \"=\" after \"nonsense\""),
        ("bogus=1", "libpq: invalid connection option \"bogus\""),
        (
            "iam_profile=gone iam=on host=db.example.com",
            "refused: pgiam: no token for db.example.com: profile: profile \"gone\"",
        ),
    ] {
        let out = drive(&["connectdb", conninfo], &[]);
        assert!(out.contains(part), "{conninfo}: {out}");
    }
}

#[test]
fn an_event_loop_is_never_blocked() {
    let simulator = server().simulator(SimulatorOptions::default());
    simulator.inject(Route::ImdsToken, Fault::Delay { duration: Duration::from_millis(200) }, 1);
    let out = drive_on(&simulator, &["start", &format!("{} user=app_user", place())], &[]);
    let ticks: u32 = out.trim().rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{out}"));
    assert!(out.starts_with("user app_user, sslmode require") && ticks > 2, "{out}");
}

#[test]
fn the_header_compiles_as_cxx_too() {
    let directory = temporary_directory();
    let file = directory.path().join("use.cpp");
    let source = "#include <pgiam-libpq.h>\n#include <pgiam-libpq.h>\nint main(int count, char **words)\n{\n\
        char *error = nullptr;\nPQfinish(pgiam_connectdb(count > 1 ? words[1] : \"\", &error));\n\
        PQfinish(pgiam_connect_start(\"\", &error));\nfree(error);\nreturn 0;\n}\n";
    std::fs::write(&file, source).unwrap();
    let flags = run("pkg-config", ["--cflags", "libpq"], None::<&str>);
    let include = format!("-I{}", root().join("include").display());
    let mut arguments: Vec<&str> = flags.split_whitespace().collect();
    arguments.extend(["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", &include, "-fsyntax-only"]);
    run("c++", arguments, Some(&file));
}
