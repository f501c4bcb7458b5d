//! Calls of AWS services with a client's credentials, for programs that explain or set up logins: STS, Amazon RDS, IAM,
//! CloudWatch and CloudWatch Logs. Making tokens needs none of them.
//!
//! Three protocols: "AWS query" (form parameters in, XML out; API references of the services), JSON 1.1 for CloudWatch
//! Logs, and no more than a look at the `Date` header for the clock.

use std::sync::Arc;

use aws_credential_types::Credentials;
use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Error, ErrorKind, service_words};
use crate::net::aws_endpoint::{AwsService, Endpoint};
use crate::net::aws_signature::Signer;
use crate::net::http::Response;
use crate::net::partition::Partition;
pub use crate::net::xml::Element;
use crate::percent_encoding::percent_encode;
use crate::secret::Secret;
use crate::time::{Clock, Deadline};

/// A service that can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AwsApi {
    /// Security Token Service
    Sts,
    /// Amazon RDS
    Rds,
    /// Identity and Access Management
    Iam,
    /// CloudWatch metrics
    CloudWatch,
}

impl AwsApi {
    fn service(self) -> AwsService {
        match self {
            Self::Sts => AwsService::Sts,
            Self::Rds => AwsService::Rds,
            Self::Iam => AwsService::Iam,
            Self::CloudWatch => AwsService::CloudWatch,
        }
    }

    fn version(self) -> &'static str {
        match self {
            Self::Sts => "2011-06-15",
            Self::Rds => "2014-10-31",
            Self::Iam => "2010-05-08",
            Self::CloudWatch => "2010-08-01",
        }
    }

    /// The prefix of the service's actions in a policy, as in `rds:DescribeDBInstances`.
    fn policy_prefix(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Rds => "rds",
            Self::Iam => "iam",
            Self::CloudWatch => "cloudwatch",
        }
    }
}

/// Why a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsFailure {
    code: Option<String>,
    /// The action as policies name it.
    permission: String,
    error: Error,
}

impl AwsFailure {
    /// The service's error code, such as `DBInstanceNotFound`; `None` if the service gave none.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The permission that the caller lacks, such as `rds:DescribeDBInstances`, if that is the reason.
    #[must_use]
    pub fn missing_permission(&self) -> Option<&str> {
        let denied = matches!(self.code()?, "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation");
        denied.then_some(&self.permission)
    }

    /// The service and its words.
    #[must_use]
    pub fn message(&self) -> &str {
        self.error.message()
    }
}

/// Whose credentials STS says they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerIdentity {
    /// `arn:aws:iam::123456789012:user/jane`, `arn:aws:sts::123456789012:assumed-role/NAME/SESSION`, …
    pub arn: String,
    /// The account's number.
    pub account: String,
}

/// What the credentials of a session come from.
type CredentialSource = dyn Fn() -> Result<Credentials, Error>;

/// Calls services in one region. [`Client::aws_session`](crate::Client::aws_session) makes it.
pub struct AwsSession {
    config: Arc<Config>,
    clock: Clock,
    region: String,
    credentials: Box<CredentialSource>,
}

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/x-amz-json-1.1";

/// So few that a page is smaller than the largest response that is read.
const EVENTS_OF_A_PAGE: u32 = 200;
const MOST_PAGES: u32 = 20;

impl AwsSession {
    pub(crate) fn new(
        config: Arc<Config>,
        clock: Clock,
        region: &str,
        credentials: impl Fn() -> Result<Credentials, Error> + 'static,
    ) -> Self {
        Self { config, clock, region: region.to_ascii_lowercase(), credentials: Box::new(credentials) }
    }

