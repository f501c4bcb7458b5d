//! pgiam's own settings for connections: which hosts get a token, and what the token is signed for.
//!
//! | variable | keyword | meaning |
//! |---|---|---|
//! | `PGIAM` | `iam` | `off`: never; `auto` (default): hosts that [`OwnSettings::serves`] tells; `on`: every host that is no socket |
//! | `PGIAM_HOST` | `iam_host` | the endpoint's name to sign for, behind a tunnel, a bastion or a CNAME; a list like libpq's `host` |
//! | `PGIAM_PORT` | `iam_port` | the port to sign for, the same way; default: the connection's |
//! | `PGIAM_REGION` | `iam_region` | the region to sign for |
//! | `PGIAM_PROFILE` | `iam_profile` | the AWS profile whose credentials sign |
//! | `PGIAM_HOSTS` | `iam_hosts` | more names to serve under `auto`, by commas; `*` stands for any characters |
//!
//! A keyword beats its variable; an empty value counts as absent. With a list in `PGIAM_HOST` or `PGIAM_PORT` the n-th
//! belongs to the n-th host of the connection; a single value is for all of them.

use pgiam_core::token::endpoint;

use crate::conninfo::Parameters;

/// Keyword and environment variable of each setting.
pub const KEYWORDS: [(&str, &str); 6] = [
    ("iam", "PGIAM"),
    ("iam_host", "PGIAM_HOST"),
    ("iam_port", "PGIAM_PORT"),
    ("iam_region", "PGIAM_REGION"),
    ("iam_profile", "PGIAM_PROFILE"),
    ("iam_hosts", "PGIAM_HOSTS"),
];

/// A password that asks for a token, for programs that insist on one.
pub const SENTINEL: &str = "rds-iam";

/// Whether connections get tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Never.
    Off,
    /// Those to endpoints of RDS, Aurora and Aurora DSQL, and to what the settings name.
    #[default]
    Auto,
    /// All but those over Unix sockets.
    On,
}

/// The settings of one connection, or of a process' environment.
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

/// What a token is signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The endpoint's name.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl OwnSettings {
    /// Reads the settings: `parameters` by keyword, else `variable` by name.
    ///
    /// # Errors
    ///
    /// What is wrong, and with which setting.
    pub fn read(parameters: &Parameters, variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let get = |keyword: &'static str| -> Option<(String, &'static str)> {
            let (_, name) = KEYWORDS.into_iter().find(|(known, _)| *known == keyword)?;
            match parameters.get(keyword).filter(|value| !value.is_empty()) {
                Some(value) => Some((value.clone(), keyword)),
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

    /// Whether the connection's host number `index` gets a token. Under `auto`: an endpoint's name, a name that matches
    /// `PGIAM_HOSTS`, or any host for which `PGIAM_HOST` names the endpoint.
    #[must_use]
    pub fn serves(&self, index: usize, host: &str) -> bool {
        if host.is_empty() || host.starts_with(['/', '@']) {
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

fn port_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port != 0)
}

/// Whether a name matches a pattern, letters of either case alike; `*` stands for any characters, none included.
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
    fn by_default_endpoint_names_are_served_and_nothing_else() {
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
            assert_eq!(settings.serves(0, host), expected, "{host}");
        }
    }

    #[test]
    fn off_serves_nothing_and_on_everything_but_sockets() {
        assert!(!settings("", &[("PGIAM", "off")]).unwrap().serves(0, RDS));
        let on = settings("", &[("PGIAM", "on")]).unwrap();
        assert!(on.serves(0, "db.example.com") && !on.serves(0, "/run/postgresql") && !on.serves(0, "@socket"));
    }

    #[test]
    fn patterns_and_an_endpoint_to_sign_for_serve_more_names() {
        let patterns = settings("", &[("PGIAM_HOSTS", "db.example.com, *.Corp.internal,pg-*-blue.x")]).unwrap();
        for (host, expected) in [
            ("DB.example.com", true),
            ("db.example.com.evil", false),
            ("a.b.corp.internal", true),
            ("corp.internal", false),
            ("pg-1-blue.x", true),
            ("pg-blue.x", false),
        ] {
            assert_eq!(patterns.serves(0, host), expected, "{host}");
        }
        let tunnel = settings(&format!("iam_host={RDS} iam_port=5432"), &[("PGIAM_PORT", "1")]).unwrap();
        assert!(tunnel.serves(0, "localhost"));
        assert_eq!(tunnel.endpoint(0, "localhost", 15432), Endpoint { host: RDS.into(), port: 5432 });
        assert_eq!(tunnel.endpoint(7, "localhost", 15432), Endpoint { host: RDS.into(), port: 5432 });
    }

    #[test]
    fn a_list_goes_with_the_connections_hosts_one_by_one() {
        let list = settings("", &[("PGIAM_HOST", "a.x,,c.x"), ("PGIAM_PORT", ",2,")]).unwrap();
        let endpoints: Vec<_> = (0..3).map(|index| list.endpoint(index, "h", 9)).collect();
        assert_eq!(
            endpoints.iter().map(|e| (e.host.as_str(), e.port)).collect::<Vec<_>>(),
            [("a.x", 9), ("h", 2), ("c.x", 9)]
        );
        assert!(list.serves(0, "h") && !list.serves(1, "h"));
    }

    #[test]
    fn what_is_wrong_is_named() {
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
}
