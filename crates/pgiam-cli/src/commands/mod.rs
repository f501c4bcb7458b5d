//! One module for each command: its flags and what it does.

pub(crate) mod credentials;
pub(crate) mod doctor;
pub(crate) mod exec;
pub(crate) mod passfile;
pub(crate) mod pgbouncer;
pub(crate) mod setup;
pub(crate) mod token;
