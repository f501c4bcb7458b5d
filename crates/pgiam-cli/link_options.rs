//! Link options that the products share: a module of their build scripts. It is here because this crate is published
//! and must bring it along.

#![allow(dead_code, reason = "no product needs all of it")]

use std::env;
use std::path::Path;
use std::process::Command;

/// Links a shared library under a SONAME and keeps it loaded: a background fetch may still run when the host program
/// calls `dlclose`.
pub(crate) fn shared_library(soname: &str) {
    println!("cargo:rerun-if-changed=build.rs");
    if is_linux() {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}

/// Links the unwinder from the compiler's archive, so that loading the product does not load libgcc_s as well, which
/// takes longer than loading the product itself. Only with the default linker: others bring an unwinder of their own.
pub(crate) fn link_unwinder_statically() {
    println!("cargo:rerun-if-changed=build.rs");
    if is_linux() && env::var("HOST") == env::var("TARGET") && linker_is_the_default() {
        println!("cargo:rustc-link-lib=static:-bundle,+verbatim=libgcc_eh.a");
    }
}

/// In a release, lets the linker keep one copy of functions with the same code: generic functions of types that look the
/// same. It saves 1 % of the file. Only LLD can; rustc says whether its default linker is that.
pub(crate) fn fold_identical_code() {
    let is_release = env::var("PROFILE").as_deref() == Ok("release");
    if is_linux() && is_release && linker_is_the_default() && links_with_lld() {
        println!("cargo:rustc-link-arg=-Wl,--icf=all");
    }
}

fn links_with_lld() -> bool {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let directory = variable("OUT_DIR");
    let source = Path::new(&directory).join("empty.rs");
    if std::fs::write(&source, "").is_err() {
        return false;
    }
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--crate-type", "cdylib", "--print", "link-args", "--target", &variable("TARGET")]);
    rustc.args(variable("CARGO_ENCODED_RUSTFLAGS").split('\x1f').filter(|flag| !flag.is_empty()));
    let output = rustc.arg("-o").arg(source.with_extension("so")).arg(&source).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("-fuse-ld=lld"))
}

fn is_linux() -> bool {
    env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux")
}

fn linker_is_the_default() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    env::var_os("RUSTC_LINKER").is_none() && !flags.contains("linker")
}
