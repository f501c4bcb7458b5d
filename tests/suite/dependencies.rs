//! `docs/dependencies.md`: what other projects run at build time is reviewed, and the bill of materials lists what is
//! linked in.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::support::{root, run};

const PRODUCTS: [&str; 3] = ["pgiam", "pgiam-cli", "pgiam-preload"];

/// `NAME VERSION` of each crate in the products' trees of this machine's target.
fn tree(edges: &str) -> BTreeSet<String> {
    let mut arguments = vec!["tree", "--locked", "--edges", edges, "--prefix", "none", "--format", "{p}"];
    arguments.extend(PRODUCTS.iter().flat_map(|product| ["-p", product]));
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| name_and_version(line, " v")).collect()
}

fn name_and_version(line: &str, between: &str) -> Option<String> {
    let (name, rest) = line.split_once(between)?;
    Some(format!("{name} {}", rest.split_whitespace().next()?))
}

#[test]
fn every_program_that_runs_at_build_time_is_reviewed() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--format-version", "1"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let runs = |package: &Value| {
        let kinds = package["targets"].as_array().unwrap().iter().flat_map(|target| target["kind"].as_array().unwrap());
        kinds.into_iter().any(|kind| kind == "custom-build" || kind == "proc-macro")
    };
    let others = metadata["packages"].as_array().unwrap().iter().filter(|package| !package["source"].is_null());
    let running: BTreeSet<String> = others
        .filter(|package| runs(package))
        .map(|package| format!("{} {}", package["name"].as_str().unwrap(), package["version"].as_str().unwrap()))
        .collect();
    let expected: BTreeSet<String> = running.intersection(&tree("normal,build")).cloned().collect();

    let page = std::fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let rows =
        page.split("| crate | version |").nth(1).unwrap().lines().skip(2).take_while(|line| line.starts_with('|'));
    let reviewed: BTreeSet<String> =
        rows.filter_map(|row| name_and_version(row.trim_start_matches("| "), " | ")).collect();
    assert_eq!(reviewed, expected, "left: docs/dependencies.md, right: Cargo.lock");
}

#[test]
fn the_bill_of_materials_lists_every_crate_that_is_linked_in_with_its_checksum() {
    let text = run(root().join("packaging/dependencies"), ["sbom"], None::<&str>);
    let bill: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let components = bill["components"].as_array().unwrap();
    let text = |component: &Value, key: &str| component[key].as_str().unwrap_or_default().to_owned();
    let listed: BTreeSet<String> = components
        .iter()
        .map(|component| format!("{} {}", text(component, "name"), text(component, "version")))
        .collect();
    let missing: Vec<String> = tree("normal,no-proc-macro").difference(&listed).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
    for component in components {
        let own = text(component, "name").starts_with("pgiam");
        assert!(own || component["hashes"][0]["content"].as_str().is_some_and(|hash| hash.len() == 64), "{component}");
        assert!(component["licenses"][0]["expression"].is_string(), "{component}");
    }
}
