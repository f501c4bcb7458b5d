//! `include/pgiam.h` is generated from `src/` and checked in, and it compiles as C99 and C++11. `make header` regenerates it.

use std::fs;
use std::path::Path;

use crate::support::{root, run, temporary_directory};

/// What cbindgen.toml says, and the version's macros from Cargo.toml.
fn configuration() -> cbindgen::Config {
    let version = env!("CARGO_PKG_VERSION");
    let mut parts = version.split('.');
    let mut macros = format!("#define PGIAM_VERSION \"{version}\"\n");
    for name in ["MAJOR", "MINOR", "PATCH"] {
        let number = parts.next().expect("a version has three parts");
        macros.push_str(&format!("#define PGIAM_VERSION_{name} {number}\n"));
    }
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    config.after_includes = Some(format!("\n{}", macros.trim_end()));
    config
}

/// The header that cbindgen makes of `src/`.
fn generate(config: cbindgen::Config) -> String {
    let bindings =
        cbindgen::Builder::new().with_crate(root()).with_config(config).generate().expect("cbindgen reads src/");
    let mut header = Vec::new();
    bindings.write(&mut header);
    without_rust_sections(&String::from_utf8(header).unwrap())
}

/// Removes `# Safety` sections, which are for readers of the Rust source; the header's conventions say the same for C.
fn without_rust_sections(header: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut skipping = false;
    for line in header.lines() {
        if line.trim() == "* # Safety" {
            skipping = true;
            while out.last().is_some_and(|line| line.trim() == "*") {
                out.pop();
            }
        }
        if line.trim() == "*/" {
            skipping = false;
        }
        if !skipping {
            out.push(line);
        }
    }
    out.join("\n") + "\n"
}

#[test]
fn the_header_is_what_the_source_says() {
    let path = root().join("include/pgiam.h");
    let fresh = generate(configuration());
    if std::env::var_os("PGIAM_BLESS").is_some() {
        fs::write(&path, &fresh).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(checked_in == fresh, "include/pgiam.h is stale: run `make header` and commit it");
}

fn compile(compiler: &str, standard: &str, extension: &str, source: &str) {
    let directory = temporary_directory();
    let file = directory.path().join(format!("includes.{extension}"));
    fs::write(&file, source).unwrap();
    let include = format!("-I{}", root().join("include").display());
    run(compiler, [standard, "-Wall", "-Wextra", "-Wpedantic", "-Werror", &include, "-fsyntax-only"], Some(&file));
}

#[test]
fn the_header_compiles_as_c99_and_cxx11_without_warnings_and_included_twice() {
    let source = "#include \"pgiam.h\"\n#include \"pgiam.h\"\nint main(void) { return PGIAM_OK; }\n";
    compile("cc", "-std=c99", "c", source);
    compile("c++", "-std=c++11", "cpp", &source.replace("(void)", "()"));
}

#[test]
fn the_example_in_the_header_compiles() {
    let header = fs::read_to_string(root().join("include/pgiam.h")).unwrap();
    let example: String = header
        .lines()
        .skip_while(|line| !line.contains("#include <libpq-fe.h>"))
        .take_while(|line| !line.contains("A token is a password"))
        .map(|line| line.trim_start_matches(" *").to_owned() + "\n")
        .collect();
    assert!(example.contains("PQconnectdbParams"), "the header begins with an example");
    let directory = temporary_directory();
    let file = directory.path().join("example.c");
    fs::write(&file, example.replace("<pgiam.h>", "\"pgiam.h\"")).unwrap();
    let flags = run("pkg-config", ["--cflags", "libpq"], None::<&Path>);
    let include = format!("-I{}", root().join("include").display());
    let mut arguments: Vec<&str> = flags.split_whitespace().collect();
    arguments.extend(["-std=c99", "-Wall", "-Wextra", "-Werror", &include, "-fsyntax-only"]);
    run("cc", arguments, Some(&file));
}
