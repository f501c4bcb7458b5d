//! The examples, built with pkg-config and an installed copy. Each logs in to the real server with a token of the
//! instance role.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use aws_simulator::{Fault, Route, Simulator, SimulatorOptions};

use crate::examples_support::{installed, make, on_instance};
use crate::support::{ENDPOINT, clean_command, expect_success, python, root, server, temporary_directory, texts};

fn simulator() -> Simulator {
    server().simulator(SimulatorOptions::default())
}

fn run(program: &Path, before: &[&str], user: &str, simulator: &Simulator) -> Output {
    let mut command = clean_command(program);
    command.args(before).args([ENDPOINT, &server().port.to_string(), user, "app"]);
    on_instance(&mut command, simulator, installed());
    command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

fn logs_in(program: &Path, before: &[&str]) -> String {
    let simulator = simulator();
    let out = expect_success(&program.display().to_string(), &run(program, before, "app_user", &simulator));
    assert!(out.contains("app_user"), "{out}");
    assert_eq!(server().decision(&simulator.instance_credentials().access_key_id), "accepted");
    out
}

fn example(name: &str) -> PathBuf {
    installed().examples.join(name)
}

#[test]
fn the_twenty_line_c_program_logs_in() {
    logs_in(&example("connect"), &[]);
}

#[test]
fn the_twenty_line_c_program_logs_in_when_linked_statically() {
    let program = example("connect-static");
    logs_in(&program, &[]);
    let needed = crate::support::run("readelf", ["-d"], Some(&program));
    assert!(!needed.contains("libpgiam"), "{needed}");
}

#[test]
fn the_c_program_with_an_event_loop_never_blocks() {
    let simulator = simulator();
    simulator.inject(Route::ImdsToken, Fault::Delay { duration: Duration::from_millis(200) }, 1);
    let out = expect_success("nonblocking", &run(&example("nonblocking"), &[], "app_user", &simulator));
    let ticks: u32 = out.split_whitespace().rev().nth(1).and_then(|word| word.parse().ok()).expect("a number of ticks");
    assert!(ticks > 0, "the loop ran while the metadata service was slow: {out}");
}

#[test]
fn the_c_program_with_one_line_changed_logs_in() {
    let simulator = simulator();
    let mut command = clean_command(example("one_line"));
    command.arg(format!("host={ENDPOINT} port={} user=app_user dbname=app sslmode=verify-full", server().port));
    on_instance(&mut command, &simulator, installed());
    assert_eq!(expect_success("one_line", &command.output().unwrap()), "logged in as app_user\n");
}

#[test]
fn the_c_program_reconnects_with_a_new_token() {
    let out = logs_in(&example("reconnect"), &[]);
    assert!(out.contains("reconnected\nlogged in as app_user"), "{out}");
}

#[test]
fn the_cxx_program_logs_in() {
    logs_in(&example("raii"), &[]);
}

#[test]
fn the_threaded_pool_logs_in_with_one_fetch_of_credentials() {
    let simulator = simulator();
    let out = expect_success("pool", &run(&example("pool"), &[], "app_user", &simulator));
    assert!(out.contains("200 queries as app_user over 4 connections by 8 threads"), "{out}");
    assert_eq!(simulator.requests().len(), 3, "session token, role, credentials");
}

#[test]
fn the_python_program_logs_in() {
    let script = root().join("c-examples/python/connect.py");
    logs_in(python(), &[script.to_str().unwrap()]);
}

#[test]
fn the_ruby_program_logs_in() {
    let script = root().join("c-examples/ruby/connect.rb");
    logs_in(Path::new("ruby"), &[script.to_str().unwrap()]);
}

#[test]
fn a_refused_login_shows_the_message_of_the_server() {
    let simulator = simulator();
    let programs: [(&Path, Option<&str>); 3] = [
        (&example("connect"), None),
        (python(), Some("c-examples/python/connect.py")),
        (Path::new("ruby"), Some("c-examples/ruby/connect.rb")),
    ];
    for (program, script) in programs {
        let script = script.map(|script| root().join(script).display().to_string());
        let before: Vec<&str> = script.iter().map(String::as_str).collect();
        let output = run(program, &before, "nobody", &simulator);
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("authentication failed for user \"nobody\""), "{err}");
    }
}

#[test]
fn without_credentials_the_program_prints_which_sources_were_queried() {
    let simulator = simulator();
    simulator.set_role(None);
    let output = run(&example("connect"), &[], "app_user", &simulator);
    let (_, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(err.starts_with("no credentials: environment: AWS_ACCESS_KEY_ID not set; profile: "), "{err}");
    assert!(err.contains("no role is attached to this instance"), "{err}");
}

fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path.display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn make_install_installs_every_file_and_make_uninstall_removes_them() {
    installed();
    let directory = temporary_directory();
    let destination = format!("DESTDIR={}", directory.path().display());
    expect_success("make install", &make(&["install", &destination, "PREFIX=/usr"]).output().unwrap());
    let version = env!("CARGO_PKG_VERSION");
    let major = version.split('.').next().unwrap();
    let usr = directory.path().join("usr");
    let expected = [
        "bin/pgiam",
        "bin/psql-iam",
        "include/pgiam-libpq.h",
        "include/pgiam.h",
        "lib/cmake/pgiam/pgiamConfig.cmake",
        "lib/cmake/pgiam/pgiamConfigVersion.cmake",
        "lib/libpgiam.a",
        "lib/libpgiam.so",
        &format!("lib/libpgiam.so.{major}"),
        &format!("lib/libpgiam.so.{version}"),
        "lib/libpgiam_preload.so",
        "lib/pkgconfig/pgiam-libpq.pc",
        "lib/pkgconfig/pgiam.pc",
        "lib/systemd/system/pgiam-passfile@.service",
        "share/bash-completion/completions/pgiam",
        "share/fish/vendor_completions.d/pgiam.fish",
        "share/man/man1/pgiam-exec.1",
        "share/man/man1/pgiam-token.1",
        "share/man/man1/pgiam.1",
        "share/man/man1/psql-iam.1",
        "share/man/man3/libpgiam.3",
        "share/man/man3/pgiam_generate_token.3",
        "share/zsh/site-functions/_pgiam",
    ]
    .map(|name| usr.join(name).display().to_string());
    // The manual has a page for each command and function; other tests count them.
    let page = |path: &String| path.contains("/share/man/");
    let files = files_below(directory.path());
    let missing: Vec<_> = expected.iter().filter(|path| !files.contains(path)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let unknown: Vec<_> = files.iter().filter(|path| !page(path) && !expected.contains(path)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    let symbols = crate::support::run("readelf", ["-SW"], Some(usr.join("bin/pgiam")));
    assert!(!symbols.contains(".symtab"), "it is stripped: {symbols}");
    let link = |name: &str| fs::read_link(usr.join("lib").join(name)).unwrap().display().to_string();
    assert_eq!(link("libpgiam.so"), format!("libpgiam.so.{major}"));
    assert_eq!(link(&format!("libpgiam.so.{major}")), format!("libpgiam.so.{version}"));
    let pc = fs::read_to_string(usr.join("lib/pkgconfig/pgiam.pc")).unwrap();
    assert!(pc.contains("prefix=/usr\n") && pc.contains(&format!("Version: {version}\n")), "{pc}");
    expect_success("make uninstall", &make(&["uninstall", &destination, "PREFIX=/usr"]).output().unwrap());
    assert_eq!(files_below(directory.path()), Vec::<String>::new());
}
