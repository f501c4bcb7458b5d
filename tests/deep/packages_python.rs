//! The Python package: its wheel, built from an installed copy and installed in a new environment, and logins with each
//! driver and framework, before and after the end of a token's lifetime.

use std::ffi::OsStr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::examples::installed;
use crate::preload_support::{Client, outlives_its_tokens};
use crate::support::{
    ENDPOINT, clean_command, expect_success, forgetful_server, root, run, server, temporary_directory, texts,
};

/// Environments with the wheel.
struct Wheel {
    _directory: tempfile::TempDir,
    file: PathBuf,
    /// With the wheel only.
    clean: PathBuf,
    /// With the wheel, the drivers and the frameworks.
    drivers: PathBuf,
}

fn platform() -> String {
    format!("linux_{}", std::env::consts::ARCH)
}

fn build_wheel(files: &Path, platform: &str, out: &Path) -> Command {
    let mut command = clean_command(root().join("bindings/python/build-wheel"));
    command.arg("--files").arg(files).args(["--platform", platform, "--out"]).arg(out);
    command
}

fn wheel() -> &'static Wheel {
    static WHEEL: OnceLock<Wheel> = OnceLock::new();
    WHEEL.get_or_init(|| {
        let directory = temporary_directory();
        let built = build_wheel(&installed().prefix, &platform(), directory.path()).output().unwrap();
        let file = PathBuf::from(expect_success("build-wheel", &built).trim());
        let python = run(root().join("tools/python-environment"), ["packages"], None::<&str>);
        let new = |name: &str| {
            let environment = directory.path().join(name);
            run(python.trim(), ["-m", "venv", "--without-pip"], Some(&environment));
            let new_python = environment.join("bin/python");
            let install = ["install", "--quiet", "--disable-pip-version-check", "--no-index"];
            let mut pip = clean_command(python.trim());
            pip.args(["-m", "pip", "--python"]).arg(&new_python).args(install).arg(&file);
            expect_success("pip install", &pip.output().unwrap());
            (environment, new_python)
        };
        let (clean, _) = new("clean");
        let (drivers, new_python) = new("drivers");
        let purelib = "import sysconfig; print(sysconfig.get_path('purelib'), end='')";
        let from = run(python.trim(), ["-c", purelib], None::<&str>);
        let to = PathBuf::from(run(new_python, ["-c", purelib], None::<&str>));
        std::fs::write(to.join("drivers.pth"), from).unwrap();
        Wheel { _directory: directory, file, clean, drivers }
    })
}

/// A Python with the wheel and the drivers, on an EC2 instance.
fn python(client: &Client) -> Command {
    let mut command = client.command_without_library(wheel().drivers.join("bin/python"));
    command
        .current_dir(wheel().drivers.as_path())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOST", ENDPOINT)
        .env("PORT", forgetful_server().port.to_string());
    command
}

/// Used by the scripts below. A driver without libpq has no `hostaddr`, so the endpoint's name resolves to this computer.
const BEFORE: &str = "
import os, socket, sys
host, port = os.environ['HOST'], int(os.environ['PORT'])
conninfo = f'host={host} port={port} user=app_user dbname=app'
def say(user): print(user, flush=True)
def wait(): sys.stdin.readline()
resolve = socket.getaddrinfo
def to_this_machine(name, *more, **options):
    return resolve('127.0.0.1' if name == host else name, *more, **options)
socket.getaddrinfo = to_this_machine
";

/// Two logins, and a token's lifetime between them.
fn logs_in_again(script: &str) {
    let client = Client::new(forgetful_server());
    let mut command = python(&client);
    command.args(["-c", &format!("{BEFORE}{script}")]);
    let (out, err) = outlives_its_tokens(&mut command, 1);
    assert_eq!(out, "app_user\napp_user\n", "{err}");
}

#[test]
fn the_wheel_has_no_dependencies_and_installs_the_programs() {
    let client = Client::new(server());
    let bin = wheel().clean.join("bin");
    let script = format!(
        "import pgiam; print(pgiam.__version__, pgiam.generate_token('{ENDPOINT}', user='app_user').startswith('{ENDPOINT}'))"
    );
    let output = client.command_without_library(bin.join("python")).args(["-c", &script]).output().unwrap();
    assert_eq!(expect_success("python", &output), format!("{} True\n", env!("CARGO_PKG_VERSION")));

    let query = ["-XAtc", "select current_user", &client.conninfo()];
    let output = client.command_without_library(bin.join("psql-iam")).args(query).output().unwrap();
    assert_eq!(expect_success("psql-iam", &output), "app_user\n");
    let mut preload = client.command_without_library(bin.join("pgiam"));
    preload.args(["exec", "--preload", "--", "psql"]).args(query);
    assert_eq!(expect_success("pgiam exec --preload", &preload.output().unwrap()), "app_user\n");
}

