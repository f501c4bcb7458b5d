//! Programs that were compiled against a libpgiam.so.0 run with every later one: `tests/c/abi_record.c` has what is
//! compiled into them, and the headers and the library still agree with it.

use std::collections::BTreeSet;
use std::fs;

use crate::c_programs::build;
use crate::exports::listed;
use crate::hostile_arguments::libpq_include;
use crate::support::{clean_command, expect_success, products, root, temporary_directory};

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
