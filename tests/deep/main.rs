//! The slow tests, `make check-deep`: the C programs under Valgrind and AddressSanitizer (no leaks, no invalid memory
//! accesses), the preload library and `pgiam exec` with common programs, and the library in difficult host processes.

#[path = "../suite/c_programs.rs"]
mod c_programs;
#[allow(dead_code)]
#[path = "../suite/examples_support.rs"]
mod examples;
mod exec;
mod fleet;
mod host_process;
mod packages_python;
mod packages_ruby;
mod pgbouncer;
mod preload;
#[allow(dead_code)]
#[path = "../suite/preload_support.rs"]
mod preload_support;
mod recipes;
mod set_user_id;
mod soak;
mod static_libpq;
#[allow(dead_code)]
#[path = "../suite/support.rs"]
mod support;

use std::path::Path;
use std::process::{Command, Output};

use aws_simulator::SimulatorOptions;
use c_programs::{abi_environment, build};
use support::{ENDPOINT, clean_command, expect_success, products, server, temporary_directory, texts};

fn with_library(command: &mut Command) -> Output {
    // The sanitizer's hook at the end of a cancelled thread fails on its alternate signal stack (sanitizers#1171).
    command.env("ASAN_OPTIONS", "use_sigaltstack=0:detect_leaks=1");
    command.envs(abi_environment()).env("LD_LIBRARY_PATH", products()).output().expect("it runs")
}

fn under_valgrind(program: &Path) -> Output {
    let mut command = clean_command("valgrind");
    command.args(["--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite,indirect"]);
    command.args(["--errors-for-leak-kinds=definite,indirect", "--quiet"]).arg(program);
    with_library(&mut command)
}

const SANITIZE: [&str; 2] = ["-fsanitize=address", "-fno-omit-frame-pointer"];

#[test]
fn the_c_abi_keeps_its_promises_under_valgrind() {
    let directory = temporary_directory();
    let output = under_valgrind(&build("abi.c", directory.path(), &[]));
    assert!(expect_success("abi.c under valgrind", &output).contains("all checks passed"));
}

#[test]
fn the_c_abi_keeps_its_promises_under_address_sanitizer() {
    let directory = temporary_directory();
    let output = with_library(&mut clean_command(build("abi.c", directory.path(), &SANITIZE)));
    assert!(expect_success("abi.c under AddressSanitizer", &output).contains("all checks passed"));
}

/// Runs a program with an error of each kind, which the tools must report.
#[test]
fn valgrind_and_address_sanitizer_report_errors() {
    let directory = temporary_directory();
    let output = under_valgrind(&build("faulty.c", directory.path(), &["-O0"]));
    let (_, err) = texts(&output);
    assert!(!output.status.success() && err.contains("definitely lost"), "{err}");

    let output = with_library(&mut clean_command(build("faulty.c", directory.path(), &SANITIZE)));
    let (_, err) = texts(&output);
    assert!(!output.status.success() && err.contains("LeakSanitizer: detected memory leaks"), "{err}");

    let output = with_library(clean_command(build("faulty.c", directory.path(), &SANITIZE)).arg("overrun"));
    let (_, err) = texts(&output);
    assert!(!output.status.success() && err.contains("AddressSanitizer: heap-"), "{err}");
}

/// The examples log in under both tools, with the instance role's token.
#[test]
fn the_c_examples_log_in_under_valgrind_and_address_sanitizer() {
    let installed = examples::installed();
    let sanitized = temporary_directory();
    let flags = SANITIZE.join(" ");
    let (c, cxx) = (format!("CFLAGS=-g -O1 {flags}"), format!("CXXFLAGS=-g -O1 {flags}"));
    examples::build(&installed.prefix, sanitized.path(), &[&c, &cxx]);
    for name in ["connect", "nonblocking", "reconnect", "pool", "raii"] {
        let mut valgrind = clean_command("valgrind");
        valgrind.args(["--error-exitcode=99", "--leak-check=full", "--quiet"]);
        valgrind.args(["--show-leak-kinds=definite,indirect", "--errors-for-leak-kinds=definite,indirect"]);
        valgrind.arg(installed.examples.join(name));
        for mut command in [valgrind, clean_command(sanitized.path().join(name))] {
            let simulator = server().simulator(SimulatorOptions::default());
            command.args([ENDPOINT, &server().port.to_string(), "app_user", "app"]);
            examples::on_instance(&mut command, &simulator, installed);
            let out = expect_success(name, &command.output().unwrap());
            assert!(out.contains("app_user"), "{name}: {out}");
        }
    }
}
