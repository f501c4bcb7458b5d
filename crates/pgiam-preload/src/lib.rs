//! `libpgiam_preload.so`: gives fresh tokens to programs that cannot be changed.
//!
//! Loaded by `LD_PRELOAD`, it defines libpq's functions before libpq does. A connection to an endpoint of RDS, Aurora or
//! Aurora DSQL (or to a host that pgiam's own settings name) without a password, or with a token or the word `rds-iam`
//! as its password, is made with a fresh token, and so is each reset of it. Every other call is passed to libpq
//! unchanged, errors included. `pgiam_libpq::plan` decides.
//!
//! * `exports`: the `PQ…` functions: decide, call the real one, remember.
//! * `options`: changes to the arrays of options that libpq returns.
//! * `remembered`: the connections that got tokens, for their resets and their error messages.
//! * `libpq`: the real libpq of whoever calls. `caller`: who calls.
//!
//! This whole crate is boundary code, so `unsafe` is allowed anywhere in it.

#[cfg(not(target_os = "linux"))]
compile_error!("libpgiam_preload.so is for Linux: LD_PRELOAD and files in memory do not exist elsewhere");

mod caller;
mod exports;
mod libpq;
mod options;
mod remembered;

#[global_allocator]
static ALLOCATOR: pgiam_boundary::WipingAllocator = pgiam_boundary::WipingAllocator;
