//! A snapshot of the environment variables that matter, taken once, so that nothing here reads the live environment
//! while another thread of the host program may be changing it. An empty variable counts as unset, as in the AWS CLI.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::sys;

/// Variables by name. `Debug` shows names only: values may be secrets.
#[derive(Clone, Default)]
pub struct Environment(HashMap<String, Zeroizing<String>>);

impl Environment {
    /// The process' environment now: `AWS_*`, `HOME` and the proxy variables. Empty for a program that runs with more
    /// rights than its caller. Do not change the environment in another thread meanwhile.
    #[must_use]
    pub fn from_process() -> Self {
        if sys::runs_privileged() {
            return Self::default();
        }
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| Self::matters(name))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect()
    }

    fn matters(name: &str) -> bool {
        name.starts_with("AWS_")
            || matches!(
                name,
                "HOME"
                    | "REQUESTS_CA_BUNDLE"
                    | "HTTPS_PROXY"
                    | "https_proxy"
                    | "HTTP_PROXY"
                    | "http_proxy"
                    | "NO_PROXY"
                    | "no_proxy"
            )
    }

    /// A variable's value, unless it is unset or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The home directory: `HOME`, else that of the password database.
    pub(crate) fn home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from).or_else(sys::home_directory)
    }

    /// A path as people write it: a leading `~` is the home directory.
    pub(crate) fn expand_home(&self, path: &str) -> PathBuf {
        let rest = match path.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest.trim_start_matches('/'),
            _ => return PathBuf::from(path),
        };
        self.home().map_or_else(|| PathBuf::from(path), |home| if rest.is_empty() { home } else { home.join(rest) })
    }

    /// Whether a variable says yes: `true` in any case. Everything else is no.
    #[must_use]
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), Zeroizing::new(value.into()))).collect())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let environment: Environment = [("AWS_PROFILE", ""), ("AWS_REGION", "eu-west-1")].into_iter().collect();
        assert_eq!(environment.get("AWS_PROFILE"), None);
        assert_eq!(environment.get("AWS_REGION"), Some("eu-west-1"));
    }

    #[test]
    fn a_leading_tilde_is_the_home_directory() {
        let environment: Environment = [("HOME", "/home/jane")].into_iter().collect();
        for (path, expected) in [
            ("~/corp/ca.pem", "/home/jane/corp/ca.pem"),
            ("~", "/home/jane"),
            ("~//x", "/home/jane/x"),
            ("~jane/x", "~jane/x"),
            ("/a/~/b", "/a/~/b"),
            ("a~", "a~"),
        ] {
            assert_eq!(environment.expand_home(path), PathBuf::from(expected), "{path}");
        }
    }

    #[test]
    fn debug_output_shows_names_and_no_values() {
        let environment: Environment = [("AWS_SECRET_ACCESS_KEY", "planted")].into_iter().collect();
        assert_eq!(format!("{environment:?}"), r#"{"AWS_SECRET_ACCESS_KEY"}"#);
    }
}
