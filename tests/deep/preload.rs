//! The preload library with common programs: each logs in, waits until its token has expired, and logs in again.
//!
//! The server refuses tokens after three seconds; `without_the_library_a_reset_sends_the_old_token` shows it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::preload_support::{Client, c_program, outlives_its_tokens};
use crate::support::{
    ENDPOINT, Server, expect_success, forgetful_server, outlive_a_token, product, root, run, server,
    temporary_directory,
};

/// A Python with psycopg2-binary, psycopg and its pool, SQLAlchemy and Django.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| PathBuf::from(run(root().join("tools/python-environment"), ["deep"], None::<&str>).trim()))
}

/// Two logins, with a pause between them in which the token expires.
fn logs_in_again(mut command: Command) {
    command.env("HOST", ENDPOINT);
    let (out, err) = outlives_its_tokens(&mut command, 1);
    assert_eq!(out, "app_user\napp_user\n", "{err}");
}

fn python_logs_in_again(script: &str) {
    let client = Client::new(forgetful_server());
    let mut command = client.command(python());
    let before = "import os, sys\nhost = os.environ['HOST']\nconninfo = f'host={host} user=app_user dbname=app'\n\
                  def say(user): print(user, flush=True)\ndef wait(): sys.stdin.readline()\n";
    command.args(["-c", &format!("{before}{script}")]);
    logs_in_again(command);
}

#[test]
fn psycopg2() {
    python_logs_in_again(
        "
import psycopg2
def log_in(**more):
    connection = psycopg2.connect(conninfo, **more)
    cursor = connection.cursor()
    cursor.execute('select current_user')
    say(cursor.fetchone()[0])
log_in()
wait()
log_in(password='rds-iam')
",
    );
}

#[test]
fn psycopg_3() {
    python_logs_in_again(
        "
import psycopg
def log_in():
    with psycopg.connect(conninfo) as connection:
        say(connection.execute('select current_user').fetchone()[0])
log_in()
wait()
log_in()
",
    );
}

#[test]
fn psycopg_3_async() {
    python_logs_in_again(
        "
import asyncio, psycopg
async def log_in():
    async with await psycopg.AsyncConnection.connect(conninfo) as connection:
        say((await (await connection.execute('select current_user')).fetchone())[0])
async def main():
    await log_in()
    wait()
    await log_in()
asyncio.run(main())
",
    );
}

#[test]
fn psycopg_3_pool() {
    python_logs_in_again(
        "
import psycopg_pool
with psycopg_pool.ConnectionPool(conninfo, min_size=1, max_size=2, open=True) as pool:
    with pool.connection() as first:
        say(first.execute('select current_user').fetchone()[0])
        wait()
        # The first is in use, so the pool grows.
        with pool.connection() as second:
            say(second.execute('select current_user').fetchone()[0])
",
    );
}

#[test]
fn sqlalchemy() {
    for driver in ["psycopg2", "psycopg"] {
        let script = "
import sqlalchemy
engine = sqlalchemy.create_engine(f'postgresql+DRIVER://app_user@{host}/app')
def log_in():
    with engine.connect() as connection:
        say(connection.execute(sqlalchemy.text('select current_user')).scalar())
log_in()
wait()
engine.dispose()
log_in()
";
        python_logs_in_again(&script.replace("DRIVER", driver));
    }
}

#[test]
fn django() {
    python_logs_in_again(
        "
import django
from django.conf import settings
settings.configure(DATABASES={'default': {
    'ENGINE': 'django.db.backends.postgresql', 'HOST': host, 'USER': 'app_user', 'NAME': 'app'}})
django.setup()
from django.db import connection
def log_in():
    with connection.cursor() as cursor:
        cursor.execute('select current_user')
        say(cursor.fetchone()[0])
log_in()
wait()
connection.close()
log_in()
",
    );
}

#[test]
fn ruby_pg_with_reset() {
    let client = Client::new(forgetful_server());
    for reset in ["reset", "sync_reset"] {
        let script = format!(
            "
require 'pg'
$stdout.sync = true
connection = PG.connect(host: ENV['HOST'], user: 'app_user', dbname: 'app')
puts connection.exec('select current_user').getvalue(0, 0)
gets
connection.{reset}
puts connection.exec('select current_user').getvalue(0, 0)
"
        );
        let mut command = client.command("ruby");
        command.args(["-e", &script]);
        logs_in_again(command);
    }
}

