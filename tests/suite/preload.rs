//! `libpgiam_preload.so` with unmodified programs, against the real server.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};
use std::time::Duration;

use aws_simulator::{Fault, Route};

use crate::exports::{exported, listed};
use crate::preload_support::{Client, c_program, outlives_its_tokens};
use crate::support::{
    ENDPOINT, clean_command, expect_success, forgetful_server, product, python, run, server, temporary_directory, texts,
};

const USER: &str = "select current_user";

fn psql(client: &Client, connection: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = client.command("psql");
    command.args(["-XAtwc", USER]).args(connection).envs(variables.iter().copied());
    command.output().unwrap()
}

fn logs_in(client: &Client, connection: &[&str], variables: &[(&str, &str)]) {
    let out = expect_success(&format!("psql {connection:?} {variables:?}"), &psql(client, connection, variables));
    assert_eq!(out.trim(), "app_user", "{connection:?} {variables:?}");
}

#[test]
fn the_library_exports_only_names_of_libpq_and_needs_only_libc() {
    let library = product("libpgiam_preload.so");
    assert_eq!(exported(&library), listed("crates/pgiam-preload/exports.txt"));
    let dynamic = run("readelf", ["-dW"], Some(&library));
    assert!(dynamic.contains("Library soname: [libpgiam_preload.so]") && dynamic.contains("NODELETE"), "{dynamic}");
    for line in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
        let known = ["libc.so", "libgcc_s.so", "ld-linux", "libpthread.so", "libdl.so", "libm.so"];
        assert!(known.iter().any(|library| line.contains(library)), "{line}");
    }
}

#[test]
fn psql_logs_in_with_every_form_of_connection_arguments() {
    let client = Client::new(server());
    let port = server().port.to_string();
    let directory = temporary_directory();
    let services = directory.path().join("services");
    fs::write(&services, format!("[app]\nhost={ENDPOINT}\nuser=app_user\ndbname=app\n")).unwrap();
    let services = services.display().to_string();
    let uri = format!("postgresql://app_user@{ENDPOINT}:{port}/app?sslmode=verify-full");
    logs_in(&client, &["-h", ENDPOINT, "-U", "app_user", "app"], &[]);
    logs_in(&client, &["-h", &ENDPOINT.to_uppercase(), "-U", "app_user", "app"], &[]);
    logs_in(&client, &[&client.conninfo()], &[]);
    logs_in(&client, &[&uri], &[]);
    logs_in(&client, &[], &[("PGHOST", ENDPOINT), ("PGUSER", "app_user"), ("PGDATABASE", "app")]);
    logs_in(&client, &["service=app"], &[("PGSERVICEFILE", &services)]);
    // The password that requests a token, for programs that require one.
    logs_in(&client, &[&format!("{} password=rds-iam", client.conninfo())], &[]);
    logs_in(&client, &[&client.conninfo()], &[("PGPASSWORD", "rds-iam")]);
    // A token, which may have expired.
    let old =
        format!("{ENDPOINT}:{port}/?Action=connect&DBUser=app_user&X-Amz-Date=20200101T000000Z&X-Amz-Signature=0");
    logs_in(&client, &[&client.conninfo()], &[("PGPASSWORD", &old)]);
    assert_eq!(server().decision(&client.simulator.instance_credentials().access_key_id), "accepted");
}

#[test]
fn a_connection_string_of_only_white_space_means_the_defaults() {
    let client = Client::new(server());
    for conninfo in ["", " ", "\t \n"] {
        let mut command = client.command(c_program());
        command.args(["start", conninfo]).envs([("PGHOST", ENDPOINT), ("PGUSER", "app_user"), ("PGDATABASE", "app")]);
        let (out, _) = texts(&command.output().unwrap());
        assert!(out.contains("connected: app_user"), "{conninfo:?}: {out}");
    }
}

