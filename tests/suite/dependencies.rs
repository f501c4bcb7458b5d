//! `deny.toml` and `docs/dependencies.md`: which other projects' code is in the products, what it runs at build time, and
//! that the bill of materials lists it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;
use spdx::{Expression, ParseMode};

use crate::support::{root, run};

const PRODUCTS: [&str; 3] = ["pgiam", "pgiam-cli", "pgiam-preload"];
/// How the names of our own crates begin.
const OWN: [&str; 5] = ["pgiam", "aws-simulator ", "pam-rds-iam ", "deliberate-faults ", "static-libpq "];

/// The rules, which `cargo deny` reads too.
static RULES: LazyLock<toml::Table> =
    LazyLock::new(|| std::fs::read_to_string(root().join("deny.toml")).unwrap().parse().unwrap());

/// The texts of a list of the rules, or the members `crate` of its tables.
fn rules(section: &str, name: &str) -> BTreeSet<String> {
    let list = RULES[section][name].as_array().unwrap().iter();
    list.map(|rule| rule.as_str().unwrap_or_else(|| rule["crate"].as_str().unwrap()).to_owned()).collect()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).arg("--locked").current_dir(root()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `NAME VERSION` of each crate in the products' trees, for every target that is released.
fn tree(edges: &str) -> BTreeSet<String> {
    lines_of_tree(edges, "{p}").iter().filter_map(|line| name_and_version(line, " v")).collect()
}

fn lines_of_tree(edges: &str, format: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for target in rules("graph", "targets") {
        let mut arguments = vec!["tree", "--target", &target, "--edges", edges, "--prefix", "none", "--format", format];
        arguments.extend(PRODUCTS.iter().flat_map(|product| ["-p", product]));
        found.extend(cargo(&arguments).lines().map(str::to_owned));
    }
    assert!(found.len() > 40, "{found:?}");
    found
}

fn name_and_version(line: &str, between: &str) -> Option<String> {
    let (name, rest) = line.split_once(between)?;
    Some(format!("{name} {}", rest.split_whitespace().next()?))
}

/// What cargo knows about each crate of Cargo.lock, by `NAME VERSION`.
fn packages() -> BTreeMap<String, Value> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| (format!("{} {}", text(package, "name"), text(package, "version")), package.clone()))
        .collect()
}

fn text(object: &Value, key: &str) -> String {
    object[key].as_str().unwrap_or_default().to_owned()
}

fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let expression = Expression::parse_mode(expression, ParseMode::LAX).unwrap();
    expression.evaluate(|needed| allowed.contains(&needed.to_string()))
}

#[test]
fn every_licence_in_a_product_is_allowed() {
    let allowed = rules("licenses", "allow");
    assert!(!is_allowed("MIT AND GPL-3.0-only", &allowed) && is_allowed("GPL-3.0-only OR MIT", &allowed));
    let packages = packages();
    for name in tree("normal,build") {
        let licence = text(&packages[&name], "license");
        assert!(is_allowed(&licence, &allowed), "{name}: {licence:?}");
    }
}

#[test]
fn no_crate_is_in_a_product_twice_and_no_banned_one_at_all() {
    let (banned, skipped) = (rules("bans", "deny"), rules("bans", "skip"));
    let mut versions = BTreeMap::<String, BTreeSet<String>>::new();
    for crate_ in tree("normal,build") {
        let (name, version) = crate_.split_once(' ').unwrap();
        assert!(!banned.contains(name), "{name}");
        if !skipped.contains(&format!("{name}@{}", version.split('.').next().unwrap())) {
            versions.entry(name.to_owned()).or_default().insert(version.to_owned());
        }
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "{versions:?}");
}

#[test]
fn no_runtime_is_in_a_product() {
    let lines = lines_of_tree("normal", "{p} {f}");
    for rule in RULES["bans"]["features"].as_array().unwrap() {
        let name = rule["crate"].as_str().unwrap();
        let line = lines.iter().find(|line| line.starts_with(&format!("{name} v"))).unwrap();
        let features: Vec<&str> = line.trim_end_matches(" (*)").rsplit(' ').next().unwrap().split(',').collect();
        assert!(features.len() > 1, "{line}");
        for banned in rule["deny"].as_array().unwrap() {
            assert!(!features.contains(&banned.as_str().unwrap()), "{line}");
        }
    }
}

