//! Why a section that was looked for was not found: the same name in a header that is not read, and where; or a name
//! that is nearly the same.

use std::path::Path;
use std::sync::Arc;

use crate::config::grammar::{FileKind, Name, PassedOver};

/// A section's header that is not read, or that is read as something unusual.
#[derive(Debug)]
pub(crate) struct OddHeader {
    pub(crate) file: Arc<Path>,
    pub(crate) kind: FileKind,
    pub(crate) line: usize,
    /// What its brackets contain.
    pub(crate) header: String,
    pub(crate) name: Name,
}

/// What to add to a message about a missing section: empty, or a text that begins with `; `. `kind` is the word of the
/// config file, such as `profile`; `names` are those of the sections of this kind that exist.
pub(crate) fn hint<'a>(
    kind: &str,
    name: &str,
    odd_headers: &[OddHeader],
    names: impl Iterator<Item = &'a str>,
) -> String {
    let passed_over = odd_headers.iter().find_map(|header| {
        let advice = advice(header, kind, name)?;
        Some(format!("; {}, line {}: [{}] is passed over: {advice}", header.file.display(), header.line, header.header))
    });
    passed_over.or_else(|| nearest(name, names).map(|near| format!("; did you mean {near:?}?"))).unwrap_or_default()
}

/// What to write instead of a header, if it seems to mean the section of this kind and name.
fn advice(header: &OddHeader, kind: &str, name: &str) -> Option<String> {
    let in_config = header.kind == FileKind::Config;
    let (word, rest) = header.header.split_once(char::is_whitespace).unwrap_or((&header.header, ""));
    let is_kind = word == kind;
    let meant = unquoted(if is_kind { rest } else { &header.header });
    if meant != name {
        // [DEFAULT], the name being "default".
        let is_default = header.name == Name::Defaults && name == "default";
        return is_default.then(|| "write [default] in lower case".to_owned());
    }
    let right = if !in_config || (kind == "profile" && name == "default") {
        name.to_owned()
    } else if name.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\')) {
        format!("{kind} {}", quoted(name))
    } else {
        format!("{kind} {name}")
    };
    match &header.name {
        Name::PassedOver(PassedOver::Indented) => Some(format!(
            "it is indented below a property and counts as part of its value; write [{right}] in the first column"
        )),
        Name::PassedOver(PassedOver::OpenQuote) => Some(format!("a quote is not closed; write [{right}]")),
        Name::PassedOver(_) if in_config => Some(format!("`[{right}]` is needed here")),
        Name::CliProfile(literal) if literal != name => {
            Some(format!("`[{right}]` is needed here, without quotes and without the word profile"))
        }
        _ => None,
    }
}

fn unquoted(name: &str) -> &str {
    let name = name.trim();
    ['"', '\''].into_iter().find_map(|quote| name.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(name)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The most similar name: the same but for case, or with one or two characters mistyped.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 100;
    // A person's files have fewer; comparing all that fit into a file would take seconds.
    const MOST: usize = 10_000;
    let allowed = if name.chars().count() < 5 { 1 } else { 2 };
    let distance = |other: &str| {
        if name.len().max(other.len()) > LONGEST {
            return usize::MAX;
        }
        strsim::osa_distance(&name.to_ascii_lowercase(), &other.to_ascii_lowercase())
    };
    names
        .take(MOST)
        .map(|other| (distance(other), other))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}