#[test]
fn hosts_that_the_settings_name_get_tokens_too() {
    let client = Client::new(server());
    let local = "host=localhost user=app_user dbname=app";
    logs_in(&client, &[&format!("{local} iam_host={ENDPOINT}")], &[]);
    logs_in(&client, &[local], &[("PGIAM_HOST", ENDPOINT)]);
    let uri = format!("postgresql://app_user@localhost/app?iam_host={ENDPOINT}&iam_region=eu-central-1");
    logs_in(&client, &[&uri], &[]);
    let off = psql(&client, &[&client.conninfo()], &[("PGIAM", "off")]);
    assert!(texts(&off).1.contains("no password supplied") && !texts(&off).1.contains("pgiam"), "{off:?}");
}

#[test]
fn each_of_several_hosts_gets_its_own_token() {
    let client = Client::new(server());
    let port = server().port;
    let other = ENDPOINT.replace("mypg", "other");
    // Nothing listens at the first two; the third must get its own token.
    let hosts = format!("host={other},localhost,{ENDPOINT} hostaddr=127.0.0.1,127.0.0.1,127.0.0.1 port=1,2,{port}");
    logs_in(&client, &[&format!("{hosts} user=app_user dbname=app")], &[]);
    logs_in(&client, &[&format!("{hosts} user=app_user dbname=app password=rds-iam")], &[]);
    logs_in(&client, &[&format!("{hosts} user=app_user dbname=app")], &[("PGPASSWORD", "rds-iam")]);
}

/// Runs psql with and without the library; output and exit status must be the same.
fn same_without_library(client: &Client, arguments: &[&str], variables: &[(&str, &str)]) -> (String, String) {
    let run = |mut command: Command| {
        command.args(["-XAtwc", USER]).args(arguments).envs(variables.iter().copied());
        let output = command.output().unwrap();
        (texts(&output), output.status.code())
    };
    let (with, without) = (run(client.command("psql")), run(client.command_without_library("psql")));
    assert_eq!(with, without, "{arguments:?} {variables:?}");
    assert!(client.simulator.requests().is_empty(), "{arguments:?}: no credentials were fetched");
    with.0
}

#[test]
fn all_other_calls_and_their_errors_are_passed_on_unchanged() {
    let client = Client::new(server());
    let directory = temporary_directory();
    let passfile = directory.path().join("passfile");
    fs::write(&passfile, format!("{ENDPOINT}:*:*:not_granted:not_granted\n")).unwrap();
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
    let with_file = format!("host={ENDPOINT} user=not_granted dbname=app passfile={}", passfile.display());
    let with_password = format!("host={ENDPOINT} user=not_granted dbname=app password=not_granted");
    let without_password = format!("host={ENDPOINT} user=not_granted dbname=app");

    // The user's own password has precedence, wherever it is given.
    assert_eq!(same_without_library(&client, &[&with_password], &[]).0, "not_granted\n");
    assert_eq!(same_without_library(&client, &[&with_file], &[]).0, "not_granted\n");
    assert_eq!(
        same_without_library(&client, &[&without_password], &[("PGPASSWORD", "not_granted")]).0,
        "not_granted\n"
    );
    assert!(
        same_without_library(&client, &[&without_password], &[("PGPASSWORD", "x")]).1.contains("authentication failed")
    );

    // Other hosts, and arguments that libpq refuses.
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o644)).unwrap();
    let refused_file = with_file.replace(ENDPOINT, "localhost");
    assert!(same_without_library(&client, &[&refused_file], &[]).1.contains("has group or world access"));
    let nobody = format!("{} port=1", client.conninfo().replace(ENDPOINT, "localhost"));
    for (connection, variables, words) in [
        (nobody.as_str(), vec![], "Connection refused"),
        ("host=/nonexistent user=app_user", vec![], "No such file"),
        ("host=localhost colour=blue", vec![], "invalid connection option \"colour\""),
        ("host=localhost port=0", vec![], "invalid port number"),
        ("host=localhost sslmode=perhaps", vec![], "invalid sslmode value"),
        ("host=localhost,b,c port=1,2", vec![], "could not match 2 port numbers to 3 hosts"),
        ("host='localhost", vec![], "unterminated quoted string"),
        ("postgresql://[::1", vec![], "IPv6"),
        ("service=missing", vec![("PGSERVICEFILE", "/dev/null")], "\"missing\" not found"),
        ("host=localhost user=app_user dbname=app", vec![], "no password supplied"),
    ] {
        // PGHOSTADDR would be one address for three hosts.
        let variables = [variables.as_slice(), &[("PGHOSTADDR", "")]].concat();
        let said = same_without_library(&client, &[connection], &variables).1;
        assert!(said.contains(words), "{connection}: {said}");
    }
}

