//! A PAM module with which a real PostgreSQL checks IAM tokens as Amazon RDS does, for tests and demonstrations only.
//!
//! PostgreSQL asks its client for a password and passes it to PAM. This module parses the password as a presigned
//! request, looks up the access key in a directory of credential files, and accepts or refuses it. PostgreSQL then
//! reports the same message for every reason, as RDS does; the module's log has the [check](Check) that failed.
//!
//! This crate shares no code with pgiam. Parsing, canonical request and signature follow "Create a signed AWS API
//! request" in the IAM User Guide, so that a mistake in pgiam is not repeated here.
//!
//! - `verifier`: the checks, as pure functions; the time is an argument
//! - `token`, `time`: parsing of tokens and timestamps
//! - `credentials`: looks up access keys
//! - `login`: reads the configuration, verifies the token, writes the log
//! - `boundary`: the functions that libpam calls, and all `unsafe` code
//!
//! The PAM configuration names the module's configuration file, which is read at every login:
//!
//! ```text
//! auth    required /path/libpam_rds_iam.so config=/path/rds.json
//! account required /path/libpam_rds_iam.so
//! ```
//!
//! The verifier can be used as a library:
//!
//! ```
//! use pam_rds_iam::{Check, Checks, Credential, Server, Service, verify};
//!
//! let server = Server {
//!     host: "db.abc.eu-central-1.rds.amazonaws.com".into(),
//!     port: 5432,
//!     region: "eu-central-1".into(),
//!     service: Service::RdsDb,
//!     max_token_age_seconds: None,
//! };
//! let keys: &[Credential] = &[];
//! let refused = verify("not a token", "app_user", &server, &keys, 1_724_709_600, &Checks::all()).unwrap_err();
//! assert_eq!(refused.check, Check::Format);
//! ```

#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod boundary;
mod credentials;
mod login;
mod time;
mod token;
mod verifier;

pub use credentials::{Credential, CredentialDirectory, CredentialStore};
pub use login::{Configuration, ConfigurationError};
pub use verifier::{Accepted, Check, Checks, Refused, Server, Service, verify};
