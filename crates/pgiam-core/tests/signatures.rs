//! Our signatures against public vectors and against those of `aws-sigv4`, the generic signer.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use pgiam_core::{Client, Clock, TokenRequest};
use serde_json::Value;
use support::{environment, settings};

#[allow(clippy::too_many_arguments)]
fn ours(
    host: &str,
    port: i32,
    region: &str,
    user: &str,
    id: &str,
    secret: &str,
    session: Option<&str>,
    now: i64,
    service: &str,
) -> String {
    let mut variables = vec![("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
    variables.extend(session.map(|token| ("AWS_SESSION_TOKEN", token)));
    let client = Client::builder()
        .environment(environment(&variables))
        .clock(Clock::fixed(now))
        .settings(settings(&[("service", service)]))
        .build();
    let token = client.generate_token(&TokenRequest { host, port, region: Some(region), user }).unwrap();
    token.as_str().to_owned()
}

/// Host, and the query's parameters in any order.
fn unordered(token: &str) -> (&str, BTreeSet<&str>) {
    let (host, query) = token.split_once("/?").unwrap();
    (host, query.split('&').collect())
}

fn reference(
    host: &str,
    query: &str,
    region: &str,
    credentials: (&str, &str, Option<&str>),
    now: i64,
    service: &str,
    expires: u64,
) -> String {
    let (id, secret, session) = credentials;
    let identity = Credentials::new(id, secret, session.map(str::to_owned), None, "test").into();
    let mut signing = SigningSettings::default();
    signing.signature_location = SignatureLocation::QueryParams;
    signing.expires_in = Some(Duration::from_secs(expires));
    let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(now).unwrap());
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(time)
        .settings(signing)
        .build()
        .unwrap()
        .into();
    let url = format!("https://{host}/?{query}");
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(b"")).unwrap();
    let (_, signature) = sign(request, &parameters).unwrap().into_parts();
    signature
}

