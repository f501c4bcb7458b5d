//! What the documents say is so: quoted programs, targets, places, statuses and keywords.

use std::fs;

use crate::support::root;

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_programs_in_the_readme_are_the_tested_examples() {
    let readme = read("README.md");
    let mut quoted = 0;
    for part in readme.split("<!-- c-examples/").skip(1) {
        let (name, rest) = part.split_once(" -->").unwrap();
        let block = rest.split("```").nth(1).unwrap().split_once('\n').unwrap().1;
        assert!(read(&format!("c-examples/{name}")).contains(block.trim_end()), "{name} is quoted otherwise");
        quoted += 1;
    }
    assert_eq!(quoted, 3);
}

#[test]
fn every_make_target_and_place_that_is_named_exists() {
    let makefile = read("Makefile");
    for name in ["README.md", "CONTRIBUTING.md", "docs/programs.md"] {
        let text = read(name);
        for rest in text.split("`make ").skip(1) {
            let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            assert!(makefile.contains(&format!("\n{target}:")), "{name}: make {target}");
        }
        for place in text.split('`').filter(|word| {
            ["src/", "crates/", "tests/", "include/", "c-examples/", ".ci/"].iter().any(|start| word.starts_with(start))
        }) {
            assert!(root().join(place).exists(), "{name}: {place}");
        }
    }
}

#[test]
fn every_status_and_every_setting_is_explained() {
    let (readme, header) = (read("README.md"), read("include/pgiam.h"));
    let mut statuses = 0;
    for line in header.lines().filter_map(|line| line.strip_prefix("#define PGIAM_ERROR_")) {
        let name = format!("PGIAM_ERROR_{}", line.split(' ').next().unwrap());
        assert!(readme.contains(&name), "{name}");
        statuses += 1;
    }
    assert_eq!(statuses, 9);
    for keyword in pgiam_core::config::settings::KEYWORDS {
        assert!(readme.contains(&format!("`{keyword}`")) && header.contains(keyword), "{keyword}");
    }
    let programs = read("docs/programs.md");
    for (keyword, variable) in pgiam_libpq::own_settings::KEYWORDS {
        assert!(programs.contains(&format!("| `{variable}` | `{keyword}` |")), "{keyword}");
    }
    assert!(read("CHANGELOG.md").contains(&format!("## {}", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_settings_for_connections_are_explained_and_the_page_is_linked() {
    let (page, readme) = (read("docs/settings.md"), read("README.md"));
    let source = read("crates/pgiam-libpq/src/own_settings.rs");
    let source = source.split("#[cfg(test)]").next().unwrap();
    let mut explained = 0;
    for line in source.lines().filter_map(|line| line.trim().strip_prefix("(\"iam")) {
        let words: Vec<&str> = line.split('"').collect();
        let [rest, _, variable, ..] = words.as_slice() else { continue };
        if variable.starts_with("PGIAM") {
            assert!(page.contains(&format!("| `{variable}` | `iam{rest}` |")), "{variable}");
            explained += 1;
        }
    }
    assert_eq!(explained, 6);
    assert!(readme.contains("(docs/settings.md)"));
}
