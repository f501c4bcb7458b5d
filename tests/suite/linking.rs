//! The README's commands for linking, run with an installed copy.

use std::path::Path;

use crate::examples_support::installed;
use crate::support::{clean_command, expect_success, root, run, temporary_directory};

/// A program that uses only pgiam: it makes a token with the keys of the environment.
const PROGRAM: &str = r#"
#include <pgiam.h>
#include <stdio.h>
#ifdef WITH_LIBPQ
#include <libpq-fe.h>
#endif
int main(void)
{
    char *token = NULL;
    pgiam_error *error = NULL;
    if (pgiam_generate_token("mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com", 5432, NULL, "app_user", &token, &error)) {
        fprintf(stderr, "%s\n", pgiam_error_message(error));
        return 1;
    }
    puts(token);
    pgiam_string_free(token);
#ifdef WITH_LIBPQ
    PQconndefaults();
#endif
    return 0;
}
"#;

/// The commands in the README's section about linking: every text in backticks that begins with `cc `.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let section = readme.split("## Linking").nth(1).unwrap().split("\n## ").next().unwrap();
    let words: Vec<&str> = section.split_whitespace().collect();
    words.join(" ").split('`').filter(|span| span.starts_with("cc ")).map(str::to_owned).collect()
}

/// Runs a command of the README, checks that the program makes a token, and returns its dynamic section.
fn linked(directory: &Path, command: &str) -> String {
    std::fs::write(directory.join("program.c"), PROGRAM).unwrap();
    let define = if command.contains("libpq") { "-DWITH_LIBPQ" } else { "" };
    let output = clean_command("sh")
        .args(["-c", &command.replacen("cc ", &format!("${{CC-cc}} {define} "), 1)])
        .current_dir(directory)
        .env("PKG_CONFIG_PATH", installed().prefix.join("lib/pkgconfig"))
        .output()
        .unwrap();
    expect_success(command, &output);
    let program = directory.join("a.out");
    let output = clean_command(&program)
        .env("LD_LIBRARY_PATH", installed().prefix.join("lib"))
        .env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        .env("AWS_SECRET_ACCESS_KEY", "simulated-secret-of-the-linking-tests")
        .output()
        .unwrap();
    assert!(expect_success(command, &output).contains("X-Amz-Credential=AKIAIOSFODNN7EXAMPLE"), "{command}");
    run("readelf", ["-d"], Some(&program))
}

#[test]
fn the_commands_of_the_readme_link_dynamically_with_libpgiam_a_and_statically() {
    let commands = commands();
    assert_eq!(commands.len(), 3, "{commands:?}");
    let directory = temporary_directory();
    let needed: Vec<String> = commands.iter().map(|command| linked(directory.path(), command)).collect();
    assert!(needed[0].contains("[libpgiam.so."), "{}", needed[0]);
    assert!(!needed[1].contains("libpgiam") && needed[1].contains("[libpq.so."), "{}", needed[1]);
    assert!(!needed[2].contains("NEEDED"), "{}", needed[2]);
}

#[test]
fn pkg_config_gives_the_same_flags_for_the_header_of_libpq() {
    let output = clean_command("pkg-config")
        .args(["--libs", "pgiam-libpq"])
        .env("PKG_CONFIG_PATH", installed().prefix.join("lib/pkgconfig"))
        .output()
        .unwrap();
    let libraries = expect_success("pkg-config", &output);
    assert!(libraries.contains("-lpgiam") && libraries.contains("-lpq"), "{libraries}");
}
