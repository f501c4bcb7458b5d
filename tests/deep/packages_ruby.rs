//! The Ruby gem: built from an installed copy and installed in a new GEM_HOME, and logins with pg, ActiveRecord, Rails'
//! commands and Sequel, before and after the end of a token's lifetime.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::examples::installed;
use crate::preload_support::{Client, outlives_its_tokens};
use crate::support::{
    ENDPOINT, clean_command, expect_success, forgetful_server, root, server, temporary_directory, texts,
};

struct Gem {
    _directory: tempfile::TempDir,
    file: PathBuf,
    /// GEM_HOME.
    home: PathBuf,
}

fn platform() -> String {
    format!("{}-linux", std::env::consts::ARCH)
}

fn build_gem(platform: &str, out: &Path) -> Command {
    let mut command = clean_command(root().join("bindings/ruby/build-gem"));
    command.arg("--files").arg(&installed().prefix).args(["--platform", platform, "--out"]).arg(out);
    command
}

fn gem() -> &'static Gem {
    static GEM: OnceLock<Gem> = OnceLock::new();
    GEM.get_or_init(|| {
        let directory = temporary_directory();
        let built = build_gem(&platform(), directory.path()).output().unwrap();
        let file = PathBuf::from(expect_success("build-gem", &built).trim());
        let home = directory.path().join("home");
        let mut install = clean_command("gem");
        install.args(["install", "--local", "--no-document"]).arg(&file).env("GEM_HOME", &home);
        expect_success("gem install", &install.output().unwrap());
        Gem { _directory: directory, file, home }
    })
}

/// A program with access to the gem, on an EC2 instance.
fn command(client: &Client, program: impl AsRef<OsStr>) -> Command {
    let mut command = client.command_without_library(program);
    command
        .env("GEM_HOME", &gem().home)
        .current_dir(&gem().home)
        .env("HOST", ENDPOINT)
        .env("PORT", forgetful_server().port.to_string());
    command
}

/// Two logins, and a token's lifetime between them.
fn logs_in_again(script: &str) {
    let client = Client::new(forgetful_server());
    let before = "$stdout.sync = true\nHOST, PORT = ENV['HOST'], Integer(ENV['PORT'])\n";
    let mut command = command(&client, "ruby");
    command.args(["-e", &format!("{before}{script}")]);
    let (out, err) = outlives_its_tokens(&mut command, 1);
    assert_eq!(out, "app_user\napp_user\n", "{err}");
}

#[test]
fn the_gem_installs_the_programs() {
    let client = Client::new(server());
    let bin = gem().home.join("bin");
    let query = ["-XAtc", "select current_user", &client.conninfo()];
    let output = command(&client, bin.join("psql-iam")).args(query).output().unwrap();
    assert_eq!(expect_success("psql-iam", &output), "app_user\n");
    let mut preload = command(&client, bin.join("pgiam"));
    preload.args(["exec", "--preload", "--", "psql"]).args(query);
    assert_eq!(expect_success("pgiam exec --preload", &preload.output().unwrap()), "app_user\n");
}

#[test]
fn building_the_gem_is_reproducible() {
    let directory = temporary_directory();
    let again = expect_success("build-gem", &build_gem(&platform(), directory.path()).output().unwrap());
    assert!(std::fs::read(again.trim()).unwrap() == std::fs::read(&gem().file).unwrap());
}

#[test]
fn a_gem_for_another_platform_than_its_files_is_not_built() {
    let out = temporary_directory();
    let other = if cfg!(target_arch = "x86_64") { "aarch64-linux" } else { "x86_64-linux" };
    let output = build_gem(other, out.path()).output().unwrap();
    assert!(texts(&output).1.contains("is no program or library for"), "{output:?}");
    assert!(std::fs::read_dir(out.path()).unwrap().next().is_none());
}

/// Files of a folder of `bindings/ruby`.
fn scripts(folder: &str) -> Vec<PathBuf> {
    let folder = std::fs::read_dir(root().join("bindings/ruby").join(folder)).unwrap();
    let mut found: Vec<PathBuf> = folder.map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension() == Some(OsStr::new("rb")));
    found.sort();
    assert!(found.len() >= 2, "{found:?}");
    found
}

