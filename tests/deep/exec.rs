//! `pgiam exec` with drivers that do not use libpq and read the password file themselves, and with restores that take
//! longer than the lifetime of a token.

use std::fs;
use std::process::{Command, Output};

use aws_simulator::SimulatorOptions;

use crate::support::{
    ENDPOINT, Server, clean_command, expect_success, forgetful_server, product, server, temporary_directory, texts,
};

const NODE: &str = "
const { Pool } = require('pg');
(async () => {
  const pool = new Pool({ max: 2 });
  const [a, b] = await Promise.all([1, 2].map(() => pool.query('select current_user as u, pg_sleep(0.1)')));
  console.log(a.rows[0].u, b.rows[0].u);
  await pool.end();
})().catch(error => { console.error(error.message); process.exit(1); });
";

/// The statements of docs/programs.md about Node's pg.
#[test]
fn node_logs_in_through_a_tunnel_if_the_ca_is_configured_and_the_program_has_no_password() {
    let directory = temporary_directory();
    let mut npm = clean_command("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", "pg@8"]).current_dir(directory.path());
    expect_success("npm install pg", &npm.output().unwrap());
    fs::write(directory.path().join("login.js"), NODE).unwrap();
    let simulator = server().simulator(SimulatorOptions::default());
    let node = |sslmode: &str| {
        let mut exec = clean_command(product("pgiam"));
        exec.args(["exec", "-h", "localhost", "--", "node", "login.js"]).current_dir(directory.path()).envs([
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url().as_str()),
            ("PGIAM_HOST", ENDPOINT),
            ("PGHOST", "localhost"),
            ("PGPORT", &server().port.to_string()),
            ("PGUSER", "app_user"),
            ("PGDATABASE", "app"),
            ("PGSSLMODE", sslmode),
            ("PGSSLROOTCERT", &server().ca),
        ]);
        exec
    };
    for sslmode in ["require", "verify-full"] {
        let out = expect_success("node", &node(sslmode).env("NODE_EXTRA_CA_CERTS", &server().ca).output().unwrap());
        assert_eq!(out.trim(), "app_user app_user", "{sslmode}");
        let (_, err) = texts(&node(sslmode).output().unwrap());
        assert!(err.contains("certificate"), "PGSSLROOTCERT is not read: {err}");
    }
    let script = NODE.replace("max: 2", "max: 2, password: 'rds-iam'");
    fs::write(directory.path().join("login.js"), script).unwrap();
    let (_, err) = texts(&node("require").env("NODE_EXTRA_CA_CERTS", &server().ca).output().unwrap());
    assert!(err.contains("PAM authentication failed"), "a password in the program is not replaced: {err}");
}

/// docs/settings.md, about libpq settings that do not work with tokens.
#[test]
fn channel_binding_cannot_be_required() {
    let simulator = server().simulator(SimulatorOptions::default());
    let psql = |binding: &str| {
        let mut exec = clean_command(product("pgiam"));
        let connection = format!("{} channel_binding={binding}", server().conninfo("app_user"));
        exec.args(["exec", "--", "psql", "-XAtwc", "select current_user", &connection]);
        exec.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url()).output().unwrap()
    };
    assert_eq!(expect_success("psql", &psql("prefer")).trim(), "app_user");
    let (_, err) = texts(&psql("require"));
    assert!(err.contains("channel binding required"), "{err}");
}

/// A schema whose table takes six seconds to load, twice the lifetime of a token.
const SLOW: &str = "create schema slow;
create function slow.wait(n int) returns boolean language sql as 'select true';
create table slow.rows (n int check (slow.wait(n)));
insert into slow.rows select generate_series(1, 12);
create or replace function slow.wait(n int) returns boolean language sql as 'select pg_catalog.pg_sleep(0.5) is not null';
grant select on slow.rows to public";

fn on_forgetful_server(program: &str, arguments: &[&str], around: impl FnOnce(&mut Command, &str)) -> Output {
    let server: &Server = forgetful_server();
    let simulator = server.simulator(SimulatorOptions::default());
    let mut command = clean_command(product("pgiam"));
    around(&mut command, program);
    command.args(arguments).envs([
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url().as_str()),
        ("PGHOSTADDR", "127.0.0.1"),
        ("PGHOST", ENDPOINT),
        ("PGPORT", &server.port.to_string()),
        ("PGUSER", "app_user"),
        ("PGDATABASE", "app"),
        ("PGSSLMODE", "verify-full"),
        ("PGSSLROOTCERT", &server.ca),
    ]);
    command.output().unwrap()
}

