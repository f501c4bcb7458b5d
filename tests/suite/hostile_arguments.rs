//! The C boundary with arguments of faulty programs: `tests/c/hostile_arguments.c`.

use crate::c_programs::{abi_environment, build, libpq_include};
use crate::support::{clean_command, expect_success, products, temporary_directory};

#[test]
fn every_function_returns_whatever_its_arguments_are() {
    let directory = temporary_directory();
    let program = build("hostile_arguments.c", directory.path(), &[&libpq_include(), "-Wl,--no-as-needed", "-lpq"]);
    let output = clean_command(program).envs(abi_environment()).env("LD_LIBRARY_PATH", products()).output().unwrap();
    let out = expect_success("hostile_arguments.c", &output);
    let calls: u32 = out.split_whitespace().next().unwrap().parse().unwrap();
    assert!(calls > 1000, "{out}");
}
