//! `pgiam doctor` with a real server in each state that makes a login fail: the reported cause and the suggested command.
//! The causes are those of docs/doctor.md.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use serde_json::Value;

use crate::real_server_logins::{Key, Parts, SECRET};
use crate::support::{
    ENDPOINT, Server, clean_command, expect_success, product, root, server, temporary_directory, texts,
};

/// The report of doctor.
struct Found {
    status: i32,
    output: String,
    findings: Vec<Value>,
}

impl Found {
    /// The finding with this cause: its text and its commands.
    #[track_caller]
    fn cause(&self, cause: &str) -> (String, String) {
        let found = self.findings.iter().find(|finding| finding["cause"] == cause);
        let found = found.unwrap_or_else(|| panic!("no {cause} in {}", self.output));
        assert_eq!(self.status, 1, "a FAIL is exit status 1");
        let commands: Vec<&str> =
            found["remedy"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
        assert!(!commands.is_empty(), "every FAIL has a command to fix it: {found}");
        (found["text"].as_str().unwrap().to_owned(), commands.join("\n"))
    }

    fn causes(&self) -> Vec<&str> {
        self.findings.iter().filter_map(|finding| finding["cause"].as_str()).collect()
    }

    #[track_caller]
    fn outcome(&self, check: &str) -> &str {
        let found = self.findings.iter().rev().find(|finding| finding["check"] == check);
        found.unwrap_or_else(|| panic!("no {check} in {}", self.output))["outcome"].as_str().unwrap()
    }
}

/// `pgiam doctor` with this key and the server's CA and address.
fn command(server: &Server, key: &Key, arguments: &[&str]) -> Command {
    let mut command = clean_command(product("pgiam"));
    command
        .arg("doctor")
        .args(arguments)
        .env("AWS_ACCESS_KEY_ID", &key.id)
        .env("AWS_SECRET_ACCESS_KEY", SECRET)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        // No AWS service is available: nothing listens on this port.
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("PGPORT", server.port.to_string())
        .env("PGDATABASE", "app")
        .env("PGSSLROOTCERT", &server.ca)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(mut command: Command, input: &str) -> Output {
    let mut process = command.spawn().expect("pgiam runs");
    process.stdin.take().unwrap().write_all(input.as_bytes()).expect("pgiam reads the token");
    process.wait_with_output().unwrap()
}

fn found(mut command: Command, input: &str) -> Found {
    command.arg("--json");
    let output = run(command, input);
    let (out, err) = texts(&output);
    assert!(!out.contains(SECRET) && !out.contains("Signature="), "no secret is printed: {out}");
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let findings = report["findings"].as_array().unwrap().clone();
    let status = output.status.code().unwrap();
    assert_eq!(report["ok"] == true, status == 0, "{out}");
    Found { status, output: out, findings }
}

/// Connects to the endpoint's name, at the server's address.
fn diagnose(arguments: &[&str], variables: &[(&str, &str)]) -> Found {
    let server = server();
    let mut command = command(server, &Key::new(server, None), &["-h", ENDPOINT]);
    command.args(arguments).env("PGHOSTADDR", "127.0.0.1").envs(variables.iter().copied());
    found(command, "")
}

/// Checks a token that was made elsewhere, offline.
fn judge(token: &str) -> Found {
    let server = server();
    let command =
        command(server, &Key::new(server, None), &["-h", ENDPOINT, "-U", "app_user", "--token", "-", "--offline"]);
    found(command, token)
}

fn a_token(change: impl FnOnce(&mut Parts)) -> String {
    let key = Key::new(server(), None);
    let mut parts = Parts::right(server(), &key);
    change(&mut parts);
    parts.sign(&key)
}

/// Forwards connections to the server, as an SSH tunnel does.
fn tunnel(server: &Server) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, target) = (listener.local_addr().unwrap().port(), server.port);
    thread::spawn(move || listener.incoming().map_while(Result::ok).for_each(|client| forward(client, target)));
    port
}

fn forward(client: TcpStream, target: u16) {
    let server = TcpStream::connect(("127.0.0.1", target)).unwrap();
    for (mut from, mut to) in [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)] {
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
    }
}

/// A server that answers each message of a client with the next of these.
fn listener(answers: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            for answer in &answers {
                let mut buffer = [0; 4096];
                let read = client.read(&mut buffer).unwrap_or(0);
                if read == 0 || client.write_all(answer).is_err() {
                    break;
                }
            }
        }
    });
    port
}

fn diagnose_listener(answers: &[&[u8]]) -> Found {
    let answers = answers.iter().map(|answer| answer.to_vec()).collect();
    diagnose(&["-U", "app_user", "-p", &listener(answers).to_string()], &[])
}

/// PostgreSQL's message for an error.
fn error_message(code: &str, text: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0C{code}\0M{text}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    [b"E", length.as_slice(), fields.as_bytes()].concat()
}

#[test]
fn every_check_of_a_login_that_works_is_ok() {
    let server = server();
    let key = Key::new(server, None);
    let mut command = command(server, &key, &["-h", ENDPOINT, "-U", "app_user"]);
    command.env("PGHOSTADDR", "127.0.0.1").env("PGSSLMODE", "verify-full");
    let (out, err) = texts(&run(command, ""));
    for check in ["name", "settings", "network", "tls", "credentials", "server", "token", "login"] {
        assert!(out.lines().any(|line| line.starts_with(&format!("ok    {check} "))), "{check}: {out}{err}");
    }
    assert!(!out.contains("FAIL") && out.contains("app_user is logged in to database app, PostgreSQL "), "{out}");
    assert_eq!(server.decision(&key.id), "accepted");
}

