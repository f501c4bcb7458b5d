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

/// Files of Rust: the name without the extension, for `mod.rs` that of its folder, and its text.
fn rust_sources(directory: &std::path::Path, into: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let stem = |path: &std::path::Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
            let name = if path.ends_with("mod.rs") { stem(directory) } else { stem(&path) };
            into.push((name, fs::read_to_string(path).unwrap()));
        }
    }
}

/// The tests that exist: file and name.
fn tests() -> Vec<(String, String)> {
    let mut sources = Vec::new();
    for directory in ["tests", "crates", "src"] {
        rust_sources(&root().join(directory), &mut sources);
    }
    let mut found = Vec::new();
    for (file, text) in sources {
        for rest in text.split("#[test]\n").skip(1) {
            let name = rest.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            found.push((file.clone(), name.to_owned()));
        }
    }
    assert!(found.len() > 500, "{} tests", found.len());
    found
}

/// A test as a page names it: `file::name`, or `name` alone where the file is in a heading. `…` or `*` at the end stands
/// for the rest of the name. `None`: the word is something else.
fn is_known_test(word: &str, tests: &[(String, String)]) -> Option<bool> {
    let word = word.trim_start_matches("suite ").trim_start_matches("deep ");
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(c));
    let (file, name) = word.rsplit_once("::").map_or((None, word), |(file, name)| (Some(file), name));
    let start = name.trim_end_matches(['…', '*']);
    let is_a_start = start != name;
    let is_test = match file {
        Some(file) => is_name(file) && (is_a_start || start.len() >= 12),
        None => start.matches('_').count() >= 5 && start.len() >= 30,
    };
    if !is_test || !is_name(start) {
        return None;
    }
    let module = file.and_then(|file| file.rsplit("::").find(|module| *module != "tests"));
    Some(tests.iter().any(|(file, test)| {
        module.is_none_or(|module| module == file) && if is_a_start { test.starts_with(start) } else { test == start }
    }))
}

fn quoted_words(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_documentation_names_exists() {
    let tests = tests();
    let mut named = 0;
    for page in pages() {
        for word in quoted_words(&read(&page)) {
            if let Some(known) = is_known_test(word, &tests) {
                assert!(known, "{page}: {word}");
                named += 1;
            }
        }
    }
    assert!(named > 150, "{named} tests");
    assert_eq!(is_known_test("documents::every_test_that_the_documentation_names_is_there", &tests), Some(false));
    assert_eq!(is_known_test("tokens::every_test_that_the_documentation_names_exists", &tests), Some(false));
}

/// In SECURITY.md: who could do what to whom, what stops it, and how that is tested.
#[test]
fn every_line_of_the_threat_model_names_its_test() {
    let (tests, page) = (tests(), read("SECURITY.md"));
    let mut threats = 0;
    for table in page.split("| who | could | what stops it | test |\n").skip(1) {
        for line in table.lines().skip(1).take_while(|line| line.starts_with('|')) {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            assert_eq!(cells.len(), 4, "{line}");
            let is_run = |word: &str| is_known_test(word, &tests) == Some(true) || word.starts_with("make check-");
            assert!(quoted_words(cells[3]).any(is_run), "{line}");
            threats += 1;
        }
    }
    assert!(threats > 20, "{threats} threats");
}
