//! Connection strings as libpq reads them: `host=… user=…` and `postgresql://user@host/…`. Text in, keywords and values
//! out; no defaults are filled in.
//!
//! The rules are those of `PQconninfoParse` (`fe-connect.c`: `conninfo_parse`, `conninfo_uri_parse_options`), and a test
//! compares the two over hundreds of strings. Where versions of libpq differ, this accepts what any of them accepts:
//! unescaped white space around the parts of a URI is dropped, as from version 18 on, and kept within them, as before.
//!
//! pgiam's own keywords (`iam_host=…`) are accepted too; [`split_own`] removes them before libpq sees the string.
//!
//! Messages name the position of an error and never repeat text that could be part of a password.

use std::borrow::Cow;
use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::keywords;

pub use crate::keywords::find as keyword;

/// Keywords and values, each as given; an empty value counts as given. A value may be a password.
pub type Parameters = BTreeMap<String, Zeroizing<String>>;

/// Whether libpq reads this as a connection string where a database name is expected.
#[must_use]
pub fn is_connection_string(text: impl AsRef<[u8]>) -> bool {
    let text = text.as_ref();
    is_uri(text) || text.contains(&b'=')
}

/// Whether it is a URI.
#[must_use]
pub fn is_uri(text: &[u8]) -> bool {
    URI_PREFIXES.iter().any(|prefix| text.starts_with(prefix.as_bytes()))
}

/// Parses a connection string of either kind. Of a repeated keyword the last one counts.
///
/// # Errors
///
/// What libpq would refuse, and where.
pub fn parse(text: &str) -> Result<Parameters, String> {
    match without_uri_prefix(text) {
        Some(rest) => parse_uri(rest),
        None => parse_keywords(text),
    }
}

/// Removes pgiam's own keywords: returns them and the string for libpq, which is unchanged if there are none.
///
/// # Errors
///
/// Those of [`parse`].
pub fn split_own(text: &str) -> Result<(Parameters, Cow<'_, str>), String> {
    let parameters = parse(text)?;
    let (own, others): (Parameters, Parameters) =
        parameters.into_iter().partition(|(name, _)| keywords::find_own(name).is_some());
    let rest = if own.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(write(&others)) };
    Ok((own, rest))
}

