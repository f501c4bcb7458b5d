//! One login: reads the configuration, verifies the token, writes a line to the log.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::credentials::CredentialDirectory;
use crate::time::iso8601;
use crate::verifier::{Accepted, Check, Checks, Refused, Server, Service, verify};

/// The JSON file that `config=` names. An unknown member is an error: a misspelt one would otherwise be ignored.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    host: String,
    port: u16,
    region: String,
    #[serde(default)]
    service: Service,
    credentials_dir: PathBuf,
    log: PathBuf,
    #[serde(default)]
    max_token_age_seconds: Option<u64>,
    #[serde(default)]
    checks_left_out: Vec<Check>,
}

/// The configuration cannot be used, or the log cannot be written.
#[derive(Debug)]
pub struct ConfigurationError {
    path: PathBuf,
    problem: String,
}

impl ConfigurationError {
    fn new(path: &Path, problem: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), problem: problem.to_string() }
    }
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path.display(), self.problem)
    }
}

impl std::error::Error for ConfigurationError {}

impl Configuration {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, ConfigurationError> {
        let content = fs::read(path).map_err(|error| ConfigurationError::new(path, error))?;
        serde_json::from_slice(&content).map_err(|error| ConfigurationError::new(path, error))
    }

    /// Verifies `token` for `user` at `now`, in Unix seconds, and logs the decision. A decision that cannot be logged
    /// is an error, because tests read the log.
    pub fn login(&self, token: &[u8], user: &str, now: i64) -> Result<Result<Accepted, Refused>, ConfigurationError> {
        let decision = self.decide(token, user, now);
        append(&self.log, &log_line(&decision, user, now))
            .map_err(|error| ConfigurationError::new(&self.log, error))?;
        Ok(decision)
    }

    fn decide(&self, token: &[u8], user: &str, now: i64) -> Result<Accepted, Refused> {
        let token = std::str::from_utf8(token).map_err(|_| Refused {
            check: Check::Format,
            detail: "not UTF-8".to_owned(),
            access_key_id: None,
        })?;
        let server = Server {
            host: self.host.clone(),
            port: self.port,
            region: self.region.clone(),
            service: self.service,
            max_token_age_seconds: self.max_token_age_seconds,
        };
        let checks = self.checks_left_out.iter().fold(Checks::all(), |checks, check| checks.without(*check));
        let credentials = CredentialDirectory::new(&self.credentials_dir);
        verify(token, user, &server, &credentials, now, &checks)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    user: &'a str,
    access_key_id: Option<&'a String>,
    result: &'a str,
    check: Option<&'a str>,
    detail: &'a str,
}

fn log_line(decision: &Result<Accepted, Refused>, user: &str, now: i64) -> String {
    let (result, access_key_id, check, detail) = match decision {
        Ok(accepted) => ("accepted", Some(&accepted.access_key_id), None, accepted.principal.as_deref().unwrap_or("")),
        Err(refused) => {
            ("refused", refused.access_key_id.as_ref(), Some(refused.check.name()), refused.detail.as_str())
        }
    };
    let line = Line { time: iso8601(now), user, access_key_id, result, check, detail };
    serde_json::to_string(&line).expect("texts can be written as JSON") + "\n"
}

/// Appends in one write, so that lines of simultaneous logins do not mix.
fn append(path: &Path, line: &str) -> io::Result<()> {
    let written = OpenOptions::new().append(true).create(true).open(path)?.write(line.as_bytes())?;
    if written == line.len() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::WriteZero, "only a part of the line was written"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::Configuration;

    fn configuration(directory: &std::path::Path) -> Value {
        json!({
            "host": "prod-instance.us-east-1.rds.amazonaws.com",
            "port": 3306,
            "region": "us-east-1",
            "service": "rds-db",
            "credentials_dir": directory,
            "log": directory.join("log"),
            "max_token_age_seconds": null,
        })
    }

    fn read(directory: &std::path::Path, content: &Value) -> Result<Configuration, String> {
        let path = directory.join("rds.json");
        fs::write(&path, content.to_string()).unwrap();
        Configuration::read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn every_decision_is_one_line_without_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let configuration = read(directory.path(), &configuration(directory.path())).unwrap();
        let token = "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect&DBUser=peccy\
            &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ASIAEXAMPLE%2F20240826%2Fus-east-1%2Frds-db%2Faws4_request\
            &X-Amz-Date=20240826T220000Z&X-Amz-Expires=900&X-Amz-Security-Token=SESSIONTOKEN&X-Amz-SignedHeaders=host\
            &X-Amz-Signature=dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89";
        for attempt in [token.as_bytes(), b"a password typed\nby mistake", b"\xff\xfe"] {
            configuration.login(attempt, "jane\n@corp", 1_724_709_600).unwrap().unwrap_err();
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap();
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0]["time"], "2024-08-26T22:00:00Z");
        assert_eq!(lines[0]["user"], "jane\n@corp");
        assert_eq!(lines[0]["access_key_id"], "ASIAEXAMPLE");
        assert_eq!(lines[0]["result"], "refused");
        assert_eq!(lines[0]["check"], "user");
        assert_eq!(lines[1]["check"], "format");
        assert_eq!(lines[1]["access_key_id"], Value::Null);
        assert_eq!(lines[2]["check"], "format");
        for secret in ["SESSIONTOKEN", "dd0cba84", "typed"] {
            assert!(!log.contains(secret), "{log}");
        }
    }

    #[test]
    fn a_misspelt_member_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut content = configuration(directory.path());
        content["max_token_age"] = json!(60);
        let error = read(directory.path(), &content).unwrap_err();
        assert!(error.contains("max_token_age"), "{error}");
    }

    #[test]
    fn a_check_can_be_disabled_by_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let mut content = configuration(directory.path());
        content["checks_left_out"] = json!(["format", "algorithm"]);
        let refused = read(directory.path(), &content)
            .unwrap()
            .login(b"not a token", "peccy", 1_724_709_600)
            .unwrap()
            .unwrap_err();
        assert_eq!(refused.check.name(), "region");
        content["checks_left_out"] = json!(["no such check"]);
        assert!(read(directory.path(), &content).is_err());
    }

    #[test]
    fn a_decision_that_cannot_be_logged_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut content = configuration(directory.path());
        content["log"] = json!(directory.path().join("missing/log"));
        let error = read(directory.path(), &content).unwrap().login(b"", "peccy", 0).unwrap_err();
        assert!(error.to_string().contains("missing/log"), "{error}");
    }
}
