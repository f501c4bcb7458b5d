//! The grammar of the AWS `config` and `credentials` files: text in, sections out.
//!
//! The rules are those of the AWS SDKs and Tools Reference Guide ("Shared config and credentials files") and of the test
//! cases that the SDKs share (`tests/data/profile-parser-tests.json`). What those leave open is read as the AWS CLI reads
//! it (Python's `configparser`, and `shlex` for the words of a section's name):
//!
//! * a section's name may be quoted: `[profile "my work"]`, `[sso-session 'Acme Corp']`;
//! * names may have any character: the SDKs know letters, digits and `-_./%@:+`. Profiles with other names are kept
//!   apart ([`Name::CliProfile`]), so that both readings can be tested;
//! * a file may be indented: a line continues a value only if it is indented more than the line the value began on;
//! * `name: value` is a property. (`name : value` is one to the CLI and an error to the SDKs: it is an error here.);
//! * an indented comment is a comment;
//! * `[DEFAULT]` gives its properties to every other section of the file.
//!
//! Where the two contradict each other, the SDKs' reading counts: ` # comment` after a value is left out, a repeated
//! section or property is no error, `[profile default]` wins over `[default]`.
//!
//! A line that fits no rule is an error with its number, never with its text: it may contain a key.

use std::collections::BTreeMap;

use crate::secret::Secret;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Config,
    Credentials,
}

/// The properties of a section, by lower-case name.
pub(crate) type Properties = BTreeMap<String, Secret>;

/// One section, in the order of the file.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) name: Name,
    /// The line of its header.
    pub(crate) line: usize,
    /// What the brackets contain, for messages.
    pub(crate) header: String,
    pub(crate) properties: Properties,
}

/// What a section's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Profile(String),
    /// `[default]` of the config file, which does not count beside `[profile default]`.
    UnprefixedDefault,
    /// A profile with a name that the AWS CLI reads and the SDKs do not.
    CliProfile(String),
    SsoSession(String),
    Services(String),
    /// `[DEFAULT]`.
    Defaults,
    PassedOver(PassedOver),
}

/// Why a section is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassedOver {
    /// Only the config file: neither `default`, nor a word that tells its kind and a name.
    NoKind,
    /// A word that tells its kind, and no name or several words.
    NotOneName,
    OpenQuote,
    /// A header that is indented below a property is part of the property's value.
    Indented,
}

/// Line number and what is wrong there.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) what: &'static str,
}

/// Reads a whole file, in linear time.
pub(crate) fn parse(text: &str, kind: FileKind) -> Result<Vec<Section>, Fault> {
    let mut parser = Parser { kind, sections: Vec::new(), open: None };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        parser.line(line, index + 1).map_err(|what| Fault { line: index + 1, what })?;
    }
    parser.close();
    Ok(parser.sections)
}

struct Parser<'a> {
    kind: FileKind,
    sections: Vec<Section>,
    open: Option<Open<'a>>,
}

/// The property that following lines may continue. Its parts are joined when it is complete, so that the value is
/// copied once.
struct Open<'a> {
    indent: usize,
    name: String,
    parts: Vec<&'a str>,
}

impl<'a> Parser<'a> {
    fn line(&mut self, line: &'a str, number: usize) -> Result<(), &'static str> {
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            return Ok(());
        }
        let indent = line.len() - line.trim_start().len();
        if self.open.as_ref().is_some_and(|open| indent > open.indent) {
            return self.continuation(content, number);
        }
        if let Some(rest) = content.strip_prefix('[') {
            return self.header(rest, number);
        }
        self.property(content, indent)
    }

    /// Whether the lines of this section mean nothing, so that nothing can be wrong with them.
    fn is_passed_over(&self) -> bool {
        self.sections.last().is_some_and(|section| matches!(section.name, Name::PassedOver(_)))
    }

