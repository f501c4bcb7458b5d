//! Why a section that was looked for was not found: the same name in a header that is not read, and where; or a name
//! that is nearly the same.

use crate::config::grammar::{FileKind, Name, PassedOver};
use crate::config::profile_files::{OddHeader, ProfileFiles};

/// What to add to a message about a missing profile: empty, or a text that begins with `; `.
pub(crate) fn for_profile(files: &ProfileFiles, name: &str) -> String {
    let names = files.profiles.keys().chain(files.cli_profiles.keys());
    hint(files, "profile", name, names.map(String::as_str))
}

/// The same for an `[sso-session NAME]`.
pub(crate) fn for_sso_session(files: &ProfileFiles, name: &str) -> String {
    hint(files, "sso-session", name, files.sso_sessions.keys().map(String::as_str))
}

fn hint<'a>(files: &ProfileFiles, kind: &str, name: &str, names: impl Iterator<Item = &'a str>) -> String {
    let passed_over = files.odd_headers.iter().find_map(|header| {
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
    let allowed = if name.chars().count() < 5 { 1 } else { 2 };
    let distance = |other: &str| {
        if name.len().max(other.len()) > LONGEST {
            return usize::MAX;
        }
        strsim::osa_distance(&name.to_lowercase(), &other.to_lowercase())
    };
    names.map(|other| (distance(other), other)).filter(|(distance, _)| *distance <= allowed).min().map(|(_, name)| name)
}
