//! HTTP with one deadline, and the AWS services and the metadata service behind it.

pub(crate) mod aws_endpoint;
pub(crate) mod http;
pub(crate) mod metadata_service;
pub(crate) mod retry;
mod socket;
pub(crate) mod tls;