    fn header(&mut self, rest: &str, number: usize) -> Result<(), &'static str> {
        self.close();
        let header = inside_brackets(rest).ok_or("Profile definition must end with ']'")?;
        self.sections.push(Section {
            name: classify(header, self.kind),
            line: number,
            header: header.to_owned(),
            properties: Properties::new(),
        });
        Ok(())
    }

    fn property(&mut self, content: &'a str, indent: usize) -> Result<(), &'static str> {
        self.close();
        if self.sections.is_empty() {
            return Err("Expected a profile definition ([profile NAME]) before any other line");
        }
        let (name, value) = match split_property(content) {
            Some((name, value)) if !name.is_empty() => (name, value),
            _ if self.is_passed_over() => return Ok(()),
            Some(_) => return Err("Property did not have a name"),
            None if indent > 0 => return Err("Expected a property definition, found continuation"),
            None => return Err("Expected an '=' sign defining a property (name = value)"),
        };
        self.open = Some(Open { indent, name: name.to_ascii_lowercase(), parts: vec![without_comment(value).trim()] });
        Ok(())
    }

    fn continuation(&mut self, content: &'a str, number: usize) -> Result<(), &'static str> {
        if let Some(header) = content.strip_prefix('[').and_then(inside_brackets) {
            // Part of the value; remembered for the message when a profile is not found.
            let section = Section {
                name: Name::PassedOver(PassedOver::Indented),
                line: number,
                header: header.to_owned(),
                properties: Properties::new(),
            };
            let before_current = self.sections.len().saturating_sub(1);
            self.sections.insert(before_current, section);
        }
        let passed_over = self.is_passed_over();
        let Some(open) = &mut self.open else { return Ok(()) };
        // A property without a value of its own has sub-properties.
        if open.parts[0].is_empty() && !passed_over && open.name.chars().all(is_name_character) {
            match content.split_once('=') {
                None => return Err("Expected an '=' sign defining a sub-property"),
                Some((name, _)) if name.trim().is_empty() => return Err("Sub-property did not have a name"),
                Some(_) => {}
            }
        }
        open.parts.push(content);
        Ok(())
    }

    /// Stores the property that is complete now. A name with other characters is ignored.
    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && open.name.chars().all(is_name_character)
            && let Some(section) = self.sections.last_mut()
        {
            section.properties.insert(open.name, Secret::new(open.parts.join("\n")));
        }
    }
}

/// What stands between `[`, which is left out already, and the first `]` that is not in quotes.
fn inside_brackets(rest: &str) -> Option<&str> {
    let mut quote = None;
    for (at, c) in rest.char_indices() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (']', None) => return Some(rest[..at].trim()),
            _ => {}
        }
    }
    // A quote that is not closed, as in [profile jane's].
    rest.split_once(']').map(|(inside, _)| inside.trim())
}

/// Splits at the first `=`, or at a `:` before it that directly follows the name.
fn split_property(content: &str) -> Option<(&str, &str)> {
    let is_name = |name: &str| !name.is_empty() && name.chars().all(is_name_character);
    let by_equals = content.split_once('=');
    let by_colon = content.split_once(':').filter(|(name, _)| is_name(name) && !name.contains('='));
    by_colon.or(by_equals).map(|(name, value)| (name.trim(), value))
}

fn classify(header: &str, kind: FileKind) -> Name {
    if header == "DEFAULT" {
        return Name::Defaults;
    }
    match kind {
        FileKind::Credentials => profile(header),
        FileKind::Config if header == "default" => Name::UnprefixedDefault,
        FileKind::Config => classify_config(header),
    }
}

fn classify_config(header: &str) -> Name {
    type Make = fn(String) -> Name;
    // By the beginning of the first word, as in the AWS CLI.
    const KINDS: [(&str, Make); 3] =
        [("profile", |name| profile(&name)), ("sso-session", Name::SsoSession), ("services", Name::Services)];
    let Some((_, make)) = KINDS.into_iter().find(|(word, _)| header.starts_with(word)) else {
        return Name::PassedOver(PassedOver::NoKind);
    };
    match words(header) {
        None => Name::PassedOver(PassedOver::OpenQuote),
        Some(words) => match <[String; 2]>::try_from(words) {
            Ok([_, name]) if !name.is_empty() => make(name),
            Err(words) if words.len() == 1 && !KINDS.iter().any(|(word, _)| words[0] == *word) => {
                Name::PassedOver(PassedOver::NoKind)
            }
            _ => Name::PassedOver(PassedOver::NotOneName),
        },
    }
}

/// The words of a header, or `None` where a quote is not closed. To `shlex` a word with `#` begins a comment, but not to the
/// AWS CLI.
fn words(header: &str) -> Option<Vec<String>> {
    if header.contains(['"', '\'', '\\']) {
        shlex::split(header)
    } else {
        Some(header.split_whitespace().map(str::to_owned).collect())
    }
}

fn profile(name: &str) -> Name {
    if name.is_empty() {
        Name::PassedOver(PassedOver::NotOneName)
    } else if name.chars().all(is_name_character) {
        Name::Profile(name.to_owned())
    } else {
        Name::CliProfile(name.to_owned())
    }
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_./%@:+".contains(character)
}

/// A comment inside a value begins at white space followed by `#` or `;`.
fn without_comment(value: &str) -> &str {
    let mut before = None;
    for (at, character) in value.char_indices() {
        if matches!(character, '#' | ';') && before.is_some_and(char::is_whitespace) {
            return &value[..at];
        }
        before = Some(character);
    }
    value
}
