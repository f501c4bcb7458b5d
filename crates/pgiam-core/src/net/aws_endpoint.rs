//! Where STS, SSO and OIDC are, and how they are reached: partitions, FIPS and dual-stack names, configured endpoints,
//! proxies and trust stores.
//!
//! Rules: AWS SDKs and Tools Reference Guide, "Service-specific endpoints", "Dual-stack and FIPS endpoints", "AWS STS
//! regional endpoints"; the partitions' DNS suffixes are those of the SDKs' `partitions.json`.

use std::net::IpAddr;

use ureq::http::Uri;

use crate::config::Config;
use crate::config::profile_files::Profile;
use crate::config::region_name;
use crate::error::{Error, ErrorKind, invalid_configuration};
use crate::net::http::{Failure, Http, Limits, Request, Response};
use crate::net::retry::{Attempt, retry};
use crate::net::tls;
use crate::time::Deadline;

/// A service that hands out credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AwsService {
    Sts,
    Sso,
    SsoOidc,
}

impl AwsService {
    fn host_prefix(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Sso => "portal.sso",
            Self::SsoOidc => "oidc",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Sts => "AWS_ENDPOINT_URL_STS",
            Self::Sso => "AWS_ENDPOINT_URL_SSO",
            Self::SsoOidc => "AWS_ENDPOINT_URL_SSO_OIDC",
        }
    }

    fn section(self) -> &'static str {
        match self {
            Self::Sts => "sts",
            Self::Sso => "sso",
            Self::SsoOidc => "sso_oidc",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sts => "STS",
            Self::Sso => "the SSO portal",
            Self::SsoOidc => "SSO OIDC",
        }
    }
}

/// A service at its place, ready to be asked.
pub(crate) struct Endpoint {
    service: AwsService,
    url: String,
    http: Http,
    deadline: Deadline,
}

const ATTEMPTS: u32 = 3;

impl Endpoint {
    /// `profile` is the profile whose settings count, `region` where the service is asked.
    pub(crate) fn new(
        service: AwsService,
        config: &Config,
        profile: Option<&Profile>,
        region: &str,
        deadline: Deadline,
    ) -> Result<Self, Error> {
        let url = url(service, config, profile, region)?;
        let http = if url.starts_with("https:") {
            let roots = tls::roots(config.ca_bundle().as_deref()).map_err(invalid_configuration)?;
            Http::over_tls(deadline, proxy(config, &url, "HTTPS_PROXY", "https_proxy"), roots)
        } else {
            match proxy(config, &url, "HTTP_PROXY", "http_proxy") {
                None => Ok(Http::without_proxy(deadline)),
                Some(proxy) => Http::over_tls(deadline, Some(proxy), tls::roots(None).map_err(invalid_configuration)?),
            }
        };
        let http = http.map_err(|failure| invalid_configuration(format!("proxy: {}", failure.describe())))?;
        Ok(Self { service, url, http, deadline })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Asks, and asks again when the service is busy or the connection breaks. `busy` tells an answer that is worth
    /// another try besides 429 and 5xx. `path` begins with `/`.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        busy: impl Fn(&Response) -> bool,
    ) -> Result<Response, Error> {
        let url = format!("{}{path}", self.url);
        let request = Request { method, url: &url, headers, body };
        retry(ATTEMPTS, self.deadline, || {
            let left = self.deadline.remaining().unwrap_or_default();
            let limits = Limits { connect: left, read: left };
            match self.http.send(&request, limits) {
                Ok(response) if response.status == 429 || response.status >= 500 || busy(&response) => Attempt::Again(
                    self.fault(&format!("HTTP {}: the service is throttling or failing", response.status))
                        .source_unavailable(),
                ),
                Ok(response) if (300..400).contains(&response.status) => Attempt::Done(Err(self.fault(&format!(
                    "HTTP {}: a redirect, which is not followed; check the endpoint and the proxy",
                    response.status
                )))),
                Ok(response) => Attempt::Done(Ok(response)),
                Err(failure @ (Failure::NotTrusted | Failure::TooLarge | Failure::BadRequest(_))) => {
                    Attempt::Done(Err(self.fault(&failure.describe())))
                }
                Err(failure @ (Failure::ConnectTimeout | Failure::AnswerTimeout)) => Attempt::Again(
                    Error::new(
                        ErrorKind::Timeout,
                        format!("{} at {}: {}", self.service.name(), self.url, failure.describe()),
                    )
                    .source_unavailable(),
                ),
                Err(failure) => Attempt::Again(self.fault(&failure.describe()).source_unavailable()),
            }
        })
    }

    /// An error of this service.
    pub(crate) fn fault(&self, what: &str) -> Error {
        Error::new(ErrorKind::Provider, format!("{} at {}: {what}", self.service.name(), self.url))
    }
}

/// A setting by environment variable, else by the profile's property.
fn setting<'a>(config: &'a Config, profile: Option<&'a Profile>, variable: &str, property: &str) -> Option<&'a str> {
    config.environment.get(variable).or_else(|| profile?.get(property))
}

