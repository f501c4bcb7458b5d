//! Tests of the built products with a real PostgreSQL over TLS, real libpq, and the AWS CLI's signer.
//!
//! They are one program, so that all modules share one server.

mod abi;
mod abi_record;
mod c_programs;
mod connections;
mod credential_order;
mod credential_sources;
mod credentials_page;
mod dependencies;
mod doctor;
mod doctor_aws;
mod documents;
mod examples;
mod examples_support;
mod exec;
mod exports;
mod header;
mod hostile_arguments;
mod layering;
mod libpq_header;
mod linking;
mod mfa;
mod moto;
mod preload;
mod preload_support;
mod psql_iam;
mod real_server_logins;
mod secrets;
mod setup;
mod sidecar_page;
mod support;
mod tokens;
mod walkthrough;
