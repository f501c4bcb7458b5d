//! `pgiam` and `psql-iam` as a user runs them, with static keys and no network. psql is a script that prints what it gets.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const HOST: &str = "mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com";
const WRAPPER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/psql-iam");

/// A command in an environment with keys and nothing else.
fn isolated(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", "/nonexistent")
        .env("PGSYSCONFDIR", "/nonexistent")
        .env("AWS_CONFIG_FILE", "/dev/null")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "hushhush");
    command
}

fn pgiam(arguments: &[&str]) -> Command {
    let mut command = isolated(env!("CARGO_BIN_EXE_pgiam"));
    command.args(arguments);
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The standard output of a successful command that prints nothing on standard error.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{command:?}");
    text(&output.stdout).to_owned()
}

/// Standard output and standard error of a successful command.
fn warned(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{command:?}: {}", text(&output.stderr));
    (text(&output.stdout).to_owned(), text(&output.stderr).to_owned())
}

/// The message of a failure that prints nothing on standard output.
fn refused(command: &mut Command, status: i32) -> String {
    let Output { status: was, stdout, stderr } = command.output().unwrap();
    assert_eq!((was.code(), text(&stdout)), (Some(status), ""), "{command:?}: {}", text(&stderr));
    assert!(!text(&stderr).contains("hush"), "{}", text(&stderr));
    assert!(!text(&stderr).contains("panicked"), "{}", text(&stderr));
    text(&stderr).to_owned()
}