fn is_on(config: &Config, profile: Option<&Profile>, variable: &str, property: &str) -> bool {
    setting(config, profile, variable, property).is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn url(service: AwsService, config: &Config, profile: Option<&Profile>, region: &str) -> Result<String, Error> {
    let ignored = is_on(config, profile, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls");
    if !ignored && let Some((named_by, url)) = configured(service, config, profile) {
        let valid = url.parse::<Uri>().ok().is_some_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some()
                && uri.query().is_none()
                && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
        });
        return if valid {
            Ok(url.trim_end_matches('/').to_owned())
        } else {
            Err(invalid_configuration(format!(
                "{named_by}: {url:?} is not a URL like https://host or http://host:port"
            )))
        };
    }
    region_name::check(region).map_err(|why| invalid_configuration(format!("region for {}: {why}", service.name())))?;
    let region = region.to_ascii_lowercase();
    let partition = Partition::of(&region);
    let fips = is_on(config, profile, "AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint");
    let dual_stack = is_on(config, profile, "AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint");
    let suffix = match (dual_stack, partition.dual_stack_suffix) {
        (false, _) => partition.suffix,
        (true, Some(suffix)) => suffix,
        (true, None) => {
            return Err(invalid_configuration(format!(
                "AWS_USE_DUALSTACK_ENDPOINT: region {region} has no dual-stack endpoint of {}",
                service.name()
            )));
        }
    };
    // GovCloud's ordinary names are FIPS endpoints themselves.
    let fips = if fips && (dual_stack || !region.starts_with("us-gov-")) { "-fips" } else { "" };
    Ok(format!("https://{}{fips}.{region}.{suffix}", service.host_prefix()))
}

/// An endpoint of one's own, in the SDKs' order, with who named it.
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

struct Partition {
    suffix: &'static str,
    dual_stack_suffix: Option<&'static str>,
}

impl Partition {
    fn of(region: &str) -> Self {
        const PARTITIONS: [(&str, Partition); 7] = [
            ("cn-", Partition { suffix: "amazonaws.com.cn", dual_stack_suffix: Some("api.amazonwebservices.com.cn") }),
            ("eusc-", Partition { suffix: "amazonaws.eu", dual_stack_suffix: Some("api.amazonwebservices.eu") }),
            ("us-isob-", Partition { suffix: "sc2s.sgov.gov", dual_stack_suffix: Some("api.aws.scloud") }),
            ("us-isof-", Partition { suffix: "csp.hci.ic.gov", dual_stack_suffix: Some("api.aws.hci.ic.gov") }),
            ("us-iso-", Partition { suffix: "c2s.ic.gov", dual_stack_suffix: Some("api.aws.ic.gov") }),
            ("eu-isoe-", Partition { suffix: "cloud.adc-e.uk", dual_stack_suffix: Some("api.cloud-aws.adc-e.uk") }),
            ("us-gov-", Partition { suffix: "amazonaws.com", dual_stack_suffix: Some("api.aws") }),
        ];
        const COMMERCIAL: Partition = Partition { suffix: "amazonaws.com", dual_stack_suffix: Some("api.aws") };
        PARTITIONS
            .into_iter()
            .find_map(|(prefix, partition)| region.starts_with(prefix).then_some(partition))
            .unwrap_or(COMMERCIAL)
    }
}

/// The proxy for an address, unless NO_PROXY exempts its host: `*`, a host, or a domain with all below it.
fn proxy<'a>(config: &'a Config, url: &str, upper: &str, lower: &str) -> Option<&'a str> {
    let either = |upper, lower| config.environment.get(lower).or_else(|| config.environment.get(upper));
    let proxy = either(upper, lower)?;
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let exempt = either("NO_PROXY", "no_proxy").is_some_and(|list| {
        list.split(',').map(str::trim).any(|entry| {
            let entry = entry.trim_start_matches('*').trim_start_matches('.').to_ascii_lowercase();
            let bare = entry.trim_start_matches('[').trim_end_matches(']');
            // A port behind the name; in an IPv6 address the colons are its own.
            let entry = match bare.parse::<IpAddr>() {
                Ok(_) => bare,
                Err(_) => entry.split_once(':').map_or(entry.as_str(), |(host, _)| host),
            };
            list.trim() == "*"
                || (!entry.is_empty()
                    && (host == entry || host.strip_suffix(entry).is_some_and(|before| before.ends_with('.'))))
        })
    });
    (!exempt).then_some(proxy)
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
    fn every_partition_has_its_names() {
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
        let sso = |service| url(service, &config(&[]), None, "eu-west-1").unwrap();
        assert_eq!(sso(AwsService::Sso), "https://portal.sso.eu-west-1.amazonaws.com");
        assert_eq!(sso(AwsService::SsoOidc), "https://oidc.eu-west-1.amazonaws.com");
    }

    #[test]
    fn a_region_cannot_name_another_host() {
        for region in ["x@attacker.com", "attacker.com/", "a.b", "a#", "", "eu central"] {
            let error = url(AwsService::Sts, &config(&[]), None, region).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{region}");
        }
    }

    #[test]
    fn configured_endpoints_win_in_the_sdks_order_and_can_be_ignored() {
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
            proxy(&config, "https://sts.eu-west-1.amazonaws.com", "HTTPS_PROXY", "https_proxy").is_some()
        };
        assert!(through(""));
        assert!(through("example.com,azonaws.com"));
        for exempt in ["*", "amazonaws.com", ".amazonaws.com", "*.amazonaws.com", "x, sts.eu-west-1.amazonaws.com"] {
            assert!(!through(exempt), "{exempt}");
        }
        let config = config(&[("HTTPS_PROXY", "http://proxy:3128"), ("NO_PROXY", "[::1],127.0.0.1:443")]);
        for (url, expected) in [("https://[::1]:8443", false), ("https://127.0.0.1", false), ("https://[::2]", true)] {
            assert_eq!(proxy(&config, url, "HTTPS_PROXY", "https_proxy").is_some(), expected, "{url}");
        }
    }
}
