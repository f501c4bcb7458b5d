//! EC2's instance metadata service, version 2 only: a session token first, then reads under it. Credentials and region
//! both stand on it.
//!
//! Rules: "Use IMDSv2" of the EC2 User Guide and the AWS SDKs and Tools Reference Guide. There is no fall-back to
//! version 1, no proxy (it would answer with its own role) and no redirect. 401 brings a new session token once, 429 and
//! 5xx are tried again with jitter, 403 means that the service is switched off.

use std::cell::RefCell;
use std::time::Duration;

use ureq::http::Uri;

use crate::config::Config;
use crate::error::{Error, ErrorKind, invalid_configuration};
use crate::net::http::{Failure, Http, Limits, Request, Response};
use crate::net::retry::{Attempt, retry};
use crate::secret::Secret;
use crate::time::Deadline;

const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/iam/security-credentials/";
const REGION_PATH: &str = "/latest/meta-data/placement/region";
const TOKEN_TTL_SECONDS: &str = "21600";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_ATTEMPTS: u32 = 3;
/// Off EC2 nothing answers; nobody should wait longer to learn that.
const DEFAULT_TOTAL: Duration = Duration::from_secs(2);

/// Where the service is and how patiently to ask it.
pub(crate) struct MetadataService {
    endpoint: String,
    timeout: Duration,
    attempts: u32,
    total: Duration,
}

impl MetadataService {
    /// The inner `Err` says why the service is not to be asked at all.
    pub(crate) fn from_config(config: &Config) -> Result<Result<Self, &'static str>, Error> {
        if config.environment.is_true("AWS_EC2_METADATA_DISABLED") {
            return Ok(Err("disabled by AWS_EC2_METADATA_DISABLED"));
        }
        let timeout = match config.variable_or_property("AWS_METADATA_SERVICE_TIMEOUT", "metadata_service_timeout")? {
            None => None,
            Some(text) => {
                Some(seconds(text).filter(|time| !time.is_zero() && *time <= Duration::from_secs(3600)).ok_or_else(
                    || {
                        invalid_configuration(format!(
                            "AWS_METADATA_SERVICE_TIMEOUT: {text:?} is not a number of seconds above 0"
                        ))
                    },
                )?)
            }
        };
        let attempts =
            match config.variable_or_property("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "metadata_service_num_attempts")? {
                None => None,
                Some(text) => Some(text.parse::<u32>().ok().filter(|n| (1..=100).contains(n)).ok_or_else(|| {
                    invalid_configuration(format!(
                        "AWS_METADATA_SERVICE_NUM_ATTEMPTS: {text:?} is not a number from 1 to 100"
                    ))
                })?),
            };
        Ok(Ok(Self {
            endpoint: endpoint(config)?,
            // Who sets either of the two has said how long is worth waiting; the client's deadline still holds.
            total: if timeout.is_some() || attempts.is_some() { Duration::MAX } else { DEFAULT_TOTAL },
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            attempts: attempts.unwrap_or(DEFAULT_ATTEMPTS),
        }))
    }

    /// Opens a session: fetches the session token under which everything else is read.
    pub(crate) fn session(&self, deadline: Deadline) -> Result<Session<'_>, Error> {
        let deadline = if self.total == Duration::MAX { deadline } else { deadline.at_most(self.total) };
        let http = Http::to_instance_metadata(deadline);
        let token = self.fetch_token(&http, deadline)?;
        Ok(Session { service: self, http, deadline, token: RefCell::new(token) })
    }

    fn fetch_token(&self, http: &Http, deadline: Deadline) -> Result<Secret, Error> {
        let response = self.ask(
            http,
            deadline,
            "PUT",
            TOKEN_PATH,
            &[("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL_SECONDS)],
        )?;
        match response.status {
            200 => {
                let token = String::from_utf8(response.body.to_vec()).map(Secret::new).unwrap_or_default();
                if token.expose().is_empty() || !token.expose().bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
                    return Err(self.fault("the session token in the answer is not text without spaces"));
                }
                Ok(token)
            }
            403 => Err(self.fault(
                "HTTP 403 for the session token: the metadata service is switched off for this instance, or a firewall \
                 or proxy stands between; enable it (aws ec2 modify-instance-metadata-options --http-endpoint enabled)",
            )),
            404 | 405 => Err(self.fault(&format!(
                "HTTP {} for the session token: this is not an IMDSv2 service, and version 1 is never used",
                response.status
            ))),
            status => Err(self.unexpected(status, "the session token")),
        }
    }

    /// One request with retries. A transport failure is already an error; any status comes back.
    fn ask(
        &self,
        http: &Http,
        deadline: Deadline,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response, Error> {
        let url = format!("{}{path}", self.endpoint);
        let request = Request { method, url: &url, headers, body: b"" };
        retry(self.attempts, deadline, || {
            let limits = Limits { connect: self.timeout, read: self.timeout };
            match http.send(&request, limits) {
                Ok(response) if response.status == 429 || response.status >= 500 => {
                    Attempt::Again(self.unexpected(response.status, path))
                }
                Ok(response) => Attempt::Done(Ok(response)),
                Err(Failure::TooLarge) => Attempt::Done(Err(self.fault(&Failure::TooLarge.describe()))),
                Err(Failure::BadRequest(why)) => Attempt::Done(Err(invalid_configuration(format!(
                    "instance metadata endpoint {}: {why}",
                    self.endpoint
                )))),
                // Nobody listens, or nothing routes there: asking again in the same second changes nothing.
                Err(failure @ Failure::NotConnected(_)) => Attempt::Done(Err(self.unreachable(method, &failure))),
                Err(failure) => Attempt::Again(self.unreachable(method, &failure)),
            }
        })
    }

    fn unreachable(&self, method: &str, failure: &Failure) -> Error {
        let (kind, hint) = match failure {
            Failure::NotConnected(_) => {
                (ErrorKind::NoCredentials, "this is no EC2 instance, or a firewall stands between")
            }
            Failure::ConnectTimeout => (
                ErrorKind::NoCredentials,
                "this is no EC2 instance, or a container whose packets may not pass: set the instance's hop limit to 2 \
                 (aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2)",
            ),
            Failure::AnswerTimeout if method == "PUT" => (
                ErrorKind::Timeout,
                "inside a container this usually means that the instance's hop limit is 1: set it to 2 \
                 (aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2)",
            ),
            Failure::AnswerTimeout => (ErrorKind::Timeout, "the service accepted the connection and did not answer"),
            _ => (ErrorKind::Provider, "the service is restarting, or something else listens there"),
        };
        Error::new(kind, format!("{}: {}; {hint}", self.endpoint, failure.describe())).source_unavailable()
    }

    fn unexpected(&self, status: u16, what: &str) -> Error {
        let error = self.fault(&format!("HTTP {status} for {what}"));
        if status == 429 || status >= 500 { error.source_unavailable() } else { error }
    }

    fn fault(&self, what: &str) -> Error {
        Error::new(ErrorKind::Provider, format!("{}: {what}", self.endpoint))
    }
}

/// Seconds with at most three decimals, `2` or `0.25`. Not by `f64`, whose reader would be 15 KB of the library.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, decimals) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let digits = |text: &str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return None;
    }
    let milliseconds = format!("{decimals:0<3}").parse().ok()?;
    Some(Duration::from_secs(whole.parse().ok()?) + Duration::from_millis(milliseconds))
}

