//! Link options that the products share: a module of their build scripts. It is here because this crate is published
//! and must bring it along.

#![allow(dead_code, reason = "no product needs all of it")]

use std::env;

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

fn is_linux() -> bool {
    env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux")
}

fn linker_is_the_default() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    env::var_os("RUSTC_LINKER").is_none() && !flags.contains("linker")
}
