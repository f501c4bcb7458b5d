//! Whole HTTP responses: a byte for the size of the pieces in which they arrive, and the bytes of the connection.
//!
//! The result does not depend on the pieces; a body has its stated length and no more than the limit; a message is one
//! line without the secret that was sent. A plain response with a length is read as the crate `httparse`'s rules say.

use pgiam_core::fuzz_hooks::{Answer, http_answer, http_date};

use crate::assert_one_line;

const SECRET: &str = "planted-imds-session-token";

pub fn run(data: &[u8]) {
    let Some((step, response)) = data.split_first() else { return };
    let whole = http_answer(response, usize::MAX, SECRET);
    check(&whole, response);
    let pieces = http_answer(response, usize::from(*step % 64) + 1, SECRET);
    assert_eq!(pieces, whole);
    if let Some(plain) = plain(response) {
        let answer = whole.expect("a plain response");
        assert_eq!((answer.status, answer.body.as_slice(), answer.date), (200, plain.body, plain.date));
    }
}

fn check(result: &Result<Answer, String>, response: &[u8]) {
    let message = match result {
        Ok(answer) => {
            assert!(answer.body.len() <= 256 * 1024 && answer.body.len() <= response.len());
            assert!(!(300..400).contains(&answer.status));
            &answer.described
        }
        Err(message) => message,
    };
    assert_one_line(message);
    assert!(message.chars().count() < 500, "{message}");
    for part in SECRET.as_bytes().windows(12) {
        assert!(!message.as_bytes().windows(12).any(|shown| shown == part), "{message}");
    }
}

struct Plain<'a> {
    body: &'a [u8],
    date: Option<i64>,
}

/// A response as a simple server sends it: `None` for any other.
fn plain(response: &[u8]) -> Option<Plain<'_>> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n")?;
    let (head, body) = (std::str::from_utf8(&response[..end]).ok()?, &response[end + 4..]);
    let mut lines = head.split("\r\n");
    if lines.next()? != "HTTP/1.1 200 OK" || head.len() > 8 * 1024 {
        return None;
    }
    let (mut length, mut date) = (None, None);
    for line in lines {
        let (name, value) = line.split_once(": ")?;
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -,:".contains(&byte));
        match name {
            "Content-Length" if length.is_none() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                length = Some(value.parse::<usize>().ok()?);
            }
            "Date" if date.is_none() && is_plain(value) => date = Some(value),
            "Content-Type" if is_plain(value) => {}
            _ => return None,
        }
    }
    let body = body.get(..length?)?;
    Some(Plain { body, date: date.and_then(|date| http_date(date.trim())) })
}