/// Of Cargo.lock: `NAME VERSION`, the source and the checksum.
fn locked(file: &str) -> BTreeMap<String, (String, String)> {
    let lock: toml::Table = std::fs::read_to_string(root().join(file)).unwrap().parse().unwrap();
    let text = |package: &toml::Value, key: &str| package.get(key).map_or("", |text| text.as_str().unwrap()).to_owned();
    let packages = lock["package"].as_array().unwrap().iter();
    packages
        .map(|package| {
            let name = format!("{} {}", text(package, "name"), text(package, "version"));
            (name, (text(package, "source"), text(package, "checksum")))
        })
        .collect()
}

#[test]
fn every_crate_that_is_not_ours_is_from_the_one_registry_and_has_a_checksum() {
    for file in ["Cargo.lock", "fuzz/Cargo.lock", "tests/deep/static-libpq/Cargo.lock"] {
        for (name, (source, checksum)) in locked(file) {
            if OWN.iter().any(|own| name.starts_with(own)) {
                assert!(source.is_empty(), "{file}: {name} from {source}");
            } else {
                assert!(
                    source.starts_with("registry+") && source.ends_with("/crates.io-index"),
                    "{file}: {name}: {source}"
                );
                assert_eq!(checksum.len(), 64, "{file}: {name}");
            }
        }
    }
    // What is fetched is what is locked.
    for script in ["Makefile", "tools/dist", "tools/check"] {
        let script = std::fs::read_to_string(root().join(script)).unwrap();
        assert!(script.contains("--locked"));
    }
}

#[test]
fn every_program_that_runs_at_build_time_is_reviewed() {
    let runs = |package: &Value| {
        let kinds = package["targets"].as_array().unwrap().iter().flat_map(|target| target["kind"].as_array().unwrap());
        kinds.into_iter().any(|kind| kind == "custom-build" || kind == "proc-macro")
    };
    let packages = packages();
    let others = packages.iter().filter(|(_, package)| !package["source"].is_null());
    let running: BTreeSet<String> = others.filter(|(_, package)| runs(package)).map(|(name, _)| name.clone()).collect();
    let expected: BTreeSet<String> = running.intersection(&tree("normal,build")).cloned().collect();

    let page = std::fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let rows =
        page.split("| crate | version |").nth(1).unwrap().lines().skip(2).take_while(|line| line.starts_with('|'));
    let reviewed: BTreeSet<String> =
        rows.filter_map(|row| name_and_version(row.trim_start_matches("| "), " | ")).collect();
    assert_eq!(reviewed, expected, "left: docs/dependencies.md, right: Cargo.lock");
}

#[test]
fn the_bill_of_materials_lists_exactly_the_crates_that_are_linked_in_with_checksum_and_licence() {
    let bill = run(root().join("packaging/dependencies"), ["sbom"], None::<&str>);
    let bill: Value = serde_json::from_str(&bill).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&"CycloneDX".into(), &"1.5".into()));
    let components = bill["components"].as_array().unwrap();
    let name = |component: &Value| format!("{} {}", text(component, "name"), text(component, "version"));
    let listed: BTreeSet<String> = components.iter().map(name).collect();
    assert_eq!(listed, tree("normal,no-proc-macro"), "left: the bill, right: cargo");
    assert_eq!(components.len(), listed.len());

    let (packages, locked) = (packages(), locked("Cargo.lock"));
    for component in components {
        let name = name(component);
        assert_eq!(text(component, "purl"), format!("pkg:cargo/{}", name.replace(' ', "@")));
        assert_eq!(text(&component["hashes"][0], "content"), locked[&name].1, "{name}");
        let licence = text(&packages[&name], "license").replace('/', " OR ");
        assert_eq!(text(&component["licenses"][0], "expression"), licence, "{name}");
    }
    // From the product one comes to every component.
    let edges: BTreeMap<String, &Value> =
        bill["dependencies"].as_array().unwrap().iter().map(|node| (text(node, "ref"), &node["dependsOn"])).collect();
    let (mut reached, mut next) = (BTreeSet::new(), vec!["pgiam".to_owned()]);
    while let Some(reference) = next.pop() {
        let needs = edges[&reference].as_array().unwrap().iter().map(|other| other.as_str().unwrap().to_owned());
        next.extend(needs.filter(|other| reached.insert(other.clone())));
    }
    assert_eq!(reached.len(), components.len());
}
