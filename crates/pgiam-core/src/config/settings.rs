//! A client's own settings, given as keywords and values like libpq's. They win over the environment and the files.

use std::time::Duration;

use crate::config::region_name;
use crate::error::{Error, invalid_configuration};

/// Which kind of token to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Service {
    /// By the endpoint's name: Aurora DSQL for a DSQL endpoint, RDS for everything else.
    #[default]
    Auto,
    /// Amazon RDS and Aurora (`rds-db`), for any name.
    Rds,
    /// Aurora DSQL (`dsql`).
    Dsql,
}

/// A client's own settings, besides the environment and the profile files.
#[derive(Clone, Debug)]
pub struct Settings {
    profile: Option<String>,
    role_arn: Option<String>,
    external_id: Option<String>,
    role_session_name: Option<String>,
    region: Option<String>,
    service: Service,
    timeout: Option<Duration>,
}

/// The keywords that [`Settings::set`] accepts.
pub const KEYWORDS: [&str; 7] =
    ["profile", "region", "service", "timeout_ms", "role_arn", "external_id", "role_session_name"];

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl Default for Settings {
    fn default() -> Self {
        Self {
            profile: None,
            role_arn: None,
            external_id: None,
            role_session_name: None,
            region: None,
            service: Service::Auto,
            timeout: None,
        }
    }
}

impl Settings {
    /// Sets one keyword. An empty value means the default; the last value of a repeated keyword counts.
    ///
    /// | keyword | value |
    /// |---|---|
    /// | `profile` | a profile of the AWS config and credentials files, instead of `AWS_PROFILE`; the environment's keys and web identity are then skipped |
    /// | `region` | the region for host names that contain none |
    /// | `service` | `auto` (default), `rds` or `dsql` |
    /// | `timeout_ms` | milliseconds that one call may wait, 1 to 3,600,000 (default 10,000) |
    /// | `role_arn` | a role to assume, through STS, with the credentials that the sources provide |
    /// | `external_id` | the external id that the role's trust policy requires |
    /// | `role_session_name` | the name of that session in AWS' logs (default `pgiam-` and the time) |
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfiguration`](crate::ErrorKind::InvalidConfiguration): the keyword is unknown, or the value
    /// is not valid for it.
    pub fn set(&mut self, keyword: &str, value: &str) -> Result<(), Error> {
        let given = Some(value).filter(|value| !value.is_empty());
        match keyword {
            "profile" | "role_arn" | "external_id" | "role_session_name" => {
                if value.chars().any(char::is_control) {
                    return Err(invalid_configuration(format!(
                        "setting {keyword}: the value contains a control character"
                    )));
                }
                let place = match keyword {
                    "profile" => &mut self.profile,
                    "role_arn" => &mut self.role_arn,
                    "external_id" => &mut self.external_id,
                    _ => &mut self.role_session_name,
                };
                *place = given.map(str::to_owned);
            }
            "region" => {
                if let Some(value) = given {
                    region_name::check(value).map_err(|why| invalid_configuration(format!("setting region: {why}")))?;
                }
                self.region = given.map(str::to_owned);
            }
            "service" => {
                self.service = match given {
                    None | Some("auto") => Service::Auto,
                    Some("rds") => Service::Rds,
                    Some("dsql") => Service::Dsql,
                    Some(other) => {
                        return Err(invalid_configuration(format!(
                            "setting service: {other:?} is not one of auto, rds, dsql"
                        )));
                    }
                };
            }
            "timeout_ms" => {
                self.timeout = match given.map(str::parse::<u64>) {
                    None => None,
                    Some(Ok(milliseconds @ 1..=3_600_000)) => Some(Duration::from_millis(milliseconds)),
                    Some(_) => {
                        return Err(invalid_configuration(format!(
                            "setting timeout_ms: {value:?} is not a number of milliseconds from 1 to 3600000"
                        )));
                    }
                };
            }
            other => {
                return Err(invalid_configuration(format!(
                    "unknown setting {other:?}; known are: {}",
                    KEYWORDS.join(", ")
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    pub(crate) fn role_arn(&self) -> Option<&str> {
        self.role_arn.as_deref()
    }

    pub(crate) fn external_id(&self) -> Option<&str> {
        self.external_id.as_deref()
    }

    pub(crate) fn role_session_name(&self) -> Option<&str> {
        self.role_session_name.as_deref()
    }

    pub(crate) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    pub(crate) fn service(&self) -> Service {
        self.service
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    /// Whether `timeout_ms` is set.
    pub(crate) fn has_timeout(&self) -> bool {
        self.timeout.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_keyword_is_an_error_that_lists_the_known_ones() {
        let error = Settings::default().set("regoin", "x").unwrap_err();
        for keyword in KEYWORDS {
            assert!(error.message().contains(keyword), "{error}");
        }
    }

    #[test]
    fn every_listed_keyword_is_accepted_and_an_empty_value_is_its_default() {
        for keyword in KEYWORDS {
            let mut settings = Settings::default();
            settings.set(keyword, "").unwrap();
            assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
        }
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (keyword, value) in [
            ("timeout_ms", "0"),
            ("timeout_ms", "-1"),
            ("timeout_ms", "3600001"),
            ("timeout_ms", "1s"),
            ("service", "RDS"),
            ("region", "eu west"),
            ("profile", "a\nb"),
            ("role_arn", "a\nb"),
        ] {
            let error = Settings::default().set(keyword, value).unwrap_err();
            assert!(error.message().contains(keyword), "{keyword}={value}: {error}");
        }
    }
}
