//! Which libpq connections get a token, and how. The program `pgiam`, the C library behind `pgiam-libpq.h` and the
//! preload library all use this crate, so that one rule holds everywhere.
//!
//! A module imports only modules below it:
//!
//! * [`functions`]: libpq, by a table of its functions, for [`plan::Libpq`].
//! * [`plan`]: connection options in, what to connect with out. It asks libpq through a trait.
//! * [`tokens`]: clients by profile, and tokens from them.
//! * [`arguments`]: the keywords and values of one connection.
//! * [`rules`]: which hosts get a token, what it is signed for, and that it needs TLS.
//! * [`hosts`], [`conninfo`], [`keywords`]: host lists and connection strings, as libpq reads them.
//! * [`passfile`], [`memory_file`]: lines of a password file, and a password file in memory.
//!
//! `unsafe` is in [`functions`] and [`memory_file`] only.
#![deny(unsafe_code)]

pub mod arguments;
pub mod conninfo;
#[allow(unsafe_code)]
pub mod functions;
pub mod hosts;
pub mod keywords;
#[allow(unsafe_code)]
pub mod memory_file;
pub mod passfile;
pub mod plan;
pub mod rules;
pub mod tokens;
