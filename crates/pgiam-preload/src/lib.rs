//! `libpgiam_preload.so`: gives fresh tokens to programs that cannot be changed.
//!
//! Named in `LD_PRELOAD`, it stands before libpq. A connection to an endpoint of RDS, Aurora or Aurora DSQL (or to what
//! pgiam's own settings name) that has no password, or has one of our own tokens or the word `rds-iam` for one, is made
//! with a fresh token, and so is each reset of it. Everything else goes to libpq as it came, errors included.
//!
//! * `exports`: the `PQ…` names, each a few lines: decide, call the real one, remember.
//! * `plan`: the decision. What would libpq connect to, is it served, and with which token?
//! * `arguments`: the program's keywords and values, with pgiam's own taken out.
//! * `served`: the connections that were given tokens, for their resets and their error messages.
//! * `tokens`: the AWS side, one client for each profile.
//! * `passfile`: a password file in memory, by which libpq takes tokens.
//! * `libpq`: the real libpq of whoever calls. `caller`: who calls.
//! * `boundary`: no panic, no cancellation and no changed `errno` leaves our own work.
//!
//! All of it is boundary, so `unsafe` may stand anywhere in it.

#[cfg(not(target_os = "linux"))]
compile_error!("libpgiam_preload.so is for Linux: LD_PRELOAD and files in memory do not exist elsewhere");

mod arguments;
mod boundary;
mod caller;
mod exports;
mod libpq;
mod passfile;
mod plan;
mod served;
mod tokens;
