//! Modules import only lower modules. The compiler checks this between crates; this test checks it within the core.

use std::fs;
use std::path::Path;

use crate::support::root;

/// The layers of the core, from top to bottom. A module may use modules of lower layers only.
const LAYERS: &[&[&str]] = &[
    &["lib"],
    &["fuzz_hooks"],
    &["client"],
    &["aws_api"],
    &["token::template"],
    &["region"],
    &["credentials::cache", "credentials::chain"],
    // Assuming a role uses other profiles and sources.
    &["credentials::role"],
    &["credentials::profile"],
    &["credentials::web_identity"],
    &[
        "credentials::environment",
        "credentials::process",
        "credentials::sts",
        "credentials::sso",
        "credentials::login",
        "credentials::container",
        "credentials::imds",
    ],
    &["credentials::cached_session", "credentials::service_region"],
    &["credentials", "credentials::keys"],
    &["token", "token::request"],
    &["token::endpoint", "token::sigv4"],
    &["net::metadata_service", "net::aws_endpoint"],
    &["config"],
    &["config::settings", "config::profile_files"],
    &["config::section_hints", "config::locations"],
    &["config::environment", "config::region_name", "config::grammar"],
    &["net::retry"],
    &["net::http"],
    &["net::bounded", "net::resolve"],
    &["net::aws_signature", "net::partition", "net::tls", "net::xml"],
    &["net", "sync::single_flight", "sync::lossy_cache", "sync"],
    &["credentials::document", "credentials::dpop", "credentials::asking"],
    &["log"],
    &["time"],
    &["sync::primitives"],
    &["secret", "sys"],
    &["error"],
    &["percent_encoding", "test_hooks"],
];

fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("the module {module} has no layer: give it one in tests/suite/layering.rs"))
}

/// The longest known module path that is a prefix of an import path.
fn module_of(path: &str) -> String {
    let words: Vec<&str> = path.split("::").collect();
    let two = words.iter().take(2).copied().collect::<Vec<_>>().join("::");
    if LAYERS.iter().any(|layer| layer.contains(&two.as_str())) { two } else { words[0].to_owned() }
}

fn sources(directory: &Path, prefix: &str, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            sources(&path, &format!("{stem}::"), into);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !stem.ends_with("tests") {
            let module =
                if stem == "mod" { prefix.trim_end_matches(':').to_owned() } else { format!("{prefix}{stem}") };
            // A module's unit tests may use any module.
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
            into.push((module, code));
        }
    }
}

/// The modules that a text imports or names: `use crate::a::b`, `crate::a::b(…)`, `use super::x`, groups included.
fn uses(module: &str, code: &str) -> Vec<String> {
    let code: String = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| line.split(" // ").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let code =
        code.replace("super::", &if parent.is_empty() { "crate::".into() } else { format!("crate::{parent}::") });
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
        match rest[path.len()..].strip_prefix('{') {
            None => found.push(module_of(path.trim_end_matches(':'))),
            Some(group) => {
                for name in group.split('}').next().unwrap_or_default().split(',') {
                    let name = name.trim();
                    if !name.is_empty() && name != "self" {
                        found.push(module_of(&format!("{path}{name}")));
                    }
                }
            }
        }
    }
    found
}

#[test]
fn a_module_of_the_core_never_imports_one_above_it() {
    let mut files = Vec::new();
    sources(&root().join("crates/pgiam-core/src"), "", &mut files);
    assert!(files.len() > 15, "the core's files were found");
    for (module, code) in files.iter().filter(|(module, _)| module != "lib") {
        for used in uses(module, code) {
            let known_type = used.chars().next().is_some_and(char::is_uppercase);
            assert!(!known_type, "{module} uses {used} through the crate's re-exports; name the module");
            assert!(*module == used || layer(module) < layer(&used), "{module} imports {used}, which is not below it");
        }
    }
}

#[test]
fn unsafe_is_only_in_the_boundary_modules() {
    let mut files = Vec::new();
    sources(&root().join("crates/pgiam-core/src"), "", &mut files);
    for (module, code) in files {
        assert!(module == "sys" || !code.contains("unsafe {"), "{module} has unsafe code; it belongs into sys.rs");
    }
    let core = fs::read_to_string(root().join("crates/pgiam-core/src/lib.rs")).unwrap();
    assert!(core.contains("#![deny(unsafe_code)]"));
}
