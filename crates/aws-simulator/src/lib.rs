//! A local simulator of the AWS services that issue credentials, for tests and demonstrations only.
//!
//! One HTTP port on the loopback interface simulates these services, distinguished by method and path:
//!
//! - the instance metadata service, version 2 (`/latest/…`)
//! - the container credentials endpoint of ECS and EKS Pod Identity (`/v2/credentials/…`, `/get-credentials`)
//! - STS: AssumeRole, AssumeRoleWithWebIdentity, GetCallerIdentity (`POST /`)
//! - RDS, IAM, CloudWatch and CloudWatch Logs, as far as `pgiam doctor` and `pgiam setup` need them (`POST /`)
//! - the SSO portal (`GET /federation/credentials`) and SSO OIDC (`POST /token`)
//!
//! Every request is logged, and tests can inject faults. Every issued credential can be written to a directory, so that
//! a server can verify signatures. This crate shares no code with the code under test: it has its own request parser
//! and its own verification of signatures.
//!
//! ```
//! use aws_simulator::{Fault, Route, Simulator, SimulatorOptions};
//!
//! let simulator = Simulator::start(SimulatorOptions::default())?;
//! // Point AWS_EC2_METADATA_SERVICE_ENDPOINT or AWS_ENDPOINT_URL_STS at it.
//! assert!(simulator.url().starts_with("http://127.0.0.1:"));
//! // The next two token requests fail.
//! simulator.inject(Route::ImdsToken, Fault::Status(503), 2);
//! assert!(simulator.requests().is_empty());
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Dropping the [`Simulator`] stops it immediately, including connections that are waiting.

#![deny(unsafe_code)]

mod account;
mod addresses;
mod control;
mod credentials;
mod delivery;
mod faults;
mod http;
mod issued_tokens;
mod log;
mod options;
mod random;
mod route;
mod server;
mod services;
mod sigv4;
mod simulator;
mod state;
mod sync;
mod time;

pub use account::{
    Account, DbCluster, DbInstance, DbProxy, LogEvent, Metric, Principal, ProxyEndpoint, ProxySecret, Statement,
};
pub use addresses::{Blackhole, RefusedPort, blackhole_address, refused_port};
pub use credentials::{Credentials, PLANTED};
pub use faults::{Fault, Part, Times};
pub use log::LoggedRequest;
pub use options::{Clock, SimulatorOptions};
pub use route::{Route, Service};
pub use services::signin::KeyFormat;
pub use simulator::Simulator;

/// The id of the simulated account.
pub const ACCOUNT_ID: &str = "123456789012";

/// The id of the simulated instance; also the session name of its credentials.
pub const INSTANCE_ID: &str = "i-0123456789abcdef0";
