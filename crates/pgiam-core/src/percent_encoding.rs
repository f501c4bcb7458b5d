//! Percent-encoding as AWS Signature Version 4 requires it (RFC 3986, section 2.3).

use zeroize::Zeroizing;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// `text` with everything but letters, digits and `-_.~` percent-encoded, with upper-case digits. One allocation:
/// growing would leave copies of a secret behind.
pub(crate) fn percent_encode(text: &str) -> Zeroizing<String> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~');
    let length = text.bytes().map(|byte| if unreserved(byte) { 1 } else { 3 }).sum();
    let mut encoded = Vec::with_capacity(length);
    for byte in text.bytes() {
        if unreserved(byte) {
            encoded.push(byte);
        } else {
            let digit = |four: u8| HEX[usize::from(four)];
            encoded.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    Zeroizing::new(String::from_utf8(encoded).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stay_as_they_are() {
        let encoded = percent_encode("Az09-_.~ !*'()&+%=/:é");
        assert_eq!(*encoded, "Az09-_.~%20%21%2A%27%28%29%26%2B%25%3D%2F%3A%C3%A9");
        assert_eq!(encoded.len(), encoded.capacity());
    }
}
