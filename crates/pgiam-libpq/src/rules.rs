//! The rules: which hosts get a token and what it is signed for, what counts as a token or a request for one, and that a
//! token needs TLS.
//!
//! pgiam's own settings:
//!
//! | variable | keyword | meaning |
//! |---|---|---|
//! | `PGIAM` | `iam` | `off`: never; `auto` (default): hosts for which [`OwnSettings::gets_token`] is true; `on`: every host, except Unix sockets |
//! | `PGIAM_HOST` | `iam_host` | the endpoint name to sign for, behind a tunnel, a bastion or a CNAME; a list like libpq's `host` |
//! | `PGIAM_PORT` | `iam_port` | the port to sign for, likewise; default: the connection's port |
//! | `PGIAM_REGION` | `iam_region` | the region to sign for |
//! | `PGIAM_PROFILE` | `iam_profile` | the AWS profile whose credentials sign |
//! | `PGIAM_HOSTS` | `iam_hosts` | more host names that get tokens under `auto`, separated by commas; `*` matches any sequence of characters, including none |
//!
//! A keyword overrides its variable; an empty value counts as absent. If `PGIAM_HOST` or `PGIAM_PORT` is a list, its
//! n-th item belongs to the n-th host of the connection; a single value applies to all hosts.

use pgiam_core::token::endpoint;

use crate::conninfo::Parameters;
use crate::hosts::port_number;
pub use crate::keywords::OWN as KEYWORDS;

/// A password that asks for a token, for programs that insist on a password.
pub const SENTINEL: &str = "rds-iam";

/// Which connections get tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Never.
    Off,
    /// Connections to endpoints of RDS, Aurora and Aurora DSQL, and to hosts that the settings name.
    #[default]
    Auto,
    /// All except those over Unix sockets.
    On,
}

/// The settings of one connection, or of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnSettings {
    /// `PGIAM`, `iam`.
    pub mode: Mode,
    /// `PGIAM_REGION`, `iam_region`.
    pub region: Option<String>,
    /// `PGIAM_PROFILE`, `iam_profile`.
    pub profile: Option<String>,
    hosts_to_sign_for: Vec<String>,
    ports_to_sign_for: Vec<String>,
    patterns: Vec<String>,
}

/// The host and port that a token is signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The endpoint's host name.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl OwnSettings {
    /// No connection gets a token.
    #[must_use]
    pub fn off() -> Self {
        Self { mode: Mode::Off, ..Self::default() }
    }

    /// Reads the settings: `parameters` by keyword, else `variable` by name.
    ///
    /// # Errors
    ///
    /// The setting that is wrong, and why.
    pub fn read(parameters: &Parameters, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let get = |keyword: &'static str| -> Option<(String, &'static str)> {
            let (_, name) = KEYWORDS.into_iter().find(|(known, _)| *known == keyword)?;
            match parameters.get(keyword).filter(|value| !value.is_empty()) {
                Some(value) => Some((value.to_string(), keyword)),
                None => variable(name).filter(|value| !value.is_empty()).map(|value| (value, name)),
            }
        };
        let text = |keyword: &'static str| get(keyword).map(|(value, _)| value);
        let list = |keyword: &'static str| {
            let value = text(keyword).unwrap_or_default();
            value.split(',').map(|item| item.trim().to_owned()).collect::<Vec<_>>()
        };
        let mode = match get("iam") {
            None => Mode::Auto,
            Some((value, name)) => match value.as_str() {
                "off" => Mode::Off,
                "auto" => Mode::Auto,
                "on" => Mode::On,
                _ => return Err(format!("{name} is {value:?}; it must be off, auto or on")),
            },
        };
        let ports_to_sign_for = list("iam_port");
        if let Some(bad) = ports_to_sign_for.iter().find(|port| !port.is_empty() && port_number(port).is_none()) {
            let name = get("iam_port").map_or("iam_port", |(_, name)| name);
            return Err(format!("{name} has {bad:?}, which is not a port from 1 to 65535"));
        }
        Ok(Self {
            mode,
            region: text("iam_region"),
            profile: text("iam_profile"),
            hosts_to_sign_for: list("iam_host"),
            ports_to_sign_for,
            patterns: list("iam_hosts").into_iter().filter(|pattern| !pattern.is_empty()).collect(),
        })
    }

    /// Whether the connection's host number `index` gets a token. Under `auto`: an endpoint name, a name that matches
    /// `PGIAM_HOSTS`, or any host for which `PGIAM_HOST` names the endpoint.
    #[must_use]
    pub fn gets_token(&self, index: usize, host: &str) -> bool {
        if is_socket(host) {
            return false;
        }
        match self.mode {
            Mode::Off => false,
            Mode::On => true,
            Mode::Auto => {
                item(&self.hosts_to_sign_for, index).is_some()
                    || endpoint::is_recognized(host)
                    || self.patterns.iter().any(|pattern| matches(pattern, host))
            }
        }
    }

    /// What the token for the connection's host number `index` is signed for.
    #[must_use]
    pub fn endpoint(&self, index: usize, host: &str, port: u16) -> Endpoint {
        Endpoint {
            host: item(&self.hosts_to_sign_for, index).unwrap_or(host).to_owned(),
            port: item(&self.ports_to_sign_for, index).and_then(port_number).unwrap_or(port),
        }
    }
}

