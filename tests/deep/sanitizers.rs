//! The C programs under Valgrind and the sanitizers. AddressSanitizer, LeakSanitizer and ThreadSanitizer see only
//! accesses of code that was compiled for them, so the libraries are built again for each, with their dependencies, ring's C
//! code and Rust's standard library. The C programs are compiled for the same sanitizer, and for UBSan, and bring the
//! sanitizer's runtime, which is gcc's. For each tool there is a fault that it must report.
//!
//! `RUSTC_BOOTSTRAP=1` makes a stable compiler accept the options; the compiler needs the source of its standard library.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use aws_simulator::SimulatorOptions;

use crate::c_programs::{abi_environment, build, build_with};
use crate::examples;
use crate::host_process::{Machine, compile_hosts, loops, run_host};
use crate::preload_support::{self, Client};
use crate::support::{
    ENDPOINT, clean_command, expect_success, products, root, run, server, temporary_directory, texts,
};

/// What the code of a build is instrumented for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sanitizer {
    /// AddressSanitizer, with LeakSanitizer in it.
    Address,
    Thread,
}

use Sanitizer::{Address, Thread};

const THREAD_SANITIZER_FUNCTIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/thread_sanitizer.c");

impl Sanitizer {
    /// As rustc and gcc call it.
    fn name(self) -> &'static str {
        match self {
            Address => "address",
            Thread => "thread",
        }
    }

    /// The variable with its options, and those it needs here.
    fn options(self) -> (&'static str, &'static str) {
        match self {
            // Its hook at the end of a cancelled thread fails on its alternate signal stack (sanitizers#1171). A library
            // that is preloaded comes before the runtime.
            Address => ("ASAN_OPTIONS", "use_sigaltstack=0:detect_leaks=1:verify_asan_link_order=0"),
            Thread => ("TSAN_OPTIONS", "halt_on_error=1"),
        }
    }

    /// Flags for C programs, which are compiled for UBSan too.
    fn flags(self) -> Vec<&'static str> {
        let own: &[_] = match self {
            Address => &["-fsanitize=address,undefined"],
            Thread => &["-fsanitize=thread,undefined", THREAD_SANITIZER_FUNCTIONS],
        };
        [own, &["-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-Wl,--no-as-needed"]].concat()
    }

    /// What goes before a program.
    fn wrapper(self) -> &'static [&'static str] {
        match self {
            Address => &[],
            // gcc's ThreadSanitizer does not know all addresses that newer kernels place programs at.
            Thread => &["setarch", "--addr-no-randomize"],
        }
    }

    fn command(self, program: &Path) -> Command {
        let words: Vec<_> = self.wrapper().iter().map(Path::new).chain([program]).collect();
        let mut command = clean_command(words[0]);
        let (variable, options) = self.options();
        command.args(&words[1..]).env(variable, options).env("LD_LIBRARY_PATH", instrumented(self));
        command
    }
}

/// Where Cargo's output is.
fn target_directory() -> &'static Path {
    products().parent().expect("target")
}

/// A Rust compiler with the source of its standard library, and a Cargo for it: those that run the tests, those that
/// `tools/setup` installs with rustup, or Debian's.
fn compiler_with_source() -> (PathBuf, PathBuf) {
    let cargo = PathBuf::from(env!("CARGO"));
    let mut candidates = vec![(PathBuf::from("rustc"), cargo.clone())];
    if let Ok(toolchains) = target_directory().join("rust-with-source/toolchains").read_dir() {
        let programs = toolchains.map(|toolchain| toolchain.unwrap().path().join("bin"));
        candidates.extend(programs.map(|programs| (programs.join("rustc"), programs.join("cargo"))));
    }
    candidates.push(("/usr/bin/rustc".into(), cargo));
    candidates.into_iter().find(|(compiler, _)| has_source(compiler)).expect(
        "the source of Rust's standard library is missing: tools/setup deep, or rustup component add rust-src, or, on \
         Debian 12 and 13, apt-get install rustc-web rust-web-src",
    )
}

fn has_source(compiler: &Path) -> bool {
    // Where the tests' toolchain is, which another one would take for its own.
    let output = Command::new(compiler).args(["--print", "sysroot"]).env_remove("LD_LIBRARY_PATH").output();
    output.is_ok_and(|output| {
        let library = "lib/rustlib/src/rust/library/std/Cargo.toml";
        output.status.success() && Path::new(texts(&output).0.trim()).join(library).exists()
    })
}

/// The directory of the instrumented libraries, which are built once.
fn instrumented(sanitizer: Sanitizer) -> &'static Path {
    static LIBRARIES: [OnceLock<PathBuf>; 2] = [const { OnceLock::new() }; 2];
    LIBRARIES[sanitizer as usize].get_or_init(|| build_libraries(sanitizer))
}

