//! Gives the shared library its SONAME and links it.

fn main() {
    let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
    link_options::shared_library(&format!("libpgiam.so.{major}"));
    link_options::link_unwinder_statically();
}
