//! Connection strings and URIs: a string.
//!
//! libpq reads the same in it, or refuses it too. What was read is written, and libpq reads the same in that. Messages
//! repeat no value.

use pgiam_libpq::conninfo::{Parameters, is_space, is_uri, parse, split_own, write};
use pgiam_libpq::keywords;

use crate::libpq::{self, Options, c_string};
use crate::{assert_one_line, texts};

pub fn run(data: &[u8]) {
    let Some([text]) = texts(data) else { return };
    let Some(c_text) = c_string(text) else { return };
    let ours = parse(text);
    match &ours {
        Ok(parameters) => {
            assert_eq!(parse(&write(parameters)).expect("what was written is read"), *parameters);
            check_written(parameters);
            check_own(text, parameters);
        }
        Err(message) => {
            assert_one_line(&pgiam_core::fuzz_hooks::message(message));
            assert!(message.len() < 200 + 10 * text.len());
        }
    }
    if is_comparable(text, ours.as_ref().ok()) {
        let theirs = libpq::parse(&c_text).filter(|options| options.values().all(|value| is_utf8(value)));
        assert_eq!(ours.as_ref().ok().map(options), theirs, "{text:?}: {ours:?}");
    }
}

fn is_utf8(value: &[u8]) -> bool {
    std::str::from_utf8(value).is_ok()
}

fn options(parameters: &Parameters) -> Options {
    parameters.iter().map(|(name, value)| (name.clone(), value.as_bytes().to_vec())).collect()
}

/// Whether this libpq follows the rules that we follow. Our own keywords and newer ones are unknown to it, wherever they
/// are; before version 18 it keeps the white space in a URI.
fn is_comparable(text: &str, ours: Option<&Parameters>) -> bool {
    let has_space = is_uri(text.as_bytes()) && text.bytes().any(is_space);
    // A refused string may have such a keyword before the fault.
    let is_unknown = |name: &str| keywords::find(name).is_some() && !libpq::knows(name);
    let plain = !text.contains("iam") && !text.contains("requiressl");
    let has_unknown = match ours {
        Some(parameters) => parameters.keys().any(|name| is_unknown(name)),
        None => NEWER.iter().any(|name| text.contains(name)) || (is_uri(text.as_bytes()) && text.contains('%')),
    };
    plain && !has_unknown && (!has_space || libpq::version() >= 180_000)
}

/// Keywords that some supported libpq does not know.
const NEWER: [&str; 7] = ["load_balance", "oauth", "protocol_version", "require_auth", "scram", "sslcertmode", "ssl"];

fn check_written(parameters: &Parameters) {
    if !parameters.keys().all(|name| libpq::knows(name)) {
        return;
    }
    let Some(written) = c_string(write(parameters)) else { return };
    assert_eq!(libpq::parse(&written), Some(options(parameters)), "{written:?}");
}

/// The string without our own keywords means the same otherwise.
fn check_own(text: &str, parameters: &Parameters) {
    let (own, rest) = split_own(text).expect("it was read");
    assert!(own.keys().all(|name| keywords::find_own(name).is_some()));
    let mut together = parse(&rest).expect("what was written is read");
    assert!(together.keys().all(|name| keywords::find_own(name).is_none()));
    together.extend(own);
    assert_eq!(together, *parameters);
}
