//! The C boundary with arguments of faulty programs: `tests/c/hostile_arguments.c`.

use std::path::Path;

use crate::c_programs::{abi_environment, build};
use crate::support::{clean_command, expect_success, products, run, temporary_directory};

/// Where libpq's header is.
pub(crate) fn libpq_include() -> String {
    run("pkg-config", ["--cflags-only-I", "libpq"], None::<&Path>).trim().to_owned()
}

#[test]
fn every_function_returns_whatever_its_arguments_are() {
    let directory = temporary_directory();
    let program = build("hostile_arguments.c", directory.path(), &[&libpq_include(), "-Wl,--no-as-needed", "-lpq"]);
    let output = clean_command(program).envs(abi_environment()).env("LD_LIBRARY_PATH", products()).output().unwrap();
    let out = expect_success("hostile_arguments.c", &output);
    let calls: u32 = out.split_whitespace().next().unwrap().parse().unwrap();
    assert!(calls > 1000, "{out}");
}