#[test]
fn a_token_is_never_sent_without_tls() {
    let client = Client::new(server());
    let out = client
        .command("psql")
        .args(["-XAtwc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()"])
        .args(["-h", ENDPOINT, "-U", "app_user", "app"])
        .output()
        .unwrap();
    assert_eq!(expect_success("psql", &out).trim(), "t", "an absent sslmode is raised to require");
    for mode in ["disable", "allow", "prefer"] {
        let conninfo = format!("host={ENDPOINT} user=app_user dbname=app sslmode={mode}");
        let by_variable = psql(&client, &["-h", ENDPOINT, "-U", "app_user", "app"], &[("PGSSLMODE", mode)]);
        for output in [psql(&client, &[&conninfo], &[]), by_variable] {
            let (_, err) = texts(&output);
            assert_eq!(output.status.code(), Some(2), "{err}");
            assert!(err.contains(&format!("pgiam: sslmode={mode} could send the token in clear")), "{err}");
        }
    }
}

#[test]
fn without_credentials_the_error_message_has_the_reason() {
    let client = Client::new(server());
    client.simulator.set_role(None);
    let output = client.command(c_program()).args(["names", &client.conninfo()]).output().unwrap();
    let (out, _) = texts(&output);
    for name in ["PQconnectdbParams", "PQconnectStartParams", "PQsetdbLogin"] {
        let words = out.split_once(&format!("{name}: ")).expect(name).1;
        let first = words.lines().next().unwrap();
        let second = words.lines().nth(1).unwrap();
        assert!(first.contains("fe_sendauth: no password supplied"), "{out}");
        assert!(second.starts_with(&format!("pgiam: no token for {ENDPOINT}: no credentials: ")), "{out}");
        assert!(second.contains("no role is attached to this instance"), "{out}");
    }
}

#[test]
fn every_function_that_connects_gets_a_token_and_the_options_are_those_of_the_program() {
    let client = Client::new(server());
    let passfile = "passfile=/nonexistent/passfile";
    let conninfo = format!("host=localhost user=app_user dbname=app iam_host={ENDPOINT} {passfile}");
    let output = client.command(c_program()).args(["names", &conninfo]).output().unwrap();
    let out = expect_success("names", &output);
    let expected = format!(
        "PQconnectdbParams: app_user\nPQconnectStartParams: app_user\npassfile is /nonexistent/passfile\niam_host is \
         {ENDPOINT}\nPQsetdbLogin: app_user\n"
    );
    assert_eq!(out, expected);
}

