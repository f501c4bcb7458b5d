//! One table of connections, tested with the header `pgiam-libpq.h`, the preload library and, where it makes the token
//! itself, the program `pgiam`. They share the crate `pgiam-libpq`.

use std::path::Path;
use std::process::Output;

use aws_simulator::SimulatorOptions;
use pgiam_core::token::endpoint;

use crate::c_programs::abi_environment;
use crate::libpq_header::driver;
use crate::preload_support::c_program;
use crate::support::{ENDPOINT, clean_command, expect_success, product, products, server, temporary_directory, texts};

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
    /// `{place}` is the server under its endpoint's name, `{tunnel}` the same server as localhost.
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
    let simulator = server().simulator(SimulatorOptions::default());
    let mut command = clean_command(program);
    command.args(arguments).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url()).env("HOME", "/nonexistent");
    command.envs(variables.iter().copied()).output().unwrap()
}

fn check(case: &Case) {
    let server = server();
    let place = format!("host={ENDPOINT} hostaddr=127.0.0.1 port={} dbname=app user=app_user", server.port);
    let tunnel = place.replace(ENDPOINT, "localhost");
    let root = format!(" sslrootcert={}", server.ca);
    let conninfo =
        case.conninfo.replace("{place}", &place).replace("{tunnel}", &tunnel).replace("{endpoint}", ENDPOINT);
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
