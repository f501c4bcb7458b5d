//! Fresh AWS IAM tokens for PostgreSQL, without a runtime, an AWS SDK or a standing thread.
//!
//! Amazon RDS, Aurora and Aurora DSQL accept, in place of a password, a *token*: a request presigned with AWS Signature
//! Version 4 that lives 15 minutes. A [`Client`] finds AWS credentials the way the AWS command line does, keeps them
//! fresh, and signs a token on every call. Everything blocks; nothing waits longer than the client's time-out.
//!
//! ```no_run
//! use pgiam_core::{Client, Settings, TokenRequest};
//!
//! let client = Client::new(Settings::default());
//! let token = client.generate_token(&TokenRequest {
//!     host: "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com",
//!     port: 5432,
//!     region: None, // the endpoint's name tells
//!     user: "app_user",
//! })?;
//! println!("{}", token.as_str()); // the password; give it to nothing but a TLS connection
//! # Ok::<(), pgiam_core::Error>(())
//! ```
//!
//! # Layout
//!
//! A module imports only modules below it, and a test reads the imports to keep it so:
//!
//! * [`client`]: settings and cached credentials in, a token out.
//! * [`aws_api`]: calls of AWS services with a client's credentials, to explain and set up logins.
//! * [`token`] and [`region`]: what is signed, for which endpoint name, in which region, and how.
//! * [`credentials`]: one file per source; the chain orders them, the cache keeps them fresh.
//! * `net`: HTTP, TLS, retries, the AWS services and the EC2 metadata service.
//! * [`config`]: environment, profile files and settings, read once.
//! * `sync`: one fetch at a time, and a bounded lock-free cache, both safe across `fork`.
//! * utilities: errors, time, secrets, percent-encoding and the operating system.
#![deny(unsafe_code)]

pub mod aws_api;
pub mod client;
pub mod config;
pub mod credentials;
pub mod error;
mod net;
mod percent_encoding;
pub mod region;
mod secret;
mod sync;
pub mod sys;
#[cfg(feature = "test-hooks")]
pub mod test_hooks;
#[cfg(not(feature = "test-hooks"))]
mod test_hooks;
pub mod time;
pub mod token;

pub use aws_api::{AwsApi, AwsFailure, AwsSession, CallerIdentity};
pub use client::{Client, ClientBuilder, Explanation, FoundCredentials};
pub use config::environment::Environment;
pub use config::settings::{Service, Settings};
pub use error::{Error, ErrorKind};
pub use region::RegionSource;
pub use time::{Clock, Moment};
pub use token::{Token, TokenRequest};
