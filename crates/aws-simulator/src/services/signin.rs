//! The sign-in service behind `aws login`: `POST /v1/token` turns a refresh token into new credentials, with a proof by
//! the session's key (DPoP). Shapes and error codes from the API reference "AWS Sign-In", the checks of a proof from RFC
//! 9449, section 4.3.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};

use crate::ACCOUNT_ID;
use crate::credentials::{Credentials, PLANTED};
use crate::http::{Request, Response};
use crate::random;
use crate::route::Route;
use crate::state::{Call, State};
use crate::sync::lock;
use crate::time::{iso8601, unix_seconds};

const PATH: &str = "/v1/token";
const CLIENT_ID: &str = "arn:aws:signin:::devtools/same-device";
const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Seconds by which the time of a proof may be off.
const PROOF_MAY_BE_OFF: i64 = 300;

/// How a private key is written in PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// `EC PRIVATE KEY`, as the AWS CLI writes it.
    Sec1,
    /// `PRIVATE KEY`.
    Pkcs8,
}

/// The sessions that can be refreshed, and the proofs that were used.
#[derive(Default)]
pub(crate) struct SignIn {
    /// By refresh token. Each use puts a new one in its place, so that a client that keeps the old one is found out.
    sessions: Mutex<HashMap<String, Session>>,
    proofs: Mutex<HashSet<String>>,
}

#[derive(Clone)]
struct Session {
    principal: String,
    /// The uncompressed point.
    public_key: Vec<u8>,
}

impl SignIn {
    pub(crate) fn log_in(&self, state: &State, principal: &str, format: KeyFormat) -> io::Result<Value> {
        let (key, public_key) = new_key(format);
        let session = Session { principal: principal.to_owned(), public_key };
        let credentials = session.issue(state)?;
        let mut access_token = access_token(&credentials);
        access_token["accountId"] = ACCOUNT_ID.into();
        access_token["expiresAt"] = credentials.expiration.map(iso8601).into();
        Ok(json!({
            "accessToken": access_token,
            "tokenType": "aws_sigv4",
            "refreshToken": self.add(session),
            "idToken": format!("eyJ{PLANTED}{}", random::base64(40)),
            "clientId": CLIENT_ID,
            "dpopKey": key,
        }))
    }

    /// Returns the session's new refresh token.
    fn add(&self, session: Session) -> String {
        let token = format!("{PLANTED}{}", random::base64(120));
        lock(&self.sessions).insert(token.clone(), session);
        token
    }
}

impl Session {
    fn issue(&self, state: &State) -> io::Result<Credentials> {
        state.issue_to(self.principal.clone(), LIFETIME, state.now()).make(None)
    }
}

/// A new key of P-256 in PEM, and its public key.
fn new_key(format: KeyFormat) -> (String, Vec<u8>) {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
        .expect("the system has random numbers");
    let pkcs8 = pkcs8.as_ref();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new());
    let public = pair.expect("it was just made").public_key().as_ref().to_vec();
    let (label, der) = match format {
        KeyFormat::Pkcs8 => ("PRIVATE KEY", pkcs8.to_vec()),
        KeyFormat::Sec1 => {
            // RFC 5915: version, private key, the curve's name, public key.
            let private = &pkcs8[36..68];
            let curve = [0xa0, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
            ("EC PRIVATE KEY", [&[0x30, 119, 2, 1, 1, 4, 32], private, &curve, &[0xa1, 68, 3, 66, 0], &public].concat())
        }
    };
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..text.len().min(at + 64)]).collect();
    (format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")), public)
}

fn access_token(credentials: &Credentials) -> Value {
    json!({
        "accessKeyId": credentials.access_key_id,
        "secretAccessKey": credentials.secret_access_key,
        "sessionToken": credentials.session_token,
    })
}

pub(crate) fn route(request: &Request) -> Option<Route> {
    (request.method == "POST" && request.path == PATH).then_some(Route::SignInToken)
}

pub(crate) fn answer(state: &State, request: &Request, call: &Call) -> io::Result<Response> {
    let input: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let field = |name: &str| input[name].as_str().unwrap_or_default();
    if field("grantType") != "refresh_token" || field("clientId") != CLIENT_ID {
        return Ok(invalid("only the grant refresh_token of the client same-device is simulated"));
    }
    let sessions = &state.sign_in.sessions;
    let Some(session) = lock(sessions).get(field("refreshToken")).cloned() else {
        return Ok(error(400, "AccessDeniedException", "TOKEN_EXPIRED", "The refresh token has expired or was used"));
    };
    if let Err(why) = verify_proof(state, request, &session, call) {
        return Ok(invalid(&format!("DPoP proof: {why}")));
    }
    if lock(sessions).remove(field("refreshToken")).is_none() {
        return Ok(error(400, "AccessDeniedException", "TOKEN_EXPIRED", "The refresh token was used meanwhile"));
    }
    let credentials = session.issue(state)?;
    Ok(Response::json(
        200,
        &json!({
            "accessToken": access_token(&credentials),
            "tokenType": "aws_sigv4",
            "expiresIn": LIFETIME.as_secs(),
            "refreshToken": state.sign_in.add(session),
        }),
    ))
}

/// The checks of a proof: its form, its key, its signature, what it is for, when it was made, and that it is new.
fn verify_proof(state: &State, request: &Request, session: &Session, call: &Call) -> Result<(), &'static str> {
    let proof = request.header("dpop").ok_or("the header is missing")?;
    let (signed, signature) = proof.rsplit_once('.').ok_or("not a token of three parts")?;
    let (header, payload) = signed.split_once('.').ok_or("not a token of three parts")?;
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| "a part is not base64url");
    let json = |part: &str| serde_json::from_slice::<Value>(&decoded(part)?).map_err(|_| "a part is not JSON");
    let (header, payload) = (json(header)?, json(payload)?);
    if header["typ"] != "dpop+jwt" || header["alg"] != "ES256" {
        return Err("typ is not dpop+jwt or alg is not ES256");
    }
    let jwk = &header["jwk"];
    let coordinate = |name: &str| decoded(jwk[name].as_str().unwrap_or_default());
    let public_key = [vec![4], coordinate("x")?, coordinate("y")?].concat();
    if jwk["kty"] != "EC" || jwk["crv"] != "P-256" || public_key != session.public_key {
        return Err("jwk is not the session's key");
    }
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public_key)
        .verify(signed.as_bytes(), &decoded(signature)?)
        .map_err(|_| "the signature is wrong")?;
    let place = format!("{}{PATH}", request.header("host").unwrap_or_default());
    // A test may have put a TLS server in front.
    let is_here = ["http://", "https://"].iter().any(|scheme| payload["htu"] == format!("{scheme}{place}"));
    if payload["htm"] != request.method.as_str() || !is_here {
        return Err("htm or htu is that of another request");
    }
    let made_at = payload["iat"].as_i64().ok_or("iat is not a number")?;
    if (made_at - unix_seconds(call.now)).abs() > PROOF_MAY_BE_OFF {
        return Err("iat is more than five minutes off");
    }
    let id = payload["jti"].as_str().filter(|id| !id.is_empty()).ok_or("jti is missing")?;
    if lock(&state.sign_in.proofs).insert(id.to_owned()) { Ok(()) } else { Err("jti was used before") }
}

fn invalid(message: &str) -> Response {
    error(400, "ValidationException", "INVALID_REQUEST", message)
}

/// An error as the service writes it.
pub(crate) fn error(status: u16, kind: &str, code: &str, message: &str) -> Response {
    Response::json(status, &json!({"error": code, "message": message})).with_header("x-amzn-ErrorType", kind)
}
