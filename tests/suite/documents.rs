//! The documentation is correct: quoted programs, make targets, paths, links, statuses and keywords.

use std::fs;

use crate::support::root;

/// Every page of documentation: those in the top folder, and all of docs/.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| format!("docs/{}", entry.unwrap().file_name().into_string().unwrap()))
        .filter(|name| name.ends_with(".md"))
        .collect();
    pages.sort();
    pages.extend(["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned));
    pages
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn quoted_programs_are_the_tested_examples() {
    let text: String = pages().iter().map(|name| read(name)).collect();
    let mut quoted = 0;
    for part in text.split("<!-- ").skip(1) {
        let (name, rest) = part.split_once(" -->").unwrap();
        if name.contains(' ') {
            continue;
        }
        let block = rest.split("```").nth(1).unwrap().split_once('\n').unwrap().1;
        assert!(read(name).contains(block.trim_end()), "{name} is quoted otherwise");
        quoted += 1;
    }
    assert_eq!(quoted, 3);
}

#[test]
fn every_make_target_and_path_in_the_documentation_exists() {
    let makefile = read("Makefile");
    for name in pages() {
        let text = read(&name);
        for rest in text.split("`make ").skip(1) {
            let target: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            assert!(makefile.contains(&format!("\n{target}:")), "{name}: make {target}");
        }
        for place in text.split('`').filter(|word| {
            ["src/", "crates/", "tests/", "include/", "c-examples/", "docs/", "benches/", ".ci/"]
                .iter()
                .any(|start| word.starts_with(start))
        }) {
            assert!(root().join(place).exists(), "{name}: {place}");
        }
    }
}

/// The anchors of a page's headings, as GitHub generates them.
fn anchors(text: &str) -> Vec<String> {
    let headings =
        text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.collect::<String>().to_lowercase().replace(' ', "-")
        })
        .collect()
}

#[test]
fn every_link_within_the_project_works() {
    let mut followed = 0;
    for name in pages() {
        let directory = root().join(&name).parent().unwrap().to_owned();
        for rest in read(&name).split("](").skip(1) {
            let link = rest.split(')').next().unwrap();
            if link.contains("://") || link.contains(char::is_whitespace) {
                continue;
            }
            let (place, anchor) = link.split_once('#').map_or((link, None), |(place, anchor)| (place, Some(anchor)));
            let file = if place.is_empty() { root().join(&name) } else { directory.join(place) };
            assert!(file.exists(), "{name}: {link}");
            if let Some(anchor) = anchor {
                let text = fs::read_to_string(&file).unwrap();
                assert!(anchors(&text).iter().any(|known| known == anchor), "{name}: {link}");
            }
            followed += 1;
        }
    }
    assert!(followed > 20, "{followed} links");
}

#[test]
fn the_readme_links_to_every_page() {
    let readme = read("README.md");
    for page in pages().iter().filter(|page| page.starts_with("docs/")) {
        assert!(readme.contains(page.as_str()), "{page}");
    }
}

#[test]
fn every_status_and_every_setting_is_explained() {
    let (readme, errors, header) = (read("README.md"), read("docs/errors.md"), read("include/pgiam.h"));
    let mut statuses = 0;
    for line in header.lines().filter_map(|line| line.strip_prefix("#define PGIAM_ERROR_")) {
        let name = format!("PGIAM_ERROR_{}", line.split(' ').next().unwrap());
        assert!(errors.contains(&name), "{name}");
        statuses += 1;
    }
    assert_eq!(statuses, 9);
    for keyword in pgiam_core::KEYWORDS {
        assert!(readme.contains(&format!("`{keyword}`")) && header.contains(keyword), "{keyword}");
    }
    let programs = read("docs/programs.md");
    for (keyword, variable) in pgiam_libpq::rules::KEYWORDS {
        assert!(programs.contains(&format!("| `{variable}` | `{keyword}` |")), "{keyword}");
    }
    assert!(read("CHANGELOG.md").contains(&format!("## {}", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_settings_for_connections_are_explained_and_the_page_is_linked() {
    let (page, readme) = (read("docs/settings.md"), read("README.md"));
    let source = read("crates/pgiam-libpq/src/keywords.rs");
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

/// The sources of all tests: `tests/`, and those of each crate.
fn rust_sources(directory: &std::path::Path, text: &mut String) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &fs::read_to_string(path).unwrap();
        }
    }
}

/// Tests are named as `file::name`, with `…` or `*` at the end for a part of the name.
#[test]
fn every_test_that_the_documentation_names_exists() {
    let mut sources = String::new();
    for directory in ["tests", "crates", "src"] {
        rust_sources(&root().join(directory), &mut sources);
    }
    let mut named = 0;
    for page in pages() {
        for word in read(&page).split('`').skip(1).step_by(2) {
            let Some((file, test)) = word.trim_start_matches("suite ").trim_start_matches("deep ").rsplit_once("::")
            else {
                continue;
            };
            let is_name =
                |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c));
            let start = test.trim_end_matches(['…', '*']);
            if !is_name(file) || !is_name(start) || (start.len() < 12 && start == test) {
                continue;
            }
            let known = if start == test { format!("fn {test}(") } else { format!("fn {start}") };
            assert!(sources.contains(&known), "{page}: {word}");
            named += 1;
        }
    }
    assert!(named > 40, "{named} tests");
}
