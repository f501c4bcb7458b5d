//! Writes the manual pages and completions: `pgiam --write-manual DIRECTORY`, in builds with the feature `manual` only.
//!
//! Pages and completions of the program come from the declarations that `--help` is made of, those of section 3 from the
//! comments of the C headers. `make manual` calls it; `make install` installs what it wrote.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::Command;
use clap_complete::Shell;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const HEADER: &str = include_str!("../../../include/pgiam.h");
const LIBPQ_HEADER: &str = include_str!("../../../include/pgiam-libpq.h");
const PSQL_IAM: &str = include_str!("../../../packaging/psql-iam.1.in");

/// The exit status, if these arguments ask for the manual.
pub(crate) fn asked_for(arguments: &[OsString], command: fn() -> Command) -> Option<u8> {
    let [_, flag, directory] = arguments else { return None };
    if flag != "--write-manual" {
        return None;
    }
    match write_manual(Path::new(directory), command()) {
        Ok(()) => Some(0),
        Err(error) => {
            let _ = writeln!(io::stderr(), "pgiam: cannot write the manual: {error}");
            Some(1)
        }
    }
}

fn write_manual(directory: &Path, command: Command) -> io::Result<()> {
    let (man1, man3, completions) = (directory.join("man1"), directory.join("man3"), directory.join("completions"));
    for folder in [&man1, &man3, &completions] {
        // Pages of commands and functions that no longer exist must not stay.
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    clap_mangen::generate_to(command.clone(), &man1)?;
    for page in fs::read_dir(&man1)? {
        // It leaves the date out, and the version takes its place.
        let page = page?.path();
        let text = fs::read_to_string(&page)?;
        fs::write(&page, text.replacen(" 1  ", " 1 \"\" ", 1))?;
    }
    fs::write(man1.join("psql-iam.1"), PSQL_IAM.replace("@VERSION@", VERSION))?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), "pgiam", &completions)?;
    }
    for (name, page) in library_pages(HEADER, LIBPQ_HEADER) {
        fs::write(man3.join(format!("{name}.3")), page)?;
    }
    Ok(())
}

/// A group of functions that share a page: the page's name, what it is about, and how the functions' names begin.
struct Group {
    page: &'static str,
    about: &'static str,
    prefixes: &'static [&'static str],
}

/// Functions of no group get a page each.
const GROUPS: [Group; 4] = [
    Group {
        page: "pgiam_generate_token",
        about: "make an IAM token to use as a PostgreSQL password",
        prefixes: &["pgiam_generate_token", "pgiam_string_"],
    },
    Group {
        page: "pgiam_client",
        about: "make IAM tokens with settings and credentials of a client",
        prefixes: &["pgiam_client_"],
    },
    Group {
        page: "pgiam_error",
        about: "statuses and error messages of libpgiam",
        prefixes: &["pgiam_error_", "pgiam_status_"],
    },
    Group { page: "pgiam_version", about: "the version of libpgiam", prefixes: &["pgiam_version"] },
];

/// What a header declares: a comment, the declaration below it, and its name.
struct Item<'a> {
    comment: String,
    declaration: &'a str,
    name: &'a str,
}

