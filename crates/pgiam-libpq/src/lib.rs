//! What everything of ours that hands a token to a libpq connection has in common, so that it is the same everywhere:
//! the helper's `exec`, `passfile` and `pgbouncer`, and the preloaded library stand on it.
//!
//! * [`conninfo`]: connection strings, read as libpq reads them, with pgiam's own keywords.
//! * [`own_settings`]: `PGIAM`, `PGIAM_HOST` … and their keywords: which hosts are served, and what to sign for.
//! * [`tls`]: the rule that a token travels over TLS only.
//! * [`passfile`]: lines of a password file.
//!
//! Pure: text in, text out. The caller reads the environment and the files.
#![deny(unsafe_code)]

pub mod conninfo;
pub mod own_settings;
pub mod passfile;
pub mod tls;
