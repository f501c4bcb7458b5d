//! glibc's `getopt_long`: bundled letters, attached and separate values, abbreviated names, options after operands
//! (unless `POSIXLY_CORRECT` is set), `--`.
//!
//! It is an iterator, because a program may exit at an option (`--version`) before it reads the rest.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use crate::suggest;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Value,
    /// A value only as `--name=value`.
    OptionalValue,
    /// Like `Value`, but as a letter it takes nothing when no argument or another option follows.
    ValueUnlessOption,
}

/// An option of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    /// Empty if the option has only a letter.
    pub(crate) long: &'static str,
    pub(crate) short: Option<u8>,
    pub(crate) takes: Takes,
}

impl OptionSpec {
    /// Parses `LETTER,name`, followed by `=` if the option takes a value, `?` if the value is optional, `~` for
    /// [`Takes::ValueUnlessOption`]. Either side of the comma may be missing.
    fn parse(text: &'static str) -> Self {
        let (short, long) = text.split_once(',').unwrap_or((text, ""));
        let (long, takes) = match long.char_indices().next_back() {
            Some((at, '=')) => (&long[..at], Takes::Value),
            Some((at, '?')) => (&long[..at], Takes::OptionalValue),
            Some((at, '~')) => (&long[..at], Takes::ValueUnlessOption),
            _ => (long, Takes::Nothing),
        };
        Self { long, short: short.bytes().next(), takes }
    }

    /// Parses a table: options separated by white space.
    pub(crate) fn parse_table(table: &'static str) -> Vec<Self> {
        table.split_whitespace().map(Self::parse).collect()
    }

    fn name(&self) -> String {
        match self.short {
            Some(letter) if self.long.is_empty() => format!("-{}", char::from(letter)),
            _ => format!("--{}", self.long),
        }
    }
}

/// A position on the command line: the index of an argument and of a byte in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) argument: usize,
    pub(crate) byte: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Value<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) place: Place,
}

/// What is read next from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item<'a> {
    Option {
        spec: OptionSpec,
        value: Option<Value<'a>>,
    },
    /// `-?`
    QuestionMark,
    /// The index of an argument that is no option.
    Operand(usize),
}

/// The iterator over the items of a command line, which does not include the program's name.
pub(crate) struct GetoptLong<'a> {
    options: &'a [OptionSpec],
    arguments: &'a [OsString],
    posixly_correct: bool,
    /// The next argument.
    at: usize,
    /// The next letter of a group such as `-qAt`.
    letter: Option<Place>,
    only_operands: bool,
}

impl<'a> GetoptLong<'a> {
    pub(crate) fn new(options: &'a [OptionSpec], arguments: &'a [OsString], posixly_correct: bool) -> Self {
        Self { options, arguments, posixly_correct, at: 0, letter: None, only_operands: false }
    }

    fn bytes(&self, argument: usize) -> Option<&'a [u8]> {
        self.arguments.get(argument).map(|argument| argument.as_bytes())
    }

    /// The next argument, as a value.
    fn separate_value(&mut self, option: &str) -> Result<Value<'a>, String> {
        let bytes = self.bytes(self.at).ok_or_else(|| format!("option {option} needs a value"))?;
        let place = Place { argument: self.at, byte: 0 };
        self.at += 1;
        Ok(Value { bytes, place })
    }

    /// `--name`, `--name=value`.
    fn long_option(&mut self, argument: usize, long: &'a [u8]) -> Result<Item<'a>, String> {
        let equals = long.iter().position(|byte| *byte == b'=');
        let (name, attached) = equals.map_or((long, None), |at| (&long[..at], Some(&long[at + 1..])));
        let spec = self.find_long(name)?;
        let attached = attached.map(|bytes| {
            let place = Place { argument, byte: "--".len() + long.len() - bytes.len() };
            Value { bytes, place }
        });
        let value = match (spec.takes, attached) {
            (Takes::Nothing, Some(_)) => return Err(format!("option {} takes no value", spec.name())),
            (Takes::Value | Takes::ValueUnlessOption, None) => Some(self.separate_value(&spec.name())?),
            (_, attached) => attached,
        };
        Ok(Item::Option { spec, value })
    }

    /// Finds an option by its name or by an unambiguous abbreviation.
    fn find_long(&self, name: &[u8]) -> Result<OptionSpec, String> {
        let named = || self.options.iter().filter(|option| !option.long.is_empty());
        if let Some(exact) = named().find(|option| option.long.as_bytes() == name) {
            return Ok(*exact);
        }
        let shown = String::from_utf8_lossy(name);
        let mut candidates = named().filter(|option| option.long.as_bytes().starts_with(name));
        let Some(first) = candidates.next() else {
            let closest = suggest::closest(&shown, named().map(|option| option.long));
            let advice = closest.map(|name| format!("; did you mean --{name}?")).unwrap_or_default();
            return Err(format!("unknown option --{shown}{advice}"));
        };
        if candidates.any(|other| other.short.is_none() || (other.short, other.takes) != (first.short, first.takes)) {
            return Err(format!("option --{shown} is ambiguous"));
        }
        Ok(*first)
    }

    /// One letter of `-x`, `-xVALUE`, `-x VALUE`, `-xyz`.
    fn short_option(&mut self, place: Place) -> Result<Item<'a>, String> {
        let argument = self.bytes(place.argument).unwrap_or_default();
        let (letter, attached) = (argument[place.byte], &argument[place.byte + 1..]);
        let after = Place { byte: place.byte + 1, ..place };
        self.letter = (!attached.is_empty()).then_some(after);
        let spec = self.options.iter().find(|option| option.short == Some(letter));
        let spec = *spec.ok_or_else(|| format!("unknown option -{}", char::from(letter).escape_default()))?;
        let takes_value = match spec.takes {
            Takes::Nothing | Takes::OptionalValue => false,
            Takes::Value => true,
            Takes::ValueUnlessOption => {
                !attached.is_empty() || self.bytes(self.at).is_some_and(|next| !next.starts_with(b"-"))
            }
        };
        let value = match (takes_value, attached) {
            (false, _) => None,
            (true, []) => Some(self.separate_value(&format!("-{}", char::from(letter)))?),
            (true, bytes) => {
                self.letter = None;
                Some(Value { bytes, place: after })
            }
        };
        Ok(Item::Option { spec, value })
    }
}

