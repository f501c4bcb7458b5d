//! The project's promises, shown on its built products: a real PostgreSQL over TLS, real libpq, the AWS CLI's signer.
//!
//! One program, so that all of it shares one server. Each module tells one part of the story.

mod abi;
mod c_programs;
mod connections;
mod credential_order;
mod credentials_page;
mod doctor;
mod doctor_aws;
mod documents;
mod examples;
mod examples_support;
mod exec;
mod exports;
mod header;
mod layering;
mod libpq_header;
mod linking;
mod logins;
mod moto;
mod preload;
mod preload_support;
mod psql_iam;
mod sidecar_page;
mod sources;
mod support;
mod tokens;
