//! What is repeated of a service's words: a secret that was sent, and what the service said.
//!
//! One printable line of bounded length without any part of the secret; a message of ours without user names and
//! passwords of URLs.

use pgiam_core::fuzz_hooks::{message, service_words};

use crate::{assert_one_line, texts};

const RECOGNISED: usize = 12;
const LONG: usize = 4500;

pub fn run(data: &[u8]) {
    let Some([secret, text]) = texts(data) else { return };
    let words = service_words(text, &[secret]);
    assert_one_line(&words);
    assert!(words.chars().count() <= 303, "{words}");
    // Secrets are words of headers and of forms. One that is shorter than four bytes is none; our own words, and what is
    // left of a text before or after them, may be the same as a part of one.
    let is_word = secret.len() >= 4 && secret.bytes().all(|byte| byte.is_ascii_graphic());
    if is_word
        && !"...redacted...".contains(secret)
        && !secret.contains("redacted")
        && !secret.contains(['[', ']', '*'])
    {
        // The dots of a text that is cut off may continue a part.
        let words = words.strip_suffix("...").unwrap_or(&words);
        let length = secret.len().min(RECOGNISED);
        for part in secret.as_bytes().windows(length) {
            assert!(!words.as_bytes().windows(length).any(|shown| shown == part), "{secret:?} is in {words:?}");
        }
    }
    let shown = message(text);
    assert_one_line(&shown);
    assert!(shown.len() <= 110_000);
    // White space ends a URL, and what it is shown as does not. Of a long message the middle is left out.
    if !text.contains(|c: char| c.is_whitespace() && c != ' ') && shown.len() <= LONG {
        assert_eq!(message(&shown), shown, "a message is presentable as it is");
    }
}
