//! Text to copy: words for a shell and identifiers for SQL, quoted where they need it.

use std::borrow::Cow;
use zeroize::Zeroizing;

use pgiam_libpq::conninfo::Parameters;

/// A word as a shell reads it.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

/// A PostgreSQL identifier. It is always quoted, because it may be a reserved word.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A conninfo string with quotes only where they are needed.
pub(crate) fn conninfo(parameters: &Parameters) -> String {
    let is_plain = |value: &str| {
        !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '\'' | '\\'))
    };
    let pair = |(keyword, value): (&String, &Zeroizing<String>)| match is_plain(value) {
        true => format!("{keyword}={}", value.as_str()),
        false => format!("{keyword}='{}'", value.replace('\\', "\\\\").replace('\'', "\\'")),
    };
    parameters.iter().map(pair).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_read_something_else() {
        for (word, expected) in [
            ("app_user", "app_user"),
            ("jane@corp.com", "jane@corp.com"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn conninfo_strings_are_read_back_as_they_were() {
        let parameters: Parameters = [("dbname", "it's a\\b"), ("host", "h.x"), ("hostaddr", ""), ("user", "a b")]
            .map(|(keyword, value)| (keyword.to_owned(), Zeroizing::new(value.to_owned())))
            .into();
        let text = conninfo(&parameters);
        assert!(text.contains(" host=h.x hostaddr='' "), "{text}");
        assert!(pgiam_libpq::conninfo::parse(&text).unwrap() == parameters);
    }

    #[test]
    fn identifiers_are_always_quoted() {
        for (name, expected) in [
            ("app_user", "\"app_user\""),
            ("select", "\"select\""),
            ("jane@corp.com", "\"jane@corp.com\""),
            ("App", "\"App\""),
            ("user", "\"user\""),
            ("a\"b", "\"a\"\"b\""),
        ] {
            assert_eq!(identifier(name), expected);
        }
    }
}
