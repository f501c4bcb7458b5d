//! The token itself: what `aws rds generate-db-auth-token` and `aws dsql generate-db-connect-auth-token` print for the
//! same second, byte for byte, given a lower-case host.
//!
//! A token is host, port and a presigned query, in botocore's order. It lives 900 seconds, the most RDS accepts, or as
//! long as the credentials that signed it, whichever ends first.

pub mod endpoint;
pub(crate) mod request;
pub(crate) mod sigv4;
pub(crate) mod template;
