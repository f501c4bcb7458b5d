//! AWS Signature Version 4 for the one request a token is: a presigned `GET /` with the host header signed and an empty
//! body ("Authenticating Requests: Using Query Parameters" of the AWS reference).
//!
//! Own code beside `aws-sigv4`, because key derivation there leaves copies of the secret in memory and costs several
//! times the hashing; a test holds the two against each other.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::time::SigningTime;

type HmacSha256 = Hmac<Sha256>;

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const EMPTY_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// The signing key of one day, region and service, in keyed state. Wiped when dropped.
#[derive(Clone)]
pub(crate) struct SigningKey(HmacSha256);

impl SigningKey {
    pub(crate) fn derive(secret_access_key: &str, date: &str, region: &str, service: &str) -> Self {
        let mut start = Zeroizing::new(Vec::with_capacity(4 + secret_access_key.len()));
        start.extend_from_slice(b"AWS4");
        start.extend_from_slice(secret_access_key.as_bytes());
        let mut key = hmac(&start, date.as_bytes());
        for part in [region, service, "aws4_request"] {
            key = hmac(key.as_slice(), part.as_bytes());
        }
        Self(keyed(key.as_slice()))
    }
}

fn keyed(key: &[u8]) -> HmacSha256 {
    // HMAC takes keys of any length; the error type exists for other MACs.
    HmacSha256::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

fn hmac(key: &[u8], data: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = keyed(key);
    mac.update(data);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// What is signed. Pieces of the query are given encoded, in canonical (sorted) order around the session token.
pub(crate) struct PresignedRequest<'a> {
    /// The signed value of the host header.
    pub(crate) host: &'a str,
    /// The query before `X-Amz-Security-Token`, from `Action` to `X-Amz-Expires`.
    pub(crate) query: &'a str,
    /// The session token, percent-encoded.
    pub(crate) encoded_session_token: Option<&'a str>,
    pub(crate) time: SigningTime,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

impl PresignedRequest<'_> {
    /// The signature, 64 hexadecimal digits.
    #[inline]
    pub(crate) fn sign(&self, key: &SigningKey) -> [u8; 64] {
        let mut canonical = Sha256::new();
        canonical.update(b"GET\n/\n");
        canonical.update(self.query);
        if let Some(token) = self.encoded_session_token {
            canonical.update(b"&X-Amz-Security-Token=");
            canonical.update(token);
        }
        canonical.update(b"&X-Amz-SignedHeaders=host\nhost:");
        canonical.update(self.host);
        canonical.update(b"\n\nhost\n");
        canonical.update(EMPTY_BODY);

        let mut mac = key.0.clone();
        mac.update(ALGORITHM.as_bytes());
        mac.update(b"\n");
        mac.update(self.time.as_str().as_bytes());
        mac.update(b"\n");
        mac.update(self.time.date().as_bytes());
        mac.update(b"/");
        mac.update(self.region.as_bytes());
        mac.update(b"/");
        mac.update(self.service.as_bytes());
        mac.update(b"/aws4_request\n");
        mac.update(&hex(&canonical.finalize().into()));
        hex(&mac.finalize().into_bytes().into())
    }
}

#[inline]
fn hex(bytes: &[u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    text
}

/// Appends `text` with everything but letters, digits and `-_.~` percent-encoded (RFC 3986, section 2.3), with
/// upper-case digits as Signature Version 4 asks.
#[inline]
pub(crate) fn percent_encode_into(out: &mut String, text: &str) {
    if percent_encoded_length(text) == text.len() {
        out.push_str(text);
        return;
    }
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)].to_ascii_uppercase()));
            out.push(char::from(HEX[usize::from(byte & 15)].to_ascii_uppercase()));
        }
    }
}

/// How long [`percent_encode_into`] makes `text`.
#[inline]
pub(crate) fn percent_encoded_length(text: &str) -> usize {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') { 1 } else { 3 })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stay_as_they_are() {
        let text = "Az09-_.~ !*'()&+%=/:é";
        let mut out = String::new();
        percent_encode_into(&mut out, text);
        assert_eq!(out, "Az09-_.~%20%21%2A%27%28%29%26%2B%25%3D%2F%3A%C3%A9");
        assert_eq!(out.len(), percent_encoded_length(text));
    }
}
