//! One table of connections, tested with the header `pgiam-libpq.h`, the preload library and, where it makes the token
//! itself, the program `pgiam`. They share the crate `pgiam-libpq`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Output;

use aws_simulator::{Fault, Route, Simulator, SimulatorOptions};
use pgiam_core::token::endpoint;

use crate::c_programs::abi_environment;
use crate::libpq_header::driver;
use crate::preload_support::c_program;
use crate::support::{
    ENDPOINT, clean_command, expect_success, product, products, run, server, temporary_directory, texts,
};

/// Host names, and whether each is an endpoint name.
const NAMES: &[(&str, bool)] = &[
    (ENDPOINT, true),
    ("MyPg.C9akciq32rpa.eu-central-1.RDS.amazonaws.com.", true),
    ("orders-prod.cluster-ro-c9akciq32rpa.us-gov-west-1.rds.amazonaws.com", true),
    ("orders-prod.cluster-custom-c9akciq32rpa.eu-central-1.rds.amazonaws.com", true),
    ("orders-prod.rds.cn-north-1.amazonaws.com.cn", false),
    ("orders-prod.c9akciq32rpa.rds.cn-north-1.amazonaws.com.cn", true),
    ("app.proxy-c9akciq32rpa.eu-central-1.rds.amazonaws.com", true),
    ("abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws", true),
    ("orders-prod.global-abcd1234.global.rds.amazonaws.com", true),
    // Similar names that are not endpoint names.
    ("mypg.global.rds.amazonaws.com", false),
    ("mypg.c9ak.eu_central_1.rds.amazonaws.com", false),
    ("mypg..eu-central-1.rds.amazonaws.com", false),
    ("mypg.cluster-.eu-central-1.rds.amazonaws.com", false),
    ("mypg.c9akciq32rpa.global.rds.amazonaws.com", false),
    ("orders.prod.dsql.us-east-1.on.aws", false),
    ("mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com.example.com", false),
    ("eu-central-1.rds.amazonaws.com", false),
    ("db.example.com", false),
    ("localhost", false),
];

#[test]
fn the_same_names_are_endpoint_names_in_the_core_the_header_and_the_preload_library() {
    let expected: String = NAMES.iter().map(|(name, is_one)| format!("{name} {is_one}\n")).collect();
    for (name, is_one) in NAMES {
        assert_eq!(endpoint::is_recognized(name), *is_one, "{name}");
    }
    let names = || NAMES.iter().map(|(name, _)| *name);
    let mut header = clean_command(driver());
    header.env("LD_LIBRARY_PATH", products());
    let mut preload = clean_command(c_program());
    preload.env("LD_PRELOAD", product("libpgiam_preload.so"));
    for mut command in [header, preload] {
        command.arg("tokens").args(names()).envs(abi_environment()).env("AWS_REGION", "eu-central-1");
        assert_eq!(expect_success("tokens", &command.output().unwrap()), expected, "{command:?}");
    }
}