    /// The region of the services.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The partition of that region, as in an ARN: `aws`, `aws-cn` and so on.
    #[must_use]
    pub fn partition(&self) -> &'static str {
        Partition::of_region(&self.region).id
    }

    /// Now, in Unix seconds, by the client's clock.
    #[must_use]
    pub fn now(&self) -> i64 {
        self.clock.now()
    }

    /// How many seconds this machine's clock is ahead of that of STS. Needs no credentials.
    ///
    /// # Errors
    ///
    /// STS cannot be reached, or its response has no date.
    pub fn clock_ahead(&self) -> Result<i64, Error> {
        let endpoint = self.endpoint(AwsService::Sts)?;
        // A GET would be answered with a redirect to a web page.
        let body = "Action=GetCallerIdentity&Version=2011-06-15";
        let before = self.clock.now();
        let response = endpoint.ask("POST", "/", &[("content-type", FORM)], body.as_bytes(), |_| false)?;
        let after = self.clock.now();
        let date = response.date.ok_or_else(|| endpoint.fault("the response has no valid Date header"))?;
        // The date is a moment between the two.
        Ok(if date < before { before - date } else { (after - date).min(0) })
    }

    /// Asks STS whose the credentials are. Needs no permission.
    ///
    /// # Errors
    ///
    /// There are no credentials, or STS refuses them.
    pub fn caller_identity(&self) -> Result<CallerIdentity, AwsFailure> {
        let response = self.query(AwsApi::Sts, "GetCallerIdentity", &[])?;
        let text = |name: &str| response.text(name).unwrap_or_default().to_owned();
        Ok(CallerIdentity { arn: text("Arn"), account: text("Account") })
    }

    /// Calls an action of a service with parameters, and returns the element `…Result` of the response.
    ///
    /// # Errors
    ///
    /// There are no credentials, the service cannot be reached or refuses.
    pub fn query(&self, api: AwsApi, action: &str, parameters: &[(&str, &str)]) -> Result<Element, AwsFailure> {
        let permission = format!("{}:{action}", api.policy_prefix());
        let mut body = format!("Action={action}&Version={}", api.version());
        for (name, value) in parameters {
            body.push_str(&format!("&{name}={}", *percent_encode(value)));
        }
        let read = |endpoint: &Endpoint, response: &Response| {
            let text = std::str::from_utf8(&response.body).map_err(|_| endpoint.fault("the response is not UTF-8"))?;
            let document = Element::parse(text).map_err(|why| endpoint.fault(why))?;
            Ok(document.all(&format!("{action}Result")).into_iter().next().cloned().unwrap_or_default())
        };
        self.call(api.service(), &permission, &[("content-type", FORM)], &body, read)
    }

    /// The messages of CloudWatch Logs in a log group since a time (Unix seconds) that contain a text, the oldest first,
    /// at most 4,000; each is one printable line.
    ///
    /// # Errors
    ///
    /// As [`AwsSession::query`].
    pub fn log_messages(&self, group: &str, since: i64, containing: &str) -> Result<Vec<String>, AwsFailure> {
        let pattern = format!("\"{}\"", containing.replace(['"', '\\'], ""));
        let mut messages = Vec::new();
        let mut next = Value::Null;
        // The oldest come first.
        for _ in 0..MOST_PAGES {
            let mut input = json!({
                "logGroupName": group,
                "startTime": since.saturating_mul(1000),
                "filterPattern": pattern,
                "limit": EVENTS_OF_A_PAGE,
            });
            if next.is_string() {
                input["nextToken"] = next;
            }
            let page = self.filter_log_events(&input)?;
            let events = page["events"].as_array().map(Vec::as_slice).unwrap_or_default();
            let found = events.iter().filter_map(|event| event["message"].as_str());
            messages.extend(found.map(|message| service_words(message, &[])));
            next = page["nextToken"].clone();
            if !next.is_string() {
                break;
            }
        }
        Ok(messages)
    }

    fn filter_log_events(&self, input: &Value) -> Result<Value, AwsFailure> {
        let headers = [("content-type", JSON), ("x-amz-target", "Logs_20140328.FilterLogEvents")];
        let read = |endpoint: &Endpoint, response: &Response| {
            serde_json::from_slice(&response.body).map_err(|_| endpoint.fault("the response is not JSON"))
        };
        self.call(AwsService::Logs, "logs:FilterLogEvents", &headers, &input.to_string(), read)
    }

    /// Signs a request, sends it and reads the response.
    fn call<T>(
        &self,
        service: AwsService,
        permission: &str,
        headers: &[(&str, &str)],
        body: &str,
        read: impl Fn(&Endpoint, &Response) -> Result<T, Error>,
    ) -> Result<T, AwsFailure> {
        let failed = |error: Error| AwsFailure { code: None, permission: permission.to_owned(), error };
        let endpoint = self.endpoint(service).map_err(failed)?;
        let credentials = (self.credentials)().map_err(failed)?;
        let signer = Signer {
            credentials: &credentials,
            service: service.signing_name(),
            region: service.signing_region(&self.region),
            now: self.clock.now(),
        };
        let signed = signer.headers(&format!("{}/", endpoint.url()), headers, body).map_err(failed)?;
        let all: Vec<(&str, &str)> = signed
            .iter()
            .map(|(name, value)| (name.as_str(), Secret::expose(value)))
            .chain(headers.iter().copied())
            .collect();
        let action = permission.split_once(':').map_or(permission, |(_, action)| action);
        let failed = |error: Error| failed(error.context(action));
        let response = endpoint.ask("POST", "/", &all, body.as_bytes(), is_throttled).map_err(failed)?;
        if response.status == 200 {
            return read(&endpoint, &response).map_err(failed);
        }
        Err(AwsFailure { code: response.error_code(), ..failed(endpoint.fault(&response.describe())) })
    }

    fn endpoint(&self, service: AwsService) -> Result<Endpoint, Error> {
        if self.region.is_empty() {
            return Err(Error::new(ErrorKind::NoRegion, "no region; pass the region of the database"));
        }
        let deadline = Deadline::after(self.config.settings.timeout());
        Endpoint::new(service, &self.config, &self.region, deadline)
    }
}

/// Throttling that is reported with status 400.
fn is_throttled(response: &Response) -> bool {
    response.status == 400 && response.error_code().is_some_and(|code| code.starts_with("Throttl"))
}
