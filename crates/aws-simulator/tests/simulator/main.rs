//! Each service speaks as stated, each fault does what it says, and the binary is the library with a command line.

mod binary;
mod container;
mod faults;
mod imds;
mod lifecycle;
mod sso;
mod sts;
mod support;
