//! The container endpoint of ECS and EKS Pod Identity.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "Container credential provider". The relative URI wins over the full one,
//! and the token's file over the token; the file is read at every fetch. Plain http is used only to loopback and the
//! link-local addresses of ECS and EKS; every address that a name resolves to is checked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use ureq::http::Uri;

use crate::config::Config;
use crate::credentials::document::{Document, METADATA};
use crate::credentials::{Context, Outcome, Provided, Source};
use crate::error::{Error, ErrorKind, invalid_configuration, reason};
use crate::net::http::{self, Http, Limits, Request};
use crate::net::retry::{self, Patience};
use crate::net::tls;
use crate::secret::Secret;
use crate::sys;

const RELATIVE: &str = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI";
const FULL: &str = "AWS_CONTAINER_CREDENTIALS_FULL_URI";
const TOKEN_FILE: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE";
const TOKEN: &str = "AWS_CONTAINER_AUTHORIZATION_TOKEN";
const ECS: &str = "http://169.254.170.2";
const CONNECT: Duration = Duration::from_secs(2);
const READ: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 3;
/// Bytes. Tokens have a few KiB.
const MAX_TOKEN_FILE: usize = 64 * 1024;

pub(crate) fn provide(context: &Context<'_>) -> Outcome {
    provide_or_fail(context).into()
}

fn provide_or_fail(context: &Context<'_>) -> Result<Outcome, Error> {
    match endpoint(context.config)? {
        Some(url) => fetch(context, &url).map(Outcome::Provided),
        None => Ok(Outcome::NotConfigured(format!("neither {RELATIVE} nor {FULL} is set"))),
    }
}

/// The URL to request; `None` when the environment has none.
fn endpoint(config: &Config) -> Result<Option<String>, Error> {
    if let Some(path) = config.environment.get(RELATIVE) {
        let url = format!("{ECS}{path}");
        let stays = path.starts_with('/') && url.parse::<Uri>().is_ok_and(|uri| uri.host() == Some("169.254.170.2"));
        return if stays {
            Ok(Some(url))
        } else {
            Err(invalid_configuration(format!(
                "{RELATIVE}: {:?} is not a path that begins with '/'",
                http::shown(path)
            )))
        };
    }
    let Some(url) = config.environment.get(FULL) else { return Ok(None) };
    let refuse = |why: &str| Err(invalid_configuration(format!("{FULL}: {:?} {why}", http::shown(url))));
    let Ok(uri) = url.parse::<Uri>() else { return refuse("is not a URL") };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return refuse("has no scheme and host, as in http://169.254.170.23/v1/credentials");
    };
    if let Some(why) = http::authority_fault(authority) {
        return refuse(why);
    }
    match scheme {
        "https" => Ok(Some(url.to_owned())),
        "http" => {
            let host = authority.host();
            let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
            // `2130706433`, `0x7f.1`, `127.1`: the resolver reads them as addresses, and only an attacker writes them.
            let last = host.rsplit('.').next().unwrap_or(host);
            let disguised = literal.is_none()
                && (last.is_empty()
                    || last.bytes().all(|byte| byte.is_ascii_digit())
                    || last.to_ascii_lowercase().starts_with("0x"));
            if disguised || literal.is_some_and(|address| !is_allowed(address)) {
                return refuse(
                    "is plain http to an address other than loopback, 169.254.170.2, 169.254.170.23 and fd00:ec2::23; \
                     use https",
                );
            }
            Ok(Some(url.to_owned()))
        }
        _ => refuse("is neither http nor https"),
    }
}

/// IPv4-mapped IPv6 addresses are none of these.
fn is_allowed(address: IpAddr) -> bool {
    const EKS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x23);
    match address {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address == Ipv4Addr::new(169, 254, 170, 2)
                || address == Ipv4Addr::new(169, 254, 170, 23)
        }
        IpAddr::V6(address) => address.is_loopback() || address == EKS_V6,
    }
}

fn authorization(config: &Config) -> Result<Option<Secret>, Error> {
    let (token, named_by) = if let Some(path) = config.environment.get(TOKEN_FILE) {
        let text = sys::read_bounded(Path::new(path), MAX_TOKEN_FILE)
            .and_then(Secret::from_utf8)
            .map_err(|error| invalid_configuration(format!("{TOKEN_FILE}: {path}: {}", reason(&error))))?;
        (text, TOKEN_FILE)
    } else if let Some(token) = config.environment.get(TOKEN) {
        (Secret::new(token.to_owned()), TOKEN)
    } else {
        return Ok(None);
    };
    // A line break in the token could add headers to the request.
    if token.expose().bytes().any(|byte| byte.is_ascii_control()) {
        return Err(invalid_configuration(format!(
            "{named_by}: the token contains a line break or another control character"
        )));
    }
    if token.expose().is_empty() {
        return Err(invalid_configuration(format!("{named_by}: the token is empty")));
    }
    Ok(Some(token))
}