fn by_exec(program: &str, arguments: &[&str]) -> Output {
    on_forgetful_server(program, arguments, |command, program| {
        command.args(["exec", "--refresh-every", "1", "--", program]);
    })
}

fn by_preload(program: &str, arguments: &[&str]) -> Output {
    on_forgetful_server(program, arguments, |command, program| {
        *command = clean_command(program);
        command.env("LD_PRELOAD", product("libpgiam_preload.so"));
    })
}

/// The parallel programs use the password of their first connection again. pg_dump -j starts its workers when it has read
/// the catalogs and has all locks; pg_restore -j starts them after the tables are created, and connects once more when they
/// have done all the work.
#[test]
fn parallel_dumps_and_restores_that_connect_after_their_first_token_has_expired_need_the_preload_library() {
    let directory = temporary_directory();
    let place = |name: &str| directory.path().join(name).display().to_string();
    let psql = |sql: &str| expect_success(sql, &by_exec("psql", &["-XAtqc", sql])).trim().to_owned();
    psql(SLOW);

    let dump = |by: fn(&str, &[&str]) -> Output, name: &str| {
        std::thread::scope(|scope| {
            // Locked for longer than the lifetime of a token.
            let locked = "begin; lock table slow.rows; select pg_sleep(5); commit";
            let holder = scope.spawn(|| psql(locked));
            while psql("select count(*) from pg_locks where relation = 'slow.rows'::regclass") == "0" {}
            let output = by("pg_dump", &["-Fd", "-j", "2", "-n", "slow", "-f", &place(name)]);
            holder.join().unwrap();
            (output.status.success(), texts(&output).1)
        })
    };
    let (succeeded, err) = dump(by_exec, "refused");
    assert!(!succeeded && err.contains("PAM authentication failed"), "{err}");
    assert_eq!(dump(by_preload, "dump"), (true, String::new()));

    let restore = |by: fn(&str, &[&str]) -> Output, jobs: &str| {
        psql("set client_min_messages = error; drop schema slow cascade");
        let output = by("pg_restore", &["-j", jobs, "-d", "app", &place("dump")]);
        let rows =
            psql("select count(*) from slow.rows, pg_class where oid = 'slow.rows'::regclass and relacl is not null");
        assert_eq!(rows, "12", "the rows and the grant are restored in any case");
        (output.status.success(), texts(&output).1)
    };
    let (succeeded, err) = restore(by_exec, "2");
    assert!(!succeeded && err.contains("reconnection failed"), "{err}");
    assert_eq!(restore(by_exec, "1"), (true, String::new()), "there is only one connection");
    assert_eq!(restore(by_preload, "2"), (true, String::new()));
    psql("set client_min_messages = error; drop schema slow cascade");
}

const JAVA: &str = r#"
import java.sql.*;
public class Login {
    public static void main(String[] arguments) throws Exception {
        for (int i = 0; i < 2; i++)
            try (Connection connection = DriverManager.getConnection(arguments[0]);
                 ResultSet rows = connection.createStatement().executeQuery("select current_user")) {
                rows.next();
                System.out.println(rows.getString(1));
                Thread.sleep(i == 0 ? 4100 : 0);
            }
    }
}
"#;

/// pgjdbc has no hostaddr, so the connection is as through a tunnel.
#[test]
fn java_reads_a_new_token_at_every_connect() {
    let directory = temporary_directory();
    let program = directory.path().join("Login.java").display().to_string();
    fs::write(&program, JAVA).unwrap();
    let server = forgetful_server();
    let url = format!(
        "jdbc:postgresql://localhost:{}/app?user=app_user&sslmode=verify-full&sslrootcert={}",
        server.port, server.ca
    );
    let login = |every: &str| {
        on_forgetful_server("java", &["-cp", "/usr/share/java/postgresql.jar", &program, &url], |command, program| {
            command.args(["exec", "--refresh-every", every, "-h", "localhost", "--", program]);
            command.env("PGIAM_HOST", ENDPOINT);
        })
    };
    assert_eq!(expect_success("java", &login("1")), "app_user\napp_user\n");
    let (out, err) = texts(&login("600"));
    assert!(out == "app_user\n" && err.contains("PAM authentication failed"), "{out}{err}");
}
