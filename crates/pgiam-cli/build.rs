//! Links the program.

#[path = "link_options.rs"]
mod link_options;

fn main() {
    link_options::link_unwinder_statically();
    link_options::fold_identical_code();
}