#[test]
fn a_nonblocking_connect_waits_for_credentials_no_longer_than_its_limit() {
    let client = Client::new(server());
    let directory = temporary_directory();
    let config = directory.path().join("config");
    fs::write(&config, "[profile static]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret\n").unwrap();
    let one = client.conninfo();
    let start_with = |conninfo: &str, bound: &str| {
        let mut command = client.command(c_program());
        command.args(["start", conninfo]).env("PGIAM_START_TIMEOUT_MS", bound).env_remove("PGHOSTADDR");
        command.env("AWS_CONFIG_FILE", &config);
        let (out, _) = texts(&command.output().unwrap());
        let milliseconds: u64 = out.split_whitespace().nth(2).and_then(|word| word.parse().ok()).expect("a number");
        (milliseconds, out)
    };
    let start = |bound: &str| start_with(&format!("{one} hostaddr=127.0.0.1"), bound);
    client.simulator.inject(Route::ImdsToken, Fault::Delay { duration: Duration::from_secs(20) }, 100);
    let (milliseconds, out) = start("300");
    assert!((250..2000).contains(&milliseconds), "{out}");
    assert!(out.contains("pgiam: no token for") && out.contains("PGIAM_START_TIMEOUT_MS"), "{out}");
    // The limit is for the connection, not for each host.
    let four = [ENDPOINT; 4].join(",");
    let addresses = ["127.0.0.1"; 4].join(",");
    let (milliseconds, out) =
        start_with(&format!("host={four} hostaddr={addresses} user=app_user dbname=app sslmode=require"), "1000");
    assert!((950..3000).contains(&milliseconds), "{out}");
    // Static keys, and hosts whose region only the instance metadata may know.
    let unknown = ["db.example.com"; 6].join(",");
    let addresses = ["127.0.0.1"; 6].join(",");
    let (milliseconds, out) = start_with(
        &format!("host={unknown} hostaddr={addresses} port=1 user=app_user iam=on iam_profile=static"),
        "700",
    );
    assert!((650..3000).contains(&milliseconds), "{out}");
    assert!(out.contains("no region") && out.contains("PGIAM_START_TIMEOUT_MS"), "{out}");
    client.simulator.clear_faults();
    assert!(start("").1.contains("connected: app_user"));
    let (_, out) = start("soon");
    assert!(out.contains("PGIAM_START_TIMEOUT_MS") && out.contains("\"soon\" is not a number"), "{out}");
}

#[test]
fn forked_children_and_threads_get_tokens_too() {
    let client = Client::new(server());
    // libpq 17 looks for Kerberos credentials when a connection starts, and libgssapi has locks that a child inherits.
    let conninfo = format!("{} gssencmode=disable", client.conninfo());
    let output = client.command(c_program()).args(["threads", &conninfo]).output().unwrap();
    assert_eq!(expect_success("threads", &output), "connected: app_user\n0 connections failed\n");
    // Parent and children share the parent's cached credentials; a few of them were forked before there were any.
    assert!(client.simulator.requests().len() <= 3 * 22, "{}", client.simulator.requests().len());
}

#[test]
fn asynchronous_cancellation_ends_only_the_thread() {
    let client = Client::new(server());
    let output = client.command(c_program()).args(["cancel", ""]).output().unwrap();
    assert_eq!(expect_success("cancel", &output), "every thread was cancelled\n");
}

#[test]
fn a_thread_that_waits_in_a_call_that_is_passed_on_can_be_cancelled() {
    let client = Client::new(server());
    // Connections are accepted, and nothing is answered.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let conninfo = format!("host=localhost user=u port={}", silent.local_addr().unwrap().port());
    let output = client.command(c_program()).args(["cancel-waiting", &conninfo]).output().unwrap();
    let expected = "PQping: cancelled\nPQpingParams: cancelled\nPQconnectdb: cancelled\n";
    assert_eq!(expect_success("cancel-waiting", &output), expected);
}

#[test]
fn a_thread_that_waits_in_a_reset_of_several_hosts_can_be_cancelled() {
    let client = Client::new(server());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // It forwards one connection. Later ones are accepted by the system, and nothing is answered.
    let forward = std::thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let far = TcpStream::connect(("127.0.0.1", server().port)).unwrap();
        let (mut from_near, mut to_near) = (near.try_clone().unwrap(), near);
        let (mut from_far, mut to_far) = (far.try_clone().unwrap(), far);
        std::thread::spawn(move || std::io::copy(&mut from_far, &mut to_near));
        std::io::copy(&mut from_near, &mut to_far).ok();
        listener
    });
    let conninfo = format!(
        "host={ENDPOINT},{ENDPOINT} hostaddr=127.0.0.1,127.0.0.1 port={port} iam_port={} user=app_user dbname=app \
         sslmode=require",
        server().port
    );
    let output = client.command(c_program()).args(["cancel-reset", &conninfo]).output().unwrap();
    assert_eq!(expect_success("cancel-reset", &output), "connected: app_user\nPQreset: cancelled\n");
    forward.join().unwrap();
}

