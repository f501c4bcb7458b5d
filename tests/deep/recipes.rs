//! The recipe for pgAdmin in docs/recipes.md: it logs in, and again with a new token when the first has expired. The
//! frameworks' recipes are those of the packages (packages_python.rs, packages_ruby.rs).

use crate::preload_support::{Client, outlives_its_tokens};
use crate::support::{ENDPOINT, forgetful_server, product, root, run};

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
    let mut command = client.command_without_library(python.trim());
    command.args(["-c", PGADMIN]).env("HOST", ENDPOINT).env("PORT", forgetful_server().port.to_string());
    command.env("COMMAND", documented.replace("/usr/local/bin/pgiam", product("pgiam").to_str().unwrap()));
    let (out, err) = outlives_its_tokens(&mut command, 1);
    assert_eq!(out, "app_user jane@corp.com app_user\napp_user jane@corp.com refused\n", "{err}");
}
