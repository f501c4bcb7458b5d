//! Text to copy: words for a shell and identifiers for SQL, quoted where they need it.

use std::borrow::Cow;

/// A word as a shell reads it.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    if !word.is_empty() && word.bytes().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', "'\\''")))
}

/// Reserved words of SQL that are plausible names of roles.
const RESERVED: [&str; 8] =
    ["all", "current_role", "current_user", "default", "group", "primary", "session_user", "user"];

/// A PostgreSQL identifier.
pub(crate) fn identifier(name: &str) -> Cow<'_, str> {
    let first = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if first
        && !RESERVED.contains(&name)
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    {
        return Cow::Borrowed(name);
    }
    Cow::Owned(format!("\"{}\"", name.replace('"', "\"\"")))
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
    fn identifiers_are_quoted_unless_they_are_lower_case_words() {
        for (name, expected) in [
            ("app_user", "app_user"),
            ("jane@corp.com", "\"jane@corp.com\""),
            ("App", "\"App\""),
            ("user", "\"user\""),
            ("a\"b", "\"a\"\"b\""),
        ] {
            assert_eq!(identifier(name), expected);
        }
    }
}