/// The pages of section 3, by name.
fn library_pages(header: &str, libpq_header: &str) -> BTreeMap<String, String> {
    let items = items(header);
    let is_function = |item: &&Item<'_>| item.declaration.contains('(') && !item.declaration.starts_with('#');
    let mut pages = BTreeMap::new();
    let mut groups: BTreeMap<&str, (&str, Vec<&Item<'_>>)> = BTreeMap::new();
    for item in items.iter().filter(is_function) {
        let group = GROUPS.iter().find(|group| group.prefixes.iter().any(|prefix| item.name.starts_with(prefix)));
        let (page, about) = group.map_or((item.name, "a function of libpgiam"), |group| (group.page, group.about));
        groups.entry(page).or_insert((about, Vec::new())).1.push(item);
        if item.name != page {
            pages.insert(item.name.to_owned(), format!(".so man3/{page}.3\n"));
        }
    }
    let statuses: Vec<&Item<'_>> = items.iter().filter(|item| item.declaration.starts_with("#define PGIAM_")).collect();
    let mut all = String::new();
    for (page, (about, functions)) in &groups {
        let statuses = if *page == "pgiam_error" { statuses.as_slice() } else { &[] };
        pages.insert((*page).to_owned(), function_page(page, about, functions, statuses));
        let _ = writeln!(all, ".TP\n.BR {} (3)\n{}", escape(page), escape(about));
    }
    let mut overview = title("libpgiam", "AWS IAM tokens as PostgreSQL passwords");
    let _ = write!(overview, ".SH DESCRIPTION\n{}.SH PAGES\n{all}", text(&first_comment(header)));
    overview.push_str(".TP\n.BR pgiam\\-libpq (3)\nlibpq\\(aqs connection functions with a token as the password\n");
    overview.push_str(".SH SEE ALSO\n.BR pgiam (1)\n");
    pages.insert("libpgiam".to_owned(), overview);
    let mut libpq = title("pgiam-libpq", "libpq's connection functions with an IAM token as the password");
    let _ = write!(libpq, ".SH DESCRIPTION\n{}.SH SEE ALSO\n.BR libpgiam (3)\n", text(&first_comment(libpq_header)));
    pages.insert("pgiam-libpq".to_owned(), libpq);
    pages
}

fn title(name: &str, about: &str) -> String {
    let name = escape(name);
    format!(".TH {name} 3 \"\" \"pgiam {VERSION}\" \"pgiam Manual\"\n.SH NAME\n{name} \\- {}\n", escape(about))
}

fn function_page(page: &str, about: &str, functions: &[&Item<'_>], statuses: &[&Item<'_>]) -> String {
    let names: Vec<&str> = functions.iter().map(|item| item.name).collect();
    let mut roff = title(&names.join(", "), about);
    roff = roff.replacen(&format!(".TH {}", escape(&names.join(", "))), &format!(".TH {}", escape(page)), 1);
    roff.push_str(".SH SYNOPSIS\n.nf\n.B #include <pgiam.h>\n");
    for item in functions {
        let _ = writeln!(roff, ".PP\n{}", escape(item.declaration));
    }
    roff.push_str(".fi\n.SH DESCRIPTION\n");
    for item in functions {
        let _ = write!(roff, ".SS {}\n{}", escape(item.name), text(&item.comment));
    }
    if !statuses.is_empty() {
        roff.push_str(".SH STATUSES\n");
        for item in statuses {
            let _ = write!(roff, ".TP\n.B {}\n{}", escape(item.name), text(&item.comment));
        }
    }
    roff.push_str(".SH SEE ALSO\n.BR libpgiam (3)\n");
    roff
}

/// The header's `/** … */` comments, each with the declaration that follows it.
fn items(header: &str) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    for part in header.split("/**\n").skip(1) {
        let Some((comment, rest)) = part.split_once("*/") else { continue };
        let rest = rest.trim_start();
        let end = if rest.starts_with('#') { rest.find('\n') } else { rest.find(';').map(|at| at + 1) };
        let declaration = &rest[..end.unwrap_or(rest.len())];
        let name = match declaration.strip_prefix("#define ") {
            Some(define) => define.split_whitespace().next(),
            None => declaration.split(['(', ';']).next().and_then(|head| head.rsplit([' ', '*']).next()),
        };
        items.push(Item { comment: unstarred(comment), declaration, name: name.unwrap_or_default() });
    }
    items
}

fn first_comment(header: &str) -> String {
    let inside = header.split_once("/*").and_then(|(_, rest)| rest.split_once("*/")).map_or("", |(comment, _)| comment);
    unstarred(inside)
}

/// A comment's text, without the stars that its lines begin with.
fn unstarred(comment: &str) -> String {
    let lines = comment.lines().map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix('*').unwrap_or(line);
        line.strip_prefix(' ').unwrap_or(line).trim_end()
    });
    lines.collect::<Vec<_>>().join("\n").trim_matches('\n').to_owned()
}

/// Comment text as roff: paragraphs are filled, indented lines stay as they are, `@param` becomes a list.
fn text(comment: &str) -> String {
    #[derive(PartialEq)]
    enum Inside {
        Paragraph,
        Verbatim,
        Parameter,
    }
    let mut roff = String::new();
    let mut inside = Inside::Paragraph;
    let mut blank = false;
    for line in comment.lines() {
        if line.is_empty() {
            blank = true;
            continue;
        }
        let indented = line.starts_with(' ');
        if inside == Inside::Verbatim && !indented {
            roff.push_str(".fi\n.RE\n");
            inside = Inside::Paragraph;
            blank = true;
        }
        if let Some(parameter) = line.strip_prefix("@param ") {
            let (name, about) = parameter.split_once(' ').unwrap_or((parameter, ""));
            let _ = writeln!(roff, ".TP\n.I {}\n{}", escape(name), escape(about.trim_start()));
            inside = Inside::Parameter;
        } else if inside == Inside::Parameter && indented {
            let _ = writeln!(roff, "{}", escape(line.trim_start()));
        } else if indented {
            if inside != Inside::Verbatim {
                roff.push_str(".PP\n.RS\n.nf\n");
                inside = Inside::Verbatim;
            } else if blank {
                roff.push('\n');
            }
            let _ = writeln!(roff, "{}", escape(line));
        } else {
            if blank && !roff.is_empty() {
                roff.push_str(".PP\n");
            }
            let _ = writeln!(roff, "{}", escape(line));
        }
        blank = false;
    }
    if inside == Inside::Verbatim {
        roff.push_str(".fi\n.RE\n");
    }
    roff
}

/// Text that roff prints as it is.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        if line.starts_with(['.', '\'']) {
            out.push_str("\\&");
        }
        for character in line.chars() {
            match character {
                '\\' => out.push_str("\\e"),
                '-' => out.push_str("\\-"),
                '\'' => out.push_str("\\(aq"),
                other => out.push(other),
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_function_of_the_header_has_a_page_and_every_status_is_described() {
        let pages = library_pages(HEADER, LIBPQ_HEADER);
        let mut functions = 0;
        for item in items(HEADER) {
            if item.declaration.starts_with("#define") {
                assert!(pages["pgiam_error"].contains(&format!(".B {}\n", item.name)), "{}", item.name);
            } else if item.declaration.contains('(') {
                functions += 1;
                assert!(pages.contains_key(item.name), "{}", item.name);
            }
        }
        assert!(functions >= 11, "{functions}");
    }

    #[test]
    fn comments_become_paragraphs_lists_and_examples() {
        let roff = text(
            "Makes it. It's\n.dotted\n\n    int a = '\\\\n';\n\n    b();\n\nMore.\n\n@param host  a name,\n   or none",
        );
        let expected = "Makes it. It\\(aqs\n\\&.dotted\n.PP\n.RS\n.nf\n    int a = \\(aq\\e\\en\\(aq;\n\n    b();\n.fi\n.RE\n\
                        .PP\nMore.\n.TP\n.I host\na name,\nor none\n";
        assert_eq!(roff, expected);
    }
}