#[test]
fn the_gems_own_tests_pass() {
    for script in scripts("test") {
        let mut ruby = clean_command("ruby");
        ruby.env("GEM_HOME", &gem().home).arg(&script).current_dir(&gem().home);
        let out = expect_success(&script.display().to_string(), &ruby.output().unwrap());
        assert!(out.contains(" 0 failures, 0 errors, 0 skips"), "{out}");
    }
}

#[test]
fn the_examples_log_in() {
    let client = Client::new(server());
    for example in scripts("examples") {
        let mut command = command(&client, "ruby");
        command.arg(&example).args([ENDPOINT, &server().port.to_string(), "app_user", "app"]).stdin(Stdio::null());
        let output = command.output().unwrap();
        assert_eq!(expect_success(&example.display().to_string(), &output), "logged in as app_user\n");
    }
}

#[test]
fn the_example_of_the_readme_runs() {
    let readme = std::fs::read_to_string(root().join("bindings/ruby/README.md")).unwrap();
    let (_, example) = readme.split_once("```ruby\n").unwrap();
    let (example, _) = example.split_once("```").unwrap();
    let client = Client::new(server());
    let mut command = command(&client, "ruby");
    command.args(["-e", &example.replace("5432", &server().port.to_string())]);
    assert_eq!(expect_success(example, &command.output().unwrap()), "app_user\n");
}

