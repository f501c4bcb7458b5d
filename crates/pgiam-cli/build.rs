//! Links the program.

fn main() {
    link_options::link_unwinder_statically();
}