#[test]
fn connection_strings_uris_and_services_are_read_as_by_the_other_commands() {
    let (server, directory) = (server(), temporary_directory());
    let service = directory.path().join("pg_service.conf");
    std::fs::write(&service, format!("[app]\nhost={ENDPOINT}\nhostaddr=127.0.0.1\nuser=app_user\n")).unwrap();
    let conninfo = server.conninfo("app_user");
    let uri = format!("postgresql://app_user@{ENDPOINT}/app?hostaddr=127.0.0.1");
    let service = service.to_str().unwrap();
    for (arguments, variables) in [
        (vec![conninfo.as_str()], vec![]),
        (vec!["-d", uri.as_str()], vec![]),
        (vec![], vec![("PGSERVICE", "app"), ("PGSERVICEFILE", service)]),
    ] {
        let mut command = command(server, &Key::new(server, None), &arguments);
        command.envs(variables);
        let found = found(command, "");
        assert_eq!((found.status, found.outcome("login")), (0, "ok"), "{arguments:?}: {}", found.output);
    }
}

#[test]
fn wrong_arguments_are_exit_status_2() {
    for arguments in [&["-h", "a,b"][..], &["app"], &["-U", "app_user"], &["--tokn", "-"], &["-h", ENDPOINT, "-p", "x"]]
    {
        let mut command = clean_command(product("pgiam"));
        let output = command.arg("doctor").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_user_without_rds_iam_is_recognized_before_a_password_is_sent() {
    let found = diagnose(&["-U", "not_granted"], &[]);
    let (text, commands) = found.cause("not-granted");
    assert!(text.contains("asks not_granted for a password (SCRAM"), "{text}");
    assert!(
        commands.contains(r#"GRANT rds_iam TO "not_granted""#) && commands.contains(&format!("-h {ENDPOINT}")),
        "{commands}"
    );
    assert!(commands.contains("--db-instance-identifier mypg --enable-iam-database-authentication"), "{commands}");
    assert_eq!(found.outcome("login"), "unknown");
}

/// The superuser's connection of the test server.
pub(crate) fn admin(server: &Server) -> String {
    format!("host={} hostaddr='' port={} user=postgres dbname=postgres", server.socket.display(), server.port)
}

#[test]
fn the_administrators_query_distinguishes_a_missing_role_from_one_without_rds_iam() {
    let admin = admin(server());
    let roles = |user: &str| diagnose(&["-U", user, "--admin", &admin], &[]);
    let text = |found: &Found| {
        let finding = found.findings.iter().find(|finding| finding["check"] == "roles").expect("roles");
        format!("{} {}", finding["text"], finding["remedy"])
    };
    let without = text(&roles("not_granted"));
    assert!(without.contains("not_granted exists, but was not granted rds_iam"), "{without}");
    let missing = roles("nobody");
    let (words, commands) = missing.cause("no-role");
    assert!(
        words.contains("no role nobody") && commands.contains(r#"CREATE USER "nobody"; GRANT rds_iam TO "nobody""#),
        "{words}"
    );
    let (words, commands) = roles("App_User").cause("no-role");
    assert!(words.contains("there is app_user") && commands.contains("-U app_user"), "{words} {commands}");
    let right = roles("app_user");
    assert!(text(&right).contains("app_user was granted rds_iam"), "{}", right.output);
}

#[test]
fn indirect_members_of_rds_iam_are_shown_with_their_path() {
    let server = server();
    server.as_superuser(
        "postgres",
        "CREATE ROLE doctor_app LOGIN IN ROLE rds_iam; CREATE ROLE doctor_group IN ROLE doctor_app;
         CREATE ROLE doctor_master LOGIN PASSWORD 'x' IN ROLE doctor_group",
    );
    let found = diagnose(&["-U", "doctor_app", "--admin", &admin(server)], &[]);
    let (text, commands) = found.cause("indirect-member");
    assert!(text.contains("doctor_master -> doctor_group -> doctor_app -> rds_iam"), "{text}");
    assert!(commands.contains(r#"REVOKE "doctor_group" FROM "doctor_master""#), "{commands}");
    let found = diagnose(&["-U", "doctor_master", "--admin", &admin(server)], &[]);
    assert!(
        found.output.contains("doctor_master is a member of rds_iam indirectly: doctor_master -> "),
        "{}",
        found.output
    );
    assert_eq!(found.outcome("server"), "ok", "its password is refused, the server requires a token: {}", found.output);
}

/// A PostgreSQL 16 or later in a temporary directory.
pub(crate) struct Postgres16 {
    directory: tempfile::TempDir,
    programs: PathBuf,
}

/// The directory of the system's newest PostgreSQL, if that is 16 or later.
fn programs_of_the_system() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max()?;
    let programs = PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin"));
    (newest >= 16 && programs.join("initdb").exists()).then_some(programs)
}

impl Postgres16 {
    fn run(&self, script: &str) -> String {
        let prelude = r#"set -e; cd "$1"; programs=$2
            as= ; [ "$(id -u)" != 0 ] || as='setpriv --reuid=postgres --regid=postgres --init-groups --'"#;
        let output = clean_command("bash")
            .args(["-c", &format!("{prelude}\n{script}"), "postgres-16"])
            .args([self.directory.path(), &self.programs])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        expect_success(script, &output)
    }

    pub(crate) fn start() -> Self {
        let directory = temporary_directory();
        let server = match programs_of_the_system() {
            Some(programs) => Self { directory, programs },
            None => Self::from_pypi(directory),
        };
        server.run(
            r#"mkdir run; chmod 755 . run; [ -z "$as" ] || chown postgres run
            $as "$programs/initdb" --no-sync -A trust -U postgres -D run/data >/dev/null
            $as "$programs/pg_ctl" -w -D run/data -l run/log -o "-F -c listen_addresses= -c unix_socket_directories=$PWD/run" \
                start >/dev/null"#,
        );
        server
    }

    fn from_pypi(directory: tempfile::TempDir) -> Self {
        let python = clean_command(root().join("tools/python-environment")).arg("postgres16").output().unwrap();
        let python = expect_success("python-environment", &python);
        let environment = Path::new(python.trim()).ancestors().nth(2).unwrap();
        let server = Self { programs: directory.path().join("pgserver/pginstall/bin"), directory };
        // The server does not run as root and may be unable to read the environment's directory.
        server.run(&format!("cp -r {}/lib/python3*/site-packages/pgserver* .", environment.display()));
        server
    }

    pub(crate) fn admin(&self) -> String {
        format!(
            "host={} hostaddr='' port=5432 user=postgres dbname=postgres",
            self.directory.path().join("run").display()
        )
    }
}

impl Drop for Postgres16 {
    fn drop(&mut self) {
        // It may not have started.
        self.run("$as \"$programs/pg_ctl\" -m immediate -D run/data stop >/dev/null 2>&1 || true");
    }
}

#[test]
fn in_postgresql_16_the_creator_of_a_user_becomes_an_indirect_member_of_rds_iam() {
    let server = Postgres16::start();
    let sql = "CREATE ROLE rds_iam; CREATE ROLE doctor_master LOGIN CREATEROLE PASSWORD 'x';
               SET ROLE doctor_master; CREATE USER doctor_app; RESET ROLE; GRANT rds_iam TO doctor_app";
    let mut psql = clean_command("psql");
    psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &server.admin(), "-c", sql]);
    expect_success("psql", &psql.output().unwrap());
    let found = diagnose(&["-U", "doctor_app", "--admin", &server.admin()], &[]);
    let (text, commands) = found.cause("indirect-member");
    assert!(text.contains("doctor_master -> doctor_app -> rds_iam"), "{text}");
    assert!(
        commands.contains(r#"REVOKE "doctor_app" FROM "doctor_master""#) && commands.contains("user=postgres"),
        "{commands}"
    );
}

#[test]
fn a_user_with_both_rds_ad_and_rds_iam_is_reported() {
    let server = server();
    server.as_superuser("postgres", "CREATE ROLE rds_ad; CREATE ROLE doctor_ad LOGIN IN ROLE rds_iam, rds_ad");
    let (text, commands) = diagnose(&["-U", "doctor_ad", "--admin", &admin(server)], &[]).cause("rds-ad");
    assert!(
        text.contains("takes precedence") && commands.contains(r#"REVOKE rds_ad FROM "doctor_ad""#),
        "{text} {commands}"
    );
}

#[test]
fn the_administrators_password_is_used_but_not_printed() {
    let server = server();
    let [host, port] = [server.socket.display().to_string(), server.port.to_string()];
    let admin = format!("host={host} hostaddr='' port={port} user=postgres dbname=postgres password=hush");
    let found = diagnose(&["-U", "nobody", "--admin", &admin], &[]);
    let (_, commands) = found.cause("no-role");
    assert!(commands.contains(&format!("host={host}")) && !found.output.contains("hush"), "{}", found.output);
    for admin in [
        "host=127.0.0.1 password=hush port",
        "host=127.0.0.1 password='hush",
        "host=127.0.0.1 hush=1",
        "postgresql://adm:hu/hush@127.0.0.1:1/x",
        "postgresql://adm:12/hush@127.0.0.1:1/x",
        "postgresql://adm:x@hush@127.0.0.1:1/x",
        "adm:hush@127.0.0.1/x",
    ] {
        let output = clean_command(product("pgiam"))
            .args(["doctor", "-h", ENDPOINT, "-U", "u", "--admin", admin])
            .output()
            .unwrap();
        let (out, err) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{admin}: {out}{err}");
        assert!(err.contains("--admin") && !format!("{out}{err}").contains("hush"), "{admin}: {out}{err}");
    }
}

#[test]
fn suggested_commands_have_the_settings_and_the_flags_of_this_connection() {
    let server = server();
    let (tunnel, port) = (tunnel(server).to_string(), server.port.to_string());
    let directory = temporary_directory();
    let config = directory.path().join("config");
    let key = Key::new(server, None);
    let profile = format!(
        "[profile team]\naws_access_key_id = {}\naws_secret_access_key = {SECRET}\nregion = eu-central-1\n",
        key.id
    );
    std::fs::write(&config, profile).unwrap();
    let conninfo = format!(
        "host=localhost hostaddr=127.0.0.1 port={tunnel} iam_host={ENDPOINT} iam_port={port} user=app_user dbname=orders"
    );
    let with = |arguments: &[&str]| {
        let mut command = command(server, &key, arguments);
        command.env("AWS_CONFIG_FILE", &config).env_remove("PGSSLROOTCERT");
        found(command, "").cause("no-database").1
    };
    let settings = format!("'dbname=postgres hostaddr=127.0.0.1 iam_host={ENDPOINT} iam_port={port}'");
    let target = format!("-h localhost -p {tunnel} -U app_user -d {settings}");
    assert_eq!(with(&[&conninfo]), format!("psql-iam -l {target}"));
    assert_eq!(
        with(&[&conninfo, "--profile", "team", "--service", "rds", "-r", "eu-central-1"]),
        format!("pgiam exec --service rds --profile team -- psql -l {target}")
    );
    let starting = error_message("57P03", "the database system is starting up");
    let listener = listener(vec![b"N".to_vec(), starting]).to_string();
    for (user, port, cause, expected) in [
        ("app_user", listener.as_str(), "not-ready", "pgiam doctor --profile team -h "),
        ("not_granted", &port, "not-granted", "aws --profile team rds modify-db-instance"),
    ] {
        let arguments = ["-h", ENDPOINT, "-U", user, "-p", port, "--profile", "team"];
        let mut command = command(server, &key, &arguments);
        command.env("AWS_CONFIG_FILE", &config).env("PGHOSTADDR", "127.0.0.1");
        let (_, commands) = found(command, "").cause(cause);
        assert!(commands.contains(expected), "{commands}");
    }
}

#[test]
fn a_setting_is_removed_where_it_is_given() {
    let directory = temporary_directory();
    let file = directory.path().join("pg service.conf");
    std::fs::write(&file, "[app]\nchannel_binding=require\npassfile=/x\niam_port=9\n").unwrap();
    let offline = |text: &str| {
        let mut command = command(server(), &Key::new(server(), None), &[text, "-h", ENDPOINT, "-U", "u", "--offline"]);
        command.env("PGSERVICEFILE", &file);
        found(command, "")
    };
    let remedies =
        |text: &str| offline(text).findings.iter().map(|finding| finding["remedy"].to_string()).collect::<String>();
    let host = ENDPOINT.replace("mypg", "old");
    for text in
        [&format!("iam_host={host}"), "passfile=/x", "iam=off", "require_auth=gss sslmode=require", "iam_port=9"]
    {
        let (keyword, commands) = (text.split('=').next().unwrap(), remedies(text));
        assert!(commands.contains("psql-iam -h ") && !commands.contains("unset"), "{text}: {commands}");
        assert!(!commands.contains(&format!("{keyword}=")), "{text}: {commands}");
    }
    let found = offline("service=app");
    for cause in ["channel-binding", "password", "token-other-port"] {
        let (_, commands) = found.cause(cause);
        assert_eq!(commands, format!("${{EDITOR:-vi}} '{}'", file.display()), "{cause}");
    }
}

#[test]
fn settings_with_which_a_token_is_never_sent_are_reported() {
    for (variable, value, cause, command) in [
        ("PGSSLMODE", "disable", "no-tls", "PGSSLMODE=require psql-iam"),
        ("PGSSLMODE", "prefer", "no-tls", "PGSSLMODE=require psql-iam"),
        ("PGCHANNELBINDING", "require", "channel-binding", "unset PGCHANNELBINDING"),
        ("PGREQUIREAUTH", "scram-sha-256", "require-auth", "unset PGREQUIREAUTH"),
        ("PGREQUIREAUTH", "!password", "require-auth", "unset PGREQUIREAUTH"),
        ("PGPASSWORD", "hush", "password", "unset PGPASSWORD"),
        ("PGPASSWORD", "h:1/?Action=connect", "password", "--token -\nunset PGPASSWORD"),
        ("PGIAM", "off", "off", "unset PGIAM"),
    ] {
        let found = diagnose(&["-U", "app_user", "--offline"], &[(variable, value)]);
        let (text, commands) = found.cause(cause);
        assert!(commands.contains(command), "{variable}={value}: {commands}");
        assert!(!text.contains("hush"), "{text}");
    }
    for (variable, value) in [("PGREQUIREAUTH", "password"), ("PGCHANNELBINDING", "prefer"), ("PGPASSWORD", "rds-iam")]
    {
        let found = diagnose(&["-U", "app_user", "--offline"], &[(variable, value)]);
        assert_eq!(found.causes(), Vec::<&str>::new(), "{variable}={value}");
    }
}

#[test]
fn through_a_tunnel_the_endpoint_name_is_taken_from_the_certificate_and_the_command_logs_in() {
    let server = server();
    let (tunnel, port) = (tunnel(server).to_string(), server.port.to_string());
    let mut command = command(server, &Key::new(server, None), &["-h", "localhost", "-p", &tunnel, "-U", "app_user"]);
    command.env("PGIAM_PORT", &port);
    let found = found(command, "");
    let (text, commands) = found.cause("not-an-endpoint");
    assert!(text.contains(&format!("certificate is for {ENDPOINT}")), "{text}");
    assert_eq!(
        commands,
        format!("PGIAM_HOST={ENDPOINT} PGIAM_PORT={port} psql-iam -h localhost -p {tunnel} -U app_user -d app")
    );
    assert_eq!(found.outcome("login"), "ok", "the command would log in: {}", found.output);
}

#[test]
fn a_tunnel_to_another_endpoint_than_the_signed_one_is_recognized_by_its_certificate() {
    let server = server();
    let wrong = "orders-test.c7qexampleid.eu-central-1.rds.amazonaws.com".to_owned();
    let mut command = command(server, &Key::new(server, None), &["-h", "localhost", "-U", "app_user"]);
    command.env("PGIAM_HOST", &wrong).env("PGIAM_PORT", server.port.to_string());
    let found = found(command, "");
    let (text, commands) = found.cause("other-endpoint");
    assert!(text.contains(&format!("is for {ENDPOINT}, but the token would be signed for {wrong}")), "{text}");
    assert!(commands.contains(&format!("PGIAM_HOST={ENDPOINT} ")), "{commands}");
}

#[test]
fn a_host_name_for_which_no_token_is_valid_is_reported() {
    let key = Key::new(server(), None);
    let offline = |host: &str, variables: &[(&str, &str)]| {
        let mut command = command(server(), &key, &["-h", host, "-U", "app_user", "--offline"]);
        command.envs(variables.iter().copied());
        found(command, "")
    };
    for host in ["10.0.3.17", "localhost", "db.example.com"] {
        let (text, commands) = offline(host, &[]).cause("not-an-endpoint");
        assert!(text.starts_with(host) && commands.contains("PGIAM_HOST=ENDPOINT psql-iam"), "{text}");
    }
    let custom = "reporting.cluster-custom-c9akciq32rpa.eu-central-1.rds.amazonaws.com";
    let (_, commands) = offline(custom, &[]).cause("custom-endpoint");
    assert!(commands.contains("--region eu-central-1") && commands.contains("reporting"), "{commands}");
    let global = "orders.global-c9akciq32rpa.global.rds.amazonaws.com";
    offline(global, &[]).cause("no-region");
    assert_eq!(offline(global, &[("AWS_REGION", "eu-west-1")]).causes(), Vec::<&str>::new());
    let directory = temporary_directory();
    let config = directory.path().join("config");
    std::fs::write(&config, "[profile prod]\nregion = eu-west-1\n").unwrap();
    let profile = [("AWS_CONFIG_FILE", config.to_str().unwrap()), ("AWS_PROFILE", "prod")];
    assert_eq!(offline(global, &profile).causes(), Vec::<&str>::new());
    let (text, commands) =
        offline(ENDPOINT, &[("PGIAM_HOST", &ENDPOINT.replace("mypg", "old"))]).cause("other-endpoint");
    assert!(text.contains("PGIAM_HOST") && commands == "unset PGIAM_HOST", "{text}");
}

#[test]
fn a_token_for_another_connection_is_reported_with_the_wrong_field() {
    for (change, cause, part) in [
        ((|parts| parts.host = ENDPOINT.replace("mypg", "orders")) as fn(&mut Parts), "token-other-host", "orders."),
        (|parts| parts.port += 1, "token-other-port", "signed for port"),
        (|parts| parts.user = "jane@corp.com".into(), "token-other-user", "signed for user jane@corp.com"),
        (|parts| parts.seconds_ago = 1000, "token-expired", "seconds ago"),
        (|parts| parts.seconds_ago = -3600, "token-future", "clock"),
    ] {
        let found = judge(&a_token(change));
        assert_eq!(found.causes(), [cause]);
        let (text, commands) = found.cause(cause);
        assert!(text.contains(part) && commands.starts_with(&format!("pgiam token -h {ENDPOINT} -p ")), "{text}");
    }
    let other_region = a_token(|_| ()).replace("eu-central-1%2F", "eu-west-1%2F");
    assert_eq!(judge(&other_region).causes(), ["token-other-region"]);
    let wrong_region = ["-h", ENDPOINT, "-U", "app_user", "-r", "us-east-1", "--offline"];
    let (_, commands) = found(command(server(), &Key::new(server(), None), &wrong_region), "").cause("no-token");
    assert!(commands.starts_with("pgiam token -h ") && !commands.contains("us-east-1"), "{commands}");
    assert_eq!(judge(&a_token(|_| ())).causes(), Vec::<&str>::new());
}

#[test]
fn a_damaged_token_is_distinguished_from_a_wrong_one() {
    let token = a_token(|_| ());
    let encoded =
        token.replace('%', "%25").replace('/', "%2F").replace(':', "%3A").replace('?', "%3F").replace('=', "%3D");
    for (damaged, cause) in [
        (token[..319].to_owned(), "token-cut"),
        (encoded.replace('&', "%26"), "token-url-encoded"),
        (format!("{token}\n\n"), "token-white-space"),
        (format!("\"{token}\"\n"), "token-quoted"),
        (format!("https://{token}"), "token-scheme"),
        ("secret".to_owned(), "not-a-token"),
    ] {
        let found = judge(&damaged);
        assert_eq!(found.causes(), [cause], "{}", found.output);
    }
    assert_eq!(
        judge(&format!("{token}\n")).causes(),
        Vec::<&str>::new(),
        "the newline of the command is not the token's"
    );
}

#[test]
fn a_token_that_was_made_elsewhere_is_tested_with_a_login() {
    let server = server();
    for (seconds_ago, expected) in [(0, "ok"), (1000, "fail")] {
        let key = Key::new(server, None);
        let mut parts = Parts::right(server, &key);
        parts.seconds_ago = seconds_ago;
        let token = parts.sign(&key);
        let mut command = command(server, &key, &["-h", ENDPOINT, "-U", "app_user", "--token", "-"]);
        command.env("PGHOSTADDR", "127.0.0.1");
        assert_eq!(found(command, &token).outcome("login"), expected);
    }
}

#[test]
fn a_token_signed_with_another_secret_is_refused_and_the_servers_message_is_shown() {
    let server = server();
    let mut command = command(server, &Key::new(server, None), &["-h", ENDPOINT, "-U", "app_user"]);
    command.env("PGHOSTADDR", "127.0.0.1").env("AWS_SECRET_ACCESS_KEY", "anotherSecretAccessKey");
    let (text, commands) = found(command, "").cause("refused");
    assert!(text.contains("PAM authentication failed for user \"app_user\""), "{text}");
    assert!(commands.starts_with("pgiam doctor -h ") && commands.contains("--admin 'dbname=app host="), "{commands}");
}

#[test]
fn the_token_is_not_sent_to_a_server_whose_certificate_is_not_trusted() {
    let server = server();
    let key = Key::new(server, None);
    for (root, mode, cause) in [
        ("system", "verify-full", "unknown-ca"),
        ("/nonexistent/global-bundle.pem", "verify-ca", "no-root-certificates"),
        ("/dev/null", "require", "no-root-certificates"),
    ] {
        let mut command = command(server, &key, &["-h", ENDPOINT, "-U", "app_user"]);
        command.env("PGHOSTADDR", "127.0.0.1").env("PGSSLROOTCERT", root).env("PGSSLMODE", mode);
        let found = found(command, "");
        let (text, commands) = found.cause(cause);
        assert!(commands.contains("global-bundle.pem"), "{text}");
        assert_eq!((found.outcome("server"), found.outcome("login")), ("ok", "unknown"), "{}", found.output);
    }
    assert_eq!(server.decision(&key.id), "no decision");
    let missing = diagnose(&["-U", "app_user"], &[("PGSSLROOTCERT", "/nonexistent/ca.pem"), ("PGSSLMODE", "require")]);
    assert_eq!((missing.status, missing.outcome("login")), (0, "ok"), "as psql does: {}", missing.output);
    assert!(missing.output.contains("not verified (/nonexistent/ca.pem does not exist)"), "{}", missing.output);
}

#[test]
fn for_proxies_and_dsql_the_certificate_of_amazon_is_suggested() {
    for host in [
        "pool.proxy-c9akciq32rpa.eu-central-1.rds.amazonaws.com",
        "iuabtyq7pzsk4qfm2hmjz6gzqe.dsql.eu-central-1.on.aws",
    ] {
        let mut command = command(server(), &Key::new(server(), None), &["-h", host, "-U", "app_user"]);
        command.env("PGHOSTADDR", "127.0.0.1").env("PGSSLROOTCERT", "system").env("PGSSLMODE", "verify-full");
        let (_, commands) = found(command, "").cause("unknown-ca");
        assert!(commands.contains("AmazonRootCA1.pem") && !commands.contains("global-bundle"), "{commands}");
    }
}

#[test]
fn a_database_without_d_is_a_usage_error_that_names_the_option() {
    let mut command = clean_command(product("pgiam"));
    let output = command.args(["doctor", "-h", ENDPOINT, "-U", "app_user", "order items"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(texts(&output).1.contains("write -d 'order items'"), "{}", texts(&output).1);
}

/// The instance that the test server is, in a simulated account.
#[test]
fn refusals_in_the_metrics_are_a_reason_only_after_a_refused_login_and_another_key_has_other_policies() {
    use aws_simulator::{Account, Credentials, DbInstance, Metric, Principal, Simulator, SimulatorOptions, Statement};
    let (server, key) = (server(), Key::new(server(), None));
    let simulator =
        Simulator::start(SimulatorOptions { region: "eu-central-1".into(), ..SimulatorOptions::default() }).unwrap();
    let user = Credentials::of_user("jane");
    simulator.register_credentials(&user);
    let text = str::to_owned;
    simulator.set_account(Account {
        principals: vec![Principal {
            arn: user.principal.clone(),
            statements: ["rds:*", "iam:*", "cloudwatch:*"].map(|action| Statement::allow(action, "*")).into(),
            boundary: None,
        }],
        instances: vec![DbInstance {
            identifier: text("mypg"),
            resource_id: text("db-ABCDEFGHIJKL01234"),
            endpoint: text(ENDPOINT),
            port: server.port,
            status: text("available"),
            iam_enabled: true,
            ..DbInstance::default()
        }],
        metrics: vec![Metric {
            name: text("IamDbAuthConnectionFailureInvalidToken"),
            identifier: text("mypg"),
            sum: 2.0,
        }],
        ..Account::default()
    });
    let mut parts = Parts::right(server, &key);
    parts.seconds_ago = 1000;
    let expired = parts.sign(&key);
    for (user_name, outcome) in [("app_user", "fail"), ("not_granted", "unknown")] {
        let mut command = command(server, &key, &["-h", ENDPOINT, "-U", user_name, "--token", "-"]);
        command
            .env("PGHOSTADDR", "127.0.0.1")
            .env("AWS_ENDPOINT_URL", simulator.url())
            .env("AWS_ACCESS_KEY_ID", &user.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &user.secret_access_key);
        let found = found(command, &expired);
        assert_eq!(found.outcome("metrics"), outcome, "{}", found.output);
        assert_eq!(found.outcome("policy"), "unknown", "{}", found.output);
        assert!(found.output.contains(&format!("the token is signed with key {}", key.id)), "{}", found.output);
    }
}

#[test]
fn for_a_certificate_with_another_name_a_host_and_hostaddr_are_suggested() {
    let server = server();
    let key = Key::new(server, None);
    let mut command = command(server, &key, &["-h", "db.example.com", "-U", "app_user"]);
    command.env("PGHOSTADDR", "127.0.0.1").env("PGSSLMODE", "verify-full").env("PGIAM_HOST", ENDPOINT);
    let (text, commands) = found(command, "").cause("certificate-name");
    assert!(text.contains("not for db.example.com"), "{text}");
    assert!(
        commands.starts_with("PGHOSTADDR=127.0.0.1 ") && commands.contains(&format!("-h {ENDPOINT}")),
        "{commands}"
    );
    assert_eq!(server.decision(&key.id), "no decision");
}

/// A pooler in front of the server that has no TLS.
fn pooler_without_tls(server: &Server) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, target) = (listener.local_addr().unwrap().port(), server.port);
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 8];
            client.read_exact(&mut request).unwrap();
            client.write_all(b"N").unwrap();
            forward(client, target);
        }
    });
    port
}

#[test]
fn a_server_without_tls_is_reported_with_its_message_for_a_member() {
    let port = pooler_without_tls(server()).to_string();
    let found = diagnose(&["-U", "app_user", "-p", &port], &[]);
    found.cause("server-without-tls");
    let (text, _) = found.cause("no-tls");
    assert!(text.contains("pg_hba.conf") && text.contains("no encryption"), "{text}");
    assert_ne!(found.outcome("login"), "ok");
}

#[test]
fn a_missing_database_is_distinguished_from_a_refused_token() {
    let (text, commands) = diagnose(&["-U", "app_user", "-d", "orders"], &[]).cause("no-database");
    assert!(text.contains("database \"orders\" does not exist") && text.contains("login itself succeeded"), "{text}");
    assert!(commands.starts_with("psql-iam -l -h ") && commands.ends_with(" -d postgres"), "{commands}");
}

#[test]
fn a_server_that_cannot_be_reached_is_reported() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let (text, commands) = diagnose(&["-U", "app_user", "-p", &closed], &[]).cause("unreachable");
    assert!(text.contains("connection refused") && commands.contains("--db-instance-identifier mypg"), "{text}");
    let key = Key::new(server(), None);
    let unknown = command(server(), &key, &["-h", "db.invalid", "-U", "app_user"]);
    let (text, _) = found(unknown, "").cause("unknown-name");
    assert!(text.contains("db.invalid cannot be resolved"), "{text}");
}

