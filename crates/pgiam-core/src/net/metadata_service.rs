//! EC2's instance metadata service, version 2 only: a session token first, then reads with it. It has the credentials of
//! the instance's role and the region.
//!
//! Rules: "Use IMDSv2" of the EC2 User Guide and the AWS SDKs and Tools Reference Guide. There is no fall-back to version 1,
//! no proxy (it would answer with its own role) and no redirect. After 401 a new session token is fetched once; 403 means
//! that the service is disabled.

use std::cell::RefCell;
use std::time::Duration;

use crate::config::Config;
use crate::error::{Error, ErrorKind, invalid_configuration};
use crate::log::Log;
use crate::net::http::{self, Failure, FailureClass, Http, Limits, Request, Response};
use crate::net::retry::{self, Patience};
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

/// Why the service is not asked, when it is disabled.
pub(crate) const DISABLED: &str = "disabled by AWS_EC2_METADATA_DISABLED";

/// Where the service is, and how long to wait for it.
pub(crate) struct MetadataService {
    endpoint: String,
    timeout: Duration,
    attempts: u32,
    /// For all requests together; `None`: the client's deadline alone counts.
    total: Option<Duration>,
    log: Log,
}

impl MetadataService {
    /// `None`: the service is [`DISABLED`].
    pub(crate) fn from_config(config: &Config) -> Result<Option<Self>, Error> {
        if config.environment.is_true("AWS_EC2_METADATA_DISABLED") {
            return Ok(None);
        }
        let timeout = config
            .variable_or_property("AWS_METADATA_SERVICE_TIMEOUT", "metadata_service_timeout")?
            .map(|text| {
                seconds(text).filter(|time| !time.is_zero() && *time <= Duration::from_secs(3600)).ok_or_else(|| {
                    invalid_configuration(format!(
                        "AWS_METADATA_SERVICE_TIMEOUT: {text:?} is not a number of seconds above 0, 3600 at most"
                    ))
                })
            })
            .transpose()?;
        let attempts = config
            .variable_or_property("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "metadata_service_num_attempts")?
            .map(|text| {
                text.parse::<u32>().ok().filter(|n| (1..=100).contains(n)).ok_or_else(|| {
                    invalid_configuration(format!(
                        "AWS_METADATA_SERVICE_NUM_ATTEMPTS: {text:?} is not a number from 1 to 100"
                    ))
                })
            })
            .transpose()?;
        let endpoint = endpoint(config)?;
        if http::is_https(&endpoint) {
            return Err(invalid_configuration(format!(
                "AWS_EC2_METADATA_SERVICE_ENDPOINT: {endpoint:?} is https, and the metadata service has plain HTTP only; \
                 use one like http://169.254.169.254"
            )));
        }
        Ok(Some(Self {
            endpoint,
            // Whoever sets one of the two has decided how long to wait.
            total: (timeout.is_none() && attempts.is_none()).then_some(DEFAULT_TOTAL),
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            attempts: attempts.unwrap_or(DEFAULT_ATTEMPTS),
            log: config.log.clone(),
        }))
    }

    /// Opens a session: fetches the session token with which everything else is read.
    pub(crate) fn session(&self, deadline: Deadline) -> Result<Session<'_>, Error> {
        let deadline = self.total.map_or(deadline, |total| deadline.at_most(total));
        let http = Http::without_proxy(deadline);
        let token = self.fetch_token(&http, deadline)?;
        Ok(Session { service: self, http, deadline, token: RefCell::new(token) })
    }

    fn fetch_token(&self, http: &Http, deadline: Deadline) -> Result<Secret, Error> {
        let ttl = [("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL_SECONDS)];
        let response = self.ask(http, deadline, "PUT", TOKEN_PATH, &ttl)?;
        if response.status == 200 {
            let token = Secret::from_utf8(response.body).unwrap_or_default();
            if token.expose().is_empty() || !token.expose().bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
                return Err(self.fault("the response for the session token is not a token"));
            }
            return Ok(token);
        }
        let answer = response.describe();
        match response.status {
            403 => Err(self.fault(&format!(
                "{answer} for the session token: the metadata service is disabled for this instance, or a proxy in front \
                 of it refuses IMDSv2; enable it (aws ec2 modify-instance-metadata-options --http-endpoint enabled). \
                 IMDSv1 is never used"
            ))),
            404 | 405 => Err(self.fault(&format!(
                "{answer} for the session token: this service does not support IMDSv2, and IMDSv1 is never used"
            ))),
            _ => Err(self.fault(&format!("{answer} for the session token"))),
        }
    }

    /// Sends a request, again after an outage. The response is of any other status.
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
        let limits = Limits { connect: self.timeout, read: self.timeout };
        let patience = Patience { attempts: self.attempts, limits, deadline, log: &self.log };
        retry::ask(http, &request, patience, |_| false).map_err(|failure| self.explain(method, failure))
    }

