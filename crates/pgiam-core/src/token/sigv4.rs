//! AWS Signature Version 4 for the one request a token is: a presigned `GET /` with the host header signed and an empty
//! body ("Authenticating Requests: Using Query Parameters" of the AWS reference).
//!
//! Own code beside `aws-sigv4`, because key derivation there leaves copies of the secret in memory and costs several
//! times the hashing; a test holds the two against each other.
//!
//! From one token to the next of a day only the time of day changes. So all that can be hashed before it is hashed once a
//! day ([`DaySigner`]), and what stands behind it is kept in SHA-256's blocks, padded: a signature is then those blocks
//! and nothing else.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use sha2::block_api::compress256;
use zeroize::{Zeroize, Zeroizing};

use crate::time::{Day, TimeOfDay};

pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub(crate) const EMPTY_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// SHA-256's state and block (FIPS 180-4, sections 5.2.1 and 5.3.3).
type State = [u32; 8];
type Block = [u8; BLOCK];
const BLOCK: usize = 64;
const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The signing key of one day, region and service: HMAC's two states behind the blocks of its key (RFC 2104). Wiped when
/// dropped.
#[derive(Clone)]
pub(crate) struct SigningKey {
    inner: State,
    outer: State,
}

impl SigningKey {
    pub(crate) fn derive(secret_access_key: &str, day: &Day, region: &str, service: &str) -> Self {
        let mut start = Zeroizing::new(Vec::with_capacity(4 + secret_access_key.len()));
        start.extend_from_slice(b"AWS4");
        start.extend_from_slice(secret_access_key.as_bytes());
        let mut key = hmac(&start, day.as_str().as_bytes());
        for part in [region, service, "aws4_request"] {
            key = hmac(key.as_slice(), part.as_bytes());
        }
        Self { inner: keyed(&key, 0x36), outer: keyed(&key, 0x5c) }
    }
}

impl Drop for SigningKey {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

/// The state behind the block of a key that was combined with one of HMAC's two paddings.
fn keyed(key: &[u8; 32], padding: u8) -> State {
    let mut block = Zeroizing::new([padding; BLOCK]);
    for (byte, key) in block.iter_mut().zip(key) {
        *byte ^= key;
    }
    let mut state = INITIAL;
    compress256(&mut state, std::slice::from_ref(&*block));
    state
}

fn hmac(key: &[u8], data: &[u8]) -> Zeroizing<[u8; 32]> {
    // HMAC takes keys of any length; the error type exists for other MACs.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(data);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

/// What is to be signed on one day. The time of day is left out.
pub(crate) struct DayRequest<'a> {
    /// The canonical request up to the time of day: it ends with the date and `T`.
    pub(crate) before_time: &'a [&'a str],
    /// The canonical request behind it, from `Z` on.
    pub(crate) after_time: &'a [&'a str],
    pub(crate) day: &'a Day,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

/// Signs one request at any second of one day. Wiped when dropped.
pub(crate) struct DaySigner {
    key: SigningKey,
    /// The canonical request: the state behind the blocks that end before the time of day, the one or two blocks that
    /// hold it, and the others.
    head: State,
    timed: [Block; 2],
    timed_blocks: usize,
    time_at: usize,
    tail: Zeroizing<Vec<Block>>,
    /// The string to sign, and where the digest of the canonical request goes.
    to_sign: [Block; TO_SIGN_BLOCKS],
    to_sign_blocks: usize,
    digest_at: usize,
}

/// Algorithm, time, scope and digest, with a region of 63 characters, the most that a label of a host's name or a region
/// given otherwise can have.
const TO_SIGN_BLOCKS: usize = 4;
/// Where the time of day stands in the string to sign.
const TIME_AT: usize = ALGORITHM.len() + "\n00000000T".len();