#[test]
fn pg_logs_in_again() {
    logs_in_again(
        "
require 'pgiam'
def log_in(connection)
  puts connection.exec('select current_user').getvalue(0, 0)
end
log_in(Pgiam.connect(host: HOST, port: PORT, user: 'app_user', dbname: 'app'))
gets
log_in(Pgiam.connect(\"postgresql://app_user@#{HOST}:#{PORT}/app\", client: Pgiam::Client.new(region: 'eu-central-1')))
",
    );
    // A password that makes tokens, for any code that calls PG.connect.
    logs_in_again(
        "
require 'pg'
require 'pgiam'
parameters = {
  host: HOST, port: PORT, user: 'app_user', dbname: 'app', sslmode: 'verify-full',
  password: Pgiam::Password.new(host: HOST, port: PORT, user: 'app_user')
}
log_in = -> { puts PG.connect(parameters).exec('select current_user').getvalue(0, 0) }
log_in.call
gets
log_in.call
",
    );
}

#[test]
fn active_record_logs_in_again() {
    for again in ["ActiveRecord::Base.connection.reconnect!", "ActiveRecord::Base.connection_pool.disconnect!"] {
        for (requires, setting) in [("'active_record', 'pgiam'", "true"), ("'pgiam', 'active_record'", "true")] {
            // Whichever is required first; without ActiveRecord the gem has nothing to extend.
            let extend = if requires.starts_with("'pgiam'") { "require 'pgiam/active_record'" } else { "" };
            logs_in_again(&format!(
                "
[{requires}].each {{ |name| require name }}
{extend}
ActiveRecord::Base.establish_connection(
  adapter: 'postgresql', host: HOST, port: PORT, username: 'app_user', database: 'app', pgiam: {setting}
)
log_in = -> {{ puts ActiveRecord::Base.connection.select_value('select current_user') }}
log_in.call
gets
{again}
log_in.call
"
            ));
        }
    }
    // A URL, and another thread's connection while the first is in use.
    logs_in_again(
        "
require 'active_record'
require 'pgiam'
ActiveRecord::Base.establish_connection(\"postgresql://app_user@#{HOST}:#{PORT}/app?pgiam=true\")
log_in = -> { puts ActiveRecord::Base.connection.select_value('select current_user') }
log_in.call
gets
Thread.new(&log_in).join
",
    );
}

/// A Rails application with one line for pgiam in its database.yml.
fn application() -> tempfile::TempDir {
    let directory = temporary_directory();
    let files = [
        ("bin/rails", "APP_PATH = File.expand_path('../config/application', __dir__)\nrequire 'rails/commands'\n"),
        (
            "config/application.rb",
            "require 'rails'\nrequire 'active_record/railtie'\nrequire 'pgiam'\nclass Shop < Rails::Application\n  \
             config.root = File.expand_path('..', __dir__)\n  config.eager_load = false\n  config.logger = Logger.new(nil)\n  \
             config.active_record.schema_format = :sql\nend\n",
        ),
        ("config/environment.rb", "require_relative 'application'\nRails.application.initialize!\n"),
        ("Rakefile", "require_relative 'config/application'\nRails.application.load_tasks\n"),
        (
            "config/database.yml",
            "production:\n  adapter: postgresql\n  host: <%= ENV['HOST'] %>\n  port: <%= ENV['PORT'] %>\n  \
             username: app_user\n  database: app\n  pgiam: true\n",
        ),
    ];
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    std::fs::create_dir(directory.path().join("db")).unwrap();
    directory
}

fn rails(client: &Client, application: &Path, arguments: &[&str]) -> Command {
    let mut command = command(client, "ruby");
    command.current_dir(application).arg("bin/rails").args(arguments).env("RAILS_ENV", "production");
    command.env("SECRET_KEY_BASE", "planted-for-the-test").env("PORT", server().port.to_string()).stdin(Stdio::null());
    command
}

#[test]
fn rails_dbconsole_logs_in() {
    let (client, application) = (Client::new(server()), application());
    let script = application.path().join("script.sql");
    std::fs::write(&script, "\\pset format unaligned\n\\pset tuples_only\nselect 'as ' || current_user;\n").unwrap();
    for more in [&["dbconsole"][..], &["dbconsole", "-p"]] {
        let mut command = rails(&client, application.path(), more);
        command.stdin(std::fs::File::open(&script).unwrap());
        let out = expect_success("rails dbconsole", &command.output().unwrap());
        assert!(out.contains("as app_user\n"), "{out}");
    }
}

#[test]
fn rails_dumps_and_loads_the_structure() {
    let (client, application) = (Client::new(server()), application());
    let table = format!("dumped_by_rails_{}", std::process::id());
    server().as_superuser("app", &format!("create table {table} (i int); alter table {table} owner to app_user"));
    let output = rails(&client, application.path(), &["db:schema:dump"]).output().unwrap();
    expect_success("rails db:schema:dump", &output);
    let dump = std::fs::read_to_string(application.path().join("db/structure.sql")).unwrap();
    assert!(dump.contains(&format!("CREATE TABLE public.{table}")), "{dump}");
    server().as_superuser("app", &format!("drop table {table}"));

    let own = format!("create table loaded_{table} (i int);\n");
    std::fs::write(application.path().join("db/structure.sql"), own).unwrap();
    let mut load = rails(&client, application.path(), &["db:schema:load"]);
    load.env("DISABLE_DATABASE_ENVIRONMENT_CHECK", "1");
    expect_success("rails db:schema:load", &load.output().unwrap());
    server().as_superuser("app", &format!("drop table loaded_{table}"));
}

#[test]
fn sequel_logs_in_again() {
    let options = "adapter: 'postgres', host: HOST, port: PORT, user: 'app_user', database: 'app', max_connections: 2";
    let script = "
require 'sequel'
require 'pgiam'
database = Sequel.connect(CONNECTION)
log_in = -> { puts database.fetch('select current_user').single_value }
database.synchronize do
  log_in.call
  gets
  # The first is in use, so the pool opens a second.
  Thread.new(&log_in).join
end
";
    for connection in [
        format!("{options}, pgiam: true"),
        format!("{options}, pgiam: {{ region: 'eu-central-1' }}, sslmode: 'require'"),
        "\"postgres://app_user@#{HOST}:#{PORT}/app?pgiam=true\"".to_owned(),
    ] {
        logs_in_again(&script.replace("CONNECTION", &connection));
    }
}

#[test]
fn a_connection_with_its_own_password_keeps_it() {
    let client = Client::new(server());
    let script = "
require 'pgiam'
connection = Pgiam.connect(
  host: ENV['HOST'], port: ENV['PORT'], user: 'not_granted', password: 'not_granted', dbname: 'postgres'
)
puts connection.exec('select current_user').getvalue(0, 0)
";
    let mut command = command(&client, "ruby");
    command.env("PORT", server().port.to_string()).args(["-e", script]);
    assert_eq!(expect_success("pg", &command.output().unwrap()), "not_granted\n");
    assert!(client.simulator.requests().is_empty());
}
