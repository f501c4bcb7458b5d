//! The helper `pgiam`: prints IAM tokens for psql, pg_dump, shell scripts and pgAdmin.
#![deny(unsafe_code)]
#![allow(dead_code)]

mod connection;
mod conninfo;
mod failure;
mod postgres_arguments;
mod service_file;

fn main() {}