impl<'a> Iterator for GetoptLong<'a> {
    type Item = Result<Item<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(place) = self.letter {
            return Some(self.short_option(place));
        }
        let argument = self.at;
        let bytes = self.bytes(argument)?;
        self.at += 1;
        if self.only_operands {
            return Some(Ok(Item::Operand(argument)));
        }
        match bytes {
            b"--" => {
                self.only_operands = true;
                self.next()
            }
            b"-?" => Some(Ok(Item::QuestionMark)),
            [b'-', b'-', long @ ..] => Some(self.long_option(argument, long)),
            [b'-', _, ..] => Some(self.short_option(Place { argument, byte: 1 })),
            _ => {
                self.only_operands = self.posixly_correct;
                Some(Ok(Item::Operand(argument)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each item as text: `-x`, `--name=VALUE`, `OPERAND`.
    fn read(table: &'static str, arguments: &[&str], posixly_correct: bool) -> Result<Vec<String>, String> {
        let options = OptionSpec::parse_table(table);
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        GetoptLong::new(&options, &arguments, posixly_correct)
            .map(|item| {
                Ok(match item? {
                    Item::Option { spec, value: None } => spec.name(),
                    Item::Option { spec, value: Some(value) } => format!("{}={}", spec.name(), text(value.bytes)),
                    Item::QuestionMark => "-?".to_owned(),
                    Item::Operand(at) => text(arguments[at].as_bytes()),
                })
            })
            .collect()
    }

    const TABLE: &str = "h,host= q,quiet v, d,dbname~ ,color? ,host-only";

    #[test]
    fn arguments_are_read_as_glibc_reads_them() {
        for (arguments, expected) in [
            (&["-hH", "x", "-q"][..], "--host=H x --quiet"),
            (&["-qvh", "H"], "--quiet -v --host=H"),
            (&["--host", "H", "--", "-q"], "--host=H -q"),
            (&["--h=H", "--q"], "ambiguous"),
            (&["--host=H", "--color", "--color=c", "--qui"], "--host=H --color --color=c --quiet"),
            (&["-d", "-q", "-d", "D", "-dD", "-d"], "--dbname --quiet --dbname=D --dbname=D --dbname"),
            (&["-", "-?"], "- -?"),
            (&["-h"], "option -h needs a value"),
            (&["-x"], "unknown option -x"),
            (&["--hots", "H"], "unknown option --hots; did you mean --host?"),
            (&["--quiet=1"], "option --quiet takes no value"),
        ] {
            let read = read(TABLE, arguments, false).map_or_else(|error| error, |items| items.join(" "));
            assert!(read == expected || (expected == "ambiguous" && read.ends_with(expected)), "{arguments:?}: {read}");
        }
        assert_eq!(read(TABLE, &["x", "-q"], true), Ok(vec!["x".into(), "-q".into()]), "POSIXLY_CORRECT");
    }
}
