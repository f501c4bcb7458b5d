//! A snapshot of the environment variables that are used, taken once, so that no later call reads the live environment
//! while another thread of the host program may be changing it. An empty variable, or one of white space only, counts as
//! unset.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::log;
use crate::sys::{self, Variables};

/// Variables by name. `Debug` shows names only: values may be secrets.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, Zeroizing<String>>,
    /// All variables of the process, where this is its environment.
    for_children: Option<Arc<Variables>>,
}

impl Environment {
    /// The process' environment now: `AWS_*`, `HOME`, `REQUESTS_CA_BUNDLE`, the proxy variables, `PGIAM_LOG`,
    /// `PGIAM_LOG_FILE`, and those that the paths of the profile files and of the login cache refer to. Empty for a
    /// program that runs with more rights than its caller. Do not change the environment in another thread meanwhile.
    #[must_use]
    pub fn from_process() -> Self {
        if sys::runs_privileged() {
            return Self::default();
        }
        let mut environment: Self = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| Self::matters(name))
            .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
            .collect();
        environment.add_referenced(|name| std::env::var(name).ok());
        environment.for_children = Some(Arc::new(Variables::of_process()));
        environment
    }

    /// All variables, for a program that is started: those that the process had when this was read.
    pub(crate) fn for_children(&self) -> Arc<Variables> {
        self.for_children.clone().unwrap_or_else(|| Arc::new(Variables::of_process()))
    }

    /// Adds the variables that the paths of the profile files and of the login cache refer to.
    fn add_referenced(&mut self, variable: impl Fn(&str) -> Option<String>) {
        for path in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_LOGIN_CACHE_DIRECTORY"] {
            let path = self.get(path).unwrap_or_default().to_owned();
            for (at, _) in path.match_indices('$') {
                let (_, name) = reference(&path[at..]);
                if let Some(value) = Some(name).filter(|name| !name.is_empty()).and_then(&variable) {
                    self.variables.entry(name.to_owned()).or_insert_with(|| Zeroizing::new(value));
                }
            }
        }
    }

    fn matters(name: &str) -> bool {
        name.starts_with("AWS_")
            || [log::LEVEL_VARIABLE, log::FILE_VARIABLE].contains(&name)
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

    /// A variable's value, unless it is unset, empty or white space.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.as_str()).filter(|value| !value.trim().is_empty())
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

    /// A path with `$NAME` and `${NAME}` replaced, as the AWS CLI does it for the paths of the profile files and of the
    /// login cache. What is not set stays as it is.
    pub(crate) fn expand_variables(&self, path: &str) -> String {
        let mut expanded = String::with_capacity(path.len());
        let mut rest = path;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            rest = &rest[at..];
            let (reference, name) = reference(rest);
            match self.variables.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.push_str(reference),
            }
            rest = &rest[reference.len()..];
        }
        expanded + rest
    }

    /// Whether a variable says yes: `true` in any case. Everything else is no.
    #[must_use]
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }
}

/// The `$NAME` or `${NAME}` that a text begins with, and the name in it.
fn reference(text: &str) -> (&str, &str) {
    let after = &text[1..];
    if let Some((name, _)) = after.strip_prefix('{').and_then(|inside| inside.split_once('}')) {
        return (&text[..name.len() + 3], name);
    }
    let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
    (&text[..=end], &after[..end])
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut environment = Self::default();
        // Not collected: that would sort them first, by code that nothing else needs.
        environment
            .variables
            .extend(pairs.into_iter().map(|(name, value)| (name.into(), Zeroizing::new(value.into()))));
        environment
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_that_is_empty_or_white_space_counts_as_unset() {
        let environment: Environment =
            [("AWS_PROFILE", ""), ("AWS_ACCESS_KEY_ID", " \t\n"), ("AWS_REGION", "eu-west-1")].into_iter().collect();
        assert_eq!(environment.get("AWS_PROFILE"), None);
        assert_eq!(environment.get("AWS_ACCESS_KEY_ID"), None);
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
    fn variables_in_the_paths_of_the_profile_files_are_expanded() {
        let mut environment: Environment =
            [("HOME", "/home/jane"), ("AWS_CONFIG_FILE", "${XDG}/$TEAM-aws/config")].into_iter().collect();
        environment.add_referenced(|name| match name {
            "XDG" => Some("/xdg".into()),
            "TEAM" => Some("data".into()),
            _ => None,
        });
        for (path, expected) in [
            ("${XDG}/$TEAM-aws/config", "/xdg/data-aws/config"),
            ("$HOME/.aws/config", "/home/jane/.aws/config"),
            ("$UNSET/${UNSET}/$/${HOME", "$UNSET/${UNSET}/$/${HOME"),
            ("/plain", "/plain"),
        ] {
            assert_eq!(environment.expand_variables(path), expected, "{path}");
        }
    }

    #[test]
    fn debug_output_shows_names_and_no_values() {
        let environment: Environment = [("AWS_SECRET_ACCESS_KEY", "planted")].into_iter().collect();
        assert_eq!(format!("{environment:?}"), r#"{"AWS_SECRET_ACCESS_KEY"}"#);
    }
}