#[test]
fn responses_of_other_servers_are_reported() {
    let found = diagnose_listener(&[b"HTTP/1.1 400 Bad Request\r\n\r\n"]);
    found.cause("not-postgresql");
    diagnose_listener(&[b"N", b"R\0\0\0\x0c\0\0\0\x05salt"]).cause("not-granted");
    diagnose_listener(&[b"N", b"R\0\0\0\x08\0\0\0\x07"]).cause("rds-ad");
    let proxy = error_message("28000", "This RDS proxy supports only IAM, MD5, or SCRAM authentication methods");
    let (text, commands) = diagnose_listener(&[b"N", &proxy]).cause("proxy");
    assert!(text.contains("IAMAuth") && commands.contains("describe-db-proxies"), "{text}");
    let starting = error_message("57P03", "the database system is starting up");
    assert!(diagnose_listener(&[b"N", &starting]).cause("not-ready").1.ends_with("--wait"));
    let slow = error_message("57014", "canceling authentication due to timeout");
    assert!(diagnose_listener(&[b"N", &slow]).cause("timeout").1.contains("FreeableMemory"));
    let words = "no pg_hba.conf entry for replication connection from host \"10.0.3.17\", user \"app_user\", SSL on";
    let (_, commands) = diagnose_listener(&[b"N", &error_message("28000", words)]).cause("replication");
    assert!(commands.contains("rds.iam_auth_for_replication"), "{commands}");
}

