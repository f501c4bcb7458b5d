//! The keywords and values of one connection, whichever function the program called, as `PQconnectdbParams` takes them.

use std::borrow::Cow;
use std::ffi::{CStr, CString};

use zeroize::Zeroizing;

use crate::conninfo::{self, Parameters};
use crate::keywords;

/// A keyword and its value. libpq ignores a value that is absent or empty.
type Pair = (CString, Option<Zeroizing<CString>>);

/// Keywords and values in the program's order, passwords among them.
#[derive(Clone, Default)]
pub struct Arguments {
    pairs: Vec<Pair>,
    /// Whether the first `dbname` may be a connection string.
    pub expand_dbname: bool,
}

impl Arguments {
    /// From keywords and values.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a CStr, Option<&'a CStr>)>, expand_dbname: bool) -> Self {
        let owned = |(keyword, value): (&CStr, Option<&CStr>)| {
            (keyword.to_owned(), value.map(|value| Zeroizing::new(value.to_owned())))
        };
        Self { pairs: pairs.into_iter().map(owned).collect(), expand_dbname }
    }

    /// From the argument of `PQconnectdb`. `None`: it is not a connection string, and libpq will refuse it.
    #[must_use]
    pub fn of_conninfo(text: &CStr) -> Option<Self> {
        if text.to_bytes().iter().all(|byte| conninfo::is_space(*byte)) {
            // Defaults only. As a `dbname` it would be a database name.
            return Some(Self::new([], true));
        }
        conninfo::is_connection_string(text.to_bytes()).then(|| Self::new([(c"dbname", Some(text))], true))
    }

    /// The connection string that libpq would expand: the first `dbname`.
    fn connection_string(&mut self) -> Option<&mut Zeroizing<CString>> {
        if !self.expand_dbname {
            return None;
        }
        let first = self.first_dbname()?;
        conninfo::is_connection_string(first.to_bytes()).then_some(first)
    }

    fn first_dbname(&mut self) -> Option<&mut Zeroizing<CString>> {
        self.pairs
            .iter_mut()
            .filter(|(keyword, _)| keyword.as_c_str() == c"dbname")
            .find_map(|(_, value)| value.as_mut())
    }

    fn parsed_connection_string(&mut self) -> Parameters {
        let text = self.connection_string().and_then(|text| Readable::new(text));
        text.and_then(|text| conninfo::parse(text.as_str()).ok()).unwrap_or_default()
    }

    /// Removes pgiam's own keywords and returns them. Of a repeated one the last counts.
    pub fn take_own(&mut self) -> Parameters {
        let mut own = Parameters::new();
        if let Some(text) = self.connection_string()
            && let Some((taken, rest)) = split_own(text)
        {
            own.extend(taken);
            *text = rest;
        }
        // A connection string without anything else would now be read as the name of a database.
        if !own.is_empty()
            && let Some(at) = self.pairs.iter().position(|(keyword, value)| {
                keyword.as_c_str() == c"dbname" && value.as_ref().is_some_and(|value| value.is_empty())
            })
        {
            self.pairs.remove(at);
        }
        self.pairs.retain(|(keyword, value)| {
            let Some(name) = keyword.to_str().ok().and_then(keywords::find_own) else { return true };
            if let Some(value) = value.as_ref().and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
            {
                own.insert(name.to_owned(), value.to_owned().into());
            }
            false
        });
        own
    }

    /// Removes every password, including one that the environment or a service file would give: an empty password
    /// counts as given if it is in a connection string (`conninfo_array_parse`).
    pub fn remove_password(&mut self) {
        self.pairs.retain(|(keyword, _)| keyword.as_c_str() != c"password");
        if let Some(text) = self.connection_string() {
            let changed = with_empty_password(text.to_bytes());
            *text = changed;
            return;
        }
        self.expand_dbname = true;
        match self.first_dbname() {
            Some(name) if !name.is_empty() => {
                let mut text = b"dbname='".to_vec();
                for byte in name.to_bytes() {
                    if matches!(byte, b'\'' | b'\\') {
                        text.push(b'\\');
                    }
                    text.push(*byte);
                }
                text.push(b'\'');
                let changed = with_empty_password(&text);
                *name = changed;
            }
            Some(name) => *name = with_empty_password(b""),
            None => self.pairs.insert(0, (c"dbname".to_owned(), Some(with_empty_password(b"")))),
        }
    }

    /// The `sslmode` that the program gave, if any. The last one counts; a connection string counts where it is.
    #[must_use]
    pub fn sslmode(&mut self) -> Option<String> {
        let in_string = self.parsed_connection_string().remove("sslmode").map(|mode| mode.to_string());
        let (mut found, mut expanded) = (None, false);
        for (keyword, value) in &self.pairs {
            let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
            if keyword.as_c_str() == c"sslmode" {
                found = value.to_str().ok().map(str::to_owned);
            } else if keyword.as_c_str() == c"dbname" && !std::mem::replace(&mut expanded, true) && in_string.is_some()
            {
                found.clone_from(&in_string);
            }
        }
        found
    }

    /// How many of the keywords, except `sslmode`, have the value that is compiled into libpq.
    #[must_use]
    pub fn count_defaults(&mut self, compiled: &Parameters) -> usize {
        let is_default = |keyword: &str, value: &str| {
            let default = compiled.get(keyword).map_or("", |default| default.as_str());
            keyword != "sslmode" && !default.is_empty() && default == value
        };
        let in_string = self.parsed_connection_string();
        let in_string = in_string.iter().filter(|(keyword, value)| is_default(keyword, value)).count();
        let in_pairs = self.pairs.iter().filter(|(keyword, value)| {
            let value = value.as_ref().and_then(|value| value.to_str().ok());
            keyword.to_str().is_ok_and(|keyword| is_default(keyword, value.unwrap_or_default()))
        });
        in_string + in_pairs.count()
    }

    /// The keywords and values, followed by more, which override them.
    #[must_use]
    pub fn with<'a>(&'a self, more: &[(&'a CStr, &'a CStr)]) -> Vec<(&'a CStr, Option<&'a CStr>)> {
        let given = self
            .pairs
            .iter()
            .map(|(keyword, value)| (keyword.as_c_str(), value.as_ref().map(|value| value.as_c_str())));
        given.chain(more.iter().map(|(keyword, value)| (*keyword, Some(*value)))).collect()
    }
}

