//! The recipes in docs/recipes.md: each program logs in, and logs in again with a new token when the first has expired.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::examples::installed;
use crate::preload_support::{Client, outlives_its_tokens};
use crate::support::{ENDPOINT, expect_success, forgetful_server, product, root, run};

/// A Python with the frameworks installed.
fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| PathBuf::from(run(root().join("tools/python-environment"), ["deep"], None::<&str>).trim()))
}

/// A program on an EC2 instance, with the installed library and without the preload library.
fn on_instance(client: &Client, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = client.command_without_library(program);
    command
        .env("LD_LIBRARY_PATH", installed().prefix.join("lib"))
        .env("PYTHONPATH", root().join("c-examples/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("HOST", ENDPOINT)
        .env("PORT", forgetful_server().port.to_string());
    command
}

fn logs_in_again(mut command: Command) {
    let (out, err) = outlives_its_tokens(&mut command, 1);
    assert_eq!(out, "app_user\napp_user\n", "{err}");
}

fn python_logs_in_again(script: &str) {
    let client = Client::new(forgetful_server());
    let mut command = on_instance(&client, python());
    let before = "import os, sys\nhost, port = os.environ['HOST'], int(os.environ['PORT'])\n\
                  def say(user): print(user, flush=True)\ndef wait(): sys.stdin.readline()\n";
    command.args(["-c", &format!("{before}{script}")]);
    logs_in_again(command);
}

#[test]
fn the_example_programs_log_in() {
    let client = Client::new(forgetful_server());
    let programs: [(&Path, &str); 3] = [
        (python(), "python/with_sqlalchemy.py"),
        (python(), "python/token_connection.py"),
        (Path::new("ruby"), "ruby/active_record.rb"),
    ];
    for (program, script) in programs {
        let mut command = on_instance(&client, program);
        command.arg(root().join("c-examples").join(script));
        command.args([ENDPOINT, &forgetful_server().port.to_string(), "app_user", "app"]);
        assert_eq!(expect_success(script, &command.output().unwrap()), "logged in as app_user\n");
    }
}

#[test]
fn sqlalchemy_gets_a_token_at_every_connect() {
    for driver in ["psycopg", "psycopg2"] {
        let script = "
import sqlalchemy
from with_sqlalchemy import create_engine
engine = create_engine(f'postgresql+DRIVER://app_user@{host}:{port}/app', pool_size=2)
def log_in():
    with engine.connect() as connection:
        say(connection.execute(sqlalchemy.text('select current_user')).scalar())
log_in()
wait()
# The first is in use, so the pool opens a second.
with engine.connect():
    log_in()
";
        python_logs_in_again(&script.replace("DRIVER", driver));
    }
}

#[test]
fn a_pool_of_psycopg_gets_a_token_at_every_connect() {
    python_logs_in_again(
        "
import psycopg_pool
from token_connection import TokenConnection
conninfo = f'host={host} port={port} user=app_user dbname=app'
with psycopg_pool.ConnectionPool(conninfo, connection_class=TokenConnection, min_size=1, max_size=2) as pool:
    with pool.connection() as first:
        say(first.execute('select current_user').fetchone()[0])
        wait()
        with pool.connection() as second:
            say(second.execute('select current_user').fetchone()[0])
",
    );
}

const DJANGO: &str = "
import django
from django.conf import settings
from token_connection import TokenConnection
settings.configure(DATABASES={'default': {
    'ENGINE': ENGINE, 'HOST': host, 'PORT': port, 'USER': 'app_user', 'NAME': 'app', 'OPTIONS': OPTIONS}})
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
fn django_gets_a_token_at_every_connect() {
    let script = DJANGO.replace("ENGINE,", "'django_iam',").replace("OPTIONS}", "{}}");
    python_logs_in_again(&format!("{script}connection.close()\nlog_in()\n"));
}

#[test]
fn a_pool_of_django_gets_a_token_at_every_connect() {
    let options = "{'pool': {'min_size': 1, 'max_size': 2, 'connection_class': TokenConnection}}}";
    let script = DJANGO.replace("ENGINE,", "'django.db.backends.postgresql',").replace("OPTIONS}", options);
    // Another thread opens a connection while the first is in use.
    let second = "
import threading
thread = threading.Thread(target=log_in)
thread.start()
thread.join()
connection.close_pool()
";
    python_logs_in_again(&format!("{script}{second}"));
}

#[test]
fn active_record_gets_a_token_at_every_connect() {
    let client = Client::new(forgetful_server());
    for again in ["ActiveRecord::Base.connection.reconnect!", "ActiveRecord::Base.connection_pool.disconnect!"] {
        let script = format!(
            "
$stdout.sync = true
require '{}'
ActiveRecord::Base.establish_connection(
  adapter: 'postgresql', host: ENV['HOST'], port: ENV['PORT'], username: 'app_user', database: 'app', password: 'rds-iam'
)
log_in = -> {{ puts ActiveRecord::Base.connection.select_value('select current_user') }}
log_in.call
gets
{again}
log_in.call
",
            root().join("c-examples/ruby/active_record.rb").display()
        );
        let mut command = on_instance(&client, "ruby");
        command.args(["-e", &script]);
        logs_in_again(command);
    }
}

/// pgAdmin's class that runs the command, and its quoting of names; a few lines replace the rest of pgAdmin.
const PGADMIN: &str = "
import ast, importlib.util, os, pathlib, re, sys, types
import flask, psycopg
sources = pathlib.Path(sys.prefix, 'pgadmin4/pgadmin/utils')
def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
keywords = load('keywords', sources / 'driver/psycopg3/keywords.py')
tree = ast.parse((sources / 'driver/psycopg3/__init__.py').read_text())
driver = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == 'Driver')
driver.bases = []
driver.body = [node for node in driver.body if getattr(node, 'name', '') in ('qtIdent', 'needsQuoting', 'ScanKeywordExtraLookup')]
names = {'re': re, 'scan_keyword': keywords.scan_keyword}
exec(compile(ast.Module([driver], []), 'driver', 'exec'), names)
sys.modules['config'] = types.SimpleNamespace(SERVER_MODE=False, PG_DEFAULT_DRIVER='psycopg3')
for name in ['pgadmin', 'pgadmin.utils']:
    sys.modules[name] = types.ModuleType(name)
sys.modules['pgadmin.utils.driver'] = types.SimpleNamespace(get_driver=lambda name: names['Driver'])
passexec = load('passexec', sources / 'passexec.py')

host, port, command = os.environ['HOST'], int(os.environ['PORT']), os.environ['COMMAND']
def server(user, expiration):
    return user, passexec.PasswordExec(command, host, port, user, expiration)
def log_in(server):
    user, password = server
    try:
        with psycopg.connect(host=host, port=port, user=user, dbname='app', sslmode='verify-full',
                             password=password.get()) as connection:
            return connection.execute('select current_user').fetchone()[0]
    except psycopg.OperationalError as error:
        return 'refused' if 'PAM authentication failed' in str(error) else str(error)
with flask.Flask('pgAdmin').app_context():
    servers = [server('app_user', 0), server('jane@corp.com', 0), server('app_user', None)]
    print(*map(log_in, servers), flush=True)
    sys.stdin.readline()
    print(*map(log_in, servers), flush=True)
";

#[test]
fn pgadmins_password_command_makes_a_token_for_every_connect_unless_its_expiration_is_left_empty() {
    let python = run(root().join("tools/python-environment"), ["pgadmin"], None::<&str>);
    let recipes = std::fs::read_to_string(root().join("docs/recipes.md")).unwrap();
    let documented = "/usr/local/bin/pgiam token -h %HOSTNAME% -p %PORT% -U %USERNAME%";
    assert_eq!(recipes.matches(documented).count(), 2);
    let client = Client::new(forgetful_server());
    let mut command = on_instance(&client, python.trim());
    command.args(["-c", PGADMIN]);
    command.env("COMMAND", documented.replace("/usr/local/bin/pgiam", product("pgiam").to_str().unwrap()));
    let (out, err) = outlives_its_tokens(&mut command, 1);
    assert_eq!(out, "app_user jane@corp.com app_user\napp_user jane@corp.com refused\n", "{err}");
}
