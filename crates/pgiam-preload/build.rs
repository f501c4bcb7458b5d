//! Gives the library its SONAME and keeps it loaded, as the C library's `build.rs` does.

use link_options::{Product, is_linux};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let library = Product::SharedLibrary;
    if is_linux() {
        library.option(&["-soname", "libpgiam_preload.so"]);
        library.option(&["-z", "nodelete"]);
    }
    library.pack_relocations();
}