#[test]
fn missing_credentials_are_reported_and_the_server_is_still_checked() {
    let server = server();
    let mut command = command(server, &Key::new(server, None), &["-h", ENDPOINT, "-U", "app_user"]);
    command.env("PGHOSTADDR", "127.0.0.1").env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let found = found(command, "");
    assert_eq!(found.cause("no-credentials").1, "pgiam credentials");
    assert_eq!((found.outcome("server"), found.outcome("token")), ("ok", "unknown"), "{}", found.output);
}

#[test]
fn credentials_that_are_about_to_expire_are_reported() {
    let server = server();
    let mut command = command(server, &Key::new(server, None), &["-h", ENDPOINT, "-U", "app_user", "--offline"]);
    command.env("AWS_SESSION_TOKEN", "x").env("AWS_CREDENTIAL_EXPIRATION", "2020-01-01T00:00:00Z");
    let found = found(command, "");
    assert!(
        found.causes().iter().any(|cause| ["credentials-expire", "no-credentials"].contains(cause)),
        "{}",
        found.output
    );
}

#[test]
fn waiting_ends_when_the_login_succeeds_or_the_time_is_over() {
    for (user, expected) in [("app_user", 0), ("not_granted", 1)] {
        let server = server();
        let mut command = command(server, &Key::new(server, None), &["-h", ENDPOINT, "-U", user, "--wait=1"]);
        command.env("PGHOSTADDR", "127.0.0.1");
        assert_eq!(run(command, "").status.code(), Some(expected), "{user}");
    }
}