/// Writes a string of keywords and quoted values.
#[must_use]
pub fn write(parameters: &Parameters) -> String {
    // A string that grows would leave a copy of a password behind. One more byte for the NUL of a C string.
    let escapes = |value: &str| value.bytes().filter(|byte| matches!(byte, b'\'' | b'\\')).count();
    let length = |(name, value): (&String, &Zeroizing<String>)| name.len() + value.len() + escapes(value) + 4;
    let mut text = String::with_capacity(parameters.iter().map(length).sum());
    for (name, value) in parameters {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(name);
        text.push_str("='");
        for character in value.chars() {
            if matches!(character, '\'' | '\\') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('\'');
    }
    text
}

/// White space by C's `isspace`.
#[must_use]
pub fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

const URI_PREFIXES: [&str; 2] = ["postgresql://", "postgres://"];

fn without_uri_prefix(text: &str) -> Option<&str> {
    URI_PREFIXES.into_iter().find_map(|prefix| text.strip_prefix(prefix))
}

/// Stores a value as `conninfo_storeval` does, including the obsolete `requiressl`. `None`: the keyword is unknown.
fn store(parameters: &mut Parameters, name: &str, value: Zeroizing<String>) -> Option<()> {
    if name == "requiressl" {
        let mode = if value.starts_with('1') { "require" } else { "prefer" };
        parameters.insert("sslmode".to_owned(), mode.to_owned().into());
    } else {
        parameters.insert(keywords::find(name)?.to_owned(), value);
    }
    Some(())
}

fn parse_keywords(text: &str) -> Result<Parameters, String> {
    let bytes = text.as_bytes();
    let mut parameters = Parameters::new();
    let mut at = 0;
    loop {
        at += spaces(&bytes[at..]);
        if at == bytes.len() {
            return Ok(parameters);
        }
        let start = at;
        at += bytes[at..].iter().take_while(|byte| **byte != b'=' && !is_space(**byte)).count();
        let name = &text[start..at];
        at += spaces(&bytes[at..]);
        if bytes.get(at) != Some(&b'=') {
            return Err(format!(
                "the word at character {} has no '=' after it; a value with spaces needs quotes: 'like this'",
                position(text, start)
            ));
        }
        at += 1;
        at += spaces(&bytes[at..]);
        let value_start = at;
        let quoted = bytes.get(at) == Some(&b'\'');
        at += usize::from(quoted);
        // No more than needed: all of it is wiped, once for each keyword of the string.
        let mut value = Zeroizing::new(Vec::with_capacity(end_of_value(&bytes[at..], quoted)));
        loop {
            match bytes.get(at) {
                None if quoted => {
                    return Err(format!(
                        "the quote at character {} is not closed; within quotes, write \\' for a quote",
                        position(text, value_start)
                    ));
                }
                None => break,
                Some(b'\\') => {
                    value.extend(bytes.get(at + 1));
                    at = (at + 2).min(bytes.len());
                }
                Some(byte) if (quoted && *byte == b'\'') || (!quoted && is_space(*byte)) => {
                    at += 1;
                    break;
                }
                Some(byte) => {
                    value.push(*byte);
                    at += 1;
                }
            }
        }
        let value = utf8(value)?;
        if store(&mut parameters, name, value).is_none() {
            return Err(unknown_keyword(name, &parameters, position(text, start)));
        }
    }
}

/// The bytes up to the end of a value: at least as many as it has.
fn end_of_value(bytes: &[u8], quoted: bool) -> usize {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\\' => at += 2,
            b'\'' if quoted => break,
            byte if !quoted && is_space(*byte) => break,
            _ => at += 1,
        }
    }
    at.min(bytes.len())
}

fn parse_uri(rest: &str) -> Result<Parameters, String> {
    let mut parameters = Parameters::new();
    let mut set = |name: &'static str, encoded: &str| -> Result<(), String> {
        if !encoded.is_empty() {
            parameters.insert(name.to_owned(), decode(encoded).map_err(|why| format!("the URI's {name}: {why}"))?);
        }
        Ok(())
    };

    let mut rest = rest;
    if let Some(end) = rest.find(['@', '/']).filter(|end| rest[*end..].starts_with('@')) {
        let (user, password) = rest[..end].split_once(':').unwrap_or((&rest[..end], ""));
        set("user", user)?;
        set("password", password)?;
        rest = &rest[end + 1..];
    }

    let (mut hosts, mut ports) = (String::new(), String::new());
    loop {
        let host;
        if let Some(address) = rest.strip_prefix('[') {
            let Some((inside, after)) = address.split_once(']') else {
                return Err("the URI's '[' has no ']' after the IPv6 address".into());
            };
            if inside.is_empty() {
                return Err("the URI's IPv6 address, between '[' and ']', is empty".into());
            }
            if !after.is_empty() && !after.starts_with([':', '/', '?', ',']) {
                return Err("in the URI, only ':', '/', '?' or ',' may follow the ']' of an IPv6 address".into());
            }
            (host, rest) = (inside, after);
        } else {
            (host, rest) = rest.split_at(rest.find([':', '/', '?', ',']).unwrap_or(rest.len()));
        }
        hosts.push_str(host);
        if let Some(port) = rest.strip_prefix(':') {
            let end = port.find(['/', '?', ',']).unwrap_or(port.len());
            ports.push_str(&port[..end]);
            rest = &port[end..];
        }
        match rest.strip_prefix(',') {
            None => break,
            Some(next) => rest = next,
        }
        hosts.push(',');
        ports.push(',');
    }
    set("host", &hosts)?;
    set("port", &ports)?;

    if let Some(path) = rest.strip_prefix('/') {
        let end = path.find('?').unwrap_or(path.len());
        set("dbname", &path[..end])?;
        rest = &path[end..];
    }
    if let Some(query) = rest.strip_prefix('?') {
        parse_uri_query(query, &mut parameters)?;
    }
    Ok(parameters)
}

