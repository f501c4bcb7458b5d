//! DPoP (RFC 9449): the proof, sent with a request, that the sender has a private key. `aws login` makes the key; the
//! sign-in service accepts a refresh token only together with a proof by that key.
//!
//! The key is one of P-256 in PEM: `EC PRIVATE KEY` (SEC 1, RFC 5915) or `PRIVATE KEY` (PKCS #8, RFC 5208), which contains
//! the former. `ring` signs, because rustls has it already; the crate `p256` would be a dozen crates more. `ring` does not
//! wipe its keys: they are on the stack only, and that part of the stack is wiped after use.

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, ErrorKind};
use crate::secret::Secret;

/// A private key of P-256 with its public key.
pub(crate) struct DpopKey {
    private: Zeroizing<Vec<u8>>,
    /// The uncompressed point: 4, then x and y of 32 bytes each.
    public: Vec<u8>,
}

impl DpopKey {
    /// `None`: not a key of P-256 in one of the two forms, or its public key is missing.
    pub(crate) fn from_pem(pem: &str) -> Option<Self> {
        let der = decode(pem)?;
        let (private, rest) = after(&der, &PRIVATE)?.split_at_checked(32)?;
        let public = after(rest, &PUBLIC)?.get(..65)?.to_vec();
        let key = Self { private: Zeroizing::new(private.to_vec()), public };
        // `ring` checks that the two belong together.
        key.sign(b"").map(|_| key)
    }

    /// A proof for one `POST` to this URL: a JSON web token signed with ES256.
    pub(crate) fn proof(&self, url: &str, now: i64) -> Result<Secret, Error> {
        let internal = || {
            Error::new(ErrorKind::Internal, "internal error: the DPoP proof cannot be signed; please report this bug")
        };
        let mut id = [0; 16];
        SystemRandom::new().fill(&mut id).map_err(|_| internal())?;
        let (x, y, id) = (encode(&self.public[1..33]), encode(&self.public[33..]), encode(&id));
        let header =
            format!(r#"{{"typ":"dpop+jwt","alg":"ES256","jwk":{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}}}"#);
        // A URL has no characters that JSON would write in another way than Rust does.
        let payload = format!(r#"{{"htm":"POST","htu":{url:?},"iat":{now},"jti":"{id}"}}"#);
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(payload.as_bytes()));
        let signature = self.sign(signed.as_bytes()).ok_or_else(internal)?;
        Ok(Secret::new(format!("{signed}.{}", encode(&signature))))
    }

    /// The two numbers of the signature, 32 bytes each.
    fn sign(&self, message: &[u8]) -> Option<[u8; 64]> {
        let signature = self.sign_with_ring(message);
        wipe_stack();
        signature
    }

    #[inline(never)]
    fn sign_with_ring(&self, message: &[u8]) -> Option<[u8; 64]> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair =
            EcdsaKeyPair::from_private_key_and_public_key(algorithm, &self.private, &self.public, &random).ok()?;
        pair.sign(&random, message).ok()?.as_ref().try_into().ok()
    }
}

/// Overwrites what functions that have returned left on the stack below.
#[inline(never)]
fn wipe_stack() {
    let mut below = [0_u8; 16 * 1024];
    black_box(&mut below).zeroize();
}

/// Base64 for URLs, without padding (RFC 4648, section 5).
fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What the base64 in a PEM file encodes, in memory that is wiped.
fn decode(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(pem.len()));
    let (mut number, mut bits) = (0_u32, 0);
    let lines = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    for character in lines.flat_map(|line| line.trim_end_matches('=').bytes()) {
        let digit = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        number = number << 6 | u32::from(digit);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((number >> bits & 0xff) as u8);
        }
    }
    Some(bytes)
}

/// What precedes the private key in either form: the version 1, and the header of 32 bytes (an OCTET STRING).
const PRIVATE: [u8; 5] = [0x02, 1, 1, 0x04, 32];
/// What precedes the public key: the header of 66 bytes (a BIT STRING), and the number of its unused bits.
const PUBLIC: [u8; 3] = [0x03, 66, 0];