#[test]
fn building_the_wheel_is_reproducible() {
    let directory = temporary_directory();
    let built = build_wheel(&installed().prefix, &platform(), directory.path()).output().unwrap();
    let again = expect_success("build-wheel", &built);
    assert!(std::fs::read(again.trim()).unwrap() == std::fs::read(&wheel().file).unwrap());
}

#[test]
fn a_wheel_for_another_platform_or_an_older_c_library_than_its_files_need_is_not_built() {
    let out = temporary_directory();
    let other = if cfg!(target_arch = "x86_64") { "linux_aarch64" } else { "linux_x86_64" };
    let output = build_wheel(&installed().prefix, other, out.path()).output().unwrap();
    assert!(texts(&output).1.contains("is no program or library for"), "{output:?}");
    assert!(std::fs::read_dir(out.path()).unwrap().next().is_none());

    // The same files, with one that needs a newer C library.
    let files = temporary_directory();
    for folder in ["lib", "bin"] {
        std::fs::create_dir(files.path().join(folder)).unwrap();
    }
    for file in ["lib/libpgiam_preload.so", "bin/pgiam", "bin/psql-iam"] {
        symlink(installed().prefix.join(file), files.path().join(file)).unwrap();
    }
    let mut library = std::fs::read(installed().prefix.join("lib/libpgiam.so")).unwrap();
    library.extend(b"\0GLIBC_2.99\0");
    std::fs::write(files.path().join("lib/libpgiam.so"), library).unwrap();
    let old = format!("manylinux_2_17_{}", std::env::consts::ARCH);
    let output = build_wheel(files.path(), &old, out.path()).output().unwrap();
    assert!(texts(&output).1.contains("needs glibc 2.99"), "{output:?}");
}

#[test]
fn the_packages_own_tests_pass() {
    let mut command = clean_command(wheel().drivers.join("bin/python"));
    command.args(["-m", "pytest", "-q", "-p", "no:cacheprovider"]).arg(root().join("bindings/python/tests"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").current_dir(&wheel().drivers);
    let out = expect_success("pytest", &command.output().unwrap());
    assert!(out.contains(" passed") && !out.contains("skipped"), "{out}");
}

#[test]
fn the_package_and_its_examples_pass_mypy_strict() {
    let mut command = clean_command(wheel().drivers.join("bin/python"));
    let cache = temporary_directory();
    command.args(["-m", "mypy", "--strict", "-p", "pgiam", "--cache-dir"]).arg(cache.path());
    command.current_dir(&wheel().drivers);
    expect_success("mypy", &command.output().unwrap());
    for example in examples() {
        let mut command = clean_command(wheel().drivers.join("bin/python"));
        // asyncpg has no type annotations.
        command.args(["-m", "mypy", "--strict", "--disable-error-code=import-untyped", "--cache-dir"]);
        command.arg(cache.path()).arg(&example);
        command.current_dir(&wheel().drivers);
        expect_success("mypy", &command.output().unwrap());
    }
}

fn examples() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(root().join("bindings/python/examples")).unwrap();
    let mut found: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension() == Some(OsStr::new("py")));
    found.sort();
    assert!(found.len() >= 4, "{found:?}");
    found
}

#[test]
fn the_examples_log_in() {
    let client = Client::new(server());
    let directory = temporary_directory();
    // Read by every Python at its start: drivers without libpq have no hostaddr.
    std::fs::write(directory.path().join("sitecustomize.py"), BEFORE).unwrap();
    for example in examples() {
        let mut command = python(&client);
        command.env("PYTHONPATH", directory.path()).arg(&example).stdin(Stdio::null());
        command.args([ENDPOINT, &server().port.to_string(), "app_user", "app"]);
        let output = command.output().unwrap();
        assert_eq!(expect_success(&example.display().to_string(), &output), "logged in as app_user\n");
    }
}

