//! Builds the C programs of `tests/c` with the library that Cargo built.

use std::path::{Path, PathBuf};

use crate::support::{products, root, run};

/// Static keys: the ABI does not depend on the credential source.
pub(crate) fn abi_environment() -> [(&'static str, &'static str); 2] {
    [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")]
}

/// Compiles a program into `directory`, with a symbolic link to the library by its SONAME, as after installation.
pub(crate) fn build(source: &str, directory: &Path, flags: &[&str]) -> PathBuf {
    let library = products();
    let link = library.join("libpgiam.so.0");
    // Several tests may do this at the same time; after the first, the link exists.
    std::os::unix::fs::symlink("libpgiam.so", &link).ok();
    build_with(source, directory, library, flags)
}

/// Compiles a program with the library of another directory.
pub(crate) fn build_with(source: &str, directory: &Path, library: &Path, flags: &[&str]) -> PathBuf {
    let program = directory.join("program");
    let mut arguments: Vec<String> =
        ["-std=gnu99", "-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"].map(str::to_owned).into();
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    arguments.push(format!("-I{}", root().join("include").display()));
    arguments.push(root().join("tests/c").join(source).display().to_string());
    arguments.push(format!("-L{}", library.display()));
    arguments.extend(["-lpgiam".to_owned(), "-o".to_owned()]);
    run("cc", arguments, Some(&program));
    program
}
