//! Where the AWS services are, and how they are asked: host names, configured endpoints, proxies and trust stores.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "Service-specific endpoints", "Dual-stack and FIPS endpoints". STS is always
//! asked at its regional endpoint, as is the default of the SDKs and the AWS CLI; `sts_regional_endpoints = legacy` is
//! ignored, because the global endpoint cannot be reached from a private network.

use std::net::IpAddr;

use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use crate::config::Config;
use crate::config::profile_files::Profile;
use crate::config::region_name;
use crate::error::{Error, ErrorKind, invalid_configuration};
use crate::log::Log;
use crate::net::http::{self, Http, Limits, Request, Response};
use crate::net::partition::Partition;
use crate::net::retry::{self, Patience};
use crate::net::tls;
use crate::time::Deadline;

/// An AWS service that is asked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AwsService {
    Sts,
    Sso,
    SsoOidc,
    SignIn,
    Rds,
    Iam,
    CloudWatch,
    Logs,
}

impl AwsService {
    fn host_prefix(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Sso => "portal.sso",
            Self::SsoOidc => "oidc",
            Self::SignIn => "signin",
            Self::Rds => "rds",
            Self::Iam => "iam",
            Self::CloudWatch => "monitoring",
            Self::Logs => "logs",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Sts => "AWS_ENDPOINT_URL_STS",
            Self::Sso => "AWS_ENDPOINT_URL_SSO",
            Self::SsoOidc => "AWS_ENDPOINT_URL_SSO_OIDC",
            Self::SignIn => "AWS_ENDPOINT_URL_SIGNIN",
            Self::Rds => "AWS_ENDPOINT_URL_RDS",
            Self::Iam => "AWS_ENDPOINT_URL_IAM",
            Self::CloudWatch => "AWS_ENDPOINT_URL_CLOUDWATCH",
            Self::Logs => "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
        }
    }

    fn section(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Sso => "sso",
            Self::SsoOidc => "sso_oidc",
            Self::SignIn => "signin",
            Self::Rds => "rds",
            Self::Iam => "iam",
            Self::CloudWatch => "cloudwatch",
            Self::Logs => "cloudwatch_logs",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sts => "STS",
            Self::Sso => "the SSO portal",
            Self::SsoOidc => "SSO OIDC",
            Self::SignIn => "the sign-in service",
            Self::Rds => "Amazon RDS",
            Self::Iam => "IAM",
            Self::CloudWatch => "CloudWatch",
            Self::Logs => "CloudWatch Logs",
        }
    }

    /// The region that a request's signature names. IAM is one service for a whole partition.
    pub(crate) fn signing_region(self, region: &str) -> &str {
        match self {
            Self::Iam => Partition::of_region(region).default_region,
            _ => region,
        }
    }

    /// The service that a request's signature names.
    pub(crate) fn signing_name(self) -> &'static str {
        self.host_prefix()
    }
}

/// A service at its endpoint, for one fetch.
pub(crate) struct Endpoint {
    service: AwsService,
    url: String,
    http: Http,
    deadline: Deadline,
    log: Log,
}

pub(crate) const ATTEMPTS: u32 = 3;

impl Endpoint {
    /// The endpoint in a region. As in the AWS CLI the endpoint settings of the profile in use apply, also for a service
    /// that another profile, its source, needs.
    pub(crate) fn new(service: AwsService, config: &Config, region: &str, deadline: Deadline) -> Result<Self, Error> {
        let url = url(service, config, config.profile().ok().flatten(), region)?;
        let proxy = proxy(config, &url)?;
        let needs_tls =
            http::is_https(&url) || proxy.as_ref().is_some_and(|proxy| proxy.protocol() == ProxyProtocol::Https);
        let http = if needs_tls {
            let roots = tls::roots(config.ca_bundle().as_deref()).map_err(invalid_configuration)?;
            Http::over_tls(deadline, proxy, roots)
        } else {
            Http::through_proxy(deadline, proxy)
        };
        Ok(Self { service, url, http, deadline, log: config.log.clone() })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request, again after an outage. `is_throttled` recognises the responses by which the service reports
    /// throttling besides 429 and 5xx. `path` begins with `/`. The response is of any other status.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        is_throttled: fn(&Response) -> bool,
    ) -> Result<Response, Error> {
        let url = format!("{}{path}", self.url);
        let request = Request { method, url: &url, headers, body };
        let left = self.deadline.remaining().unwrap_or_default();
        let limits = Limits { connect: left, read: left };
        let patience = Patience { attempts: ATTEMPTS, limits, deadline: self.deadline, log: &self.log };
        retry::ask(&self.http, &request, patience, is_throttled).map_err(|failure| failure.into_error(&self.name()))
    }

