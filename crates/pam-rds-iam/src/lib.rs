//! A PAM module that makes a real PostgreSQL check IAM tokens as Amazon RDS does: for tests and demonstrations only.
//!
//! PostgreSQL asks its client for a password and hands it to PAM. This module reads the password as a presigned
//! request, looks the access key up in a directory of credential files, and believes it or not. PostgreSQL then says
//! what RDS says, the same words for every fault; which of the [checks](Check) refused is in the module's own log.
//!
//! Nothing here is shared with the code that makes tokens. Parsing, canonical request and signature are written from
//! "Create a signed AWS API request" in the IAM User Guide, so a mistake there is not believed here.
//!
//! - `verifier`: the checks, pure; the clock is an argument
//! - `token`, `time`: the text of a token, and its timestamps
//! - `credentials`: who owns an access key
//! - `login`: one login: read the configuration, verify, log
//! - `boundary`: what libpam calls, and all of the `unsafe`
//!
//! The PAM configuration names the module's own configuration, which is read anew at every login:
//!
//! ```text
//! auth    required /path/libpam_rds_iam.so config=/path/rds.json
//! account required /path/libpam_rds_iam.so
//! ```
//!
//! The verifier is a library too:
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
//! let nobody: &[Credential] = &[];
//! let refused = verify("not a token", "app_user", &server, &nobody, 1_724_709_600, &Checks::all()).unwrap_err();
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
