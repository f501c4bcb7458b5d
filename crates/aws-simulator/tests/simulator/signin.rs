use aws_simulator::{Fault, KeyFormat, Route, Simulator};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::support::*;

const USER: &str = "arn:aws:iam::123456789012:user/jane";

fn log_in(simulator: &Simulator) -> Value {
    simulator.log_in(USER, KeyFormat::Pkcs8)
}

/// A proof by the key of a session, after a change of its header and payload.
fn proof(session: &Value, change: impl FnOnce(&mut Value, &mut Value)) -> String {
    let text: String = session["dpopKey"].as_str().unwrap().lines().filter(|line| !line.starts_with('-')).collect();
    let random = SystemRandom::new();
    let der = STANDARD.decode(text).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random).unwrap();
    let point = pair.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|number| URL_SAFE_NO_PAD.encode(number));
    let mut header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": x, "y": y}});
    // The host name that the requests of these tests name.
    let mut payload = json!({"htm": "POST", "htu": "http://simulator/v1/token", "iat": NOON, "jti": "proof"});
    change(&mut header, &mut payload);
    let [header, payload] = [header, payload].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signature = pair.sign(&random, format!("{header}.{payload}").as_bytes()).unwrap();
    format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn refresh(simulator: &Simulator, session: &Value, proof: &str) -> Answer {
    let input = json!({
        "clientId": session["clientId"], "grantType": "refresh_token", "refreshToken": session["refreshToken"],
    });
    request(simulator, "POST", "/v1/token", &[("DPoP", proof)], &input.to_string())
}

#[test]
fn a_refresh_token_with_a_proof_gives_credentials_of_fifteen_minutes_and_the_next_refresh_token() {
    let simulator = start();
    let mut session = log_in(&simulator);
    assert_eq!(session["accessToken"]["expiresAt"], "2026-01-31T12:15:00Z");
    for round in 0..2 {
        let named = format!("round {round}");
        let proof = proof(&session, |_, payload| payload["jti"] = named.clone().into());
        let answer = refresh(&simulator, &session, &proof);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let document = answer.json();
        assert_eq!(document["expiresIn"], 900);
        let known = simulator.find_credentials(document["accessToken"]["accessKeyId"].as_str().unwrap()).unwrap();
        assert_eq!(known.principal, USER);
        session["refreshToken"] = document["refreshToken"].clone();
    }
}

#[test]
fn a_used_refresh_token_is_refused_as_expired() {
    let simulator = start();
    let session = log_in(&simulator);
    let first = proof(&session, |_, payload| payload["jti"] = "first".into());
    assert_eq!(refresh(&simulator, &session, &first).status, 200);
    let second = proof(&session, |_, payload| payload["jti"] = "second".into());
    let answer = refresh(&simulator, &session, &second);
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("x-amzn-ErrorType"), Some("AccessDeniedException"));
    assert_eq!(answer.json()["error"], "TOKEN_EXPIRED");
}

#[test]
fn a_proof_that_differs_in_one_point_is_refused_by_name() {
    let simulator = start();
    let session = log_in(&simulator);
    type Change = fn(&mut Value, &mut Value);
    let changes: [(Change, &str); 9] = [
        (|header, _| header["typ"] = "jwt".into(), "typ"),
        (|header, _| header["alg"] = "none".into(), "alg"),
        (|header, _| header["jwk"]["x"] = header["jwk"]["y"].clone(), "jwk"),
        (|header, _| header["jwk"]["crv"] = "P-384".into(), "jwk"),
        (|_, payload| payload["htm"] = "GET".into(), "htm"),
        (|_, payload| payload["htu"] = "https://eu-central-1.signin.aws.amazon.com/v1/token".into(), "htu"),
        (|_, payload| payload["iat"] = (NOON - 301).into(), "iat"),
        (|_, payload| payload["iat"] = (NOON + 301).into(), "iat"),
        (|_, payload| payload["jti"] = Value::Null, "jti"),
    ];
    for (change, named) in changes {
        let answer = refresh(&simulator, &session, &proof(&session, change));
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("DPoP proof") && answer.text().contains(named), "{named}: {}", answer.text());
    }
    let good = proof(&session, |_, _| {});
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = proof(&session, |_, payload| payload["iat"] = (NOON + 1).into());
    let mixed = format!("{signed}.{}", other.rsplit_once('.').unwrap().1);
    assert_ne!(signature, other.rsplit_once('.').unwrap().1);
    for (proof, named) in [(mixed.as_str(), "signature"), ("", "token"), ("a.b.c", "base64url")] {
        let answer = refresh(&simulator, &session, proof);
        assert!(answer.status == 400 && answer.text().contains(named), "{named}: {}", answer.text());
    }
    let other_session = log_in(&simulator);
    let answer = refresh(&simulator, &session, &proof(&other_session, |_, _| {}));
    assert!(answer.text().contains("jwk"), "{}", answer.text());
    assert_eq!(refresh(&simulator, &session, &good).status, 200, "none of them used the refresh token");
}

#[test]
fn a_proof_is_good_once() {
    let simulator = start();
    let mut session = log_in(&simulator);
    let proof = proof(&session, |_, _| {});
    let answer = refresh(&simulator, &session, &proof);
    session["refreshToken"] = answer.json()["refreshToken"].clone();
    let answer = refresh(&simulator, &session, &proof);
    assert!(answer.status == 400 && answer.text().contains("jti was used"), "{}", answer.text());
}

#[test]
fn the_sign_in_service_throttles_in_its_own_words() {
    let simulator = start();
    simulator.inject(Route::SignInToken, Fault::Throttling, 1);
    let answer = refresh(&simulator, &json!({}), "");
    assert_eq!((answer.status, answer.json()["error"].as_str()), (429, Some("rate_exceeded")));
}
