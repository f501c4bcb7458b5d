//! Tests what `pgiam.h` promises, in C. `make check-deep` runs the same program under Valgrind and AddressSanitizer.

use crate::c_programs::{abi_environment, build};
use crate::support::{clean_command, expect_success, products, temporary_directory};

#[test]
fn the_c_abi_keeps_its_promises() {
    let directory = temporary_directory();
    let program = build("abi.c", directory.path(), &[]);
    let output =
        clean_command(program).envs(abi_environment()).env("LD_LIBRARY_PATH", products()).output().expect("it runs");
    assert!(expect_success("abi.c", &output).contains("all checks passed"));
}