#[test]
fn a_reset_logs_in_with_a_new_token_even_if_it_is_longer() {
    let server = forgetful_server();
    let directory = temporary_directory();
    // Credentials that are valid for two seconds; each session token is longer than the one before.
    let mut script = "count=$(cat \"$0.count\" 2>/dev/null || echo 0)\necho $((count + 1)) >\"$0.count\"\n".to_owned();
    script.push_str("expiration=$(date -u -d '+2 seconds' +%Y-%m-%dT%H:%M:%SZ)\ncase $count in\n");
    for (count, length) in [(0, 300), (1, 900), (2, 1900)] {
        let id = format!("ASIARESET{count}{:010}", std::process::id());
        let (secret, session) = ("s".repeat(40), "t/".repeat(length / 2));
        let entry = serde_json::json!({
            "access_key_id": id, "secret_access_key": secret, "session_token": session, "expiration": null,
            "principal": "arn:aws:sts::123456789012:assumed-role/tests/reset",
        });
        fs::write(server.credentials.join(format!("{id}.json")), entry.to_string()).unwrap();
        script.push_str(&format!(
            "{count}) echo '{{\"Version\":1,\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"{secret}\",\
             \"SessionToken\":\"{session}\",\"Expiration\":\"'$expiration'\"}}' ;;\n"
        ));
    }
    script.push_str("esac\n");
    let process = directory.path().join("process");
    fs::write(&process, script).unwrap();
    let config = directory.path().join("config");
    fs::write(&config, format!("[default]\ncredential_process = sh {}\n", process.display())).unwrap();

    let client = Client::new(server);
    let mut command = client.command(c_program());
    command.args(["reset", &client.conninfo()]).env("AWS_CONFIG_FILE", &config);
    let out = outlives_its_tokens(&mut command, 2);
    assert_eq!(out.0, "connected: app_user\nreset: app_user\nreset by polling: app_user\n", "{}", out.1);
}

#[test]
fn a_reset_that_tries_several_hosts_gives_each_a_new_token() {
    let server = forgetful_server();
    let client = Client::new(server);
    // The first is not a standby, so libpq logs in there, rejects it and moves on to the second.
    let local =
        "hostaddr=127.0.0.1,127.0.0.1 user=app_user dbname=app sslmode=require target_session_attrs=prefer-standby";
    // The second time both hosts have the same name and port.
    for second in ["localhost", ENDPOINT] {
        let hosts = format!("host={ENDPOINT},{second} iam_host={ENDPOINT},{ENDPOINT} {local}");
        let mut command = client.command(c_program());
        command.args(["reset", &hosts]).env_remove("PGHOSTADDR");
        let (out, err) = outlives_its_tokens(&mut command, 2);
        assert_eq!(out, "connected: app_user\nreset: app_user\nreset by polling: app_user\n", "{second}: {err}");
    }
}