enum Outcome {
    /// A login with a token and this `sslmode`.
    Token(&'static str),
    /// No login, and pgiam's reason begins with this.
    Refused(&'static str),
    /// No login, and libpq's own message contains this, without a message of pgiam.
    LeftAlone(&'static str),
}

use Outcome::{LeftAlone, Refused, Token};

struct Case {
    /// `{place}` is the server under its endpoint's name, `{tunnel}` the same server as localhost, `{port}` its port.
    conninfo: &'static str,
    variables: &'static [(&'static str, &'static str)],
    outcome: Outcome,
}

const CLEAR: &str = "could send the token in clear";
const NO_PASSWORD: &str = "no password supplied";

#[rustfmt::skip]
const CASES: &[Case] = &[
    Case { conninfo: "{place}", variables: &[], outcome: Token("require") },
    Case { conninfo: "{place} sslmode=verify-full", variables: &[("PGSSLMODE", "disable")], outcome: Token("verify-full") },
    Case { conninfo: "{place}", variables: &[("PGSSLMODE", "verify-ca")], outcome: Token("verify-ca") },
    Case { conninfo: "{place} password=rds-iam", variables: &[], outcome: Token("require") },
    Case { conninfo: "{place} port=0{port}", variables: &[], outcome: Token("require") },
    Case { conninfo: "{place} port=' {port} ' password=rds-iam", variables: &[], outcome: Token("require") },
    Case { conninfo: "{place}", variables: &[("PGPASSWORD", "rds-iam")], outcome: Token("require") },
    Case { conninfo: "{tunnel}", variables: &[("PGIAM_HOST", ENDPOINT)], outcome: Token("require") },
    Case { conninfo: "{tunnel} iam_host={endpoint} iam_region=eu-central-1", variables: &[("PGIAM_HOST", "wrong.example.com")], outcome: Token("require") },
    Case { conninfo: "{place} sslmode=disable", variables: &[], outcome: Refused(CLEAR) },
    Case { conninfo: "{place}", variables: &[("PGSSLMODE", "prefer")], outcome: Refused(CLEAR) },
    Case { conninfo: "{place} sslmode=allow password=rds-iam", variables: &[], outcome: Refused(CLEAR) },
    Case { conninfo: "{place} iam_region=us-east-1", variables: &[], outcome: Refused("contradicts") },
    Case { conninfo: "{tunnel} password=rds-iam", variables: &[], outcome: Refused("asks for a token, and this connection gets none") },
    Case { conninfo: "{place} iam=off", variables: &[("PGPASSWORD", "rds-iam")], outcome: Refused("switched off") },
    Case { conninfo: "{place} iam=perhaps", variables: &[], outcome: Refused("iam is \"perhaps\"") },
    Case { conninfo: "{place} iam=off", variables: &[], outcome: LeftAlone(NO_PASSWORD) },
    Case { conninfo: "{tunnel}", variables: &[], outcome: LeftAlone(NO_PASSWORD) },
    Case { conninfo: "{place} password=mine", variables: &[], outcome: LeftAlone("authentication failed") },
    Case { conninfo: "{tunnel} bogus=1", variables: &[], outcome: LeftAlone("invalid connection option \"bogus\"") },
];

/// Runs a program on an EC2 instance.
fn on_instance(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    on_this_instance(&server().simulator(SimulatorOptions::default()), program, arguments, variables)
}

fn on_this_instance<S: AsRef<OsStr>>(
    simulator: &Simulator,
    program: &Path,
    arguments: &[S],
    variables: &[(&str, S)],
) -> Output {
    let mut command = clean_command(program);
    command.args(arguments).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url()).env("HOME", "/nonexistent");
    command.envs(variables.iter().map(|(name, value)| (*name, value))).output().unwrap()
}

/// What a connection prints with the header and with the preload library.
fn with_both(simulator: &Simulator, conninfo: &[u8], variables: &[(&str, &[u8])]) -> [String; 2] {
    let (library, products) = (product("libpgiam_preload.so"), products());
    let more = [("LD_LIBRARY_PATH", products.as_os_str()), ("LD_PRELOAD", library.as_os_str())];
    let programs = [(driver().as_path(), "connectdb"), (c_program(), "connect")];
    [0, 1].map(|index| {
        let (program, mode) = programs[index];
        let mut all: Vec<(&str, &OsStr)> =
            variables.iter().map(|(name, value)| (*name, OsStr::from_bytes(value))).collect();
        all.push(more[index]);
        let arguments = [OsStr::new(mode), OsStr::from_bytes(conninfo)];
        let (out, err) = texts(&on_this_instance(simulator, program, &arguments, &all));
        out.replace(", ticks 0", "") + &err
    })
}

fn private_file(path: &Path, contents: &[u8]) {
    std::fs::write(path, contents).unwrap();
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
}

/// The SCRAM verifier of the password `grüße` in Latin-1.
const VERIFIER: &str = "
import base64, hashlib, hmac
salted = hashlib.pbkdf2_hmac('sha256', b'gr\\xfc\\xdfe', b'sixteen bytes ab', 4096)
key = lambda name: hmac.new(salted, name, 'sha256').digest()
text = lambda data: base64.b64encode(data).decode()
stored, server = hashlib.sha256(key(b'Client Key')).digest(), key(b'Server Key')
print(f\"SCRAM-SHA-256$4096:{text(b'sixteen bytes ab')}${text(stored)}:{text(server)}\")
";

#[test]
fn a_password_that_is_not_utf8_logs_in_as_without_pgiam() {
    let server = server();
    let verifier = run("python3", ["-c", VERIFIER], None::<&str>);
    server.as_superuser("app", &format!("create role in_latin1 login password '{}'", verifier.trim()));
    let simulator = server.simulator(SimulatorOptions::default());
    let place = format!("host={ENDPOINT} hostaddr=127.0.0.1 port={} dbname=app user=in_latin1", server.port);
    let directory = temporary_directory();
    let passfile = directory.path().join("passfile");
    private_file(&passfile, b"*:*:*:in_latin1:gr\xfc\xdfe\n");
    let passfile = passfile.to_str().unwrap().as_bytes();
    let in_string = [place.as_bytes(), b" password=gr\xfc\xdfe iam_region=eu-central-1"].concat();
    for (conninfo, variables) in [
        (in_string.as_slice(), vec![]),
        (place.as_bytes(), vec![("PGPASSWORD", &b"gr\xfc\xdfe"[..])]),
        (place.as_bytes(), vec![("PGPASSFILE", passfile)]),
    ] {
        for out in with_both(&simulator, conninfo, &variables) {
            assert_eq!(out, "user in_latin1, sslmode prefer\n", "{variables:?}");
        }
    }
    assert!(simulator.requests().is_empty(), "no token was made");
}

#[test]
fn a_request_for_a_token_with_a_user_that_is_not_utf8_is_not_sent() {
    let server = server();
    let simulator = server.simulator(SimulatorOptions::default());
    let place = format!("host={ENDPOINT} hostaddr=127.0.0.1 port={} dbname=app user=", server.port);
    for (user, more, variables) in [
        (&b"caf\xe9"[..], &b" password=rds-iam"[..], vec![]),
        (b"\xc3\xa4\xff", b" iam=on", vec![("PGPASSWORD", &b"rds-iam"[..])]),
        (b"caf\xe9", b"", vec![]),
    ] {
        let [header, preload] = with_both(&simulator, &[place.as_bytes(), user, more].concat(), &variables);
        let reason = "pgiam: no token for this connection: the value of user is not UTF-8\n";
        assert_eq!(header, format!("refused: {reason}"));
        assert!(preload.starts_with("libpq: ") && preload.ends_with(reason), "{preload}");
        // libpq has no password to send.
        assert!(preload.contains(NO_PASSWORD) || preload.contains("does not exist"), "{preload}");
    }
}

#[test]
fn a_password_of_the_password_file_is_used_for_hosts_whose_list_items_are_empty() {
    let server = server();
    let simulator = server.simulator(SimulatorOptions::default());
    let directory = temporary_directory();
    let passfile = directory.path().join("passfile");
    private_file(&passfile, format!("{ENDPOINT}:*:*:*:not_granted\nlocalhost:*:*:*:not_granted\n").as_bytes());
    let passfile = passfile.to_str().unwrap().as_bytes();
    let port = server.port;
    for hosts in [
        format!("host={ENDPOINT},localhost hostaddr=127.0.0.1, port={port},"),
        format!("host=localhost,{ENDPOINT} hostaddr=,127.0.0.1 port={port},{port} iam_host={ENDPOINT}"),
        format!("host=localhost,{ENDPOINT} port={port}, iam_host={ENDPOINT}"),
    ] {
        let conninfo = format!("{hosts} user=not_granted dbname=app");
        for out in with_both(&simulator, conninfo.as_bytes(), &[("PGPASSFILE", passfile)]) {
            assert_eq!(out, "user not_granted, sslmode prefer\n", "{hosts}");
        }
    }
    assert!(simulator.requests().is_empty(), "no token was made");
}

#[test]
fn hosts_without_a_region_wait_for_the_metadata_once_and_other_hosts_get_their_token() {
    let server = server();
    let simulator = server.simulator(SimulatorOptions::default());
    let credentials = simulator.instance_credentials();
    simulator.inject(Route::ImdsToken, Fault::HangBeforeAnswer, 100);
    let session = credentials.session_token.as_deref().unwrap();
    let variables = [
        ("AWS_ACCESS_KEY_ID", credentials.access_key_id.as_bytes()),
        ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key.as_bytes()),
        ("AWS_SESSION_TOKEN", session.as_bytes()),
        ("PGIAM", b"on"),
    ];
    let hosts = ["db.example.com"; 6].join(",");
    let addresses = ["127.0.0.1"; 7].join(",");
    let conninfo = format!(
        "host={hosts},{ENDPOINT} hostaddr={addresses} port=1,1,1,1,1,1,{} user=app_user dbname=app",
        server.port
    );
    let began = std::time::Instant::now();
    let [header, preload] = with_both(&simulator, conninfo.as_bytes(), &variables);
    assert!(began.elapsed().as_secs() < 10, "two seconds for each of the two");
    // The header refuses a connection that lacks one of its tokens.
    assert!(header.starts_with("refused: pgiam: no token for db.example.com: no region: "), "{header}");
    assert_eq!(preload, "user app_user, sslmode require\n");
}

fn check(case: &Case) {
    let server = server();
    let place = format!("host={ENDPOINT} hostaddr=127.0.0.1 port={} dbname=app user=app_user", server.port);
    let tunnel = place.replace(ENDPOINT, "localhost");
    let root = format!(" sslrootcert={}", server.ca);
    let conninfo =
        case.conninfo.replace("{place}", &place).replace("{tunnel}", &tunnel).replace("{endpoint}", ENDPOINT);
    let conninfo = conninfo.replace("{port}", &server.port.to_string());
    let conninfo = conninfo + if case.conninfo.contains("verify") { &root } else { "" };
    let root = [("PGSSLROOTCERT", server.ca.as_str())];
    let variables = [case.variables, &root].concat();

    let library = product("libpgiam_preload.so").display().to_string();
    let products = products().display().to_string();
    let with_header = [variables.as_slice(), &[("LD_LIBRARY_PATH", products.as_str())]].concat();
    let with_preload = [variables.as_slice(), &[("LD_PRELOAD", library.as_str())]].concat();
    let header = texts(&on_instance(driver(), &["connectdb", &conninfo], &with_header)).0;
    let preload = texts(&on_instance(c_program(), &["connect", &conninfo], &with_preload)).0;
    match case.outcome {
        Token(sslmode) => {
            assert_eq!(header, format!("user app_user, sslmode {sslmode}, ticks 0\n"), "{conninfo}");
            assert_eq!(preload, format!("user app_user, sslmode {sslmode}\n"), "{conninfo}");
            let helper = on_instance(&product("pgiam"), &["token", &conninfo], &variables);
            let token = expect_success("pgiam token", &helper);
            assert!(token.starts_with(&format!("{ENDPOINT}:{}/?Action=connect&", server.port)), "{conninfo}");
        }
        Refused(reason) => {
            let (_, said) = header.split_once("refused: pgiam: ").unwrap_or_else(|| panic!("{conninfo}: {header}"));
            assert!(said.contains(reason), "{conninfo}: {header}");
            assert!(preload.starts_with("libpq: ") && preload.contains(&format!("pgiam: {said}")), "{preload}");
        }
        LeftAlone(reason) => {
            assert!(header.contains(reason), "{conninfo}: {header}");
            assert_eq!(preload, header, "{conninfo}");
            assert!(!header.contains("pgiam"), "{conninfo}: {header}");
        }
    }
}

#[test]
fn the_header_the_preload_library_and_the_program_make_the_same_decisions() {
    // Each case runs two or three programs that wait for the server.
    for cases in CASES.chunks(6) {
        std::thread::scope(|scope| cases.iter().for_each(|case| drop(scope.spawn(|| check(case)))));
    }
}

/// `pgiam exec --preload` sets a password file for the program, too.
#[test]
fn a_token_from_the_password_file_of_exec_is_not_sent_without_tls() {
    let server = server();
    let directory = temporary_directory();
    let passfile = directory.path().join("passfile");
    let mut token = on_instance(&product("pgiam"), &["token", &server.conninfo("app_user")], &[]).stdout;
    token.pop();
    let token = String::from_utf8(token).unwrap().replace(':', "\\:");
    std::fs::write(&passfile, format!("{ENDPOINT}:*:*:*:{token}\nlocalhost:*:*:*:{token}\n")).unwrap();
    std::fs::set_permissions(&passfile, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let port = server.port.to_string();
    let library = product("libpgiam_preload.so").display().to_string();
    let variables = |sslmode| {
        [
            ("LD_PRELOAD", library.as_str()),
            ("PGPASSFILE", passfile.to_str().unwrap()),
            ("PGHOSTADDR", "127.0.0.1"),
            ("PGPORT", &port),
            ("PGUSER", "app_user"),
            ("PGDATABASE", "app"),
            ("PGSSLMODE", sslmode),
        ]
    };
    for host in [ENDPOINT, "localhost"] {
        let host = format!("host={host}");
        for mode in ["disable", "allow", "prefer"] {
            let out = texts(&on_instance(c_program(), &["connect", &host], &variables(mode))).0;
            assert!(out.contains(&format!("pgiam: sslmode={mode} could send the token in clear")), "{host}: {out}");
        }
        let out = texts(&on_instance(c_program(), &["connect", &host], &variables(""))).0;
        assert_eq!(out, "user app_user, sslmode require\n", "{host}: the library raises it");
    }
}

#[test]
fn the_error_mentions_a_password_file_whose_password_was_used_instead_of_a_token() {
    let server = server();
    let directory = temporary_directory();
    let passfile = directory.path().join("passfile");
    std::fs::write(&passfile, format!("{ENDPOINT}:*:*:*:forgotten\n")).unwrap();
    std::fs::set_permissions(&passfile, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let library = product("libpgiam_preload.so").display().to_string();
    let out = on_instance(
        c_program(),
        &["connect", &server.conninfo("app_user")],
        &[("LD_PRELOAD", library.as_str()), ("PGPASSFILE", passfile.to_str().unwrap())],
    );
    let out = texts(&out).0;
    let expected =
        format!("\npgiam: the password for {ENDPOINT} came from {}, so no token was used", passfile.display());
    assert!(out.contains("authentication failed") && out.contains(&expected), "{out}");
    // A server that cannot be reached did not refuse the password.
    let away = server.conninfo("app_user").replace(&format!("port={}", server.port), "port=1");
    let out = on_instance(
        c_program(),
        &["connect", &away],
        &[("LD_PRELOAD", library.as_str()), ("PGPASSFILE", passfile.to_str().unwrap())],
    );
    let out = texts(&out).0;
    assert!(out.contains("Connection refused") && !out.contains("pgiam"), "{out}");
}