/// What follows the first occurrence of `header`.
fn after<'a>(der: &'a [u8], header: &[u8]) -> Option<&'a [u8]> {
    let at = der.windows(header.len()).position(|window| window == header)?;
    der.get(at + header.len()..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use serde_json::json;

    fn pem(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
    }

    /// The same key in PKCS #8, in SEC 1 with the name of the curve as openssl writes it, and without.
    fn forms() -> [String; 3] {
        let pkcs8 = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_der();
        let (private, public) = (&pkcs8[36..68], &pkcs8[pkcs8.len() - 65..]);
        let number = [&[0x02, 1, 1, 0x04, 32], private].concat();
        let curve = [0xa0, 10, 0x06, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
        let point = [&[0xa1, 68, 0x03, 66, 0], public].concat();
        let with_curve = [&[0x30, 119][..], &number, &curve, &point].concat();
        let without_curve = [&[0x30, 107][..], &number, &point].concat();
        [pem("PRIVATE KEY", &pkcs8), pem("EC PRIVATE KEY", &with_curve), pem("EC PRIVATE KEY", &without_curve)]
    }

    #[test]
    fn a_proof_by_a_key_of_either_form_is_a_signed_token_for_the_request() {
        let forms = forms();
        for pem in forms.iter().cloned().chain([forms[1].replace('\n', "\r\n"), forms[0].trim_end().into()]) {
            let key = DpopKey::from_pem(&pem).unwrap();
            let proof = key.proof("https://eu-central-1.signin.aws.amazon.com/v1/token", 1_700_000_000).unwrap();
            let (signed, signature) = proof.expose().rsplit_once('.').unwrap();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &key.public)
                .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
                .unwrap();
            let parts: Vec<serde_json::Value> = signed
                .split('.')
                .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
                .collect();
            assert_eq!(parts[0]["typ"], "dpop+jwt");
            assert_eq!(parts[0]["jwk"]["x"], URL_SAFE_NO_PAD.encode(&key.public[1..33]));
            assert_eq!(parts[1]["htu"], "https://eu-central-1.signin.aws.amazon.com/v1/token");
            assert_eq!((&parts[1]["htm"], &parts[1]["iat"]), (&json!("POST"), &json!(1_700_000_000)));
            assert!(parts[1]["jti"].as_str().unwrap().len() >= 20);
        }
    }

    #[test]
    fn base64_of_every_length_is_decoded_whatever_the_length_of_its_lines() {
        let bytes: Vec<u8> = (0..=255).rev().collect();
        for length in 0..bytes.len() {
            let bytes = &bytes[..length];
            let lines: Vec<String> =
                STANDARD.encode(bytes).as_bytes().chunks(7).map(|line| String::from_utf8_lossy(line).into()).collect();
            assert_eq!(decode(&lines.join("\r\n")).unwrap().as_slice(), bytes);
        }
    }

    #[test]
    fn every_proof_has_an_identifier_of_its_own() {
        let key = DpopKey::from_pem(&forms()[1]).unwrap();
        let proof = || key.proof("https://x", 0).unwrap().expose().split('.').nth(1).unwrap().to_owned();
        assert_ne!(proof(), proof());
    }

    #[test]
    fn what_is_not_a_key_of_p256_is_refused() {
        let other_curve = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap().serialize_pem();
        let der = STANDARD.decode(forms()[2].lines().nth(1).unwrap().to_owned() + forms()[2].lines().nth(2).unwrap());
        let mixed_up = pem("EC PRIVATE KEY", &der.unwrap_or_default());
        for text in ["", "planted", "-----BEGIN EC PRIVATE KEY-----\n!\n", "MAA=", "MIIB", &other_curve, &mixed_up] {
            assert!(DpopKey::from_pem(text).is_none(), "{text}");
        }
        let good = forms()[1].clone();
        for at in (40..good.len() - 40).step_by(7) {
            // No panic wherever it is cut off, and no key.
            assert!(DpopKey::from_pem(&good[..at]).is_none());
        }
    }
}
