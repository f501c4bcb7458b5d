//! The program's keywords and values, whichever function it called, as `PQconnectdbParams` takes them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_int};

use pgiam_libpq::conninfo::{self, Parameters};
use pgiam_libpq::own_settings;

use crate::libpq::{Text, Texts};

/// Keywords and values in the program's order. A value may be absent, which libpq passes over.
#[derive(Clone)]
pub(crate) struct Arguments {
    pairs: Vec<(CString, Option<CString>)>,
    pub(crate) expand_dbname: c_int,
}

/// # Safety
///
/// NULL, or NUL-terminated.
unsafe fn copied(text: Text) -> Option<CString> {
    // SAFETY: not NULL, and the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_owned())
}

impl Arguments {
    /// # Safety
    ///
    /// The arrays are NULL or end with NULL and hold NUL-terminated texts; `values` is as long as `keywords`.
    pub(crate) unsafe fn of_params(keywords: Texts, values: Texts, expand_dbname: c_int) -> Option<Self> {
        if keywords.is_null() || values.is_null() {
            return None;
        }
        let mut pairs = Vec::new();
        for index in 0.. {
            // SAFETY: no place behind the NULL is read; the values are as many.
            let (keyword, value) = unsafe { (copied(*keywords.add(index)), *values.add(index)) };
            let Some(keyword) = keyword else { break };
            // SAFETY: a text of the caller's, or NULL.
            pairs.push((keyword, unsafe { copied(value) }));
        }
        Some(Self { pairs, expand_dbname })
    }

    /// `None`: not a connection string, so libpq will refuse it.
    ///
    /// # Safety
    ///
    /// NULL, or NUL-terminated.
    pub(crate) unsafe fn of_conninfo(text: Text) -> Option<Self> {
        // SAFETY: the caller's promise.
        let text = unsafe { copied(text) }?;
        let readable = text.to_str().ok()?;
        let pairs = if readable.bytes().all(conninfo::is_space) {
            // Nothing but defaults. As a database's name it would mean something else.
            Vec::new()
        } else if conninfo::is_connection_string(readable) {
            vec![(c"dbname".into(), Some(text))]
        } else {
            return None;
        };
        Some(Self { pairs, expand_dbname: 1 })
    }

    /// What `PQsetdbLogin` got: a connection string in `dbname`'s place counts first.
    ///
    /// # Safety
    ///
    /// NULL, or NUL-terminated, each of them.
    pub(crate) unsafe fn of_login(
        (host, port, options): (Text, Text, Text),
        (dbname, user, password): (Text, Text, Text),
    ) -> Self {
        let pairs = [
            (c"dbname", dbname),
            (c"host", host),
            (c"port", port),
            (c"options", options),
            (c"user", user),
            (c"password", password),
        ];
        // SAFETY: the caller's promise.
        let pairs = pairs.into_iter().map(|(keyword, value)| (keyword.into(), unsafe { copied(value) })).collect();
        Self { pairs, expand_dbname: 1 }
    }

    /// The connection string among them, if libpq would take one apart: the first `dbname`.
    fn connection_string(&mut self) -> Option<&mut CString> {
        if self.expand_dbname == 0 {
            return None;
        }
        let first = self.pairs.iter_mut().find(|(keyword, _)| keyword.as_c_str() == c"dbname")?.1.as_mut()?;
        conninfo::is_connection_string(first.to_str().ok()?).then_some(first)
    }

    /// Takes pgiam's own keywords out. Of a repeated one the last counts.
    pub(crate) fn take_own(&mut self) -> Parameters {
        let mut own = Parameters::new();
        let is_own = |keyword: &CStr| {
            let name = keyword.to_str().ok()?;
            own_settings::KEYWORDS.into_iter().find(|(known, _)| *known == name).map(|(known, _)| known)
        };
        if let Some(text) = self.connection_string()
            && let Some((taken, rest)) = split_own(text)
        {
            own.extend(taken);
            *text = rest;
        }
        self.pairs.retain(|(keyword, value)| {
            let Some(name) = is_own(keyword) else { return true };
            if let Some(value) = value.as_ref().and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
            {
                own.insert(name, value.to_owned());
            }
            false
        });
        own
    }

    /// Takes every password out.
    pub(crate) fn take_password(&mut self) {
        if let Some(text) = self.connection_string()
            && let Ok(readable) = text.to_str()
            && let Ok(mut parameters) = conninfo::parse(readable)
            && parameters.remove("password").is_some()
            && let Ok(rest) = CString::new(conninfo::write(&parameters))
        {
            *text = rest;
        }
        self.pairs.retain(|(keyword, _)| keyword.as_c_str() != c"password");
    }

    /// The `sslmode` that the program wrote, if any.
    pub(crate) fn sslmode(&mut self) -> Option<String> {
        let mut found = None;
        if let Some(text) = self.connection_string()
            && let Ok(parameters) = conninfo::parse(text.to_str().unwrap_or_default())
        {
            found = parameters.get("sslmode").cloned();
        }
        let given = self.pairs.iter().rev().find(|(keyword, value)| {
            keyword.as_c_str() == c"sslmode" && value.as_ref().is_some_and(|value| !value.is_empty())
        });
        given.and_then(|(_, value)| value.as_ref()?.to_str().ok().map(str::to_owned)).or(found)
    }

    /// How many of the keywords, `sslmode` apart, have the value that libpq has compiled in.
    pub(crate) fn defaults_among(&mut self, compiled: &BTreeMap<String, String>) -> usize {
        let is_default = |keyword: &str, value: &str| {
            keyword != "sslmode" && compiled.get(keyword).is_some_and(|default| !default.is_empty() && default == value)
        };
        let text = self.connection_string().and_then(|text| text.to_str().ok()).unwrap_or_default();
        let within = conninfo::parse(text).unwrap_or_default();
        let within = within.iter().filter(|(keyword, value)| is_default(keyword, value)).count();
        let beside = self.pairs.iter().filter(|(keyword, value)| {
            let value = value.as_ref().and_then(|value| value.to_str().ok());
            keyword.to_str().is_ok_and(|keyword| is_default(keyword, value.unwrap_or_default()))
        });
        within + beside.count()
    }

    /// The keywords and values with more behind them, which override.
    pub(crate) fn with(&self, more: &[(&'static CStr, &CStr)]) -> Vec<(Text, Text)> {
        let given = self.pairs.iter().map(|(keyword, value)| {
            (keyword.as_ptr(), value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr()))
        });
        given.chain(more.iter().map(|(keyword, value)| (keyword.as_ptr(), value.as_ptr()))).collect()
    }
}

/// pgiam's own keywords in a connection string, and the string without them. `None` where there are none, or where the
/// string is not one: libpq will say so.
pub(crate) fn split_own(text: &CStr) -> Option<(Parameters, CString)> {
    let (own, rest) = conninfo::split_own(text.to_str().ok()?).ok()?;
    match rest {
        Cow::Borrowed(_) => None,
        Cow::Owned(rest) => Some((own, CString::new(rest).ok()?)),
    }
}
