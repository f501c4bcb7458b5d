//! The C ABI of pgiam, and nothing else: conversions in, one call into the core, conversions out.
//!
//! The manual of these functions is the header, `include/pgiam.h`, which is generated from this crate's documentation.
// The functions are public to C, through `no_mangle`, and to no Rust crate.
#![allow(unreachable_pub)]
// The documentation becomes the C header's, where an indented block is a table, not Rust.
#![allow(rustdoc::invalid_rust_codeblocks)]

mod boundary;

// In the order of the header.
mod token;

mod client;

mod error;

mod libpq;

#[global_allocator]
static ALLOCATOR: pgiam_boundary::WipingAllocator = pgiam_boundary::WipingAllocator;