/// Reads under one session token and over one connection, if the server allows.
pub(crate) struct Session<'a> {
    service: &'a MetadataService,
    http: Http,
    deadline: Deadline,
    token: RefCell<Secret>,
}

impl Session<'_> {
    /// The name of the instance's role; `None` when no role is attached.
    pub(crate) fn role(&self) -> Result<Option<String>, Error> {
        let response = self.get(ROLES_PATH)?;
        match response.status {
            200 => {
                let text = std::str::from_utf8(&response.body).unwrap_or_default();
                let role = text.lines().next().unwrap_or_default().trim();
                if role.is_empty() {
                    return Ok(None);
                }
                // The IAM reference's characters for role names.
                if !role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte)) {
                    return Err(self.service.fault("the answer for the role list is not a role's name"));
                }
                Ok(Some(role.to_owned()))
            }
            404 => Ok(None),
            status => Err(self.refused(status, "the role list")),
        }
    }

    /// The JSON document with the role's credentials.
    pub(crate) fn role_credentials(&self, role: &str) -> Result<Response, Error> {
        let response = self.get(&format!("{ROLES_PATH}{role}"))?;
        match response.status {
            200 => Ok(response),
            status => Err(self.refused(status, &format!("the credentials of role {role}"))),
        }
    }

    /// The region of the instance.
    pub(crate) fn region(&self) -> Result<String, Error> {
        let response = self.get(REGION_PATH)?;
        match response.status {
            200 => Ok(String::from_utf8_lossy(&response.body).trim().to_owned()),
            status => Err(self.refused(status, "the region")),
        }
    }

    fn get(&self, path: &str) -> Result<Response, Error> {
        let once = |token: &str| {
            self.service.ask(&self.http, self.deadline, "GET", path, &[("x-aws-ec2-metadata-token", token)])
        };
        let response = once(self.token.borrow().expose())?;
        if response.status != 401 {
            return Ok(response);
        }
        // The service forgot the token (it was restarted, say). A new one, once.
        let fresh = self.service.fetch_token(&self.http, self.deadline)?;
        let response = once(fresh.expose())?;
        self.token.replace(fresh);
        Ok(response)
    }

    fn refused(&self, status: u16, what: &str) -> Error {
        match status {
            401 => self.service.fault(&format!("HTTP 401 for {what}, also with a new session token")),
            403 => self.service.fault(&format!(
                "HTTP 403 for {what}: the metadata service is switched off for this instance, or access to it is limited"
            )),
            status => self.service.unexpected(status, what),
        }
    }
}

