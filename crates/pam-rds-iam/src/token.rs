//! Parses tokens: `HOST:PORT/?QUERY`, a presigned GET request without its scheme.
//!
//! Parsing never fails. It records the first error and parses the rest as far as possible, so that the format check can
//! be disabled like every other check.

use std::collections::HashSet;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::time::parse_compact;

const SIGNATURE: &str = "X-Amz-Signature";

pub(crate) struct Token<'a> {
    /// As written.
    pub(crate) host: &'a str,
    /// As written, without the colon.
    pub(crate) port: Option<&'a str>,
    /// Unescaped, in the token's order.
    parameters: Vec<(String, String)>,
    pub(crate) scope: Scope,
    /// Unix seconds.
    pub(crate) date: i64,
    /// Seconds.
    pub(crate) expires: i64,
    /// The first error in the format. Never quotes the token.
    pub(crate) fault: Option<String>,
}

/// The five parts of `X-Amz-Credential`.
#[derive(Default)]
pub(crate) struct Scope {
    pub(crate) access_key_id: String,
    pub(crate) date: String,
    pub(crate) region: String,
    pub(crate) service: String,
    pub(crate) terminator: String,
}

impl<'a> Token<'a> {
    /// Parses a token. `required`: the parameters that it must have.
    pub(crate) fn read(text: &'a str, required: &[&str]) -> Self {
        let mut faults = Faults(None);
        let (authority, query) = match text.split_once('/') {
            Some((authority, rest)) => match rest.strip_prefix('?') {
                Some(query) => (authority, query),
                None => {
                    faults.note("the path is not a single slash followed by a query");
                    (authority, "")
                }
            },
            None => {
                faults.note("not a token: there is no slash and no query");
                (text, "")
            }
        };
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            faults.note("a space, a control character, or a character outside ASCII");
        }
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };

        let mut parameters = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or_else(|| {
                faults.note("a parameter without =");
                (pair, "")
            });
            parameters.push((faults.unescape(name), faults.unescape(value)));
        }
        let mut names = HashSet::new();
        if !parameters.iter().all(|(name, _)| names.insert(name)) {
            faults.note("a parameter is repeated");
        }
        for name in required {
            if !names.contains(&(*name).to_owned()) {
                faults.note(format!("{name} is missing"));
            }
        }
        drop(names);

        let mut token = Self { host, port, parameters, scope: Scope::default(), date: 0, expires: 0, fault: None };
        token.scope = faults.scope(token.text("X-Amz-Credential"));
        token.date = parse_compact(token.text("X-Amz-Date")).unwrap_or_else(|| {
            faults.note("X-Amz-Date is not of the form 20160107T173933Z");
            0
        });
        token.expires = token.text("X-Amz-Expires").parse().unwrap_or_else(|_| {
            faults.note("X-Amz-Expires is not a number of seconds");
            0
        });
        token.fault = faults.0;
        token
    }

    /// The first parameter of that name.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find_map(|(known, value)| (known == name).then_some(value.as_str()))
    }

    /// The same, or an empty string.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.parameter(name).unwrap_or("")
    }

    /// Whether the token is signed with this secret. The signature is computed from the token's own fields, even from
    /// wrong ones, so that only the check of a field refuses a wrong field.
    pub(crate) fn is_signed_with(&self, secret_access_key: &str) -> bool {
        let scope = &self.scope;
        let string_to_sign = format!(
            "{}\n{}\n{}/{}/{}/{}\n{}",
            self.text("X-Amz-Algorithm"),
            self.text("X-Amz-Date"),
            scope.date,
            scope.region,
            scope.service,
            scope.terminator,
            hex(&Sha256::digest(self.canonical_request())),
        );
        let mut key = format!("AWS4{secret_access_key}").into_bytes();
        for part in [&scope.date, &scope.region, &scope.service, &scope.terminator] {
            key = hmac(&key, part.as_bytes());
        }
        let expected = hex(&hmac(&key, string_to_sign.as_bytes()));
        equal_in_constant_time(expected.as_bytes(), self.text(SIGNATURE).as_bytes())
    }

    fn canonical_request(&self) -> String {
        let mut query: Vec<(String, String)> = self
            .parameters
            .iter()
            .filter(|(name, _)| name != SIGNATURE)
            .map(|(name, value)| (escape(name), escape(value)))
            .collect();
        query.sort();
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        // The host header does not have the default port of https.
        let host = match self.port {
            Some("443") | None => self.host.to_owned(),
            Some(port) => format!("{}:{port}", self.host),
        };
        let signed_headers = self.text("X-Amz-SignedHeaders");
        // A database connection has no other headers, so the value of any other signed header is empty.
        let headers: String = signed_headers
            .split(';')
            .map(|name| format!("{name}:{}\n", if name == "host" { &host } else { "" }))
            .collect();
        format!("GET\n/\n{}\n{headers}\n{signed_headers}\n{}", query.join("&"), hex(&Sha256::digest(b"")),)
    }
}

/// The first error; later ones may be its consequences.
struct Faults(Option<String>);

impl Faults {
    fn note(&mut self, fault: impl Into<String>) {
        self.0.get_or_insert_with(|| fault.into());
    }

    fn unescape(&mut self, text: &str) -> String {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.as_bytes();
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            match (first, after) {
                (b'%', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    bytes.push(hex_digit(*high) << 4 | hex_digit(*low));
                    rest = after;
                }
                (b'%', _) => {
                    self.note("a % that is not followed by two hexadecimal digits");
                    bytes.push(b'%');
                }
                _ => bytes.push(first),
            }
        }
        String::from_utf8(bytes).unwrap_or_else(|error| {
            self.note("an escaped text is not UTF-8");
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        })
    }

    fn scope(&mut self, text: &str) -> Scope {
        match text.split('/').collect::<Vec<_>>()[..] {
            [access_key_id, date, region, service, terminator] => Scope {
                access_key_id: access_key_id.to_owned(),
                date: date.to_owned(),
                region: region.to_owned(),
                service: service.to_owned(),
                terminator: terminator.to_owned(),
            },
            _ => {
                self.note("X-Amz-Credential does not have five parts");
                Scope::default()
            }
        }
    }
}

/// Percent-encodes everything except letters, digits and `-._~` (RFC 3986).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => digit.to_ascii_lowercase() - b'a' + 10,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC accepts keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Compares in a time that depends only on the length, which is public.
pub(crate) fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    let difference = left.iter().zip(right).fold(0, |sum, (left, right)| sum | (left ^ right));
    left.len() == right.len() && std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::{Token, equal_in_constant_time, escape};

    #[test]
    fn any_text_is_parsed_and_an_invalid_token_has_an_error() {
        for text in ["", "/", "/?", "h/?", "password", "h:1/?%", "h:1/?a=%4", "h:1/?a=%zz&&=", "é/?ü=ß"] {
            assert!(Token::read(text, &[]).fault.is_some(), "{text}");
        }
    }

    #[test]
    fn all_characters_except_letters_digits_and_four_marks_are_escaped() {
        assert_eq!(escape("aZ09-._~ *+/=@é"), "aZ09-._~%20%2A%2B%2F%3D%40%C3%A9");
    }

    #[test]
    fn comparison_in_constant_time_equals_comparison_of_slices() {
        for (left, right) in [("", ""), ("a", ""), ("", "a"), ("ab", "ab"), ("ab", "aB")] {
            assert_eq!(equal_in_constant_time(left.as_bytes(), right.as_bytes()), left == right);
        }
    }
}
