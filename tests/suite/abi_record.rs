//! Programs that were compiled against a libpgiam.so.0 run with every later one: `tests/c/abi_record.c` has what is
//! compiled into them, and the headers and the library still agree with it.

use std::collections::BTreeSet;
use std::fs;

use crate::c_programs::{build, libpq_include};
use crate::exports::listed;
use crate::header::{configuration, generate};
use crate::support::{clean_command, expect_success, products, root, run, temporary_directory};

/// The first words after `start`, as in `STATUS(PGIAM_OK, 0);`.
fn recorded(start: &str) -> BTreeSet<String> {
    let record = fs::read_to_string(root().join("tests/c/abi_record.c")).unwrap();
    let calls = record.lines().filter_map(|line| line.trim().strip_prefix(start));
    calls.filter_map(|rest| rest.split([',', ')']).next()).map(str::to_owned).collect()
}

#[test]
fn a_program_with_the_recorded_interface_compiles_and_runs() {
    let directory = temporary_directory();
    let program = build("abi_record.c", directory.path(), &["-std=c11", &libpq_include(), "-Wl,-z,now"]);
    let output = clean_command(program).env("LD_LIBRARY_PATH", products()).output().expect("it runs");
    assert!(expect_success("abi_record.c", &output).contains("the recorded interface"));
}

#[test]
fn every_function_and_status_is_in_the_record() {
    assert_eq!(recorded("SAME("), listed("exports.txt"));
    let header = fs::read_to_string(root().join("include/pgiam.h")).unwrap();
    let statuses = header.lines().filter_map(|line| line.strip_prefix("#define ")?.split(' ').next());
    let statuses = statuses.filter(|name| *name == "PGIAM_OK" || name.starts_with("PGIAM_ERROR_"));
    assert_eq!(recorded("STATUS("), statuses.map(str::to_owned).collect());
}

/// `pgiam-libpq.h` is written by hand. What cbindgen reads in `src/` is declared a second time after it, which compiles
/// only with the same types; the table's fields are compared one by one.
#[test]
fn the_private_functions_and_the_table_in_the_source_are_those_of_pgiam_libpq_h() {
    let mut config = configuration();
    config.header = None;
    config.include_guard = None;
    config.after_includes = Some(
        "typedef const char *const *Texts;\ntypedef PGconn *(*ConnectParams)(Texts, Texts, int);\n".to_owned(),
    );
    config.includes = vec!["pgiam-libpq.h".to_owned()];
    config.no_includes = false;
    config.export.exclude = vec!["pgiam_libpq_plan".to_owned()];
    let mut source = generate(config).replace("} pgiam_libpq_functions;", "} functions_of_the_source;");
    let fields: Vec<String> = recorded("FIELD(pgiam_libpq_functions, ").into_iter().collect();
    assert_eq!(fields.len(), 8, "{fields:?}");
    for field in fields {
        source += &format!(
            "_Static_assert(offsetof(functions_of_the_source, {field}) == offsetof(pgiam_libpq_functions, {field}) &&\n\
             sizeof ((functions_of_the_source *)0)->{field} == sizeof ((pgiam_libpq_functions *)0)->{field}, \"{field}\");\n"
        );
    }
    source += "_Static_assert(sizeof(functions_of_the_source) == sizeof(pgiam_libpq_functions), \"size\");\n";
    let directory = temporary_directory();
    let file = directory.path().join("declared_twice.c");
    fs::write(&file, source).unwrap();
    let include = format!("-I{}", root().join("include").display());
    let flags = ["-std=c11", "-Wall", "-Werror", "-fsyntax-only", "-include", "stddef.h", &include, &libpq_include()];
    run("cc", flags, Some(&file));
}
