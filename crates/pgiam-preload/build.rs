//! Gives the preload library its SONAME and links it.

fn main() {
    link_options::shared_library("libpgiam_preload.so");
}
