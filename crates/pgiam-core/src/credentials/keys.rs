//! Access keys that a person wrote down, in environment variables or profile files, and what makes them unusable.

use std::time::SystemTime;

use aws_credential_types::Credentials;

/// Keys as they were found.
pub(crate) struct Keys<'a> {
    pub(crate) access_key_id: &'a str,
    pub(crate) secret_access_key: &'a str,
    /// An empty token is none: AWS refuses an empty parameter.
    pub(crate) session_token: Option<&'a str>,
    pub(crate) expiry: Option<SystemTime>,
}

impl Keys<'_> {
    /// The credentials, or why AWS would never accept them. The reason repeats no part of a key.
    pub(crate) fn credentials(&self, provider: &'static str) -> Result<Credentials, String> {
        let token = self.session_token.map(str::trim).filter(|token| !token.is_empty());
        let credentials = Credentials::new(
            self.access_key_id.trim(),
            self.secret_access_key.trim(),
            token.map(str::to_owned),
            self.expiry,
            provider,
        );
        check_id(self.access_key_id.trim())?;
        check(&credentials)?;
        Ok(credentials)
    }
}

/// IAM's API reference gives key ids as `[\w]+`. Only what a person wrote is held to that: the id of a credential service's
/// stand-in (`test-key`) is the service's business.
fn check_id(id: &str) -> Result<(), String> {
    let Some(bad) = id.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '_')) else { return Ok(()) };
    // Not the id itself: it may be the secret, in the wrong place.
    let advice = if is_quote(bad) { "remove the quotes" } else { "check that it is not the secret or another text" };
    Err(format!(
        "the access key id has the character {bad:?}; an id like AKIAIOSFODNN7EXAMPLE has letters and digits only: {advice}"
    ))
}

/// Refuses credentials that cannot work, whatever their source.
pub(crate) fn check(credentials: &Credentials) -> Result<(), String> {
    let (id, secret) = (credentials.access_key_id(), credentials.secret_access_key());
    let token = credentials.session_token().filter(|token| !token.is_empty());
    if id.trim().is_empty() {
        return Err("the access key id is empty".into());
    }
    if secret.trim().is_empty() {
        return Err("the secret access key is empty".into());
    }
    if id.starts_with("ASIA") && token.is_none() {
        return Err(
            "the access key id begins with ASIA, which marks temporary credentials, and their session token is \
                    missing; set AWS_SESSION_TOKEN, or aws_session_token in the profile, with the two keys"
                .into(),
        );
    }
    for (what, value) in [("access key id", Some(id)), ("secret access key", Some(secret)), ("session token", token)] {
        let Some(value) = value else { continue };
        if value.starts_with(is_quote) && value.ends_with(is_quote) {
            return Err(format!("the {what} is in quotes; remove them"));
        }
        if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(format!("the {what} has white space or a control character in it; copy it again"));
        }
    }
    Ok(())
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`' | '\u{2018}'..='\u{201f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "AKIAIOSFODNN7EXAMPLE";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn outcome(
        access_key_id: &str,
        secret_access_key: &str,
        session_token: Option<&str>,
    ) -> Result<Credentials, String> {
        Keys { access_key_id, secret_access_key, session_token, expiry: None }.credentials("test")
    }

    #[test]
    fn white_space_around_keys_is_removed() {
        let keys = outcome(" AKIAIOSFODNN7EXAMPLE\r", &format!("{SECRET}\n"), Some("\t")).unwrap();
        assert_eq!((keys.access_key_id(), keys.secret_access_key(), keys.session_token()), (ID, SECRET, None));
    }

    #[test]
    fn keys_that_cannot_work_are_refused_with_the_reason_and_without_the_key() {
        for (id, secret, token, part) in [
            ("\"AKIAIOSFODNN7EXAMPLE\"", SECRET, None, "remove the quotes"),
            ("\u{201c}AKIAIOSFODNN7EXAMPLE\u{201d}", SECRET, None, "remove the quotes"),
            (SECRET, ID, None, "'/'"),
            ("AKIA IOSFODNN7EXAMPLE", SECRET, None, "' '"),
            ("arn:aws:iam::123456789012:user/jane", SECRET, None, "':'"),
            (" ", SECRET, None, "access key id is empty"),
            (ID, " ", None, "secret access key is empty"),
            (ID, "'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY'", None, "secret access key is in quotes"),
            (ID, "wJalrXUtnFEMI K7MDENG+bPxRfiCYEXAMPLEKEY", None, "secret access key has white space"),
            ("ASIAIOSFODNN7EXAMPLE", SECRET, None, "session token is missing"),
            ("ASIAIOSFODNN7EXAMPLE", SECRET, Some(" "), "session token is missing"),
            ("ASIAIOSFODNN7EXAMPLE", SECRET, Some("\"IQoJb3JpZ2luX2VjEJ\""), "session token is in quotes"),
            ("ASIAIOSFODNN7EXAMPLE", SECRET, Some("IQoJb3Jp\nZ2luX2VjEJ"), "session token has white space"),
        ] {
            let why = outcome(id, secret, token).unwrap_err();
            assert!(why.contains(part), "{id}: {why}");
            assert!(!why.contains("K7MDENG") && !why.contains("IQoJ"), "{why}");
        }
        assert!(outcome("ASIAIOSFODNN7EXAMPLE", SECRET, Some("IQoJb3JpZ2luX2VjEJ//+==")).is_ok());
        assert!(outcome(ID, SECRET, None).is_ok());
    }
}