fn build_libraries(sanitizer: Sanitizer) -> PathBuf {
    let name = sanitizer.name();
    let target = format!("{ARCH}-unknown-linux-gnu");
    let into = target_directory().join("sanitizers").join(name);
    let (compiler, cargo) = compiler_with_source();
    let mut arguments = vec![
        "--unset=LD_LIBRARY_PATH".to_owned(),
        "RUSTC_BOOTSTRAP=1".to_owned(),
        format!("RUSTC={}", compiler.display()),
        // It comes before RUSTFLAGS, and applies to the target only. With frame pointers for the stacks in reports.
        format!("CARGO_ENCODED_RUSTFLAGS=-Zsanitizer={name}\x1f-Cforce-frame-pointers=yes"),
        // ring's C code.
        format!("CFLAGS_{}=-fsanitize={name}", target.replace('-', "_")),
        cargo.display().to_string(),
    ];
    let build =
        "build --quiet --locked --profile sanitizers -Zbuild-std=std -p pgiam -p pgiam-preload -p deliberate-faults";
    arguments.extend(build.split(' ').map(str::to_owned));
    arguments.extend(["--target".to_owned(), target.clone(), "--target-dir".to_owned(), into.display().to_string()]);
    arguments.push("--manifest-path".to_owned());
    run("env", arguments, Some(root().join("Cargo.toml")));
    let libraries = into.join(target).join("sanitizers");
    std::os::unix::fs::symlink("libpgiam.so", libraries.join("libpgiam.so.0")).ok();
    libraries
}

/// Compiles a program of `tests/c` and links it to instrumented libraries.
fn sanitized(sanitizer: Sanitizer, source: &str, directory: &Path, more: &[&str]) -> PathBuf {
    build_with(source, directory, instrumented(sanitizer), &[&sanitizer.flags()[..], more].concat())
}

fn libpq_flags() -> Vec<String> {
    let flags = run("pkg-config", ["--cflags", "--libs"], Some("libpq"));
    flags.split_whitespace().map(str::to_owned).collect()
}

fn under_valgrind(program: &Path) -> Command {
    let mut command = clean_command("valgrind");
    command.args(["--error-exitcode=99", "--leak-check=full", "--show-leak-kinds=definite,indirect"]);
    command.args(["--errors-for-leak-kinds=definite,indirect", "--quiet"]).arg(program);
    command.env("LD_LIBRARY_PATH", products());
    command
}

/// A command with keys, for a program that has no other source of credentials.
fn with_keys(mut command: Command) -> Command {
    command.envs(abi_environment());
    command
}

fn expect_report(output: &Output, words: &[&str]) {
    let (out, err) = texts(output);
    assert!(!output.status.success(), "{words:?}: {}\n{out}{err}", output.status);
    for word in words {
        assert!(err.contains(word), "without {word}: {out}{err}");
    }
}

// --- each tool reports its fault ---------------------------------------------------------------------------------

/// A program that calls the functions of `tests/deliberate-faults`.
fn faults(sanitizer: Sanitizer, directory: &Path) -> impl Fn(&str) -> Output {
    let program = sanitized(sanitizer, "rust_faults.c", directory, &["-ldeliberate_faults"]);
    let output = sanitizer.command(&program).arg("none").output().unwrap();
    assert_eq!(expect_success("no fault", &output), "ended\n");
    move |fault| sanitizer.command(&program).arg(fault).output().unwrap()
}

#[test]
fn address_sanitizer_reports_faults_in_rust_code() {
    let directory = temporary_directory();
    let fault = faults(Address, directory.path());
    let read = ["ERROR: AddressSanitizer: heap-use-after-free", "fault_use_after_free"];
    expect_report(&fault("use_after_free"), &read);
    let overrun = ["ERROR: AddressSanitizer: stack-buffer-overflow", "fault_stack_overrun"];
    expect_report(&fault("stack_overrun"), &overrun);
}

#[test]
fn leak_sanitizer_reports_a_leak_of_rust_code() {
    let directory = temporary_directory();
    let output = faults(Address, directory.path())("leak");
    expect_report(&output, &["ERROR: LeakSanitizer: detected memory leaks", "fault_leak"]);
}

#[test]
fn thread_sanitizer_reports_races_in_rust_code_and_in_its_standard_library() {
    let directory = temporary_directory();
    let fault = faults(Thread, directory.path());
    expect_report(&fault("race"), &["WARNING: ThreadSanitizer: data race", "fault_race"]);
    let words = ["WARNING: ThreadSanitizer: data race", "run_utf8_validation"];
    expect_report(&fault("race_in_the_standard_library"), &words);
}

