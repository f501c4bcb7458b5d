//! Makes the helper quick to start: most of a run is over before its first line (docs/performance.md).

use link_options::{Product, link_unwinder_statically};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    Product::Program.pack_relocations();
    Product::Program.group_hot_functions("hot-functions.ld");
    link_unwinder_statically();
}