/// Runs a shell command on a terminal and returns its output.
pub(crate) fn on_a_terminal(mut command: Command, line: &str) -> String {
    let output = command.args(["-qec", line, "/dev/null"]).stdin(Stdio::null()).output().expect("script runs");
    texts(&output).0
}

#[test]
fn after_a_failed_login_of_psql_on_a_terminal_one_line_suggests_doctor() {
    let server = server();
    let key = Key::new(server, None);
    let port = server.port.to_string();
    let prepared = |program: &str| {
        let mut command = clean_command(program);
        command
            .env("AWS_ACCESS_KEY_ID", &key.id)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("PGHOSTADDR", "127.0.0.1")
            .env("SHELL", "/bin/sh");
        command
    };
    let pgiam = product("pgiam");
    let psql_iam = root().join("crates/pgiam-cli/psql-iam");
    let line = format!("PATH={}:$PATH", pgiam.parent().unwrap().display());
    let arguments = format!("-h {ENDPOINT} -p {port} -U nobody");
    for program in [psql_iam.display().to_string(), "pgiam exec -- psql".to_owned()] {
        let shown = on_a_terminal(prepared("script"), &format!("{line} {program} {arguments} -c 'select 1' app"));
        let expected = format!("pgiam doctor {arguments} -d app");
        assert!(shown.contains("authentication failed for user \"nobody\""), "{shown}");
        assert_eq!(shown.matches(&expected).count(), 1, "{expected} in {shown}");
    }
    let query = format!("{line} pgiam exec -- psql -h {ENDPOINT} -p {port} -U app_user -c 'select wrong' app");
    assert!(!on_a_terminal(prepared("script"), &query).contains("pgiam doctor"), "only after a failed login");
    let mut without_terminal = prepared(pgiam.to_str().unwrap());
    without_terminal.args(["exec", "--", "psql", "-h", ENDPOINT, "-p", &port, "-U", "nobody", "app"]);
    let (_, err) = texts(&without_terminal.stdin(Stdio::null()).output().unwrap());
    assert!(err.contains("nobody") && !err.contains("pgiam doctor"), "{err}");
}

