//! The slow tests, `make check-deep`: the C programs under Valgrind and the sanitizers, the preload library and
//! `pgiam exec` with common programs, and the library in difficult host processes.

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
mod sanitizers;
mod set_user_id;
mod soak;
mod static_libpq;
#[allow(dead_code)]
#[path = "../suite/support.rs"]
mod support;