    /// What a failure without a response means here.
    fn explain(&self, method: &str, failure: Failure) -> Error {
        let (kind, hint) = match failure.class {
            FailureClass::NotConnected => {
                (ErrorKind::NoCredentials, "not an EC2 instance, or a firewall blocks the metadata service")
            }
            FailureClass::ConnectTimeout => (
                ErrorKind::NoCredentials,
                "not an EC2 instance, or a container that the hop limit of 1 keeps from the metadata service: set it to 2 \
                 (aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2)",
            ),
            FailureClass::AnswerTimeout if method == "PUT" => (
                ErrorKind::Timeout,
                "in a container this usually means that the instance's hop limit is 1: set it to 2 \
                 (aws ec2 modify-instance-metadata-options --http-put-response-hop-limit 2)",
            ),
            FailureClass::AnswerTimeout => {
                (ErrorKind::Timeout, "the service accepted the connection and did not answer")
            }
            FailureClass::Broken => (ErrorKind::Provider, "the service is restarting, or another service is listening"),
            _ => return failure.into_error(&self.endpoint),
        };
        Error::new(kind, format!("{}: {}; {hint}", self.endpoint, failure.describe())).source_unavailable()
    }

    fn fault(&self, what: &str) -> Error {
        Error::new(ErrorKind::Provider, format!("{}: {what}", self.endpoint))
    }
}

/// Seconds with at most three decimals, `2` or `0.25`.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, decimals) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let digits = |text: &str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(decimals) || decimals.len() > 3 {
        return None;
    }
    let milliseconds = format!("{decimals:0<3}").parse().ok()?;
    Some(Duration::from_secs(whole.parse().ok()?) + Duration::from_millis(milliseconds))
}

/// Reads with one session token, over one connection if the server allows.
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
                    return Err(self.service.fault("the response for the role list is not the name of a role"));
                }
                Ok(Some(role.to_owned()))
            }
            404 => Ok(None),
            _ => Err(self.refused(&response, "the role list")),
        }
    }

    /// The JSON document with the role's credentials.
    pub(crate) fn role_credentials(&self, role: &str) -> Result<Response, Error> {
        let response = self.get(&format!("{ROLES_PATH}{role}"))?;
        match response.status {
            200 => Ok(response),
            _ => Err(self.refused(&response, &format!("the credentials of role {role}"))),
        }
    }

    /// The region of the instance.
    pub(crate) fn region(&self) -> Result<String, Error> {
        let response = self.get(REGION_PATH)?;
        match response.status {
            200 => Ok(String::from_utf8_lossy(&response.body).trim().to_owned()),
            _ => Err(self.refused(&response, "the region")),
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
        // The service does not know the token any more, after a restart for example.
        let fresh = self.service.fetch_token(&self.http, self.deadline)?;
        let response = once(fresh.expose())?;
        self.token.replace(fresh);
        Ok(response)
    }

    fn refused(&self, response: &Response, what: &str) -> Error {
        let why = match response.status {
            401 => ", also with a new session token",
            403 => {
                ": the metadata service is disabled for this instance, or a proxy in front of it refuses access; IMDSv1 is \
                 never used"
            }
            _ => "",
        };
        self.service.fault(&format!("{} for {what}{why}", response.describe()))
    }
}

/// The endpoint's URL. Rules: AWS SDKs and Tools Reference Guide, "IMDS client": an endpoint wins over a mode, the
/// environment over the profile.
fn endpoint(config: &Config) -> Result<String, Error> {
    if let Some(url) =
        config.variable_or_property("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ec2_metadata_service_endpoint")?
    {
        return match http::endpoint_fault(url) {
            None => Ok(url.trim_end_matches('/').to_owned()),
            Some(why) => Err(invalid_configuration(format!(
                "AWS_EC2_METADATA_SERVICE_ENDPOINT: {:?} {why}; use one like http://169.254.169.254",
                http::shown(url)
            ))),
        };
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

    /// The SDKs' shared cases. Two of them set the endpoint or the mode by an SDK's client option, which this library
    /// does not have: there the environment variable is set.
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
    fn an_endpoint_that_is_not_plain_http_is_an_error_without_its_password() {
        for (url, why) in [
            ("https://169.254.169.254", "plain HTTP"),
            ("HTTPS://169.254.169.254", "plain HTTP"),
            ("http://jane:planted@169.254.169.254/", "user name"),
            ("http://169.254.169.254?x", "has a query"),
            ("http://jane:x/planted@169.254.169.254", "not a number"),
            ("jane:planted@169.254.169.254", "not a URL"),
            ("http:/jane:planted@169.254.169.254", "not a URL"),
            ("http://:80", "no host"),
            ("169.254.169.254", "not a URL"),
        ] {
            let none = [("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")];
            let variables = [("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)].into_iter().chain(none);
            let config = Config::read(Settings::default(), Some(variables.collect()));
            let error = MetadataService::from_config(&config).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
            assert!(error.message().contains(why) && !error.message().contains("planted"), "{error}");
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