#[test]
fn perl_dbd_pg() {
    let client = Client::new(forgetful_server());
    let script = r#"
use DBI;
$| = 1;
sub log_in {
    my $connection = DBI->connect("dbi:Pg:dbname=app;host=$ENV{HOST}", "app_user", "", {RaiseError => 1});
    print $connection->selectrow_array("select current_user"), "\n";
}
log_in();
<STDIN>;
log_in();
"#;
    let mut command = client.command("perl");
    command.args(["-e", script]);
    logs_in_again(command);
}

#[test]
fn psql_with_a_new_connection() {
    let client = Client::new(forgetful_server());
    let mut command = client.command("psql");
    // psql's \c uses the password of the previous connection: the old token.
    command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", &client.conninfo()]);
    let script = "select current_user \\g\n\\! read -r line\n\\connect\nselect current_user;\n";
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    command.arg("-f").arg(file.path());
    logs_in_again(command);
}

#[test]
fn pgbench_that_connects_for_each_transaction() {
    let client = Client::new(forgetful_server());
    let directory = temporary_directory();
    let script = directory.path().join("script");
    std::fs::write(&script, "select 1;\n").unwrap();
    let mut command = client.command("pgbench");
    command.args(["-n", "-C", "-c", "2", "-T", "6", "-f"]).arg(&script).args(["-h", ENDPOINT, "-U", "app_user", "app"]);
    let out = expect_success("pgbench", &command.output().unwrap());
    assert!(out.contains("number of failed transactions: 0"), "{out}");
}

#[test]
fn pg_dump_with_jobs_that_connect_late() {
    let server = forgetful_server();
    let client = Client::new(server);
    server.as_superuser(
        "app",
        "create table slow (i int); alter table slow owner to app_user; insert into slow values (1)",
    );
    // pg_dump waits while another session locks the table; then its jobs connect with the first connection's password.
    let mut holder = Command::new("psql");
    holder.args(["-XAtq", "-U", "postgres", "-d", "app", "-p", &server.port.to_string(), "-h"]).arg(&server.socket);
    let mut holder = holder.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = holder.stdin.take().unwrap();
    input.write_all(b"begin; lock table slow; select 'held';\n").unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");

    let directory = temporary_directory();
    let dump = directory.path().join("dump");
    let mut command = client.command("pg_dump");
    command.args(["-j", "3", "-Fd", "-h", ENDPOINT, "-U", "app_user", "-f"]).arg(&dump).arg("app");
    let dumping = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until("pg_dump waits for the table", || {
        server.as_superuser("app", "select count(*) from pg_locks where not granted") != "0"
    });
    outlive_a_token();
    input.write_all(b"rollback;\n").unwrap();
    drop(input);
    expect_success("pg_dump", &dumping.wait_with_output().unwrap());
    holder.wait().unwrap();
    assert!(dump.join("toc.dat").exists());
}

#[test]
fn pg_basebackup_with_its_second_connection() {
    let client = Client::new(forgetful_server());
    let directory = temporary_directory();
    let backup = directory.path().join("backup");
    let mut command = client.command("pg_basebackup");
    command.args(["-X", "stream", "-c", "fast", "-h", ENDPOINT, "-U", "app_replica", "-D"]).arg(&backup);
    expect_success("pg_basebackup", &command.output().unwrap());
    assert!(backup.join("PG_VERSION").exists());
}

/// A reset writes the new token into memory that libpq allocated, and no byte outside of it.
#[test]
fn under_valgrind_a_reset_writes_only_into_memory_of_libpq() {
    let client = Client::new(server());
    for password in ["", " password=rds-iam"] {
        let mut command = client.command("valgrind");
        command.args(["--quiet", "--error-exitcode=99"]).arg(c_program());
        command.args(["reset", &format!("{}{password}", client.conninfo())]).stdin(Stdio::null());
        // Valgrind makes programs slow, and this is no test of time limits.
        command.env("AWS_METADATA_SERVICE_TIMEOUT", "10").env("PGIAM_START_TIMEOUT_MS", "60000");
        let out = expect_success("reset under valgrind", &command.output().unwrap());
        assert_eq!(out, "connected: app_user\nreset: app_user\nreset by polling: app_user\n");
    }
}

fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !there() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server with the preload library, which is a client of the forgetful server.
struct ClientServer {
    server: Server,
    remote: &'static Server,
    client: Client,
}

impl ClientServer {
    fn start() -> Self {
        let remote = forgetful_server();
        let client = Client::new(remote);
        let library = product("libpgiam_preload.so");
        let server = Server::start(
            &["--preload", library.to_str().unwrap()],
            &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &client.simulator.url()), ("HOME", "/nonexistent")],
        );
        Self { server, remote, client }
    }

    /// The remote server's address: libpq's variables have no effect in a server.
    fn address(&self) -> String {
        format!("host={ENDPOINT} hostaddr=127.0.0.1 port={} dbname=app", self.remote.port)
    }

    fn accepted(&self) {
        let key = self.client.simulator.instance_credentials().access_key_id;
        assert_eq!(self.remote.decision(&key), "accepted");
    }
}

#[test]
fn postgres_fdw_dblink_and_a_subscription_in_a_server() {
    let client = ClientServer::start();
    let remote = client.remote;
    remote.as_superuser(
        "app",
        "create table shared (i int primary key); insert into shared values (1); alter table shared owner to app_user; \
         grant select on shared to app_replica; create publication published for table shared",
    );

    // One session, so that one process runs longer than its token is valid.
    let address = client.address();
    let options = address.split(' ').map(|option| option.replace('=', " '") + "'").collect::<Vec<_>>().join(", ");
    client.server.as_superuser(
        "postgres",
        &format!(
            "create extension postgres_fdw; create extension dblink; \
             create server remote foreign data wrapper postgres_fdw options ({options}); \
             create user mapping for postgres server remote options (user 'app_user'); \
             create foreign table remote_user (name text) server remote options (table_name 'who'); \
             create table shared (i int primary key)"
        ),
    );
    remote.as_superuser("app", "create view who as select current_user::text as name; grant select on who to app_user");
    let dblink =
        format!("select * from dblink('{address} user=app_user', 'select current_user::text') as t(name text)");
    let script = format!(
        "create temporary table seen (name text);\ninsert into seen select name from remote_user;\n\
         insert into seen {dblink};\nselect string_agg(distinct name, ',') from seen \\g\n\\! read -r line\n\
         select postgres_fdw_disconnect_all() \\gset\ntruncate seen;\ninsert into seen select name from remote_user;\n\
         insert into seen {dblink};\nselect string_agg(distinct name, ',') from seen;\n"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(script.as_bytes()).unwrap();
    let mut session = Command::new("psql");
    session.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-p", &client.server.port.to_string(), "-h"]);
    session.arg(&client.server.socket).arg("-f").arg(file.path());
    logs_in_again(session);
    client.accepted();

    // A subscription: the initial copy, a later row, and a row after the connection was lost.
    client.server.as_superuser("postgres", "alter system set wal_retrieve_retry_interval = '300ms'");
    client.server.as_superuser("postgres", "select pg_reload_conf()");
    let subscription =
        format!("create subscription subscribed connection '{address} user=app_replica' publication published");
    client.server.as_superuser("postgres", &subscription);
    let rows = |expected: &str| {
        wait_until(&format!("{expected} rows"), || {
            client.server.as_superuser("postgres", "select count(*) from shared") == expected
        });
    };
    rows("1");
    remote.as_superuser("app", "insert into shared values (2)");
    rows("2");
    outlive_a_token();
    let ended = "select count(pg_terminate_backend(active_pid)) from pg_replication_slots where active";
    assert_eq!(remote.as_superuser("app", ended), "1");
    remote.as_superuser("app", "insert into shared values (3)");
    rows("3");
    client.accepted();
    client.server.as_superuser("postgres", "drop subscription subscribed");
}
