//! HTTP within one deadline, and the AWS services and the metadata service that are asked by it.

pub(crate) mod aws_endpoint;
pub(crate) mod aws_signature;
mod bounded;
pub(crate) mod http;
pub(crate) mod metadata_service;
pub(crate) mod partition;
mod resolve;
pub(crate) mod retry;
pub(crate) mod tls;
pub(crate) mod xml;
