//! Who owns an access key: one file a key, written by whatever plays AWS in a test.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;

/// What the owner of an access key id holds, as its file says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Credential {
    /// The public part.
    pub access_key_id: String,
    /// The key that signs.
    pub secret_access_key: String,
    /// What a token must carry as `X-Amz-Security-Token`; `None`: that parameter must be absent.
    pub session_token: Option<String>,
    /// Unix seconds; `None`: never.
    pub expiration: Option<i64>,
    /// The ARN it speaks for. For the log only.
    pub principal: String,
    /// The database users that `rds-db:connect` is allowed for; `None`: all.
    #[serde(default)]
    pub allowed_users: Option<Vec<String>>,
}

/// Where credentials are looked up.
pub trait CredentialStore {
    /// The credential of that access key id, or why there is none.
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

/// A directory that holds `ACCESS_KEY_ID.json` for every key. A file must appear whole, that is, by rename.
#[derive(Debug, Clone)]
pub struct CredentialDirectory {
    directory: PathBuf,
}

impl CredentialDirectory {
    /// Nothing is read before the first look-up.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }
}

impl CredentialStore for CredentialDirectory {
    fn find(&self, access_key_id: &str) -> Result<Credential, String> {
        // It comes from the client and is about to become a file name.
        let well_formed = access_key_id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        if !well_formed || !(8..=128).contains(&access_key_id.len()) {
            return Err("not 8 to 128 capital letters and digits".to_owned());
        }
        let path = self.directory.join(format!("{access_key_id}.json"));
        let content = fs::read(&path).map_err(|error| format!("unknown: {}: {error}", path.display()))?;
        // serde_json quotes nothing but a value of the wrong type, which a secret could be: keep its position only.
        let credential: Credential = serde_json::from_slice(&content).map_err(|error| {
            format!("{}: not a credential file, see line {} column {}", path.display(), error.line(), error.column())
        })?;
        if credential.access_key_id == access_key_id {
            Ok(credential)
        } else {
            Err(format!("{}: holds another access key", path.display()))
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
    fn a_key_is_found_by_its_file() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ASIAEXAMPLE.json"), FILE).unwrap();
        let found = CredentialDirectory::new(directory.path()).find("ASIAEXAMPLE").unwrap();
        assert_eq!(found.secret_access_key, "s");
        assert_eq!(found.allowed_users, None);
    }

    #[test]
    fn an_access_key_id_cannot_lead_out_of_the_directory() {
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
    fn a_file_that_holds_another_key_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ASIAANOTHER.json"), FILE).unwrap();
        let why = CredentialDirectory::new(directory.path()).find("ASIAANOTHER").unwrap_err();
        assert!(why.contains("another access key"), "{why}");
    }

    #[test]
    fn a_broken_file_is_told_without_what_is_in_it() {
        let directory = tempfile::tempdir().unwrap();
        let broken = FILE.replace(r#"null,"principal""#, r#""the secret","principal""#);
        fs::write(directory.path().join("ASIAEXAMPLE.json"), broken).unwrap();
        let why = CredentialDirectory::new(directory.path()).find("ASIAEXAMPLE").unwrap_err();
        assert!(why.contains("line 2"), "{why}");
        assert!(!why.contains("the secret"), "{why}");
    }
}
