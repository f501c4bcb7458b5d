//! Random text for keys, tokens and request ids. It protects no real secret, but simulators in parallel tests must
//! never issue the same access key id.

use std::fs::File;
use std::io::Read;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// `length` characters of A-Z and 2-7, as in access key ids.
pub(crate) fn base32(length: usize) -> String {
    text(BASE32, length)
}

/// `length` characters of the base64 alphabet, including `+` and `/`, as in secret keys.
pub(crate) fn base64(length: usize) -> String {
    text(BASE64, length)
}

/// A request id in the form of a UUID.
pub(crate) fn request_id() -> String {
    let digits = text(HEX, 32);
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

/// True once in so many calls, on average.
pub(crate) fn one_in(count: u32) -> bool {
    let mut bytes = [0; 4];
    fill(&mut bytes);
    u32::from_ne_bytes(bytes).is_multiple_of(count)
}

/// The alphabet's length must be a power of two no larger than 256, so that every character is equally likely.
fn text(alphabet: &[u8], length: usize) -> String {
    let mut bytes = vec![0; length];
    fill(&mut bytes);
    bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
}

fn fill(bytes: &mut [u8]) {
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(bytes))
        .expect("read random bytes from /dev/urandom");
}