fn fetch(context: &Context<'_>, url: &str) -> Result<Provided, Error> {
    let config = context.config;
    let place = http::shown(url).to_owned();
    let fault = |what: &str| Error::new(ErrorKind::Provider, format!("{place}: {what}"));
    let token = authorization(config)?;
    let http = if http::is_https(url) {
        let roots = tls::roots(config.ca_bundle().as_deref()).map_err(invalid_configuration)?;
        Http::over_tls(context.deadline, None, roots)
    } else {
        Http::to_addresses(context.deadline, is_allowed)
    };
    let mut headers = vec![("accept", "application/json")];
    if let Some(token) = &token {
        headers.push(("authorization", token.expose()));
    }
    let request = Request { method: "GET", url, headers: &headers, body: b"" };
    let limits = Limits { connect: CONNECT, read: READ };
    let patience = Patience { attempts: ATTEMPTS, limits, deadline: context.deadline, log: &config.log };
    let response = retry::ask(&http, &request, patience, |_| false).map_err(|failure| failure.into_error(&place))?;
    match response.status {
        200 => {}
        401 | 403 => {
            return Err(fault(&format!(
                "{}: the authorization token is not accepted ({TOKEN_FILE}, {TOKEN})",
                response.describe()
            )));
        }
        _ => return Err(fault(&response.describe())),
    }
    let in_context = |error: Error| error.context(&place);
    let document = Document::parse("the response", response.body).map_err(in_context)?;
    Ok(Provided {
        credentials: document.credentials(&METADATA, "container").map_err(in_context)?,
        source: Source::Container,
        identity: document.text("RoleArn").filter(|arn| arn.starts_with("arn:")).map(str::to_owned),
        by: place,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::environment::Environment;
    use crate::config::settings::Settings;

    fn endpoint_of(variables: &[(&str, &str)]) -> Result<Option<String>, Error> {
        let none = [("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")];
        let environment: Environment = variables.iter().copied().chain(none).collect();
        endpoint(&Config::read(Settings::default(), Some(environment)))
    }

    #[test]
    fn the_endpoint_is_found_as_the_sdks_find_it() {
        let text = include_str!("../../tests/data/ecs-tests.json");
        let cases = serde_json::from_str::<Value>(text).unwrap()["tests"].as_array().unwrap().clone();
        assert_eq!(cases.len(), 11);
        for case in cases {
            let variables: Vec<(&str, &str)> =
                case["env"].as_object().unwrap().iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap())).collect();
            let outcome = endpoint_of(&variables);
            match case["result"]["Ok"].as_str() {
                Some(expected) => assert_eq!(outcome.unwrap().as_deref(), Some(expected), "{}", case["docs"]),
                None => assert!(matches!(outcome, Err(_) | Ok(None)), "{}", case["docs"]),
            }
        }
    }

    #[test]
    fn disguised_addresses_are_refused() {
        for url in [
            "http://user:pass@127.0.0.1/x",
            "http://127.0.0.1@attacker.com/x",
            "http://2130706433/x",
            "http://0x7f000001/x",
            "http://0x7f.0.0.0x1/x",
            "http://127.1/x",
            "http://[::ffff:169.254.170.2]/x",
            "http://[::ffff:127.0.0.1]/x",
            "http://169.254.169.254/x",
            "http://192.0.2.1/x",
            "ftp://127.0.0.1/x",
        ] {
            assert!(endpoint_of(&[(FULL, url)]).is_err(), "{url}");
        }
        for (name, url) in [
            (FULL, "http://user:planted@127.0.0.1/x?planted"),
            (FULL, "ftp://127.0.0.1/x?token=planted"),
            (FULL, "http://192.0.2.1/x#planted"),
            (RELATIVE, "user:planted@attacker.com/x"),
        ] {
            let error = endpoint_of(&[(name, url)]).unwrap_err();
            assert!(!error.message().contains("planted"), "{error}");
        }
        for path in ["@attacker.com/x", "x", ".attacker.com/"] {
            assert!(endpoint_of(&[(RELATIVE, path)]).is_err(), "{path}");
        }
    }
}