    /// An error of this service.
    pub(crate) fn fault(&self, what: &str) -> Error {
        Error::new(ErrorKind::Provider, format!("{}: {what}", self.name()))
    }

    fn name(&self) -> String {
        format!("{} at {}", self.service.name(), self.url)
    }
}

/// A setting from its environment variable, else from the profile's property.
fn setting<'a>(config: &'a Config, profile: Option<&'a Profile>, variable: &str, property: &str) -> Option<&'a str> {
    config.environment.get(variable).or_else(|| profile?.get(property))
}

fn is_on(config: &Config, profile: Option<&Profile>, variable: &str, property: &str) -> bool {
    setting(config, profile, variable, property).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn url(service: AwsService, config: &Config, profile: Option<&Profile>, region: &str) -> Result<String, Error> {
    let ignored = is_on(config, profile, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls");
    if !ignored && let Some((named_by, url)) = configured(service, config, profile) {
        return match http::endpoint_fault(url) {
            None => Ok(url.trim_end_matches('/').to_owned()),
            Some(why) => Err(invalid_configuration(format!(
                "{named_by}: {:?} {why}; use one like https://host or http://host:port",
                http::shown(url)
            ))),
        };
    }
    region_name::check(region).map_err(|why| invalid_configuration(format!("region for {}: {why}", service.name())))?;
    let region = region.to_ascii_lowercase();
    let partition = Partition::of_region(&region);
    let fips = is_on(config, profile, "AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint");
    let dual_stack = is_on(config, profile, "AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint");
    if service == AwsService::SignIn && !dual_stack {
        // Neither the names of the regions nor those of GovCloud's FIPS endpoint follow the pattern.
        match (fips, partition.id) {
            (false, _) => return Ok(format!("https://{region}.{}", partition.sign_in_domain)),
            (true, "aws-us-gov") => return Ok("https://signin-fips.amazonaws-us-gov.com".to_owned()),
            (true, _) => {}
        }
    }
    let suffix = if dual_stack { partition.dual_stack_dns_suffix } else { partition.dns_suffix };
    // GovCloud's ordinary names are FIPS endpoints themselves.
    let fips = if fips && (dual_stack || !region.starts_with("us-gov-")) { "-fips" } else { "" };
    let place = match service {
        AwsService::Iam => iam_place(partition, dual_stack),
        _ => format!(".{region}"),
    };
    Ok(format!("https://{}{fips}{place}.{suffix}", service.host_prefix()))
}

/// What follows `iam` in a host name, as in botocore's endpoint rules.
fn iam_place(partition: &Partition, dual_stack: bool) -> String {
    match partition.id {
        "aws-us-gov" => ".us-gov".to_owned(),
        "aws" | "aws-cn" if dual_stack => ".global".to_owned(),
        "aws" => String::new(),
        _ => format!(".{}", partition.default_region),
    }
}

/// A configured endpoint, in the SDKs' order, and the setting that names it.
fn configured<'a>(
    service: AwsService,
    config: &'a Config,
    profile: Option<&'a Profile>,
) -> Option<(&'static str, &'a str)> {
    if let Some(url) = config.environment.get(service.variable()) {
        return Some((service.variable(), url));
    }
    if let Some(url) = config.environment.get("AWS_ENDPOINT_URL") {
        return Some(("AWS_ENDPOINT_URL", url));
    }
    let profile = profile?;
    if let Some(section) = profile.get("services")
        && let Ok(files) = config.files()
        && let Some(url) = files.service_setting(section, service.section(), "endpoint_url")
    {
        return Some(("endpoint_url of the profile's services section", url));
    }
    profile.get("endpoint_url").map(|url| ("endpoint_url of the profile", url))
}

/// The proxy for a URL, unless NO_PROXY exempts its host. As in curl and botocore, a lower-case name wins.
fn proxy(config: &Config, url: &str) -> Result<Option<Proxy>, Error> {
    let names = if http::is_https(url) { ["https_proxy", "HTTPS_PROXY"] } else { ["http_proxy", "HTTP_PROXY"] };
    let set = |names: [&'static str; 2]| {
        names.into_iter().find_map(|name| config.environment.get(name).map(|value| (name, value)))
    };
    let Some((name, proxy)) = set(names) else { return Ok(None) };
    let uri: Uri = url.parse().map_err(|_| invalid_configuration(format!("{:?} is not a URL", http::shown(url))))?;
    if set(["no_proxy", "NO_PROXY"]).is_some_and(|(_, list)| is_exempt(uri.host().unwrap_or_default(), list)) {
        return Ok(None);
    }
    // The value may contain a password and is not repeated.
    http::proxy(proxy).map(Some).ok_or_else(|| {
        invalid_configuration(format!("{name} is not the URL of an HTTP proxy, as in http://proxy.example.com:3128"))
    })
}

/// Whether a NO_PROXY list has this host: by `*`, by its name, or by a domain that it is in.
fn is_exempt(host: &str, list: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    list.split(',').map(str::trim).any(|entry| {
        let name = entry.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        // A port may follow the name; in an IPv6 address the colons are its own.
        let name = match bare.parse::<IpAddr>() {
            Ok(_) => bare,
            Err(_) => name.split_once(':').map_or(name.as_str(), |(host, _)| host).trim_matches(['[', ']']),
        };
        entry == "*"
            || (!name.is_empty()
                && (host == name || host.strip_suffix(name).is_some_and(|before| before.ends_with('.'))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment::Environment;
    use crate::config::settings::Settings;

    fn config(variables: &[(&str, &str)]) -> Config {
        let none = [("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")];
        let environment: Environment = variables.iter().copied().chain(none).collect();
        Config::read(Settings::default(), Some(environment))
    }

    #[test]
    fn every_partition_has_its_host_names() {
        const FIPS: (&str, &str) = ("AWS_USE_FIPS_ENDPOINT", "true");
        const DUAL: (&str, &str) = ("AWS_USE_DUALSTACK_ENDPOINT", "true");
        for (region, variables, expected) in [
            ("eu-central-1", &[][..], "https://sts.eu-central-1.amazonaws.com"),
            ("us-east-1", &[FIPS], "https://sts-fips.us-east-1.amazonaws.com"),
            ("us-east-1", &[DUAL], "https://sts.us-east-1.api.aws"),
            ("us-east-1", &[FIPS, DUAL], "https://sts-fips.us-east-1.api.aws"),
            ("us-gov-west-1", &[FIPS], "https://sts.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", &[], "https://sts.cn-north-1.amazonaws.com.cn"),
            ("us-iso-east-1", &[], "https://sts.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", &[], "https://sts.us-isob-east-1.sc2s.sgov.gov"),
            ("eusc-de-east-1", &[], "https://sts.eusc-de-east-1.amazonaws.eu"),
        ] {
            assert_eq!(url(AwsService::Sts, &config(variables), None, region).unwrap(), expected);
        }
        // As botocore's endpoint rules resolve them.
        for (service, region, variables, expected) in [
            (AwsService::Rds, "us-east-1", &[FIPS][..], "https://rds-fips.us-east-1.amazonaws.com"),
            (AwsService::CloudWatch, "eu-central-1", &[], "https://monitoring.eu-central-1.amazonaws.com"),
            (AwsService::Logs, "cn-north-1", &[DUAL], "https://logs.cn-north-1.api.amazonwebservices.com.cn"),
            (AwsService::Iam, "eu-central-1", &[], "https://iam.amazonaws.com"),
            (AwsService::Iam, "us-east-1", &[FIPS], "https://iam-fips.amazonaws.com"),
            (AwsService::Iam, "us-east-1", &[DUAL], "https://iam.global.api.aws"),
            (AwsService::Iam, "us-gov-east-1", &[FIPS], "https://iam.us-gov.amazonaws.com"),
            (AwsService::Iam, "cn-northwest-1", &[], "https://iam.cn-north-1.amazonaws.com.cn"),
            (AwsService::Iam, "us-iso-east-1", &[], "https://iam.us-iso-east-1.c2s.ic.gov"),
            (AwsService::Iam, "eusc-de-east-1", &[], "https://iam.eusc-de-east-1.amazonaws.eu"),
        ] {
            assert_eq!(url(service, &config(variables), None, region).unwrap(), expected);
        }
        let sso = |service| url(service, &config(&[]), None, "eu-west-1").unwrap();
        assert_eq!(sso(AwsService::Sso), "https://portal.sso.eu-west-1.amazonaws.com");
        assert_eq!(sso(AwsService::SsoOidc), "https://oidc.eu-west-1.amazonaws.com");
        // As botocore resolves them.
        for (region, variables, expected) in [
            ("eu-central-1", &[][..], "https://eu-central-1.signin.aws.amazon.com"),
            ("cn-north-1", &[], "https://cn-north-1.signin.amazonaws.cn"),
            ("us-gov-west-1", &[], "https://us-gov-west-1.signin.amazonaws-us-gov.com"),
            ("eusc-de-east-1", &[], "https://eusc-de-east-1.signin.amazonaws-eusc.eu"),
            ("us-iso-east-1", &[], "https://us-iso-east-1.signin.c2shome.ic.gov"),
            ("us-isob-east-1", &[], "https://us-isob-east-1.signin.sc2shome.sgov.gov"),
            ("eu-isoe-west-1", &[], "https://eu-isoe-west-1.signin.csphome.adc-e.uk"),
            ("us-isof-south-1", &[], "https://us-isof-south-1.signin.csphome.hci.ic.gov"),
            ("us-east-1", &[FIPS], "https://signin-fips.us-east-1.amazonaws.com"),
            ("us-gov-west-1", &[FIPS], "https://signin-fips.amazonaws-us-gov.com"),
            ("cn-north-1", &[FIPS], "https://signin-fips.cn-north-1.amazonaws.com.cn"),
            ("us-gov-west-1", &[FIPS, DUAL], "https://signin-fips.us-gov-west-1.api.aws"),
            ("eu-central-1", &[DUAL], "https://signin.eu-central-1.api.aws"),
            ("us-east-1", &[("AWS_ENDPOINT_URL_SIGNIN", "http://local")], "http://local"),
        ] {
            assert_eq!(url(AwsService::SignIn, &config(variables), None, region).unwrap(), expected);
        }
    }

    #[test]
    fn an_endpoint_or_a_proxy_that_makes_no_sense_is_named_without_its_password() {
        for (name, value) in [
            ("AWS_ENDPOINT_URL_STS", "https://jane:planted@sts.example.com"),
            ("AWS_ENDPOINT_URL_STS", "jane:planted@sts.example.com"),
            ("AWS_ENDPOINT_URL_STS", "https:/jane:planted@sts.example.com"),
            ("AWS_ENDPOINT_URL_STS", "https://jane:x/planted@sts.example.com"),
            ("AWS_ENDPOINT_URL_STS", "https://:443"),
            ("AWS_ENDPOINT_URL", "sts.example.com"),
            ("HTTPS_PROXY", "socks5://jane:planted@proxy:1080"),
            ("https_proxy", "jane:planted@"),
        ] {
            let config = config(&[(name, value)]);
            let deadline = Deadline::after(std::time::Duration::from_secs(1));
            let error = Endpoint::new(AwsService::Sts, &config, "eu-west-1", deadline).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
            assert!(error.message().starts_with(name) && !error.message().contains("planted"), "{error}");
        }
    }

    #[test]
    fn a_region_cannot_name_another_host() {
        for region in ["x@attacker.com", "attacker.com/", "a.b", "a#", "", "eu central"] {
            let error = url(AwsService::Sts, &config(&[]), None, region).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{region}");
        }
    }

    #[test]
    fn configured_endpoints_are_used_in_the_sdks_order_and_can_be_ignored() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        std::fs::write(
            &file,
            "[default]\nendpoint_url = http://profile\nservices = local\n[services local]\nsts =\n  endpoint_url = http://services\n",
        )
        .unwrap();
        let with = |variables: &[(&str, &str)]| {
            let mut all =
                vec![("AWS_CONFIG_FILE", file.to_str().unwrap()), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")];
            all.extend(variables);
            let config = Config::read(Settings::default(), Some(all.into_iter().collect()));
            let of = |service| url(service, &config, config.profile().unwrap(), "us-east-1").unwrap();
            (of(AwsService::Sts), of(AwsService::Sso))
        };
        let (sts, sso) = with(&[]);
        assert_eq!((sts.as_str(), sso.as_str()), ("http://services", "http://profile"));
        let (sts, sso) = with(&[("AWS_ENDPOINT_URL", "http://all/")]);
        assert_eq!((sts.as_str(), sso.as_str()), ("http://all", "http://all"));
        let (sts, sso) = with(&[("AWS_ENDPOINT_URL", "http://all"), ("AWS_ENDPOINT_URL_STS", "http://one")]);
        assert_eq!((sts.as_str(), sso.as_str()), ("http://one", "http://all"));
        let (sts, _) = with(&[("AWS_ENDPOINT_URL", "http://all"), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")]);
        assert_eq!(sts, "https://sts.us-east-1.amazonaws.com");
    }

    #[test]
    fn no_proxy_exempts_hosts_and_domains() {
        let through = |no_proxy: &str| {
            let config = config(&[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", no_proxy)]);
            proxy(&config, "https://sts.eu-west-1.amazonaws.com").unwrap().is_some()
        };
        assert!(through(""));
        assert!(through("example.com,azonaws.com"));
        for exempt in ["*", "amazonaws.com", ".amazonaws.com", "*.amazonaws.com", "x, sts.eu-west-1.amazonaws.com"] {
            assert!(!through(exempt), "{exempt}");
        }
        let config = config(&[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "[::1],127.0.0.1:443")]);
        for (url, expected) in [("https://[::1]:8443", false), ("https://127.0.0.1", false), ("https://[::2]", true)] {
            assert_eq!(proxy(&config, url).unwrap().is_some(), expected, "{url}");
        }
    }
}