#[test]
fn a_reset_that_begins_at_a_host_without_a_token_gives_the_next_host_a_new_one() {
    let (own, served) = (server(), forgetful_server());
    own.as_superuser("app", "create role of_two_hosts login password 'own'");
    served.as_superuser("app", "create role of_two_hosts login in role rds_iam");
    let directory = temporary_directory();
    let passfile = directory.path().join("passfile");
    fs::write(&passfile, "localhost:*:*:of_two_hosts:own\n").unwrap();
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
    let client = Client::new(served);
    // Neither is a standby: libpq logs in at the second, too, before it returns to the first.
    let hosts = format!(
        "host=localhost,{ENDPOINT} hostaddr=127.0.0.1,127.0.0.1 port={},{} user=of_two_hosts dbname=app \
         sslmode=require target_session_attrs=prefer-standby passfile={}",
        own.port,
        served.port,
        passfile.display()
    );
    let mut command = client.command(c_program());
    // Each server has its own certificate authority.
    command.args(["reset", &hosts]).env_remove("PGHOSTADDR").env_remove("PGPORT").env_remove("PGSSLROOTCERT");
    let (out, err) = outlives_its_tokens(&mut command, 2);
    assert_eq!(out, "connected: of_two_hosts\nreset: of_two_hosts\nreset by polling: of_two_hosts\n", "{err}");
}

#[test]
fn without_the_library_a_reset_sends_the_old_token() {
    let server = forgetful_server();
    let client = Client::new(server);
    let token = clean_command(product("pgiam"))
        .args(["token", "-h", ENDPOINT, "-p", &server.port.to_string(), "-U", "app_user"])
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", client.simulator.url())
        .output()
        .unwrap();
    let token = expect_success("pgiam token", &token);
    let mut command = client.command_without_library(c_program());
    command.args(["reset", &client.conninfo()]).env("PGPASSWORD", token.trim());
    let (out, _) = outlives_its_tokens(&mut command, 1);
    assert!(out.starts_with("connected: app_user\nreset: "), "{out}");
    assert!(out.contains("PAM authentication failed"), "{out}");
    assert_eq!(server.decision(&client.simulator.instance_credentials().access_key_id), "token_age");
}

#[test]
fn one_line_of_the_log_says_which_credentials_a_program_signs_with() {
    let client = Client::new(server());
    let directory = temporary_directory();
    let log = directory.path().join("log");
    for level in ["info", "debug"] {
        let mut command = client.command("psql");
        command.args(["-XAtwc", "select current_user", &client.conninfo()]);
        command.env("PGIAM_LOG", level).env("PGIAM_LOG_FILE", &log);
        assert_eq!(expect_success("psql", &command.output().unwrap()), "app_user\n");
        let text = std::fs::read_to_string(&log).unwrap();
        let line = text.lines().find(|line| line.contains("credentials from instance metadata")).expect("the line");
        for part in ["info: ", "app-server-role", "key id ASIA", "expire 2", "fetched in "] {
            assert!(line.contains(part), "{part} in {line}");
        }
        assert!(text.contains(&format!("connection of app_user gets a token for {ENDPOINT}:")), "{text}");
        assert_eq!(text.contains("debug: "), level == "debug");
        assert!(!text.contains("X-Amz-") && !text.to_lowercase().contains("planted"), "{text}");
        std::fs::remove_file(&log).unwrap();
    }
    // Without a token, the log says why.
    let mut command = client.command("psql");
    command.args(["-XAtwc", "select 1", "host=localhost user=nobody dbname=app connect_timeout=2"]);
    command.env("PGIAM_LOG", "debug").env("PGIAM_LOG_FILE", &log).output().unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains("connection without a token: \"localhost\" is not an endpoint name"), "{text}");
}

#[test]
fn a_privately_loaded_libpq_is_found() {
    let client = Client::new(server());
    let script = "
import asyncio, os, psycopg
conninfo = os.environ['CONNINFO']
with psycopg.connect(conninfo) as connection:
    print(connection.execute('select current_user').fetchone()[0])
async def main():
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        print((await (await connection.execute('select current_user')).fetchone())[0])
asyncio.run(main())
print(len([line for line in open('/proc/self/maps') if 'libpq' in line and 'psycopg' in line]) > 0)
";
    let mut command = client.command(python());
    command.args(["-c", script]).env("CONNINFO", format!("{} iam_region=eu-central-1", client.conninfo()));
    assert_eq!(expect_success("psycopg", &command.output().unwrap()), "app_user\napp_user\nTrue\n");
}