/// Whether a line is a complete token for this host, port, user and region.
fn is_token(line: &str, host: &str, port: u16, user: &str, region: &str) -> bool {
    let start = format!(
        "{host}:{port}/?Action=connect&DBUser={user}&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F"
    );
    let Some(rest) = line.strip_prefix(&start) else { return false };
    let Some((date, rest)) = rest.split_at_checked(8) else { return false };
    let Some(rest) = rest.strip_prefix(&format!("%2F{region}%2Frds-db%2Faws4_request&X-Amz-Date={date}T")) else {
        return false;
    };
    let Some((time, rest)) = rest.split_once("Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=") else {
        return false;
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let Some(signature) = rest.strip_suffix('\n') else { return false };
    digits(date)
        && time.len() == 6
        && digits(time)
        && signature.len() == 64
        && signature.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[track_caller]
fn assert_token(line: &str, port: u16, user: &str) {
    assert!(is_token(line, HOST, port, user, "eu-central-1"), "{line:?}");
}

#[test]
fn only_the_token_is_printed_however_the_connection_is_written() {
    let conninfo = format!("host={HOST} port=5433 user='app user' dbname=app sslmode=require");
    let uri = format!("postgresql://app%20user@{HOST}:5433/app?connect_timeout=3");
    for arguments in [
        &["token", "-h", HOST, "-p", "5433", "-U", "app user"][..],
        &["token", "--host", HOST, "--port=5433", "--user", "app user"],
        &["token", "--hostname", HOST, "--port", "5433", "--username", "app user", "--region", "eu-central-1"],
        &["token", "--hostname", HOST, "--port", "5433", "--username", "app user", "-r", "eu-central-1"],
        &["token", "-h", "other", "-h", HOST, "-p5433", "-Uapp user", "--service", "rds", "--timeout-ms", "5000"],
        &["token", &conninfo],
        &["token", &uri],
        &["token", "--for", "psql", "--", "-qAth", HOST, "-p5433", "app", "app user"],
        &["token", "--for", "psql", "--", &uri, "-c", "SELECT '-h x'"],
    ] {
        assert_token(&printed(&mut pgiam(arguments)), 5433, "app%20user");
    }
}

#[test]
fn missing_values_are_taken_from_the_environment_as_for_psql() {
    let with = |arguments: &[&str]| {
        let mut command = pgiam(arguments);
        command.envs([("PGHOST", HOST), ("PGPORT", "6000"), ("PGUSER", "env_user")]);
        printed(&mut command)
    };
    assert_token(&with(&["token"]), 6000, "env_user");
    assert_token(&with(&["token", "-U", "u"]), 6000, "u");
    assert_token(&with(&["token", "port=1"]), 1, "env_user");
    assert_token(&with(&["token", "--for", "psql"]), 6000, "env_user");
    assert_token(&with(&["token", "--for", "psql", "--", "-p", "7", "app"]), 7, "env_user");
}

#[test]
fn the_default_user_is_the_operating_systems_with_a_warning_and_the_default_port_5432() {
    let output = Command::new("id").arg("-un").output().unwrap();
    let name = text(&output.stdout).trim();
    for arguments in [&["token", "-h", HOST][..], &["token", "--for", "psql", "--", "-h", HOST]] {
        let (token, warning) = warned(&mut pgiam(arguments));
        assert_token(&token, 5432, name);
        assert!(warning.contains(&format!("the token is for {name:?}")) && warning.contains("-U USER"), "{warning}");
        assert_eq!(warning.lines().count(), 1);
    }
}

#[test]
fn a_connection_string_that_could_send_the_token_in_clear_is_warned_of() {
    let uri = format!("postgresql://u@{HOST}/app");
    for (arguments, variable, source) in [
        (["token".to_owned(), format!("host={HOST} user=u sslmode=disable")], None, "the connection string"),
        (["token".to_owned(), format!("{uri}?sslmode=prefer")], None, "the connection string"),
        (["token".to_owned(), uri], Some("allow"), "PGSSLMODE"),
    ] {
        let mut command = isolated(env!("CARGO_BIN_EXE_pgiam"));
        command.args(&arguments).envs(variable.map(|mode| ("PGSSLMODE", mode)));
        let (token, warning) = warned(&mut command);
        assert_token(&token, 5432, "u");
        assert!(warning.starts_with(&format!("pgiam: warning: {source}: sslmode=")), "{warning}");
        assert_eq!(warning.lines().count(), 1);
    }
}

#[test]
fn a_custom_endpoint_of_aurora_is_warned_of_because_it_accepts_no_tokens() {
    let custom = "reporting.cluster-custom-c9akciq32rpa.eu-central-1.rds.amazonaws.com";
    let (token, warning) = warned(&mut pgiam(&["token", "-h", custom, "-U", "u"]));
    assert!(is_token(&token, custom, 5432, "u", "eu-central-1"));
    assert!(warning.contains("custom endpoint") && warning.contains("PGIAM_HOST"), "{warning}");
    printed(&mut pgiam(&["token", "-h", "orders-prod.cluster-c9akciq32rpa.eu-central-1.rds.amazonaws.com", "-U", "u"]));
}

#[test]
fn a_token_can_be_printed_without_newline_and_percent_encoded() {
    let user = ["token", "-h", HOST, "-U", "jane@corp.com"];
    let plain = printed(pgiam(&user).arg("--no-newline"));
    assert_token(&format!("{plain}\n"), 5432, "jane%40corp.com");
    let encoded = printed(pgiam(&user).args(["--url-encode", "--no-newline"]));
    assert!(encoded.starts_with("mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com%3A5432%2F%3FAction%3Dconnect%26"));
    assert!(encoded.contains("DBUser%3Djane%2540corp.com%26"), "what is encoded already is encoded again: {encoded}");
    assert!(encoded.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%".contains(&byte)), "{encoded}");
    assert!(printed(pgiam(&user).arg("--url-encode")).ends_with('\n'));
    for flag in ["--no-newline", "--url-encode"] {
        assert!(refused(pgiam(&user).args(["--json", flag]), 2).contains(flag));
    }
}

#[test]
fn a_service_file_names_the_connection() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(".pg_service.conf"), format!("[app]\nhost={HOST}\nport=5555\nuser=su\n")).unwrap();
    let named = home.path().join("named.conf");
    fs::write(&named, format!("[app]\nhost={HOST}\nuser=named\nsslmode=prefer\n")).unwrap();
    let mut by_variable = pgiam(&["token"]);
    assert_token(&printed(by_variable.env("PGSERVICE", "app").env("HOME", home.path())), 5555, "su");
    let mut by_keyword = pgiam(&["token", "service=app user=u"]);
    let (token, warning) = warned(by_keyword.env("PGSERVICEFILE", &named));
    assert_token(&token, 5432, "u");
    assert!(warning.contains("sslmode=prefer") && warning.contains("named.conf"), "{warning}");
    let mut unsafe_mode = pgiam(&["token", "--for", "psql", "--", "service=app"]);
    let message = refused(unsafe_mode.env("PGSERVICEFILE", &named), 2);
    assert!(message.contains("sslmode=prefer") && message.contains("named.conf"), "{message}");
    let message = refused(pgiam(&["token", "service=none"]).env("HOME", home.path()), 1);
    assert!(message.contains("\"none\"") && message.contains(".pg_service.conf"), "{message}");
}

#[test]
fn json_is_one_object_with_the_token_and_what_it_is_for() {
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let line = printed(&mut pgiam(&["token", "--json", "-h", &HOST.to_uppercase(), "-U", "a\"b"]));
    let object: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(object["host"], HOST);
    assert_eq!(object["port"], 5432);
    assert_eq!(object["user"], "a\"b");
    assert_eq!(object["region"], "eu-central-1");
    let lifetime = object["expires_at"].as_u64().unwrap() - before;
    assert!((900..960).contains(&lifetime), "{lifetime}");
    assert_token(&format!("{}\n", object["token"].as_str().unwrap()), 5432, "a%22b");
    assert_eq!(object.as_object().unwrap().len(), 6);
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn a_dsql_endpoint_gets_a_dsql_token() {
    let host = "abc0123456789.dsql.us-east-1.on.aws";
    assert!(
        printed(&mut pgiam(&["token", "-h", host, "-U", "admin"]))
            .starts_with(&format!("{host}/?Action=DbConnectAdmin&"))
    );
    let arguments = ["token", "-h", HOST, "-U", "app", "--service", "dsql"];
    assert!(printed(&mut pgiam(&arguments)).contains("?Action=DbConnect&"));
}

#[test]
fn a_guessed_region_is_warned_of_on_standard_error() {
    let cname = "db.example.com";
    let output = pgiam(&["token", "-h", cname, "-U", "u"]).env("AWS_REGION", "eu-west-3").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(is_token(text(&output.stdout), cname, 5432, "u", "eu-west-3"));
    let warning = text(&output.stderr);
    assert!(warning.contains(cname) && warning.contains("eu-west-3") && warning.contains("only if"), "{warning}");

    let global = "db.global-abc123.global.rds.amazonaws.com";
    let output = pgiam(&["token", "-h", global, "-U", "u"]).env("AWS_REGION", "eu-west-3").output().unwrap();
    assert!(text(&output.stderr).contains("does not contain its region"), "{}", text(&output.stderr));

    printed(&mut pgiam(&["token", "-h", cname, "-U", "u", "--region", "eu-west-3"]));
}

#[test]
fn what_the_caller_must_change_exits_with_2() {
    for (arguments, why) in [
        (&["token"][..], "no host"),
        (&["token", "-h"], "--host"),
        (&["token", "--bogus"], "--bogus"),
        (&["token", "-h", HOST, "-p", "0"], "65535"),
        (&["token", "-h", HOST, "-p", "x"], "-p"),
        (&["token", "-h", "/tmp"], "Unix socket"),
        (&["token", "-h", "10.0.0.1"], "IP address"),
        (&["token", "-h", "a,b"], "one host"),
        (&["token", "-h", HOST, "--region", "us-east-1"], "contradicts"),
        (&["token", "-h", HOST, "--service", "mysql"], "mysql"),
        (&["token", "-h", HOST, "--timeout-ms", "0"], "--timeout-ms"),
        (&["token", "app"], "-h"),
        (&["token", "host=a", "host=b"], "host=b"),
        (&["token", "host=h usr=u"], "\"usr\""),
        (&["token", "-h", "a", "host=b"], "-h"),
        (&["token", "--for", "psql", "-h", HOST], "--for"),
        (&["token", "--for", "mysql", "--"], "mysql"),
        (&["token", "--", "-h", HOST], "--for"),
        (&["token", "--for", "psql", "--", "--hst", HOST], "--hst"),
        (&["token", "--hots", HOST], "--host"),
        (&["token", "-h"], "-h is the host"),
        (&["token", "-h", "https://mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com/"], HOST),
        (&["token", "https://u:hush@mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com/?x=1"], HOST),
        (&["token", HOST], "-h HOST"),
        (&["exec", "psql", "-h", HOST], "pgiam exec [OPTIONS] -- psql"),
        (&["exec", "-U", "u", "pg_dump", "-h", HOST], "pgiam exec [OPTIONS] -- pg_dump"),
        (&["exec", "--hots", HOST, "--", "psql"], "--host"),
        (&["exec", "--", "psql", "--hots", HOST], "--host"),
        (&["passfle", "x"], "passfile"),
        (&["tokne"], "token"),
        (&[], "Usage"),
    ] {
        let message = refused(&mut pgiam(arguments), 2);
        assert!(message.contains(why), "{arguments:?}: {message}");
    }
}

#[test]
fn arguments_that_are_not_utf_8_are_a_usage_error() {
    refused(pgiam(&["token", "-h"]).arg(OsStr::from_bytes(b"\xff")), 2);
    refused(pgiam(&["token"]).arg(OsStr::from_bytes(b"host=\xff")), 2);
    refused(pgiam(&["token", "--for", "psql", "--", "-U"]).arg(OsStr::from_bytes(b"\xff")), 2);
    refused(pgiam(&["token", "-h", HOST]).env("PGUSER", OsStr::from_bytes(b"\xff")), 2);
}

#[test]
fn missing_credentials_exit_with_1() {
    let mut command = pgiam(&["token", "-h", HOST, "-U", "u"]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    refused(&mut command, 1);
    let message = refused(&mut pgiam(&["token", "-h", HOST, "-U", "u", "--profile", "nosuch"]), 1);
    assert!(message.contains("nosuch"), "{message}");
}

#[test]
fn a_standard_output_that_takes_nothing_exits_with_1_and_no_panic() {
    for arguments in [&["token", "-h", HOST, "-U", "u"][..], &["token", "-h", HOST, "--json"], &["token", "--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        for stdout in [Stdio::from(writer), Stdio::from(File::create("/dev/full").unwrap())] {
            refused(pgiam(arguments).stdout(stdout), 1);
        }
    }
}

#[test]
fn help_and_version_are_printed_on_standard_output() {
    let help = printed(&mut pgiam(&["token", "--help"]));
    assert!(help.contains("Examples:") && help.contains("--hostname") && help.contains("Exit status"), "{help}");
    assert!(printed(&mut pgiam(&["--help"])).contains("token"));
    for arguments in [&["help"][..], &["-h"]] {
        assert_eq!(printed(&mut pgiam(arguments)), printed(&mut pgiam(&["--help"])), "{arguments:?}");
    }
    assert_eq!(printed(&mut pgiam(&["help", "exec"])), printed(&mut pgiam(&["exec", "--help"])));
    assert_eq!(printed(&mut pgiam(&["credentials", "-h"])), printed(&mut pgiam(&["credentials", "--help"])));
    assert!(printed(&mut pgiam(&["exec", "--help"])).contains("PGSSLMODE: exec sets it to require"));
    let version = format!("pgiam {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(printed(&mut pgiam(&["--version"])), version);
}

#[test]
fn for_psql_an_sslmode_that_could_send_the_token_in_clear_is_refused() {
    let host = format!("host={HOST}");
    let uri = format!("postgresql://u@{HOST}/app");
    for mode in ["disable", "allow", "prefer"] {
        let places = [
            (format!("{host} sslmode={mode}"), None, "connection string"),
            (format!("{uri}?sslmode={mode}"), None, "connection string"),
            (uri.clone(), Some(mode), "PGSSLMODE"),
        ];
        for (connection, variable, place) in places {
            let mut command = pgiam(&["token", "--for", "psql", "--", &connection]);
            let message = refused(command.envs(variable.map(|mode| ("PGSSLMODE", mode))), 2);
            let expected = [&format!("sslmode={mode}"), place, "in clear", "verify-full"];
            assert!(expected.iter().all(|part| message.contains(*part)), "{message}");
        }
    }
    for mode in ["require", "verify-ca", "verify-full"] {
        let connection = format!("{uri}?sslmode={mode}");
        printed(pgiam(&["token", "--for", "psql", "--", &connection]).env("PGSSLMODE", "disable"));
    }
    // libpq makes it verify-full by itself.
    printed(&mut pgiam(&["token", "--for", "psql", "--", &format!("{uri}?sslrootcert=system")]));
}

#[test]
fn a_token_is_signed_for_what_the_settings_name_and_flags_override_them() {
    let tunnel =
        [("PGIAM_HOST", HOST), ("PGIAM_PORT", "5433"), ("PGHOST", "localhost"), ("PGPORT", "1"), ("PGUSER", "u")];
    let with = |arguments: &[&str], more: &[(&str, &str)]| {
        let mut command = pgiam(arguments);
        command.envs(tunnel).envs(more.iter().copied());
        printed(&mut command)
    };
    assert_token(&with(&["token"], &[]), 5433, "u");
    assert_token(
        &with(&["token", &format!("host=10.0.0.1 iam_host={HOST} iam_port=7")], &[("PGIAM_HOST", "x")]),
        7,
        "u",
    );
    assert_token(&with(&["token", "--for", "psql", "--", "-h", "localhost", "-p", "2"], &[]), 5433, "u");
    assert_token(&with(&["token", "-h", HOST, "-p", "9"], &[("PGIAM_HOST", "other"), ("PGIAM_PORT", "8")]), 9, "u");
    let regions = [("PGIAM_HOST", "db.example.com"), ("PGIAM_REGION", "eu-west-2")];
    assert!(is_token(&with(&["token"], &regions), "db.example.com", 5433, "u", "eu-west-2"));
    let line = with(&["token", "--region", "eu-west-3"], &regions);
    assert!(is_token(&line, "db.example.com", 5433, "u", "eu-west-3"));
    let message = refused(pgiam(&["token", "-h", HOST, "-U", "u"]).env("PGIAM_PROFILE", "nosuch"), 1);
    assert!(message.contains("nosuch"), "{message}");
}

#[test]
fn credentials_shows_the_profile_that_would_sign() {
    let with = |arguments: &[&str]| {
        let output = pgiam(&[&["credentials"], arguments].concat()).env("PGIAM_PROFILE", "nosuch").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(with(&[]).contains("nosuch"));
    let text = with(&["--profile", "other"]);
    assert!(text.contains("other") && !text.contains("nosuch"), "{text}");
}

#[test]
fn for_psql_a_password_that_would_be_used_instead_of_the_token_is_refused() {
    for connection in [
        format!("host={HOST} user=u password=hush"),
        format!("host={HOST} user=u password=''"),
        format!("postgresql://u:hush@{HOST}/"),
        format!("postgresql://u@{HOST}/?password=hush"),
    ] {
        let message = refused(&mut pgiam(&["token", "--for", "psql", "--", &connection]), 2);
        assert!(message.contains("password"), "{message}");
        printed(&mut pgiam(&["token", &connection]));
    }
    assert!(refused(&mut pgiam(&["token", "--for", "psql", "--", "-W", "-h", HOST]), 2).contains("-W"));
}

/// A directory with a psql that prints its password file, sslmode, password and arguments, each followed by NUL.
fn with_fake_psql() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let psql = directory.path().join("psql");
    let script = "#!/bin/sh\nfile=$(cat \"${PGPASSFILE:-/dev/null}\")\n\
                  printf '%s\\0' \"$file\" \"${PGSSLMODE-unset}\" \"${PGPASSWORD-unset}\" \"$@\"\nexit 3\n";
    fs::write(&psql, script).unwrap();
    fs::set_permissions(&psql, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Whether a password file is one line with a token for this host, port and user.
#[track_caller]
fn assert_passfile(file: &str, host: &str, port: u16, user: &str) {
    let token = file.strip_prefix(&format!("{host}:{port}:*:{user}:")).unwrap_or_else(|| panic!("{file:?}"));
    assert!(is_token(&format!("{}\n", token.replace("\\:", ":")), HOST, port, user, "eu-central-1"), "{file:?}");
}

fn path_with(directories: &[&Path]) -> String {
    let mut path: Vec<_> = directories.iter().map(|directory| directory.to_str().unwrap()).collect();
    path.extend(["/usr/bin", "/bin"]);
    path.join(":")
}

/// psql-iam, run by a shell, with pgiam and the script psql on PATH.
fn wrapper(shell: &str, psql: &Path, arguments: &[&str]) -> Command {
    let mut command = isolated(shell);
    let pgiam = Path::new(env!("CARGO_BIN_EXE_pgiam")).parent().unwrap();
    command.arg(WRAPPER).args(arguments).env("PATH", path_with(&[psql, pgiam]));
    command
}

/// The password file, sslmode and arguments that psql got. It must have got no password.
fn psql_got(command: &mut Command) -> (String, String, Vec<String>) {
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(3), ""), "psql's own status: {command:?}");
    let mut got = text(&output.stdout).strip_suffix('\0').unwrap().split('\0').map(str::to_owned);
    let (file, sslmode, password) = (got.next().unwrap(), got.next().unwrap(), got.next().unwrap());
    assert_eq!(password, "unset", "{command:?}");
    (file, sslmode, got.collect())
}

fn owned(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

const SHELLS: [&str; 2] = ["dash", "bash"];

#[test]
fn the_wrapper_gives_psql_a_password_file_and_its_arguments_untouched() {
    let psql = with_fake_psql();
    let conninfo = format!("host={HOST} user='u' sslmode=verify-full");
    let uri = format!("postgresql://u@{HOST}/d");
    for shell in SHELLS {
        for arguments in [
            &["-h", HOST, "-U", "u", "db", "-c", "SELECT 'it''s', \"a b\", $1 * `x` \\ \n\n"][..],
            &[&conninfo, "-v", "x= ", "", "*"],
            &["-d", &uri, "--", "~", "%s"],
            &["-qXh", HOST, "-U", "u"],
        ] {
            let (file, sslmode, got) = psql_got(&mut wrapper(shell, psql.path(), arguments));
            assert_passfile(&file, HOST, 5432, "u");
            assert_eq!((sslmode.as_str(), got.as_slice()), ("require", owned(arguments).as_slice()), "{shell}");
        }
        let mut by_environment = wrapper(shell, psql.path(), &[]);
        by_environment.envs([("PGHOST", HOST), ("PGUSER", "u"), ("PGSSLMODE", "verify-full"), ("PGPASSWORD", "")]);
        let (file, sslmode, got) = psql_got(&mut by_environment);
        assert_passfile(&file, HOST, 5432, "u");
        assert_eq!((sslmode.as_str(), got.as_slice()), ("verify-full", &[][..]));
    }
}

#[test]
fn the_wrapper_does_not_start_psql_without_a_token() {
    let psql = with_fake_psql();
    for shell in SHELLS {
        let mut unsafe_mode = wrapper(shell, psql.path(), &[&format!("host={HOST} sslmode=prefer")]);
        assert!(refused(&mut unsafe_mode, 2).contains("sslmode=prefer"));
        refused(wrapper(shell, psql.path(), &["-h", HOST]).env("PGSSLMODE", "disable"), 2);
        refused(&mut wrapper(shell, psql.path(), &[]), 2);
        refused(wrapper(shell, psql.path(), &["-h", HOST]).env("PGPASSWORD", "hush"), 2);
        refused(wrapper(shell, psql.path(), &["-h", HOST]).env_remove("AWS_SECRET_ACCESS_KEY"), 1);
        refused(wrapper(shell, psql.path(), &["-h", HOST]).env("PATH", path_with(&[psql.path()])), 127);
    }
}

#[test]
fn the_wrapper_lets_psql_show_its_help_and_version() {
    let psql = with_fake_psql();
    for shell in SHELLS {
        for argument in ["--help", "--version", "-?", "-V", "--help=commands"] {
            let mut command = wrapper(shell, psql.path(), &[argument]);
            command.env_remove("AWS_ACCESS_KEY_ID");
            assert_eq!(psql_got(&mut command).2, [argument], "{shell}");
        }
    }
}

#[test]
fn help_of_psql_iam_explains_psql_iam_before_psql() {
    let psql = with_fake_psql();
    for shell in SHELLS {
        let output = wrapper(shell, psql.path(), &["--help"]).output().unwrap();
        let help = text(&output.stdout);
        assert!(help.starts_with("psql-iam runs psql with a fresh AWS IAM token"), "{help}");
        assert!(help.contains("pgiam exec -- psql") && help.contains("PGIAM_HOST") && help.contains("AWS_PROFILE"));
        assert!(help.ends_with("\0--help\0"), "the help of psql follows: {help}");
        let output = wrapper(shell, psql.path(), &["--help=commands"]).output().unwrap();
        assert!(!text(&output.stdout).contains("psql-iam"), "other help is psql's own");
    }
}

#[test]
fn the_wrapper_finds_pgiam_in_its_own_directory_through_symbolic_links() {
    let psql = with_fake_psql();
    let installed = tempfile::tempdir().unwrap();
    let directory = installed.path().join("lib a b");
    fs::create_dir(&directory).unwrap();
    fs::copy(WRAPPER, directory.join("psql-iam")).unwrap();
    symlink(env!("CARGO_BIN_EXE_pgiam"), directory.join("pgiam")).unwrap();
    symlink("psql-iam", directory.join("relative")).unwrap();
    let bin = installed.path().join("bin");
    fs::create_dir(&bin).unwrap();
    symlink("../lib a b/relative", bin.join("link")).unwrap();
    symlink(bin.join("link"), bin.join("psql-iam")).unwrap();

    let path = path_with(&[psql.path(), &bin]);
    let mut by_path = isolated("dash");
    by_path.arg("-c").arg("psql-iam \"$@\"").arg("sh").args(["-h", HOST, "-U", "u"]).env("PATH", &path);
    assert_passfile(&psql_got(&mut by_path).0, HOST, 5432, "u");
    for shell in SHELLS {
        for (script, here) in [("./psql-iam", &bin), ("psql-iam", &directory), ("../bin/link", &bin)] {
            let mut command = isolated(shell);
            command.arg(script).args(["-h", HOST, "-U", "u"]).current_dir(here);
            command.env("PATH", path_with(&[psql.path()]));
            assert_passfile(&psql_got(&mut command).0, HOST, 5432, "u");
        }
    }
}

#[test]
fn credentials_shows_the_sources_the_key_id_and_the_region_and_no_secret() {
    for json in [false, true] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgiam"));
        command.arg("credentials").env_clear().envs([
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "planted-secret"),
            ("AWS_SESSION_TOKEN", "planted-token"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
        ]);
        if json {
            command.arg("--json");
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}");
        for part in ["environment", "AKIDEXAMPLE", "eu-central-1", "AWS_REGION"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("planted"), "{text}");
        if json {
            let object: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(object["serving"]["source"], "environment");
        }
    }
}

#[test]
fn credentials_lists_every_source_when_there_are_none_and_exits_with_1() {
    let output = Command::new(env!("CARGO_BIN_EXE_pgiam"))
        .arg("credentials")
        .env_clear()
        .envs([
            ("AWS_CONFIG_FILE", "/dev/null"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    for source in ["environment", "profile", "web identity", "container", "instance metadata", "region"] {
        assert!(text.lines().any(|line| line.starts_with(source)), "{source}: {text}");
    }
    assert!(
        String::from_utf8(output.stderr).unwrap().contains("no credentials: environment: AWS_ACCESS_KEY_ID not set")
    );
}