#[test]
fn the_example_of_the_readme_runs() {
    let readme = std::fs::read_to_string(root().join("bindings/python/README.md")).unwrap();
    let (_, example) = readme.split_once("```python\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let client = Client::new(server());
    let mut command = python(&client);
    command.args(["-c", &example.replace("5432", &server().port.to_string())]);
    assert_eq!(expect_success(example, &command.output().unwrap()), "('app_user',)\n");
}

#[test]
fn psycopg_3_logs_in_again() {
    logs_in_again(
        "
import pgiam.psycopg
def log_in():
    with pgiam.psycopg.Connection.connect(conninfo, row_factory=lambda cursor: lambda row: row[0]) as connection:
        say(connection.execute('select current_user').fetchone())
log_in()
wait()
log_in()
",
    );
}

#[test]
fn psycopg_3_async_logs_in_again() {
    logs_in_again(
        "
import asyncio, pgiam.psycopg
async def log_in():
    async with await pgiam.psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
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
fn psycopg_3_with_several_hosts_logs_in_again() {
    logs_in_again(
        "
import pgiam.psycopg, pgiam.psycopg2
# No server listens at the first.
several = f'host={host},{host} port=1,{port} hostaddr=127.0.0.1,127.0.0.1 user=app_user dbname=app'
with pgiam.psycopg.connect(several) as connection:
    say(connection.execute('select current_user').fetchone()[0])
wait()
connection = pgiam.psycopg2.connect(several)
cursor = connection.cursor()
cursor.execute('select current_user')
say(cursor.fetchone()[0])
",
    );
}

#[test]
fn pools_of_psycopg_3_log_in_again() {
    logs_in_again(
        "
import pgiam.psycopg, psycopg_pool
with psycopg_pool.ConnectionPool(
    conninfo, connection_class=pgiam.psycopg.Connection, min_size=1, max_size=2, open=True
) as pool:
    with pool.connection() as first:
        say(first.execute('select current_user').fetchone()[0])
        wait()
        # The first is in use, so the pool opens a second.
        with pool.connection() as second:
            say(second.execute('select current_user').fetchone()[0])
",
    );
    logs_in_again(
        "
import asyncio, pgiam.psycopg, psycopg_pool
async def main():
    async with psycopg_pool.AsyncConnectionPool(
        conninfo, connection_class=pgiam.psycopg.AsyncConnection, min_size=1, max_size=2
    ) as pool:
        async with pool.connection() as first:
            say((await (await first.execute('select current_user')).fetchone())[0])
            wait()
            async with pool.connection() as second:
                say((await (await second.execute('select current_user')).fetchone())[0])
asyncio.run(main())
",
    );
}

#[test]
fn psycopg2_and_its_pool_log_in_again() {
    logs_in_again(
        "
import psycopg2, psycopg2.extras, psycopg2.pool, pgiam.psycopg2
pool = psycopg2.pool.ThreadedConnectionPool(1, 2, conninfo, connection_factory=pgiam.psycopg2.Connection)
def log_in(connection):
    cursor = connection.cursor()
    cursor.execute('select current_user')
    say(cursor.fetchone()[0])
log_in(pool.getconn())
wait()
log_in(pool.getconn())
# A keyword of psycopg2's own.
pgiam.psycopg2.connect(host=host, port=port, user='app_user', dbname='app', cursor_factory=psycopg2.extras.DictCursor)
",
    );
}

#[test]
fn sqlalchemy_logs_in_again() {
    for driver in ["psycopg", "psycopg2"] {
        let script = "
import sqlalchemy
engine = sqlalchemy.create_engine(f'postgresql+DRIVER://app_user@{host}:{port}/app?plugin=pgiam', pool_size=2)
def log_in():
    with engine.connect() as connection:
        say(connection.execute(sqlalchemy.text('select current_user')).scalar())
log_in()
wait()
# The first is in use, so the pool opens a second.
with engine.connect():
    log_in()
";
        logs_in_again(&script.replace("DRIVER", driver));
    }
    // A driver without libpq, with the event function and an explicit client.
    logs_in_again(
        "
import pgiam, pgiam.sqlalchemy, sqlalchemy, ssl
context = ssl.create_default_context(cafile=os.environ['PGSSLROOTCERT'])
engine = sqlalchemy.create_engine(
    f'postgresql+pg8000://app_user@{host}:{port}/app', connect_args={'ssl_context': context})
pgiam.sqlalchemy.add_tokens(engine, pgiam.Client(region='eu-central-1'))
def log_in():
    with engine.connect() as connection:
        say(connection.execute(sqlalchemy.text('select current_user')).scalar())
log_in()
wait()
engine.dispose()
log_in()
",
    );
}

#[test]
fn asynchronous_engines_of_sqlalchemy_log_in_again() {
    let script = "
import asyncio, pgiam.sqlalchemy, sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
async def log_in(engine):
    async with engine.connect() as connection:
        say((await connection.execute(sqlalchemy.text('select current_user'))).scalar())
async def main():
    engine = ENGINE
    await log_in(engine)
    wait()
    async with engine.connect():
        await log_in(engine)
    await engine.dispose()
asyncio.run(main())
";
    for driver in ["psycopg", "asyncpg"] {
        let url = format!("f'postgresql+{driver}://app_user@{{host}}:{{port}}/app?plugin=pgiam'");
        logs_in_again(&script.replace("ENGINE", &format!("create_async_engine({url})")));
    }
    let engine = "create_async_engine(f'postgresql+asyncpg://app_user@{host}:{port}/app')\n    \
                  pgiam.sqlalchemy.add_tokens(engine)";
    logs_in_again(&script.replace("ENGINE", engine));
}

#[test]
fn asyncpg_and_its_pool_log_in_again() {
    logs_in_again(
        "
import asyncio, asyncpg, pgiam, pgiam.asyncpg
async def main():
    async with pgiam.asyncpg.create_pool(
        host=host, port=port, user='app_user', database='app', min_size=1, max_size=2
    ) as pool:
        async with pool.acquire() as first:
            say(await first.fetchval('select current_user'))
            wait()
            async with pool.acquire():
                pass
    password = pgiam.asyncpg.password(host, port, user='app_user', client=pgiam.Client(region='eu-central-1'))
    connection = await asyncpg.connect(
        host=host, port=port, user='app_user', database='app', ssl='verify-full', password=password)
    say(await connection.fetchval('select current_user'))
    await connection.close()
asyncio.run(main())
",
    );
}

const DJANGO: &str = "
import django
from django.conf import settings
settings.configure(DATABASES={'default': {
    'ENGINE': 'pgiam.django', 'HOST': host, 'PORT': port, 'USER': 'app_user', 'NAME': 'app', 'OPTIONS': OPTIONS}})
django.setup()
from django.db import connection, connections
def log_in():
    with connection.cursor() as cursor:
        cursor.execute('select current_user')
        say(cursor.fetchone()[0])
log_in()
wait()
";

#[test]
fn django_logs_in_again() {
    for options in ["{}", "{'pgiam': {'region': 'eu-central-1'}, 'sslmode': 'require'}"] {
        let script = DJANGO.replace(": OPTIONS}", &format!(": {options}}}"));
        logs_in_again(&format!("{script}connection.close()\nlog_in()\n"));
    }
}

#[test]
fn a_pool_of_django_logs_in_again() {
    // Another thread's connection, while the first is in use.
    let second = "
import threading
thread = threading.Thread(target=log_in)
thread.start()
thread.join()
connection.close_pool()
";
    for pool in ["True", "{'min_size': 1, 'max_size': 2}"] {
        let script = DJANGO.replace(": OPTIONS}", &format!(": {{'pool': {pool}}}}}"));
        logs_in_again(&format!("{script}{second}"));
    }
}

#[test]
fn djangos_dbshell_logs_in() {
    let client = Client::new(server());
    let mut command = python(&client);
    let script = "
from django.conf import settings
from django.core.management import call_command
settings.configure(DATABASES={'default': {
    'ENGINE': 'pgiam.django', 'HOST': host, 'PORT': port, 'USER': 'app_user', 'NAME': 'app'}})
import django
django.setup()
call_command('dbshell', '--', '-XAtc', 'select current_user')
";
    command.env("PORT", server().port.to_string()).args(["-c", &format!("{BEFORE}{script}")]);
    assert_eq!(expect_success("dbshell", &command.output().unwrap()), "app_user\n");
}

#[test]
fn a_connection_with_its_own_password_keeps_it() {
    let client = Client::new(server());
    let mut command = python(&client);
    let script = "
import pgiam.psycopg
with pgiam.psycopg.connect(conninfo, user='not_granted', password='not_granted', dbname='postgres') as connection:
    say(connection.execute('select current_user').fetchone()[0])
";
    command.env("PORT", server().port.to_string()).args(["-c", &format!("{BEFORE}{script}")]);
    assert_eq!(expect_success("psycopg", &command.output().unwrap()), "not_granted\n");
    assert!(client.simulator.requests().is_empty());
}
