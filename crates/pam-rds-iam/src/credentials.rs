//! Looks up access keys: one file per key, written by the AWS simulator.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

/// The credential of an access key id, as its file has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Credential {
    /// The access key id.
    pub access_key_id: String,
    /// The secret key.
    pub secret_access_key: String,
    /// The required value of `X-Amz-Security-Token`; `None`: the parameter must be absent.
    pub session_token: Option<String>,
    /// Expiration in Unix seconds; `None`: never.
    pub expiration: Option<i64>,
    /// The principal's ARN. For the log only.
    pub principal: String,
    /// The database users for which `rds-db:connect` is allowed; `None`: all.
    #[serde(default)]
    pub allowed_users: Option<Vec<String>>,
}

/// A store of credentials.
pub trait CredentialStore {
    /// Returns the credential of an access key id, or why there is none.
    fn find(&self, access_key_id: &str) -> Result<Credential, String>;
}

impl CredentialStore for &[Credential] {
    fn find(&self, access_key_id: &str) -> Result<Credential, String> {
        self.iter()
            .find(|credential| credential.access_key_id == access_key_id)
            .cloned()
            .ok_or_else(|| "unknown".to_owned())
    }
}

/// A directory with a file `ACCESS_KEY_ID.json` for every key. Files must be renamed into place, so that a reader never
/// sees a part of one.
#[derive(Debug, Clone)]
pub struct CredentialDirectory {
    directory: PathBuf,
}

impl CredentialDirectory {
    /// Files are read when a key is looked up, not before.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }
}

impl CredentialStore for CredentialDirectory {
    fn find(&self, access_key_id: &str) -> Result<Credential, String> {
        // It comes from the client and is used as a file name.
        let well_formed = access_key_id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !well_formed || !(8..=128).contains(&access_key_id.len()) {
            return Err("not 8 to 128 capital letters and digits".to_owned());
        }
        let path = self.directory.join(format!("{access_key_id}.json"));
        let content = fs::read(&path).map_err(|error| format!("unknown: {}: {error}", path.display()))?;
        // serde_json quotes a value of the wrong type, which could be a secret: only the position is kept.
        let credential: Credential = serde_json::from_slice(&content).map_err(|error| {
            format!("{}: not a credential file, see line {} column {}", path.display(), error.line(), error.column())
        })?;
        if credential.access_key_id == access_key_id {
            Ok(credential)
        } else {
            Err(format!("{}: has another access key", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{CredentialDirectory, CredentialStore};

    const FILE: &str = r#"{"access_key_id":"ASIAEXAMPLE","secret_access_key":"s","session_token":null,
        "expiration":null,"principal":"arn:aws:iam::123456789012:user/app"}"#;

    #[test]
    fn a_key_is_looked_up_in_its_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ASIAEXAMPLE.json"), FILE).unwrap();
        let found = CredentialDirectory::new(directory.path()).find("ASIAEXAMPLE").unwrap();
        assert_eq!(found.secret_access_key, "s");
        assert_eq!(found.allowed_users, None);
    }

    #[test]
    fn an_access_key_id_cannot_name_a_file_outside_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("inside");
        fs::create_dir(&inside).unwrap();
        fs::write(directory.path().join("ASIAEXAMPLE.json"), FILE).unwrap();
        for id in [
            "../ASIAEXAMPLE",
            "..%2FASIAEXAMPLE",
            "ASIA/EXAMPLE",
            "ASIAEXAMPLE\0",
            "asiaexample",
            "SHORT",
            "",
            &"A".repeat(129),
        ] {
            let why = CredentialDirectory::new(&inside).find(id).unwrap_err();
            assert!(why.contains("capital letters and digits"), "{id}: {why}");
        }
    }

    #[test]
    fn a_file_with_another_key_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ASIAANOTHER.json"), FILE).unwrap();
        let why = CredentialDirectory::new(directory.path()).find("ASIAANOTHER").unwrap_err();
        assert!(why.contains("another access key"), "{why}");
    }

    #[test]
    fn the_error_about_an_invalid_file_does_not_quote_it() {
        let directory = tempfile::tempdir().unwrap();
        let broken = FILE.replace(r#"null,"principal""#, r#""the secret","principal""#);
        fs::write(directory.path().join("ASIAEXAMPLE.json"), broken).unwrap();
        let why = CredentialDirectory::new(directory.path()).find("ASIAEXAMPLE").unwrap_err();
        assert!(why.contains("line 2"), "{why}");
        assert!(!why.contains("the secret"), "{why}");
    }
}
