//! Gives the preload library its SONAME and links it.

#[path = "../pgiam-cli/link_options.rs"]
mod link_options;

fn main() {
    link_options::shared_library("libpgiam_preload.so");
    link_options::fold_identical_code();
}