#[test]
fn a_check_that_takes_long_is_named_on_a_terminal_until_it_ends() {
    let server = server();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let (release, released) = std::sync::mpsc::channel::<()>();
    // Says nothing until the name of the check is on the terminal.
    let silent = thread::spawn(move || {
        let _connection = listener.accept().unwrap();
        let _ = released.recv();
    });
    let doctor = command(server, &Key::new(server, None), &["-h", ENDPOINT, "-U", "app_user", "-p", &port]);
    let words: Vec<_> = std::iter::once(doctor.get_program()).chain(doctor.get_args()).collect();
    let line = words.join(std::ffi::OsStr::new(" "));
    let mut script = clean_command("script");
    script.args(["-qec", line.to_str().unwrap(), "/dev/null"]).env("SHELL", "/bin/sh").env("PGHOSTADDR", "127.0.0.1");
    script.envs(doctor.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut process = script.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("script runs");
    let (mut shown, mut byte) = (Vec::new(), [0]);
    let mut output = process.stdout.take().unwrap();
    while !shown.ends_with(b" ...") && output.read(&mut byte).unwrap() == 1 {
        shown.push(byte[0]);
    }
    assert!(shown.ends_with(b" ..."), "{}", String::from_utf8_lossy(&shown));
    drop(release);
    silent.join().unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    process.wait().unwrap();
    assert!(rest.starts_with("\r\x1b[K") && rest.contains("FAIL"), "{rest}");
}

/// Each row of the page names a test that exists, and each cause that doctor prints has a row.
#[test]
fn the_page_about_doctor_has_every_cause_and_names_its_test() {
    let page = std::fs::read_to_string(root().join("docs/doctor.md")).unwrap();
    let mut tests = String::new();
    for file in ["tests/suite/doctor.rs", "tests/suite/doctor_aws.rs", "crates/pgiam-cli/src/commands/doctor/token.rs"]
    {
        tests.push_str(&std::fs::read_to_string(root().join(file)).unwrap());
    }
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    for row in rows.iter().filter(|row| row.len() == 3) {
        let test = row[2].trim_matches('`');
        assert!(tests.contains(&format!("fn {test}()")), "{test}");
    }
    for cause in tests.split("cause(\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(page.contains(&format!("`{cause}`")), "docs/doctor.md has no row for {cause}");
    }
    let help = expect_success("--help", &clean_command(product("pgiam")).args(["doctor", "--help"]).output().unwrap());
    for flag in ["--admin", "--json", "--offline", "--wait", "--token"] {
        assert!(help.contains(flag) && page.contains(flag), "{flag}");
    }
}