fn parse_uri_query(query: &str, parameters: &mut Parameters) -> Result<(), String> {
    if query.is_empty() {
        return Ok(());
    }
    // One '&' after the last parameter is allowed.
    let query = query.strip_suffix('&').unwrap_or(query);
    for (index, parameter) in query.split('&').enumerate() {
        let number = index + 1;
        let Some((name, value)) = parameter.split_once('=') else {
            return Err(format!("the URI's parameter {number} has no '='; write & as %26 within a value"));
        };
        if value.contains('=') {
            return Err(format!("the URI's parameter {number} has a second '='; write it as %3D"));
        }
        let name = decode(name).map_err(|why| format!("the name of the URI's parameter {number}: {why}"))?;
        let value = decode(value).map_err(|why| format!("the value of the URI's parameter {number}: {why}"))?;
        if name.as_str() == "ssl" && value.as_str() == "true" {
            parameters.insert("sslmode".to_owned(), "require".to_owned().into());
        } else if store(parameters, &name, value).is_none() {
            return Err(unknown_keyword(&name, parameters, number).replace("character", "parameter"));
        }
    }
    Ok(())
}

fn decode(encoded: &str) -> Result<Zeroizing<String>, String> {
    let encoded = encoded.trim_matches(|character: char| u8::try_from(character).is_ok_and(is_space));
    let mut bytes = encoded.bytes();
    let mut decoded = Zeroizing::new(Vec::with_capacity(encoded.len()));
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
        match digit().zip(digit()).and_then(|(high, low)| u8::try_from(high << 4 | low).ok()) {
            Some(0) => return Err("%00 cannot be part of a value".into()),
            Some(byte) => decoded.push(byte),
            None => return Err("a '%' must be followed by two hexadecimal digits; write % itself as %25".into()),
        }
    }
    utf8(decoded)
}

fn utf8(mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, String> {
    String::from_utf8(std::mem::take(&mut *bytes)).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        "not valid UTF-8".into()
    })
}

fn spaces(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| is_space(**byte)).count()
}

/// Counted in characters from 1, for messages.
fn position(text: &str, byte: usize) -> usize {
    text[..byte].chars().count() + 1
}

