//! Tests of the simulated services, of each fault, and of the program with its control API.

mod binary;
mod container;
mod faults;
mod imds;
mod lifecycle;
mod signin;
mod sso;
mod sts;
mod support;