fn encoded(user: &str) -> String {
    user.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[test]
fn public_tokens_are_made_the_same_and_the_wrong_service_is_not() {
    let vectors: Value = serde_json::from_str(include_str!("data/tokens.json")).unwrap();
    let mut positive = 0;
    for vector in vectors["tokens"].as_array().unwrap() {
        let text = |name: &str| vector[name].as_str();
        let is_dsql = text("service") == Some("dsql");
        let user = match text("action") {
            Some("DbConnectAdmin") => "admin",
            Some("DbConnect") => "somebody",
            _ => text("user").unwrap(),
        };
        let port = vector["port"].as_i64().map_or(5432, |port| i32::try_from(port).unwrap());
        let (host, region) = (text("host").unwrap(), text("region").unwrap());
        let (id, secret) = (text("access_key_id").unwrap(), text("secret_access_key").unwrap());
        let (session, now) = (text("session_token"), vector["epoch"].as_i64().unwrap());
        let expected = text("expected_token_as_published").unwrap();
        let token = ours(host, port, region, user, id, secret, session, now, if is_dsql { "dsql" } else { "rds" });
        let name = text("id").unwrap();
        if name.starts_with("NEGATIVE") {
            assert_ne!(unordered(&token), unordered(expected), "{name}");
        } else if vector["expires"] == 900 {
            assert_eq!(unordered(&token), unordered(expected), "{name}");
            positive += 1;
        } else {
            // Our tokens always last 900 seconds. The vector with fewer checks the reference, and the test below compares
            // our signatures with the reference's.
            let seconds = vector["expires"].as_u64().unwrap();
            let signature = reference(host, "Action=DbConnect", region, (id, secret, session), now, "dsql", seconds);
            assert!(expected.ends_with(&signature), "{name}");
            positive += 1;
        }
    }
    assert_eq!(positive, 7);
}

#[test]
fn the_signature_is_that_of_the_generic_signer_for_thousands_of_random_inputs() {
    let mut random = fastrand::Rng::with_seed(20_260_102);
    let awkward: Vec<char> = "abcXYZ0189-_.~ &+%*'\"/?#:;,@!$()[]{}<>|\\^`äß漢🦀=".chars().collect();
    // For a million: PGIAM_INPUTS=1000000.
    let inputs = std::env::var("PGIAM_INPUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(3000);
    for _ in 0..inputs {
        let word = |random: &mut fastrand::Rng, alphabet: &[char], most: usize| -> String {
            (0..random.usize(1..=most)).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
        };
        let letters: Vec<char> = ('a'..='z').chain('0'..='9').collect();
        let base64: Vec<char> = ('a'..='z').chain('A'..='Z').chain('0'..='9').chain("+/=".chars()).collect();
        let host = format!("a{}.example.com", word(&mut random, &letters, 20));
        let port = *random.choice(&[5432, 443, 80, 1, 65535, 6000]).unwrap();
        let user = word(&mut random, &awkward, 24);
        let session = random.bool().then(|| word(&mut random, &base64, 4096));
        let secret = word(&mut random, &base64, 40);
        let now = random.i64(0..4_000_000_000);
        let token = ours(&host, port, "eu-central-1", &user, "AKIDEXAMPLE", &secret, session.as_deref(), now, "rds");
        let authority = if port == 443 { host.clone() } else { format!("{host}:{port}") };
        let query = format!("Action=connect&DBUser={}", encoded(&user));
        let keys = ("AKIDEXAMPLE", secret.as_str(), session.as_deref());
        let signature = reference(&authority, &query, "eu-central-1", keys, now, "rds-db", 900);
        assert!(token.ends_with(&signature), "{user:?} at {host}:{port}");
    }
}

/// What a client prepares for a day is used for every second of it, for as many targets as come, and for no other day.
#[test]
fn one_client_signs_for_many_targets_as_time_goes_as_the_generic_signer_does() {
    let mut random = fastrand::Rng::with_seed(20_261_125);
    let (id, secret) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
    let session = "IQoJb3JpZ2luX2VjEJr//////////wEa".repeat(20);
    // Users of every length up to three blocks of the hash and regions of every length: the time of day and the digest
    // appear at every place of a block. More targets than a client keeps prepared.
    let targets: Vec<_> = (1..=400)
        .map(|number| (format!("db{number}.example.com"), "u".repeat(1 + number % 190), "r".repeat(1 + number % 63)))
        .collect();
    for (service, name) in [("rds", "rds-db"), ("dsql", "dsql")] {
        for session in [None, Some(session.as_str())] {
            let now = Arc::new(AtomicI64::new(0));
            let mut variables = vec![("AWS_ACCESS_KEY_ID", id), ("AWS_SECRET_ACCESS_KEY", secret)];
            variables.extend(session.map(|token| ("AWS_SESSION_TOKEN", token)));
            let clock = Arc::clone(&now);
            let client = Client::builder()
                .environment(environment(&variables))
                .clock(Clock::from_fn(move || clock.load(Ordering::Relaxed)))
                .settings(settings(&[("service", service)]))
                .build();
            // The last second of a day and the first of the next, forwards and back, and any other.
            let midnight = 1_709_251_200;
            let mut seconds = vec![midnight - 1, midnight, midnight + 1, midnight - 1];
            seconds.extend((0..4).map(|_| midnight + random.i64(-86_400..86_400)));
            for second in seconds {
                now.store(second, Ordering::Relaxed);
                let first = random.usize(..targets.len() - 60);
                for (host, user, region) in &targets[first..first + 60] {
                    let request = TokenRequest { host, port: 5432, region: Some(region), user };
                    let token = client.generate_token(&request).unwrap();
                    let again = client.generate_token(&request).unwrap();
                    let (authority, query) = match service {
                        "rds" => (format!("{host}:5432"), format!("Action=connect&DBUser={user}")),
                        _ => (host.clone(), "Action=DbConnect".to_owned()),
                    };
                    let signature = reference(&authority, &query, region, (id, secret, session), second, name, 900);
                    assert!(token.as_str().ends_with(&signature), "{service} {host} at {second}");
                    assert_eq!(token.as_str(), again.as_str());
                    assert_eq!((token.host(), token.region(), token.port()), (host.as_str(), region.as_str(), 5432));
                }
            }
        }
    }
}