#[test]
fn address_sanitizer_reports_faults_of_a_c_program_that_uses_the_library() {
    let directory = temporary_directory();
    let program = sanitized(Address, "faulty.c", directory.path(), &[]);
    let faulty = |error: &str| with_keys(Address.command(&program)).arg(error).output().unwrap();
    expect_report(&faulty("leak"), &["LeakSanitizer: detected memory leaks"]);
    expect_report(&faulty("overrun"), &["AddressSanitizer: heap-use-after-free"]);
}

#[test]
fn ubsan_reports_an_overflow_and_a_misaligned_access() {
    let directory = temporary_directory();
    // Without another sanitizer: no other tool reports these.
    let program = build("faulty.c", directory.path(), &["-fsanitize=undefined", "-fno-sanitize-recover=all"]);
    let faulty = |error: &str| {
        with_keys(clean_command(&program)).env("LD_LIBRARY_PATH", products()).arg(error).output().unwrap()
    };
    expect_report(&faulty("overflow"), &["runtime error: signed integer overflow"]);
    expect_report(&faulty("misaligned"), &["runtime error: load of misaligned address"]);
}

#[test]
fn valgrind_reports_a_leak_and_an_invalid_read() {
    let directory = temporary_directory();
    let program = build("faulty.c", directory.path(), &["-O0"]);
    let faulty = |error: &str| with_keys(under_valgrind(&program)).arg(error).output().unwrap();
    expect_report(&faulty("leak"), &["definitely lost"]);
    expect_report(&faulty("overrun"), &["Invalid read of size 1"]);
}

/// Which functions of the runtime the products call: without instrumentation, none.
#[test]
fn the_products_are_instrumented() {
    for (sanitizer, function) in [(Address, "__asan_report_load8"), (Thread, "__tsan_read8")] {
        for library in ["libpgiam.so", "libpgiam_preload.so"] {
            let symbols = run("nm", ["-D", "--undefined-only"], Some(instrumented(sanitizer).join(library)));
            assert!(symbols.contains(function), "{library} does not call {function}");
        }
    }
}

// --- the C ABI -----------------------------------------------------------------------------------------------------

#[test]
fn the_c_abi_keeps_its_promises_under_valgrind() {
    let directory = temporary_directory();
    let output = with_keys(under_valgrind(&build("abi.c", directory.path(), &[]))).output().unwrap();
    assert!(expect_success("abi.c under valgrind", &output).contains("all checks passed"));
}

#[test]
fn the_c_abi_keeps_its_promises_under_address_sanitizer_and_ubsan() {
    let directory = temporary_directory();
    let program = sanitized(Address, "abi.c", directory.path(), &[]);
    let output = with_keys(Address.command(&program)).output().unwrap();
    assert!(expect_success("abi.c under AddressSanitizer", &output).contains("all checks passed"));
}

// --- logins --------------------------------------------------------------------------------------------------------

/// The functions of `pgiam-libpq.h`, whose glue is C, against the real server.
#[test]
fn the_libpq_header_logs_in_under_address_sanitizer_and_ubsan() {
    let directory = temporary_directory();
    let flags = libpq_flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(["-std=c99"]).collect();
    let program = sanitized(Address, "libpq.c", directory.path(), &flags);
    let simulator = server().simulator(SimulatorOptions::default());
    let conninfo = server().conninfo("app_user");
    let port = server().port.to_string();
    let params = ["params", "dbname", &conninfo, "application_name", "test", "port", &port];
    let refused = format!("{conninfo} sslmode=disable");
    for (arguments, expected) in [
        (&["connectdb", &conninfo][..], "user app_user"),
        (&params, "user app_user"),
        (&["start", &conninfo], "user app_user"),
        (&["both", &conninfo, ENDPOINT], "user app_user"),
        (&["connectdb", &refused], "refused: "),
        (&["tokens", ENDPOINT, "db.example.com"], &format!("{ENDPOINT} true")),
    ] {
        let mut command = Address.command(&program);
        command.args(arguments).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url());
        let (out, err) = texts(&command.output().unwrap());
        assert!(out.contains(expected) && err.is_empty(), "{arguments:?}: {out}{err}");
    }
}