/// Appends an empty password to a connection string that libpq accepts.
fn with_empty_password(text: &[u8]) -> Zeroizing<CString> {
    if conninfo::is_uri(text) {
        return joined(
            text,
            match text {
                [.., b'?' | b'&'] => b"password=",
                _ if text.contains(&b'?') => b"&password=",
                _ => b"?password=",
            },
        );
    }
    // libpq drops a backslash at the end of a value; it would escape the space.
    let ends_escaping = text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1;
    joined(&text[..text.len() - usize::from(ends_escaping)], b" password=''")
}

/// One after the other. The text is as long as the C string from the beginning: one that grows would leave a copy of a
/// password behind.
fn joined(first: &[u8], second: &[u8]) -> Zeroizing<CString> {
    let mut bytes = Vec::with_capacity(first.len() + second.len() + 1);
    bytes.extend_from_slice(first);
    bytes.extend_from_slice(second);
    Zeroizing::new(CString::new(bytes).unwrap_or_default())
}

/// A connection string as UTF-8. Of one in another encoding each byte is read as one character (Latin-1), because the
/// rules depend on ASCII characters only.
enum Readable<'a> {
    Utf8(&'a str),
    Latin1(Zeroizing<String>),
}

impl<'a> Readable<'a> {
    /// `None`: a URI in another encoding. Its percent-encoded bytes could not be distinguished from the others.
    fn new(text: &'a CStr) -> Option<Self> {
        match text.to_str() {
            Ok(text) => Some(Self::Utf8(text)),
            Err(_) if conninfo::is_uri(text.to_bytes()) => None,
            Err(_) => {
                let mut latin1 = Zeroizing::new(String::with_capacity(2 * text.count_bytes()));
                latin1.extend(text.to_bytes().iter().map(|byte| char::from(*byte)));
                Some(Self::Latin1(latin1))
            }
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Utf8(text) => text,
            Self::Latin1(text) => text,
        }
    }

    /// A text that was made from this one, in the encoding of the original.
    fn restore(&self, text: String) -> Option<Zeroizing<CString>> {
        match self {
            Self::Utf8(_) => CString::new(text).ok().map(Zeroizing::new),
            Self::Latin1(_) => {
                let text = Zeroizing::new(text);
                let mut bytes = Vec::with_capacity(text.chars().count() + 1);
                bytes.extend(text.chars().filter_map(|character| u8::try_from(character).ok()));
                CString::new(bytes).ok().map(Zeroizing::new)
            }
        }
    }
}

