//! Fresh AWS IAM tokens for PostgreSQL, without a runtime, an AWS SDK or a standing thread.
//!
//! Amazon RDS, Aurora and Aurora DSQL accept a *token* as a password: a request presigned with AWS Signature Version 4 that
//! is valid for 15 minutes. A [`Client`] finds AWS credentials the way the AWS command line does, keeps them fresh, and
//! signs a token on every call. Everything blocks; nothing waits longer than the client's time-out.
//!
//! ```no_run
//! use pgiam_core::{Client, Settings, TokenRequest};
//!
//! let client = Client::new(Settings::default());
//! let token = client.generate_token(&TokenRequest {
//!     host: "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com",
//!     port: 5432,
//!     region: None, // from the endpoint's name
//!     user: "app_user",
//! })?;
//! println!("{}", token.as_str()); // the password; send it over TLS only
//! # Ok::<(), pgiam_core::Error>(())
//! ```
//!
//! # Layout
//!
//! A module imports only modules below it; a test reads the imports.
//!
//! * `client`: settings and cached credentials in, a token out.
//! * `aws_api`: calls of AWS services with a client's credentials, to explain and set up logins.
//! * [`token`] and `region`: what is signed, for which endpoint name, in which region, and how.
//! * `credentials`: one file per source; the chain orders them, the cache decides when they are renewed.
//! * `net`: HTTP, TLS, retries, the AWS services and the EC2 metadata service.
//! * `config`: environment, profile files and settings.
//! * `sync`: one fetch at a time, and a bounded, lock-free cache, both safe across `fork`.
//! * utilities: errors, the log, time, secrets, percent-encoding and the operating system ([`sys`]).
#![deny(unsafe_code)]

mod aws_api;
mod client;
mod config;
mod credentials;
mod error;
#[cfg(feature = "fuzz-hooks")]
pub mod fuzz_hooks;
mod log;
mod net;
mod percent_encoding;
mod region;
mod secret;
mod sync;
pub mod sys;
#[cfg(feature = "test-hooks")]
pub mod test_hooks;
#[cfg(not(feature = "test-hooks"))]
mod test_hooks;
mod time;
pub mod token;

/// The rules by which requests are spread over time, for simulations of many processes.
#[cfg(feature = "test-hooks")]
pub mod rules {
    use std::time::Duration;

    /// How often one request is tried.
    pub const ATTEMPTS: u32 = crate::net::aws_endpoint::ATTEMPTS;

    /// The wait before the next try.
    pub fn wait_after(attempts: u32) -> Duration {
        crate::net::retry::wait_after(attempts)
    }

    /// Seconds before the end of credentials at which their refresh is due.
    pub fn refresh_window(lifetime: i64) -> i64 {
        crate::credentials::cache::refresh_window(lifetime)
    }

    /// Seconds until the next refresh after `failures` failed ones, with `left` seconds until the credentials end.
    pub fn back_off(failures: u32, left: i64) -> i64 {
        crate::credentials::cache::back_off(failures, left)
    }
}

pub use aws_api::{AwsApi, AwsFailure, AwsSession, CallerIdentity, Element};
pub use client::{Client, ClientBuilder, Explanation, FoundCredentials};
pub use config::environment::Environment;
pub use config::settings::{KEYWORDS, Service, Settings};
pub use error::{Error, ErrorKind};
pub use log::{Level, Log};
pub use net::tls::provider as tls_provider;
pub use region::RegionSource;
pub use time::{Clock, Deadline, Moment, parse_rfc3339, rfc3339};
pub use token::request::TokenRequest;
pub use token::template::{LIFETIME_SECONDS, Token};
