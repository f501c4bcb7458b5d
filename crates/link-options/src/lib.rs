//! What the build scripts of the products have in common: how their files are linked. Options are given only where the
//! linker and the C library are known to take them; without them the products do the same, a little slower
//! (docs/performance.md).

use std::env;
use std::path::Path;
use std::process::Command;

/// What is linked.
#[derive(Clone, Copy, Debug)]
pub enum Product {
    /// A library with a C ABI.
    SharedLibrary,
    /// A program.
    Program,
}

impl Product {
    /// Hands one option to the linker, by words of its own each: a path may hold a comma.
    pub fn option(self, words: &[&str]) {
        let instruction = match self {
            Self::SharedLibrary => "rustc-cdylib-link-arg",
            Self::Program => "rustc-link-arg-bins",
        };
        for word in words {
            println!("cargo:{instruction}=-Xlinker");
            println!("cargo:{instruction}={word}");
        }
    }

    /// Writes relocations in the packed form, an eighth to a thirtieth of the plain one. The C library must know it, as
    /// glibc does since 2.36; the linker then marks the file, so that an older one refuses it with a clear message.
    /// `PGIAM_PACK_RELOCATIONS=off` leaves it out, for a file that is to run with an older glibc.
    pub fn pack_relocations(self) {
        println!("cargo:rerun-if-env-changed=PGIAM_PACK_RELOCATIONS");
        let wanted = env::var("PGIAM_PACK_RELOCATIONS").as_deref() != Ok("off");
        let at_home = is_linux() && env::var("HOST") == env::var("TARGET") && linker_is_the_default();
        if wanted && at_home && glibc().is_some_and(|version| version >= (2, 36)) {
            self.option(&["-z", "pack-relative-relocs"]);
        }
    }

    /// Puts the functions that the file lists side by side. It is a linker script that adds to the linker's own, which
    /// GNU ld and LLVM's lld understand. `PGIAM_HOT_FUNCTIONS=off` leaves it out.
    pub fn group_hot_functions(self, file: &str) {
        let directory = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let file = Path::new(&directory).join(file);
        println!("cargo:rerun-if-changed={}", file.display());
        println!("cargo:rerun-if-env-changed=PGIAM_HOT_FUNCTIONS");
        let wanted = env::var("PGIAM_HOT_FUNCTIONS").as_deref() != Ok("off");
        if wanted && is_linux() && is_release() && linker_is_the_default() {
            self.option(&["-T", &file.display().to_string()]);
        }
    }
}

/// Takes the unwinder from the compiler's archive instead of loading libgcc_s for it.
pub fn link_unwinder_statically() {
    if is_linux() {
        println!("cargo:rustc-link-lib=static:-bundle,+verbatim=libgcc_eh.a");
    }
}

/// Whether the product is for Linux.
#[must_use]
pub fn is_linux() -> bool {
    env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux")
}

fn is_release() -> bool {
    env::var("PROFILE").as_deref() == Ok("release")
}

/// A linker of the user's own may not know scripts, as mold does not.
fn linker_is_the_default() -> bool {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    env::var_os("RUSTC_LINKER").is_none() && !flags.contains("linker") && !flags.contains("fuse-ld")
}

/// The version of this machine's C library; `None` if it is not glibc.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
