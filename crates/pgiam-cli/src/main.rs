//! The main function.
fn main() {}
