//! Only the designed names leave the library, and it is linked as a C library should be.

use std::collections::BTreeSet;

use crate::examples_support::installed;
use crate::support::{product, root, run, temporary_directory};

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = std::fs::read_to_string(root().join("include/pgiam.h")).unwrap();
    header
        .lines()
        .filter(|line| line.ends_with('(') || line.contains('('))
        .filter(|line| !line.trim_start().starts_with(['*', '/', '#']))
        .filter_map(|line| line.split('(').next()?.rsplit([' ', '*']).next().map(str::to_owned))
        .filter(|name| name.starts_with("pgiam_"))
        .collect()
}

#[test]
fn the_library_exports_exactly_what_the_header_declares() {
    let symbols = run("nm", ["-D", "--defined-only", "--format=posix"], Some(product("libpgiam.so")));
    let exported: BTreeSet<String> =
        symbols.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    let declared = declared();
    assert_eq!(declared.len(), 11, "{declared:?}");
    assert_eq!(exported, declared);
}

#[test]
fn the_library_has_a_soname_stays_loaded_and_needs_libc_alone() {
    let dynamic = run("readelf", ["-dW"], Some(product("libpgiam.so")));
    assert!(dynamic.contains("Library soname: [libpgiam.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    for line in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
        let known = ["libc.so", "ld-linux", "libpthread.so", "libdl.so", "libm.so"];
        assert!(known.iter().any(|library| line.contains(library)), "{line}");
    }
}

/// The gate of docs/performance.md, in bytes. What was measured is some 2 % below.
#[test]
fn the_library_and_the_helper_stay_small() {
    let directory = temporary_directory();
    for (name, most) in [("lib/libpgiam.so", 2_000_000), ("bin/pgiam", 2_500_000)] {
        let stripped = directory.path().join("stripped");
        let path = installed().prefix.join(name);
        run("strip", ["-o".as_ref(), stripped.as_os_str(), path.as_os_str()], None::<&str>);
        let bytes = std::fs::metadata(&stripped).unwrap().len();
        println!("{name}: {bytes} bytes");
        assert!(bytes <= most, "{name} has {bytes} bytes; benches/sizes tells what they are");
    }
}