impl DaySigner {
    pub(crate) fn new(key: SigningKey, request: &DayRequest<'_>) -> Self {
        let canonical = [request.before_time, &[Day::NO_TIME], request.after_time].concat();
        let canonical = padded(&canonical, 0);
        let time_at: usize = request.before_time.iter().map(|part| part.len()).sum();
        let (first, last) = (time_at / BLOCK, (time_at + Day::NO_TIME.len() - 1) / BLOCK);
        let (head_blocks, rest) = canonical.split_at(first);
        let (timed_blocks, tail) = rest.split_at(last + 1 - first);
        let mut head = INITIAL;
        compress256(&mut head, head_blocks);
        let mut timed = [[0; BLOCK]; 2];
        timed[..timed_blocks.len()].copy_from_slice(timed_blocks);

        let (date, region, service) = (request.day.as_str(), request.region, request.service);
        let before_digest =
            [ALGORITHM, "\n", date, "T", Day::NO_TIME, "Z\n", date, "/", region, "/", service, "/aws4_request\n"];
        let digest_at = before_digest.iter().map(|part| part.len()).sum();
        // The key's block comes before.
        let blocks = padded(&[&before_digest[..], &[EMPTY_BODY]].concat(), 1);
        let mut to_sign = [[0; BLOCK]; TO_SIGN_BLOCKS];
        to_sign[..blocks.len()].copy_from_slice(&blocks);

        Self {
            key,
            head,
            timed,
            timed_blocks: timed_blocks.len(),
            time_at: time_at % BLOCK,
            tail: Zeroizing::new(tail.to_vec()),
            to_sign,
            to_sign_blocks: blocks.len(),
            digest_at,
        }
    }

    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The signature at a second of the day, 64 hexadecimal digits.
    #[inline]
    pub(crate) fn sign(&self, time: TimeOfDay) -> [u8; 64] {
        let mut timed = self.timed;
        timed.as_flattened_mut()[self.time_at..][..time.digits().len()].copy_from_slice(time.digits());
        let mut to_sign = self.to_sign;
        let (text, digest_at) = (to_sign.as_flattened_mut(), self.digest_at);
        text[TIME_AT..][..time.digits().len()].copy_from_slice(time.digits());

        let (mut canonical, mut inner, mut outer) = (self.head, self.key.inner, self.key.outer);
        compress256(&mut canonical, &timed[..self.timed_blocks]);
        // What stands before the digest does not wait for it: between two blocks of the other hash the processor works
        // on both at a time.
        let early = digest_at / BLOCK;
        compress256(&mut inner, &to_sign[..early]);
        compress256(&mut canonical, &self.tail);
        to_sign.as_flattened_mut()[digest_at..][..64].copy_from_slice(&hex(&canonical));
        compress256(&mut inner, &to_sign[early..self.to_sign_blocks]);
        let mut last = [0; BLOCK];
        last[..32].copy_from_slice(&bytes(&inner));
        last[32] = 0x80;
        last[BLOCK - 8..].copy_from_slice(&((BLOCK as u64 + 32) * 8).to_be_bytes());
        compress256(&mut outer, &[last]);
        hex(&outer)
    }
}

impl Drop for DaySigner {
    fn drop(&mut self) {
        self.head.zeroize();
        self.timed.zeroize();
    }
}

/// A message in blocks, with its end marked and its length, which counts the blocks `before` too (FIPS 180-4, 5.1.1).
fn padded(parts: &[&str], before: usize) -> Zeroizing<Vec<Block>> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut blocks = Zeroizing::new(vec![[0; BLOCK]; (length + 9).div_ceil(BLOCK)]);
    let text = blocks.as_flattened_mut();
    let mut end = 0;
    for part in parts {
        text[end..end + part.len()].copy_from_slice(part.as_bytes());
        end += part.len();
    }
    text[end] = 0x80;
    let bits = (before * BLOCK + length) as u64 * 8;
    let length_at = text.len() - 8;
    text[length_at..].copy_from_slice(&bits.to_be_bytes());
    blocks
}

#[inline]
fn bytes(state: &State) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (four, word) in bytes.chunks_exact_mut(4).zip(state) {
        four.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// Eight digits at a time: the nibbles of a word are spread over eight bytes and made digits together. Always inlined: left
/// alone it would be compiled for size.
#[inline(always)]
fn hex(state: &State) -> [u8; 64] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let mut text = [0; 64];
    for (digits, word) in text.chunks_exact_mut(8).zip(state) {
        let mut nibbles = u64::from(*word);
        nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
        nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
        nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        // Those above 9 carry into bit 4 when 6 is added; `a` stands 39 behind `:`.
        let letters = (nibbles + 6 * EACH) >> 4 & EACH;
        let ascii = nibbles + u64::from(b'0') * EACH + u64::from(b'a' - b':') * letters;
        digits.copy_from_slice(&ascii.to_be_bytes());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_written_in_hexadecimal_digits() {
        let state = [0x0123_4567, 0x89ab_cdef, 0xfedc_ba98, 0x7654_3210, 0, u32::MAX, 0x0a0a_a0a0, 0x9f90_0f09];
        let expected = "0123456789abcdeffedcba987654321000000000ffffffff0a0aa0a09f900f09";
        assert_eq!(std::str::from_utf8(&hex(&state)).unwrap(), expected);
    }
}
