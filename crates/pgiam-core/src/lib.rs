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
//! # The house
//!
//! Calls go down only, and a test reads the imports to keep it so:
//!
//! * [`client`] is the hall: settings and the credential cache in, a token out.
//! * [`token`], [`database_endpoint`], [`region`]: what to sign, for which name, where.
//! * [`credentials`]: a file a source; the chain orders them, the cache keeps them fresh.
//! * `metadata_service`: EC2's instance metadata, on which credentials and region both stand.
//! * [`config`]: environment, profile files and settings, read once.
//! * the cellar: signing, HTTP, retries, single flights, time, secrets, errors and the operating system.
#![deny(unsafe_code)]

mod aws_endpoint;
pub mod client;
pub mod config;
pub mod credentials;
pub mod database_endpoint;
pub mod error;
mod flight;
mod http;
mod kept;
mod metadata_service;
pub mod region;
mod retry;
mod secret;
mod sigv4;
mod socket;
pub mod sys;
#[cfg(feature = "test-hooks")]
pub mod test_hooks;
#[cfg(not(feature = "test-hooks"))]
mod test_hooks;
pub mod time;
mod tls;
pub mod token;

pub use client::{Client, ClientBuilder, Explanation, Serving};
pub use config::environment::Environment;
pub use config::settings::{Service, Settings};
pub use error::{Error, ErrorKind};
pub use region::RegionSource;
pub use time::Clock;
pub use token::{Token, TokenRequest};
