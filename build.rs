//! Gives the shared library its SONAME and keeps it loaded: a fetch beside may still run when the host calls `dlclose`,
//! and thread-local destructors must outlive it. The rest makes it quick to load and small in memory
//! (docs/performance.md).

use link_options::{Product, is_linux, link_unwinder_statically};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let library = Product::SharedLibrary;
    if is_linux() {
        let major = std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
        library.option(&["-soname", &format!("libpgiam.so.{major}")]);
        library.option(&["-z", "nodelete"]);
    }
    library.pack_relocations();
    library.group_hot_functions("hot-functions.ld");
    // It catches panics at the boundary. Loading libgcc_s would cost the host three times what loading this library does.
    link_unwinder_statically();
}
