//! Gives the shared library its SONAME and keeps it loaded: a fetch beside may still run when the host calls `dlclose`,
//! and thread-local destructors must outlive it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        let soname = format!("libpgiam.so.{}", std::env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default());
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{soname}");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        // The unwinder that catches panics at the boundary comes from the compiler's archive: loading libgcc_s for it
        // would cost the host three times what loading this library does (docs/performance.md).
        println!("cargo:rustc-link-lib=static:-bundle,+verbatim=libgcc_eh.a");
    }
}
