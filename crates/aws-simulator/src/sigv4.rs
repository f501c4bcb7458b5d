//! Verifies AWS Signature Version 4 in the `Authorization` header, by the rules of "Create a signed AWS API request" in
//! the IAM User Guide. It is independent of the signer that it helps to test.

use std::time::{Duration, SystemTime};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::credentials::Credentials;
use crate::http::{Request, pairs};
use crate::time::{iso8601, parse_compact};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The allowed difference between `x-amz-date` and the service's clock.
const TOLERANCE: Duration = Duration::from_secs(15 * 60);

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

fn refusal(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, code, message: message.into() }
}

fn mismatch(message: impl Into<String>) -> Refusal {
    refusal(403, "SignatureDoesNotMatch", message)
}

fn incomplete(message: impl Into<String>) -> Refusal {
    refusal(400, "IncompleteSignature", message)
}

fn invalid_token() -> Refusal {
    refusal(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
}

/// The scope and time for which the signature must be valid.
pub(crate) struct Expected<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    pub(crate) now: SystemTime,
}

/// The parts of the `Authorization` header.
struct Authorization<'a> {
    access_key_id: &'a str,
    /// `DATE/REGION/SERVICE/aws4_request`
    scope: &'a str,
    signed_headers: Vec<&'a str>,
    signature: &'a str,
}

/// Returns the credentials that signed `request`; `find` looks them up by access key id.
pub(crate) fn verify(
    request: &Request,
    expected: &Expected<'_>,
    find: impl Fn(&str) -> Option<Credentials>,
) -> Result<Credentials, Refusal> {
    let header = request
        .header("authorization")
        .ok_or_else(|| refusal(403, "MissingAuthenticationToken", "Request is missing Authentication Token"))?;
    let authorization = parse(header)?;
    let date = request
        .header("x-amz-date")
        .ok_or_else(|| incomplete("Authorization header requires existence of an 'X-Amz-Date' header"))?;
    check_scope(authorization.scope, date, expected)?;
    check_signed_headers(request, &authorization.signed_headers)?;

    let credentials = find(authorization.access_key_id).ok_or_else(invalid_token)?;
    if request.header("x-amz-security-token") != credentials.session_token.as_deref() {
        return Err(invalid_token());
    }
    check_time(date, expected.now)?;

    let canonical = canonical_request(request, &authorization.signed_headers)?;
    let text = string_to_sign(date, authorization.scope, &canonical);
    let signature = hex(&hmac(&signing_key(&credentials.secret_access_key, authorization.scope), &text));
    if signature != authorization.signature {
        return Err(mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.",
        ));
    }
    if credentials.expiration.is_some_and(|expiration| expiration <= expected.now) {
        return Err(refusal(400, "ExpiredToken", "The security token included in the request is expired"));
    }
    Ok(credentials)
}

fn parse(header: &str) -> Result<Authorization<'_>, Refusal> {
    let parameters = header
        .strip_prefix(ALGORITHM)
        .filter(|rest| rest.starts_with(' '))
        .ok_or_else(|| incomplete(format!("Authorization header requires the algorithm {ALGORITHM}")))?;
    let parameter = |name: &str| {
        parameters
            .split(',')
            .filter_map(|parameter| parameter.trim().split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .ok_or_else(|| incomplete(format!("Authorization header requires '{name}' parameter")))
    };
    let (access_key_id, scope) = parameter("Credential")?
        .split_once('/')
        .ok_or_else(|| incomplete("Credential must have exactly 5 slash-delimited elements"))?;
    Ok(Authorization {
        access_key_id,
        scope,
        signed_headers: parameter("SignedHeaders")?.split(';').collect(),
        signature: parameter("Signature")?,
    })
}

fn check_scope(scope: &str, date: &str, expected: &Expected<'_>) -> Result<(), Refusal> {
    let parts: Vec<&str> = scope.split('/').collect();
    let [day, region, service, terminator] = parts[..] else {
        return Err(incomplete("Credential must have exactly 5 slash-delimited elements"));
    };
    if terminator != "aws4_request" {
        return Err(mismatch("Credential should be scoped with a valid terminator: 'aws4_request'"));
    }
    if service != expected.service {
        return Err(mismatch(format!(
            "Credential should be scoped to correct service: '{}', not '{service}'.",
            expected.service
        )));
    }
    if region != expected.region {
        return Err(mismatch(format!(
            "Credential should be scoped to a valid region: '{}', not '{region}'.",
            expected.region
        )));
    }
    if date.get(..8) != Some(day) {
        return Err(mismatch(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP",
        ));
    }
    Ok(())
}