/// Item number `index` of a list, or the only one.
fn item(list: &[String], index: usize) -> Option<&str> {
    let item = if list.len() == 1 { list.first() } else { list.get(index) };
    item.map(String::as_str).filter(|item| !item.is_empty())
}

/// Whether a name matches a pattern, ignoring case; `*` matches any sequence of characters, including none.
fn matches(pattern: &str, name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let pattern = pattern.to_ascii_lowercase();
    let mut parts = pattern.split('*');
    let Some(mut rest) = name.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Whether libpq connects to this host over a Unix socket. Without a host it uses its default socket.
#[must_use]
pub fn is_socket(host: &str) -> bool {
    host.is_empty() || host.starts_with(['/', '@'])
}

/// Whether a password is replaced by a fresh token: it asks for one, or it is a token, which may be an old one that the
/// program copied from another connection.
#[must_use]
pub fn is_replaceable(password: impl AsRef<[u8]>) -> bool {
    let password = password.as_ref();
    password == SENTINEL.as_bytes() || is_token(password)
}

/// `HOST:PORT/?Action=connect&…` for RDS, `HOST/?Action=DbConnect…` for Aurora DSQL.
#[must_use]
pub fn is_token(password: impl AsRef<[u8]>) -> bool {
    str::from_utf8(password.as_ref()).is_ok_and(is_token_text)
}

fn is_token_text(text: &str) -> bool {
    let Some((host, query)) = text.split_once("/?") else { return false };
    let actions = ["Action=connect&", "Action=DbConnect&", "Action=DbConnectAdmin&"];
    host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':'))
        && actions.iter().any(|action| query.starts_with(action))
        && query.contains("&X-Amz-Signature=")
}