/// Settings as in the AWS SDKs and Tools Reference Guide, "IMDS client": an endpoint wins over a mode, the environment
/// over the profile.
fn endpoint(config: &Config) -> Result<String, Error> {
    if let Some(url) =
        config.variable_or_property("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ec2_metadata_service_endpoint")?
    {
        let valid = url.parse::<Uri>().ok().is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some() && uri.query().is_none()
        });
        if !valid {
            return Err(invalid_configuration(format!(
                "AWS_EC2_METADATA_SERVICE_ENDPOINT: {url:?} is not a URL like http://169.254.169.254"
            )));
        }
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let mode =
        config.variable_or_property("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ec2_metadata_service_endpoint_mode")?;
    match mode {
        None => Ok("http://169.254.169.254".into()),
        Some(mode) if mode.eq_ignore_ascii_case("ipv4") => Ok("http://169.254.169.254".into()),
        Some(mode) if mode.eq_ignore_ascii_case("ipv6") => Ok("http://[fd00:ec2::254]".into()),
        Some(mode) => Err(invalid_configuration(format!(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE: {mode:?} is neither IPv4 nor IPv6"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::config::environment::Environment;
    use crate::config::settings::Settings;

    /// The SDKs' shared cases. Two of them set the endpoint or the mode by an SDK's own client option, which this
    /// library offers through the environment only: there the option is given as its variable.
    #[test]
    fn the_endpoint_is_found_as_the_sdks_find_it() {
        let text = include_str!("../../tests/data/imds-endpoint-tests.json");
        let cases = serde_json::from_str::<Value>(text).unwrap()["tests"].as_array().unwrap().clone();
        assert_eq!(cases.len(), 14);
        for case in cases {
            let docs = &case["docs"];
            let directory = tempfile::tempdir().unwrap();
            for (name, text) in case["fs"].as_object().unwrap() {
                std::fs::write(directory.path().join(name), text.as_str().unwrap()).unwrap();
            }
            let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
            let mut variables = vec![
                ("AWS_CONFIG_FILE".to_owned(), at("no-config")),
                ("AWS_SHARED_CREDENTIALS_FILE".to_owned(), at("no-credentials")),
            ];
            for (option, variable) in [
                ("mode_override", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"),
                ("endpoint_override", "AWS_EC2_METADATA_SERVICE_ENDPOINT"),
            ] {
                if let Some(value) = case[option].as_str() {
                    variables.push((variable.to_owned(), value.to_owned()));
                }
            }
            for (name, value) in case["env"].as_object().unwrap() {
                let value = value.as_str().unwrap();
                let value = if name == "AWS_CONFIG_FILE" { at(value) } else { value.to_owned() };
                variables.push((name.clone(), value));
            }
            let environment: Environment = variables.into_iter().collect();
            let outcome = endpoint(&Config::read(Settings::default(), Some(environment)));
            match case["result"]["Ok"].as_str() {
                Some(expected) => assert_eq!(format!("{}{TOKEN_PATH}", outcome.unwrap()), expected, "{docs}"),
                None => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidConfiguration, "{docs}"),
            }
        }
    }

    #[test]
    fn a_time_out_is_read_in_seconds_with_decimals() {
        for (text, milliseconds) in [("2", 2000), ("0.25", 250), ("1.5", 1500), (" 3.001 ", 3001)] {
            assert_eq!(seconds(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "-1", "1e3", "inf", "NaN", ".5", "1.", "1.2345", "1,5", "9999999999"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