/// `host` and every `x-amz-` header must be signed; the list must be sorted and name only headers that the request has.
fn check_signed_headers(request: &Request, signed: &[&str]) -> Result<(), Refusal> {
    if !signed.is_sorted() || signed.iter().any(|name| *name != name.to_ascii_lowercase()) {
        return Err(mismatch("SignedHeaders must be in lower case and in alphabetical order"));
    }
    if let Some(absent) = signed.iter().find(|name| request.header(name).is_none()) {
        return Err(mismatch(format!("signed header '{absent}' is not in the request")));
    }
    let unsigned = request
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .find(|name| (name == "host" || name.starts_with("x-amz-")) && !signed.contains(&name.as_str()));
    match unsigned {
        Some(name) => Err(mismatch(format!("'{name}' must be a 'SignedHeader' in the AWS Authorization."))),
        None => Ok(()),
    }
}

fn check_time(date: &str, now: SystemTime) -> Result<(), Refusal> {
    let time = parse_compact(date)
        .ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format', as in 20150830T123600Z"))?;
    if time + TOLERANCE < now {
        return Err(mismatch(format!(
            "Signature expired: {} is now earlier than {} ({} - 15 min.)",
            iso8601(time),
            iso8601(now - TOLERANCE),
            iso8601(now)
        )));
    }
    if time > now + TOLERANCE {
        return Err(mismatch(format!(
            "Signature not yet current: {} is still later than {} ({} + 15 min.)",
            iso8601(time),
            iso8601(now + TOLERANCE),
            iso8601(now)
        )));
    }
    Ok(())
}