fn unknown_keyword(name: &str, parameters: &Parameters, position: usize) -> String {
    // After an unquoted password this may be the rest of it.
    if parameters.keys().any(|known| known.contains("password") || known.contains("secret")) {
        return format!("the keyword at character {position} is unknown (not shown: it may be part of a password)");
    }
    format!("unknown keyword {name:?} at character {position}; host, port, user, dbname and sslmode are the usual ones")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    fn texts(parameters: Parameters) -> Vec<(String, String)> {
        parameters.into_iter().map(|(name, value)| (name, value.to_string())).collect()
    }

    fn parsed(text: &str) -> Vec<(String, String)> {
        texts(parse(text).unwrap())
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn pgiams_own_keywords_are_taken_out_and_the_rest_means_the_same() {
        for text in ["iam_host=e.x host=h user='it\\'s \\\\' iam=on", "postgresql://it's%20%5C@h/?iam_host=e.x&iam=on"]
        {
            let (own, rest) = split_own(text).unwrap();
            assert_eq!(texts(own), pairs(&[("iam", "on"), ("iam_host", "e.x")]));
            assert_eq!(parsed(&rest), pairs(&[("host", "h"), ("user", "it's \\")]));
        }
        assert!(matches!(split_own("host=h"), Ok((own, Cow::Borrowed("host=h"))) if own.is_empty()));
        assert!(parse("iam_bogus=1").is_err());
    }

    const CURATED: &[&str] = &[
        "",
        " ",
        "host=h",
        "host = h",
        "host\n=\t h\r\nport=1",
        "host=h user=u",
        "host='a b' user='it\\'s'",
        "host=a\\ b user=c\\\\d",
        "host=a\\",
        "host='a\\",
        "host='a",
        "host=''",
        "host=",
        "host= user=u",
        "host='a'user='b'",
        "host='a'b user=c",
        "host=a'b'c user=x",
        "host",
        "host user=u",
        "host h",
        "=h",
        " = h",
        "host==h",
        "ho st=h",
        "host=a host=b",
        "bogus=1",
        "HOST=h",
        "requiressl=1",
        "requiressl=0",
        "requiressl=1 sslmode=disable",
        "requiressl=",
        "host=\u{e4}\u{20ac} user=\u{1f600}",
        "host=a\\\u{20ac}b",
        "host=\u{a0}x",
        "host=a\u{b}user=b",
        "host=a\u{c}user=b",
        "dbname='postgresql://x' host=y",
        "dbname=postgresql://x",
        "password='a b' host=h",
        "password=a b host=h",
        "postgres://",
        "postgresql://",
        "postgresql:///",
        "postgresql:///db",
        "postgresql://h",
        "postgresql://h/",
        "postgresql://h/db",
        "postgresql://h:1/db",
        "postgresql://h:/db",
        "postgresql://:1/db",
        "postgresql://:1",
        "postgresql://u@h",
        "postgresql://u:p@h",
        "postgresql://u:@h",
        "postgresql://:p@h",
        "postgresql://:@h",
        "postgresql://@h",
        "postgresql://@",
        "postgresql://u@",
        "postgresql://u@/db",
        "postgresql://u:p:q@h",
        "postgresql://u@v@h",
        "postgresql://u%40v:p%2Fq@h%2Ei/d%20b",
        "postgresql://u/v@h",
        "postgresql://h?user=a@b",
        "postgresql://h/?user=a@b",
        "postgresql://h/d/e?user=a",
        "postgresql://h/d:e",
        "postgresql://h//d",
        "postgresql://a,b",
        "postgresql://a,b/db",
        "postgresql://a:1,b:2/db",
        "postgresql://a:1,b/db",
        "postgresql://a,b:2/db",
        "postgresql://,",
        "postgresql://,/db",
        "postgresql://a,,c",
        "postgresql://:1,:2/",
        "postgresql://[::1]",
        "postgresql://[::1]:1/db",
        "postgresql://[::1]/db",
        "postgresql://[::1]?host=x",
        "postgresql://[::1],[::2]:3/db",
        "postgresql://u@[::1]",
        "postgresql://[",
        "postgresql://[]",
        "postgresql://[::1",
        "postgresql://[::1]x",
        "postgresql://[::1]@h",
        "postgresql://[a/b]/c",
        "postgresql://a[::1]",
        "postgresql://%2Fvar%2Frun/db",
        "postgresql://h?",
        "postgresql://h?&",
        "postgresql://h?&&",
        "postgresql://h?user=a&",
        "postgresql://h?user=a&&",
        "postgresql://h?user=a&&port=1",
        "postgresql://h?&user=a",
        "postgresql://h?user",
        "postgresql://h?user&port=1",
        "postgresql://h?=a",
        "postgresql://h?user=",
        "postgresql://h?user==a",
        "postgresql://h?user=a=b",
        "postgresql://h?user=a%3Db",
        "postgresql://h?%75ser=a",
        "postgresql://h?user=a?b",
        "postgresql://h?user=a/b",
        "postgresql://h?bogus=1",
        "postgresql://h?ssl=true",
        "postgresql://h?ssl=false",
        "postgresql://h?ssl=TRUE",
        "postgresql://h?ssl=true&sslmode=disable",
        "postgresql://h?sslmode=disable&ssl=true",
        "postgresql://h?requiressl=1",
        "postgresql://h?requiressl=0",
        "postgresql://h?host=x&host=y",
        "postgresql://?host=x&port=1&user=u",
        "postgresql://h/d?dbname=e",
        "postgresql://u@h?user=v",
        "postgresql://h/%",
        "postgresql://h/%4",
        "postgresql://h/%4g",
        "postgresql://h/%00",
        "postgresql://h/%ff",
        "postgresql://h/%C3%a4",
        "postgresql://h/\u{e4}",
        "postgresql://h/a+b",
        "postgresql://h#x",
        "Postgresql://h",
        "postgresql:/h",
        "postgresqls://h",
    ];

    /// A small generator of its own, so that a failure can be repeated.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(self.0 >> 33).unwrap() % bound
        }

        fn one_of<'a>(&mut self, pieces: &[&'a str]) -> &'a str {
            pieces[self.below(pieces.len())]
        }

        fn string(&mut self, prefix: &str, pieces: &[&str]) -> String {
            let mut text = prefix.to_owned();
            for _ in 0..self.below(14) {
                text.push_str(self.one_of(pieces));
            }
            text
        }
    }

    fn random_strings() -> Vec<String> {
        let keywords = ["host=", "user =", "port= ", "sslmode=", "password=", "service=", "hostaddr='", "requiressl="];
        let mut free: Vec<&str> = vec!["'", "'", "\\", " ", " ", "\t", "=", "a", "b1", "host", "bogus=", "\u{e4}", ","];
        free.extend(keywords);
        let uri = [
            "u",
            "host",
            "5432",
            ":",
            ":",
            "@",
            "/",
            "?",
            "&",
            "=",
            ",",
            "[",
            "]",
            "::1",
            "%",
            "%41",
            "%2f",
            "%00",
            "%c3%a4",
            "user=",
            "port=",
            "sslmode=require",
            "ssl=true",
            "host=",
            "?host=",
            "&user=x",
            "\u{e4}",
            "bogus=1",
            "#",
            "+",
        ];
        let mut random = Random(20_240_229);
        let mut strings = Vec::new();
        for _ in 0..600 {
            strings.push(random.string("", &free));
            strings.push(random.string("postgresql://", &uri));
            // Mostly well-formed, so that long accepted strings are compared too.
            let mut text = String::new();
            for _ in 0..random.below(6) {
                let value = random.string("", &["a", "'", "\\", " ", "x=y", "\u{20ac}", "/", "."]);
                let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
                let spaces = random.one_of(&["", " ", "\n"]);
                write!(text, "{}{spaces}'{quoted}'{spaces}", random.one_of(&keywords[..6])).unwrap();
            }
            strings.push(text);
            strings.push(format!(
                "postgres://{}{}{}{}{}{}",
                random.one_of(&["", "u@", "u:p@", "%75:@", "a%3Ab@"]),
                random.one_of(&["", "h", "[::1]", "a,b", "h%2e"]),
                random.one_of(&["", ":1", ":1,c:2", ":"]),
                random.one_of(&["", "/", "/db", "/d%20b"]),
                random.one_of(&[
                    "",
                    "?",
                    "?user=v",
                    "?host=x&port=2",
                    "?ssl=true",
                    "?sslmode=verify-full&options=-c%20a"
                ]),
                random.one_of(&["", "&port=7", "&bogus=1", "&", "&user"]),
            ));
        }
        strings
    }

    #[test]
    fn every_string_is_read_as_libpq_reads_it() {
        let mut strings: Vec<String> = CURATED.iter().map(|text| (*text).to_owned()).collect();
        strings.extend(random_strings());
        let mut child = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/parse_with_libpq.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is needed to ask libpq");
        let mut stdin = child.stdin.take().unwrap();
        let question = serde_json::to_vec(&strings).unwrap();
        let writer = std::thread::spawn(move || stdin.write_all(&question));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success(), "libpq.so.5 could not be asked; see the message above");
        let answers: Vec<Option<BTreeMap<String, String>>> =
            serde_json::from_slice::<serde_json::Value>(&output.stdout)
                .unwrap()
                .as_array()
                .unwrap()
                .iter()
                .map(|answer| {
                    let object = answer.as_object()?;
                    Some(
                        object.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect(),
                    )
                })
                .collect();

        assert_eq!(answers.len(), strings.len());
        let accepted = answers.iter().flatten().filter(|answer| !answer.is_empty()).count();
        assert!(accepted > 500 && answers.len() - accepted > 500, "{accepted} of {}", answers.len());
        for (text, theirs) in strings.iter().zip(answers) {
            let ours = parse(text);
            let comparable =
                ours.as_ref().ok().map(|ours| ours.iter().map(|(k, v)| (k.clone(), v.to_string())).collect());
            assert_eq!(comparable, theirs, "{text:?}: {ours:?}");
        }
    }

    #[test]
    fn an_unknown_keyword_is_named() {
        for text in ["host=h usr=u", "postgresql://h?usr=u"] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("\"usr\""), "{error}");
        }
    }

    #[test]
    fn no_message_repeats_what_may_be_part_of_a_password() {
        for text in [
            "password=top hush=hush",
            "password=top hush",
            "password='top hush",
            "user=u hush",
            "postgresql://u:hush%zz@h",
            "postgresql://u:[hush@h",
            "postgresql://[hush/",
            "postgresql://h?password=top&hush=1",
            "postgresql://h?password=hush=",
            "postgresql://h?password=hush%",
            "postgresql://h?hush",
        ] {
            match parse(text) {
                Err(error) => assert!(!error.contains("hush"), "{text}: {error}"),
                Ok(parameters) => assert!(parameters.contains_key("password"), "{text}: {parameters:?}"),
            }
        }
    }

    #[test]
    fn white_space_around_the_parts_of_a_uri_is_dropped_and_within_them_kept() {
        assert_eq!(
            parsed("postgresql://host?  user = uri-user & application_name = my app \n"),
            pairs(&[("application_name", "my app"), ("host", "host"), ("user", "uri-user")])
        );
    }

    #[test]
    fn keywords_newer_than_the_libpq_at_hand_are_known() {
        assert_eq!(parsed("sslnegotiation=direct"), pairs(&[("sslnegotiation", "direct")]));
        assert_eq!(parsed("postgresql://?oauth_issuer=x"), pairs(&[("oauth_issuer", "x")]));
    }

    #[test]
    fn a_written_string_never_grew_so_that_no_copy_of_a_password_is_left() {
        for text in ["", "host=h", "password='it\\'s \\\\ mine' user=u", "password=\u{e4}\u{20ac} sslmode=require"] {
            let written = write(&parse(text).unwrap());
            assert_eq!(written.capacity(), if text.is_empty() { 0 } else { written.len() + 1 }, "{text}");
        }
    }

    #[test]
    fn a_value_takes_no_more_memory_than_its_own_text_whatever_follows_it() {
        let rest = "host=h ".repeat(10_000);
        for (text, length) in
            [("user=u ", 1), ("user='a b' ", 3), ("user='it\\'s' ", 5), ("user=a\\ b\\\\ ", 6), ("user='' ", 0)]
        {
            let parameters = parse(&format!("{text}{rest}")).unwrap();
            assert_eq!(parameters["user"].capacity(), length, "{text}");
        }
    }

    #[test]
    fn a_database_name_is_not_a_connection_string() {
        assert!(!is_connection_string("app"));
        assert!(is_connection_string("postgres://"));
        assert!(is_connection_string("app=1"));
    }
}
