//! Gives the shared library its SONAME and links it.

#[path = "crates/pgiam-cli/link_options.rs"]
mod link_options;

fn main() {
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    link_options::shared_library(&format!("libpgiam.so.{major}"));
    link_options::link_unwinder_statically();
    link_options::fold_identical_code();
}