fn canonical_request(request: &Request, signed: &[&str]) -> Result<String, Refusal> {
    let payload_hash = hex(&Sha256::digest(&request.body));
    if let Some(claimed) = request.header("x-amz-content-sha256")
        && claimed != payload_hash
    {
        return Err(mismatch("The provided 'x-amz-content-sha256' header does not match what was computed."));
    }
    let mut headers = String::new();
    for name in signed {
        let values: Vec<String> = request
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.split_ascii_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    Ok(format!(
        "{}\n{}\n{}\n{headers}\n{}\n{payload_hash}",
        request.method,
        escape(&request.path, b"-_.~/"),
        canonical_query(&request.query),
        signed.join(";"),
    ))
}

fn canonical_query(query: &str) -> String {
    let mut escaped: Vec<(String, String)> =
        pairs(query).iter().map(|(name, value)| (escape(name, b"-_.~"), escape(value, b"-_.~"))).collect();
    escaped.sort();
    let escaped: Vec<String> = escaped.iter().map(|(name, value)| format!("{name}={value}")).collect();
    escaped.join("&")
}

fn escape(text: &str, kept: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn string_to_sign(date: &str, scope: &str, canonical: &str) -> String {
    let hash = hex(&Sha256::digest(canonical.as_bytes()));
    format!("{ALGORITHM}\n{date}\n{scope}\n{hash}")
}

/// The signing key: derived from the secret key and each part of the scope in turn.
fn signing_key(secret: &str, scope: &str) -> Vec<u8> {
    scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part))
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documented_key(access_key_id: &str) -> Option<Credentials> {
        (access_key_id == "AKIDEXAMPLE").then(|| Credentials {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: None,
            expiration: None,
            principal: "arn:aws:iam::123456789012:user/example".to_owned(),
        })
    }

    /// The example request of the AWS documentation, `ListUsers` of 2015.
    fn documented_request() -> Request {
        let headers = [
            ("Host", "iam.amazonaws.com"),
            ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("X-Amz-Date", "20150830T123600Z"),
            (
                "Authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
                 SignedHeaders=content-type;host;x-amz-date, \
                 Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
        ];
        Request {
            method: "GET".to_owned(),
            target: "/?Action=ListUsers&Version=2010-05-08".to_owned(),
            path: "/".to_owned(),
            query: "Action=ListUsers&Version=2010-05-08".to_owned(),
            wants_close: false,
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            body: Vec::new(),
        }
    }

    fn expected() -> Expected<'static> {
        Expected { service: "iam", region: "us-east-1", now: parse_compact("20150830T124000Z").unwrap() }
    }

    fn code(result: Result<Credentials, Refusal>) -> &'static str {
        result.expect_err("the request is refused").code
    }

    #[test]
    fn the_documented_example_is_accepted() {
        let accepted = verify(&documented_request(), &expected(), documented_key);
        assert_eq!(accepted.unwrap().access_key_id, "AKIDEXAMPLE");
    }

    #[test]
    fn a_change_of_any_signed_part_is_detected() {
        let mut changed = documented_request();
        changed.body = b"x".to_vec();
        assert_eq!(code(verify(&changed, &expected(), documented_key)), "SignatureDoesNotMatch");

        let mut changed = documented_request();
        changed.query.push('1');
        assert_eq!(code(verify(&changed, &expected(), documented_key)), "SignatureDoesNotMatch");

        let mut changed = documented_request();
        changed.headers[0].1 = "sts.amazonaws.com".to_owned();
        assert_eq!(code(verify(&changed, &expected(), documented_key)), "SignatureDoesNotMatch");

        let mut changed = documented_request();
        changed.method = "POST".to_owned();
        assert_eq!(code(verify(&changed, &expected(), documented_key)), "SignatureDoesNotMatch");
    }

    #[test]
    fn an_unsigned_amz_header_is_refused() {
        let mut request = documented_request();
        request.headers.push(("X-Amz-Extra".to_owned(), "1".to_owned()));
        let refusal = verify(&request, &expected(), documented_key).unwrap_err();
        assert!(refusal.message.contains("x-amz-extra"), "{refusal:?}");
    }

    /// The documented request with a changed `Authorization` header.
    fn reauthorized(from: &str, to: &str) -> Request {
        let mut request = documented_request();
        let changed = request.headers[3].1.replace(from, to);
        assert_ne!(changed, request.headers[3].1);
        request.headers[3].1 = changed;
        request
    }

    #[test]
    fn host_must_be_signed_and_the_list_of_headers_must_be_sorted() {
        for (list, words) in [
            ("content-type;x-amz-date", "'host' must be a 'SignedHeader'"),
            ("host;content-type;x-amz-date", "alphabetical"),
            ("Content-Type;host;x-amz-date", "lower case"),
            ("accept;host;x-amz-date", "'accept' is not in the request"),
        ] {
            let request = reauthorized("content-type;host;x-amz-date", list);
            let refusal = verify(&request, &expected(), documented_key).unwrap_err();
            assert!(refusal.message.contains(words), "{refusal:?}");
        }
    }

    #[test]
    fn a_payload_hash_in_the_header_must_match_the_body() {
        let mut request = reauthorized("host;x-amz-date", "host;x-amz-content-sha256;x-amz-date");
        let wrong = ("x-amz-content-sha256".to_owned(), "0".repeat(64));
        request.headers.push(wrong);
        let refusal = verify(&request, &expected(), documented_key).unwrap_err();
        assert!(refusal.message.contains("x-amz-content-sha256"), "{refusal:?}");
    }

    #[test]
    fn an_authorization_header_without_one_of_its_parts_is_incomplete() {
        for (from, to) in [
            ("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA1 "),
            ("Credential=", "Credentials="),
            ("SignedHeaders=", "Headers="),
            ("Signature=", "Sign="),
            ("/aws4_request", ""),
            ("AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request", "AKIDEXAMPLE"),
        ] {
            let request = reauthorized(from, to);
            assert_eq!(code(verify(&request, &expected(), documented_key)), "IncompleteSignature");
        }
        let mut undated = documented_request();
        undated.headers.remove(2);
        assert_eq!(code(verify(&undated, &expected(), documented_key)), "IncompleteSignature");
    }

    #[test]
    fn a_scope_for_another_service_region_or_day_is_refused() {
        for (service, region) in [("sts", "us-east-1"), ("iam", "eu-central-1")] {
            let expected = Expected { service, region, ..expected() };
            let refusal = verify(&documented_request(), &expected, documented_key).unwrap_err();
            assert!(refusal.message.contains("scoped"), "{refusal:?}");
        }
        let mut request = documented_request();
        request.headers[2].1 = "20150831T000000Z".to_owned();
        assert_eq!(code(verify(&request, &expected(), documented_key)), "SignatureDoesNotMatch");
    }

    #[test]
    fn a_date_more_than_fifteen_minutes_off_is_refused() {
        for (now, accepted) in [
            ("20150830T125100Z", true),
            ("20150830T125101Z", false),
            ("20150830T122100Z", true),
            ("20150830T122059Z", false),
        ] {
            let expected = Expected { now: parse_compact(now).unwrap(), ..expected() };
            let result = verify(&documented_request(), &expected, documented_key);
            assert_eq!(result.is_ok(), accepted, "{now}");
        }
    }

    #[test]
    fn an_unknown_key_or_a_wrong_session_token_is_an_invalid_client_token() {
        let no_key = |_: &str| None;
        assert_eq!(code(verify(&documented_request(), &expected(), no_key)), "InvalidClientTokenId");
        let with_token = |id: &str| {
            documented_key(id).map(|credentials| Credentials { session_token: Some("token".to_owned()), ..credentials })
        };
        assert_eq!(code(verify(&documented_request(), &expected(), with_token)), "InvalidClientTokenId");
    }

    #[test]
    fn expired_credentials_are_refused_as_expired() {
        let expired = |id: &str| {
            documented_key(id)
                .map(|credentials| Credentials { expiration: parse_compact("20150830T123000Z"), ..credentials })
        };
        assert_eq!(code(verify(&documented_request(), &expected(), expired)), "ExpiredToken");
    }

    #[test]
    fn a_query_is_sorted_by_name_then_value() {
        assert_eq!(canonical_query("b=2&a=%2f&b=1&a-b=x+y"), "a=%2F&a-b=x%20y&b=1&b=2");
    }
}