/// The `sslmode` to connect with. `disable`, `allow` and an explicit `prefer` can send a token in clear and are refused;
/// an absent one becomes `require`, or `verify-full` if `sslrootcert=system` requires that, as in libpq 16 and later.
///
/// # Errors
///
/// What could happen to the token, and what to write instead. The caller adds where the value comes from.
pub fn required_sslmode<'a>(sslmode: Option<&'a str>, sslrootcert: Option<&str>) -> Result<&'a str, String> {
    match sslmode.filter(|mode| !mode.is_empty()) {
        None if sslrootcert == Some("system") => Ok("verify-full"),
        None => Ok("require"),
        Some(mode @ ("disable" | "allow" | "prefer")) => Err(format!(
            "sslmode={mode} could send the token in clear, and a token is a password; use sslmode=verify-full with \
             sslrootcert=FILE, or at least sslmode=require"
        )),
        // libpq itself refuses unknown values.
        Some(mode) => Ok(mode),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conninfo;

    const RDS: &str = "mypg.c9akciq32rpa.eu-central-1.rds.amazonaws.com";

    fn settings(conninfo: &str, variables: &[(&str, &str)]) -> Result<OwnSettings, String> {
        let parameters = conninfo::parse(conninfo).unwrap();
        OwnSettings::read(&parameters, |name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn by_default_endpoint_names_get_tokens_and_nothing_else() {
        let settings = settings("", &[]).unwrap();
        for (host, expected) in [
            (RDS, true),
            ("abcdefghijklmnopqrstuvwxyz.dsql.us-east-1.on.aws", true),
            ("MyPg.C9akciq32rpa.eu-central-1.RDS.amazonaws.com.", true),
            ("db.example.com", false),
            ("localhost", false),
            ("127.0.0.1", false),
            ("/run/postgresql", false),
            ("", false),
        ] {
            assert_eq!(settings.gets_token(0, host), expected, "{host}");
        }
    }

    #[test]
    fn off_is_never_and_on_is_everything_except_sockets() {
        assert!(!settings("", &[("PGIAM", "off")]).unwrap().gets_token(0, RDS));
        let on = settings("", &[("PGIAM", "on")]).unwrap();
        assert!(
            on.gets_token(0, "db.example.com") && !on.gets_token(0, "/run/postgresql") && !on.gets_token(0, "@socket")
        );
    }

    #[test]
    fn patterns_and_an_endpoint_to_sign_for_add_hosts() {
        let patterns = settings("", &[("PGIAM_HOSTS", "db.example.com, *.Corp.internal,pg-*-blue.x")]).unwrap();
        for (host, expected) in [
            ("DB.example.com", true),
            ("db.example.com.evil", false),
            ("a.b.corp.internal", true),
            ("corp.internal", false),
            ("pg-1-blue.x", true),
            ("pg-blue.x", false),
        ] {
            assert_eq!(patterns.gets_token(0, host), expected, "{host}");
        }
        let tunnel = settings(&format!("iam_host={RDS} iam_port=5432"), &[("PGIAM_PORT", "1")]).unwrap();
        assert!(tunnel.gets_token(0, "localhost"));
        assert_eq!(tunnel.endpoint(0, "localhost", 15432), Endpoint { host: RDS.into(), port: 5432 });
        assert_eq!(tunnel.endpoint(7, "localhost", 15432), Endpoint { host: RDS.into(), port: 5432 });
    }

    #[test]
    fn the_nth_item_of_a_list_belongs_to_the_nth_host() {
        let list = settings("", &[("PGIAM_HOST", "a.x,,c.x"), ("PGIAM_PORT", ",2,")]).unwrap();
        let endpoints: Vec<_> = (0..3).map(|index| list.endpoint(index, "h", 9)).collect();
        assert_eq!(
            endpoints.iter().map(|e| (e.host.as_str(), e.port)).collect::<Vec<_>>(),
            [("a.x", 9), ("h", 2), ("c.x", 9)]
        );
        assert!(list.gets_token(0, "h") && !list.gets_token(1, "h"));
    }

    #[test]
    fn errors_name_the_setting() {
        for (conninfo, variables, part) in [
            ("", [("PGIAM", "yes")], "PGIAM is \"yes\""),
            ("iam=1", [("PGIAM", "off")], "iam is \"1\""),
            ("", [("PGIAM_PORT", "70000")], "PGIAM_PORT has \"70000\""),
            ("iam_port=0", [("PGIAM_PORT", "1")], "iam_port has \"0\""),
        ] {
            let error = settings(conninfo, &variables).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn tokens_of_rds_and_dsql_are_recognized() {
        let signed = "&X-Amz-Signature=0";
        for (password, token, replaceable) in [
            (format!("{RDS}:5432/?Action=connect&DBUser=u{signed}"), true, true),
            (format!("abc.dsql.us-east-1.on.aws/?Action=DbConnectAdmin&X-Amz-Date=0{signed}"), true, true),
            (SENTINEL.to_owned(), false, true),
            (format!("my/?password{signed}"), false, false),
            (format!("a b/?Action=connect&{signed}"), false, false),
            (String::new(), false, false),
        ] {
            assert_eq!((is_token(&password), is_replaceable(&password)), (token, replaceable), "{password}");
        }
    }

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