/// pgiam's own keywords in a connection string, and the string without them. `None`: there are none, or libpq will
/// refuse the string.
#[must_use]
pub fn split_own(text: &CStr) -> Option<(Parameters, Zeroizing<CString>)> {
    let readable = Readable::new(text)?;
    let (own, rest) = conninfo::split_own(readable.as_str()).ok()?;
    match rest {
        Cow::Borrowed(_) => None,
        Cow::Owned(rest) => Some((own, readable.restore(rest)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(arguments: &Arguments) -> String {
        let pairs = arguments.with(&[]);
        let texts = pairs.iter().map(|(keyword, value)| {
            format!("{}={}", keyword.to_string_lossy(), value.map_or("NULL".into(), CStr::to_string_lossy))
        });
        texts.collect::<Vec<_>>().join("|")
    }

    #[test]
    fn a_removed_password_is_empty_in_a_connection_string_so_that_the_environment_gives_none() {
        for (dbname, expand, expected) in [
            (Some(c"host=h password=x"), true, "dbname=host=h password=x password=''"),
            (Some(c"host=h\\"), true, "dbname=host=h password=''"),
            (Some(c"user='a b'"), true, "dbname=user='a b' password=''"),
            (Some(c"postgresql://u:p@h/d"), true, "dbname=postgresql://u:p@h/d?password="),
            (Some(c"postgresql://h?user=u"), true, "dbname=postgresql://h?user=u&password="),
            (Some(c"postgresql://h?"), true, "dbname=postgresql://h?password="),
            (Some(c"my 'app'"), true, "dbname=dbname='my \\'app\\'' password=''"),
            (Some(c"a=b"), false, "dbname=dbname='a=b' password=''"),
            (Some(c""), true, "dbname= password=''"),
            (None, false, "dbname= password=''"),
        ] {
            let pairs = dbname.map(|dbname| (c"dbname", Some(dbname)));
            let mut arguments = Arguments::new(pairs.into_iter().chain([(c"password", Some(c"y"))]), expand);
            arguments.remove_password();
            assert_eq!(described(&arguments), expected);
            assert!(arguments.expand_dbname);
            let text = arguments.connection_string().expect("a connection string").to_str().expect("UTF-8").to_owned();
            assert_eq!(conninfo::parse(&text).expect(&text)["password"].as_str(), "", "{text}");
        }
    }

    #[test]
    fn pgiams_own_keywords_are_removed_wherever_they_are() {
        let mut arguments = Arguments::new(
            [
                (c"dbname", Some(c"iam_host=a iam=on")),
                (c"iam_host", Some(c"b")),
                (c"iam_port", Some(c"")),
                (c"host", Some(c"h")),
            ],
            true,
        );
        let own = arguments.take_own();
        assert_eq!(
            own.into_iter().collect::<Vec<_>>(),
            [("iam", "on"), ("iam_host", "b")].map(|(k, v)| (k.to_owned(), v.to_owned().into()))
        );
        assert_eq!(described(&arguments), "host=h");
    }

    #[test]
    fn pgiams_own_keywords_are_removed_from_a_string_in_another_encoding_too() {
        let (own, rest) = split_own(c"iam=on user=caf\xe9 password='\xfc\xc3\xa4 \\'' host=h").unwrap();
        assert_eq!(own["iam"].as_str(), "on");
        assert_eq!(rest.as_c_str(), c"host='h' password='\xfc\xc3\xa4 \\'' user='caf\xe9'");
        assert!(split_own(c"postgresql://caf\xe9@h/?iam=on").is_none());
        let mut arguments = Arguments::of_conninfo(c"user=caf\xe9 sslmode=prefer").unwrap();
        assert_eq!(arguments.sslmode().as_deref(), Some("prefer"));
    }

    #[test]
    fn the_last_sslmode_counts_and_a_connection_string_counts_where_it_is() {
        let sslmode = |pairs: &[(&CStr, &CStr)], expand| {
            Arguments::new(pairs.iter().map(|(keyword, value)| (*keyword, Some(*value))), expand).sslmode()
        };
        let string = (c"dbname", c"sslmode=allow");
        assert_eq!(sslmode(&[string], true).as_deref(), Some("allow"));
        assert_eq!(sslmode(&[string], false), None);
        assert_eq!(sslmode(&[(c"sslmode", c"disable"), string], true).as_deref(), Some("allow"));
        assert_eq!(sslmode(&[string, (c"sslmode", c"disable"), (c"sslmode", c"")], true).as_deref(), Some("disable"));
    }
}
