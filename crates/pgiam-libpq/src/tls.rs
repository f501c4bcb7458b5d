//! A token is a password: it travels over TLS or not at all.
//!
//! `disable`, `allow` and an explicit `prefer` can send it in clear and are refused; an absent `sslmode` becomes
//! `require`, or `verify-full` where `sslrootcert=system` asks for it, as libpq 16 and later do by themselves.

/// The `sslmode` to connect with.
///
/// # Errors
///
/// What could happen to the token, and what to write instead. The caller says where the value stands.
pub fn required_sslmode<'a>(sslmode: Option<&'a str>, sslrootcert: Option<&str>) -> Result<&'a str, String> {
    match sslmode.filter(|mode| !mode.is_empty()) {
        None if sslrootcert == Some("system") => Ok("verify-full"),
        None => Ok("require"),
        Some(mode @ ("disable" | "allow" | "prefer")) => Err(format!(
            "sslmode={mode} could send the token in clear, and a token is a password; use sslmode=verify-full with \
             sslrootcert=FILE, or at least sslmode=require"
        )),
        // What libpq does not know it refuses itself.
        Some(mode) => Ok(mode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_that_can_send_a_token_in_clear_are_refused_and_an_absent_one_is_raised() {
        for mode in ["disable", "allow", "prefer"] {
            assert!(required_sslmode(Some(mode), None).unwrap_err().contains(mode));
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            assert_eq!(required_sslmode(Some(mode), None), Ok(mode));
        }
        assert_eq!(required_sslmode(None, None), Ok("require"));
        assert_eq!(required_sslmode(Some(""), Some("/ca.pem")), Ok("require"));
        assert_eq!(required_sslmode(None, Some("system")), Ok("verify-full"));
    }
}
