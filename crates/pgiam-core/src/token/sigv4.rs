//! AWS Signature Version 4 for the one request a token is: a presigned `GET /` with the host header signed and an empty
//! body ("Authenticating Requests: Using Query Parameters" of the AWS reference).
//!
//! Not `aws-sigv4`, because its key derivation leaves copies of the secret in memory and costs several times the hashing;
//! a test compares the two. From one token to the next of a day only the time of day changes, so what comes before it is
//! hashed once a day, and the states of the hash and of the MAC are cloned for each token.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::time::{Day, TimeOfDay};

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub(crate) const EMPTY_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Signs one request at any second of one day. Its states are wiped when they are dropped (feature `zeroize` of the two
/// crates).
pub(crate) struct DaySigner {
    /// Has hashed the canonical request up to the time of day.
    canonical: Sha256,
    /// Has the day's key and the string to sign up to the time of day.
    to_sign: Hmac<Sha256>,
    /// What follows the time of day in the string to sign, up to the digest of the canonical request.
    scope: String,
}

/// The credential scope of a signature, the day apart.
#[derive(Clone, Copy)]
pub(crate) struct Scope<'a> {
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

impl DaySigner {
    /// `before_time`: the canonical request up to the time of day.
    pub(crate) fn new(secret_access_key: &str, day: &Day, scope: Scope<'_>, before_time: &[&str]) -> Self {
        let mut canonical = Sha256::new();
        before_time.iter().for_each(|part| canonical.update(part));
        let date = day.as_str();
        let mut to_sign = mac(signing_key(secret_access_key, date, scope).as_slice());
        [ALGORITHM, "\n", date, "T"].iter().for_each(|part| to_sign.update(part.as_bytes()));
        let Scope { region, service } = scope;
        Self { canonical, to_sign, scope: format!("Z\n{date}/{region}/{service}/aws4_request\n") }
    }

    /// The signature at a second of the day, in hexadecimal digits. `after_time`: the canonical request after the time of
    /// day.
    pub(crate) fn sign(&self, time: TimeOfDay, after_time: &[&str]) -> [u8; 64] {
        let mut canonical = self.canonical.clone();
        canonical.update(time.as_str());
        after_time.iter().for_each(|part| canonical.update(part));
        let mut to_sign = self.to_sign.clone();
        to_sign.update(time.as_str().as_bytes());
        to_sign.update(self.scope.as_bytes());
        to_sign.update(&hexadecimal(canonical.finalize().into()));
        hexadecimal(to_sign.finalize().into_bytes().into())
    }
}

/// The key of a day, region and service.
fn signing_key(secret_access_key: &str, date: &str, scope: Scope<'_>) -> Zeroizing<[u8; 32]> {
    let mut start = Zeroizing::new(Vec::with_capacity(4 + secret_access_key.len()));
    start.extend_from_slice(b"AWS4");
    start.extend_from_slice(secret_access_key.as_bytes());
    let mut key = Zeroizing::new(keyed_hash(&start, date));
    for part in [scope.region, scope.service, "aws4_request"] {
        key = Zeroizing::new(keyed_hash(key.as_slice(), part));
    }
    key
}

fn keyed_hash(key: &[u8], text: &str) -> [u8; 32] {
    let mut mac = mac(key);
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    // The error type exists for other MACs.
    Hmac::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"))
}

fn hexadecimal(bytes: [u8; 32]) -> [u8; 64] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 64];
    for (digits, byte) in text.chunks_exact_mut(2).zip(bytes) {
        digits[0] = DIGITS[usize::from(byte >> 4)];
        digits[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_in_hexadecimal_digits() {
        let text = hexadecimal(std::array::from_fn(|index| u8::try_from(index * 8).unwrap()));
        let expected = "0008101820283038404850586068707880889098a0a8b0b8c0c8d0d8e0e8f0f8";
        assert_eq!(std::str::from_utf8(&text).unwrap(), expected);
    }
}
