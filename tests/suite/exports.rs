//! The libraries export only their public names, and have the SONAME and dependencies of a C library.

use std::collections::BTreeSet;
use std::path::Path;

use crate::examples_support::installed;
use crate::support::{product, root, run, temporary_directory};

/// The names in a list of exports. Its numbers count from 1, because names are only added at the end.
pub(crate) fn listed(file: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join(file)).unwrap();
    let lines: Vec<Vec<&str>> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace().collect()).collect();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line[1..], [(index + 1).to_string().as_str()], "{file}: {line:?}");
    }
    lines.iter().map(|line| line[0].to_owned()).collect()
}

/// The names that a library exports.
pub(crate) fn exported(library: &Path) -> BTreeSet<String> {
    let symbols = run("nm", ["-D", "--defined-only", "--format=posix"], Some(library));
    symbols.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The functions that a header declares and does not define.
fn declared(header: &str) -> BTreeSet<String> {
    let header = std::fs::read_to_string(root().join("include").join(header)).unwrap();
    header
        .lines()
        .filter(|line| line.contains('(') && !line.starts_with("static"))
        .filter(|line| !line.starts_with([' ', '*', '/', '#']))
        .filter_map(|line| line.split('(').next()?.rsplit([' ', '*']).next().map(str::to_owned))
        .filter(|name| name.starts_with("pgiam_"))
        .collect()
}

#[test]
fn the_library_exports_exactly_what_is_listed_and_the_headers_declare() {
    let listed = listed("exports.txt");
    assert_eq!(exported(&product("libpgiam.so")), listed);
    let (private, public): (BTreeSet<_>, BTreeSet<_>) =
        listed.into_iter().partition(|name| name.starts_with("pgiam_libpq_"));
    assert_eq!(public.len(), 11, "{public:?}");
    assert_eq!(declared("pgiam.h"), public);
    assert_eq!(declared("pgiam-libpq.h"), private);
}

#[test]
fn the_library_has_a_soname_stays_loaded_and_needs_only_libc() {
    let dynamic = run("readelf", ["-dW"], Some(product("libpgiam.so")));
    assert!(dynamic.contains("Library soname: [libpgiam.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    for line in dynamic.lines().filter(|line| line.contains("(NEEDED)")) {
        let known = ["libc.so", "ld-linux", "libpthread.so", "libdl.so", "libm.so"];
        assert!(known.iter().any(|library| line.contains(library)), "{line}");
    }
}

/// The limits of docs/performance.md, in bytes.
#[test]
fn the_library_and_the_helper_stay_small() {
    let directory = temporary_directory();
    for (name, most) in [("lib/libpgiam.so", 2_200_000), ("bin/pgiam", 3_000_000)] {
        let stripped = directory.path().join("stripped");
        let path = installed().prefix.join(name);
        run("strip", ["-o".as_ref(), stripped.as_os_str(), path.as_os_str()], None::<&str>);
        let bytes = std::fs::metadata(&stripped).unwrap().len();
        println!("{name}: {bytes} bytes");
        assert!(bytes <= most, "{name} has {bytes} bytes; benches/sizes shows what they are");
    }
}