/// The preload library, in a program that was compiled for AddressSanitizer, with every function of libpq that connects.
#[test]
fn the_preload_library_logs_in_under_address_sanitizer_and_ubsan() {
    let directory = temporary_directory();
    let program = directory.path().join("preload");
    preload_support::compile(&program, &Address.flags());
    let client = Client::new(server());
    let (variable, options) = Address.options();
    for mode in ["connect", "names", "start", "cancel"] {
        let mut command = client.command_without_library(&program);
        command.env("LD_PRELOAD", instrumented(Address).join("libpgiam_preload.so")).env(variable, options);
        let output = command.args([mode, &client.conninfo()]).output().unwrap();
        expect_success(&format!("preload.c {mode} under AddressSanitizer"), &output);
    }
}

/// The examples log in under both tools, with the instance role's token.
#[test]
fn the_c_examples_log_in_under_valgrind_address_sanitizer_and_ubsan() {
    let installed = examples::installed();
    let sanitized = temporary_directory();
    let flags = Address.flags().join(" ");
    let (c, cxx) = (format!("CFLAGS=-g -O1 {flags}"), format!("CXXFLAGS=-g -O1 {flags}"));
    examples::build(&installed.prefix, sanitized.path(), &[&c, &cxx]);
    for name in ["connect", "nonblocking", "reconnect", "pool", "raii"] {
        let valgrind = under_valgrind(&installed.examples.join(name));
        for (mut command, library) in [
            (valgrind, installed.prefix.join("lib")),
            (Address.command(&sanitized.path().join(name)), instrumented(Address).to_owned()),
        ] {
            let simulator = server().simulator(SimulatorOptions::default());
            command.args([ENDPOINT, &server().port.to_string(), "app_user", "app"]);
            examples::on_instance(&mut command, &simulator, installed);
            command.env("LD_LIBRARY_PATH", library);
            // The tools slow programs down, and a machine that does other things too: a second may be too short.
            command.env("AWS_METADATA_SERVICE_TIMEOUT", "9");
            let out = expect_success(name, &command.output().unwrap());
            assert!(out.contains("app_user"), "{name}: {out}");
        }
    }
}

// --- host processes ------------------------------------------------------------------------------------------------

/// Where the programs of `tests/c/host` are, compiled for a sanitizer, with the library.
fn hosts(sanitizer: Sanitizer) -> &'static Path {
    static HOSTS: [OnceLock<tempfile::TempDir>; 2] = [const { OnceLock::new() }; 2];
    let build = || compile_hosts(&instrumented(sanitizer).join("libpgiam.so"), &sanitizer.flags());
    HOSTS[sanitizer as usize].get_or_init(build).path()
}

fn host(sanitizer: Sanitizer, mut machine: Machine, program: &str, scenario: &str, number: u32) {
    let (variable, options) = sanitizer.options();
    machine.set(variable, options);
    machine.set("LSAN_OPTIONS", format!("print_suppressions=0:suppressions={}/tests/c/leaks.supp", root().display()));
    // Where the runtime, which is between the program and dlopen, finds the library.
    machine.set("LD_LIBRARY_PATH", hosts(sanitizer).to_str().unwrap());
    run_host(&machine, sanitizer.wrapper(), &hosts(sanitizer).join(program), scenario, loops(number));
}

/// Without forks while threads run: gcc's runtime does not take the locks of its allocator for a fork, so that a child
/// may wait for ever for one that another thread had.
#[test]
fn difficult_host_processes_work_under_address_sanitizer_and_ubsan() {
    for machine in [Machine::instance, Machine::over_tls, Machine::process] {
        host(Address, machine(), "threads", "ending", 12);
        host(Address, machine(), "threads", "cancelled", 12);
        host(Address, machine(), "environment", "changed", 50);
        host(Address, machine(), "signals", "interrupted", 10);
        host(Address, machine(), "limits", "no_descriptors", 10);
        host(Address, machine(), "shared", "threads", 3);
    }
    for machine in [Machine::instance, Machine::over_tls] {
        host(Address, machine(), "unload", "unloads", 10);
    }
    for scenario in ["ignored", "reaped", "awaited"] {
        host(Address, Machine::process(), "children", scenario, 10);
    }
}

/// Client, cache, single flight and HTTP: threads get tokens from one client, poll it and refresh it, while its
/// credentials are about to expire and are refreshed in the background.
#[test]
fn threads_that_share_clients_have_no_data_race_under_thread_sanitizer() {
    for machine in [Machine::instance, Machine::over_tls, Machine::process] {
        let mut machine = machine();
        // In the time of their refresh, for the instance: the others issue credentials that last longer.
        machine.simulator.set_expiration(Some(machine.simulator.now() + Duration::from_secs(120)));
        machine.set("PGIAM_LOG", "debug");
        machine.set("PGIAM_LOG_FILE", "/dev/null");
        host(Thread, machine, "shared", "threads", 3);
    }
}
