//! The keywords and values of one connection, whichever function the program called, as `PQconnectdbParams` takes them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};

use zeroize::Zeroizing;

use crate::conninfo::{self, Parameters};
use crate::keywords;

/// A keyword and its value. libpq ignores a value that is absent or empty.
type Pair = (CString, Option<Zeroizing<CString>>);

/// Keywords and values in the program's order.
#[derive(Clone, Debug, Default)]
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
        conninfo::is_connection_string(&text.to_string_lossy()).then(|| Self::new([(c"dbname", Some(text))], true))
    }

    /// The connection string that libpq would expand: the first `dbname`.
    fn connection_string(&mut self) -> Option<&mut Zeroizing<CString>> {
        if !self.expand_dbname {
            return None;
        }
        let first = self.first_dbname()?;
        conninfo::is_connection_string(&first.to_string_lossy()).then_some(first)
    }

    fn first_dbname(&mut self) -> Option<&mut Zeroizing<CString>> {
        self.pairs
            .iter_mut()
            .filter(|(keyword, _)| keyword.as_c_str() == c"dbname")
            .find_map(|(_, value)| value.as_mut())
    }

    fn parsed_connection_string(&mut self) -> Parameters {
        let text = self.connection_string().and_then(|text| text.to_str().ok()).unwrap_or_default();
        conninfo::parse(text).unwrap_or_default()
    }

    /// Removes pgiam's own keywords and returns them. Of a repeated one the last counts.
    pub fn take_own(&mut self) -> Parameters {
        let mut own = Parameters::new();
        if let Some(text) = self.connection_string()
            && let Some((taken, rest)) = split_own(text)
        {
            own.extend(taken);
            *text = Zeroizing::new(rest);
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
                own.insert(name.to_owned(), value.to_owned());
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
        let in_string = self.parsed_connection_string().remove("sslmode");
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
    pub fn count_defaults(&mut self, compiled: &BTreeMap<String, String>) -> usize {
        let is_default = |keyword: &str, value: &str| {
            keyword != "sslmode" && compiled.get(keyword).is_some_and(|default| !default.is_empty() && default == value)
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
    let mut changed = text.to_vec();
    if conninfo::is_uri(&String::from_utf8_lossy(text)) {
        changed.extend_from_slice(match text {
            [.., b'?' | b'&'] => b"password=",
            _ if text.contains(&b'?') => b"&password=",
            _ => b"?password=",
        });
    } else {
        // libpq drops a backslash at the end of a value; it would escape the space.
        if text.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1 {
            changed.pop();
        }
        changed.extend_from_slice(b" password=''");
    }
    Zeroizing::new(CString::new(changed).unwrap_or_default())
}

/// pgiam's own keywords in a connection string, and the string without them. `None`: there are none, or libpq will
/// refuse the string.
#[must_use]
pub fn split_own(text: &CStr) -> Option<(Parameters, CString)> {
    let (own, rest) = conninfo::split_own(text.to_str().ok()?).ok()?;
    match rest {
        Cow::Borrowed(_) => None,
        Cow::Owned(rest) => Some((own, CString::new(rest).ok()?)),
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
            assert_eq!(conninfo::parse(&text).expect(&text)["password"], "", "{text}");
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
            [("iam", "on"), ("iam_host", "b")].map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
        assert_eq!(described(&arguments), "host=h");
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
