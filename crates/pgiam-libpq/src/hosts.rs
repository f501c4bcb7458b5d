//! The hosts of a connection, as libpq takes apart its lists `host`, `hostaddr` and `port` (`connectOptions2` of
//! `fe-connect.c`).

/// The port that libpq uses if none is given. Packages of libpq do not change it.
pub const DEFAULT_PORT: &str = "5432";

/// One host of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The item of `host`; may be empty.
    pub host: String,
    /// The item of `hostaddr`; may be empty.
    pub address: String,
    /// The item of `port`, as given.
    pub port: String,
    /// The port that libpq uses.
    pub number: u16,
}

impl Target {
    /// What libpq looks up in a password file: the host, else the address.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.host.is_empty() { &self.address } else { &self.host }
    }

    /// The port's text as libpq compares it with a password file: as given, be it `05432` or ` 5432`.
    #[must_use]
    pub fn port_text(&self) -> &str {
        if self.port.is_empty() { DEFAULT_PORT } else { &self.port }
    }
}

/// The hosts in their order. `None`: libpq will refuse the lists.
#[must_use]
pub fn targets(host: &str, hostaddr: &str, port: &str) -> Option<Vec<Target>> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let (hosts, addresses, ports) = (list(host), list(hostaddr), list(port));
    let count = hosts.len().max(addresses.len());
    let fits = |list: &[String]| list.len() == count || (list.len() == 1 && list[0].is_empty());
    if !fits(&hosts) || !fits(&addresses) || (ports.len() != 1 && ports.len() != count) {
        return None;
    }
    let targets = (0..count).map(|index| {
        let item = |list: &[String]| list.get(index).cloned().unwrap_or_default();
        let port = if ports.len() == 1 { ports[0].clone() } else { item(&ports) };
        let number = port_number(&port)?;
        Some(Target { host: item(&hosts), address: item(&addresses), port, number })
    });
    targets.collect()
}

/// A port as libpq reads it. An empty one is the default; versions differ in what they return for it.
#[must_use]
pub fn port_number(text: &str) -> Option<u16> {
    let text = if text.is_empty() { DEFAULT_PORT } else { text };
    text.trim().parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(host: &str, hostaddr: &str, port: &str) -> Option<String> {
        let targets = targets(host, hostaddr, port)?;
        let texts = targets.iter().map(|target| format!("{}={}:{}", target.name(), target.address, target.number));
        Some(texts.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn lists_are_combined_as_libpq_combines_them() {
        for (host, hostaddr, port, expected) in [
            ("a", "", "", Some("a=:5432")),
            ("a,b", "", "7", Some("a=:7 b=:7")),
            ("a,,c", "", "1,,3", Some("a=:1 =:5432 c=:3")),
            ("a,b", "::1,127.0.0.1", " 1 ,2", Some("a=::1:1 b=127.0.0.1:2")),
            ("", "127.0.0.1", "5432", Some("127.0.0.1=127.0.0.1:5432")),
            ("", "", "", Some("=:5432")),
            ("a,b", "127.0.0.1", "", None),
            ("a,b,c", "", "1,2", None),
            ("a", "", "0", None),
            ("a", "", "70000", None),
        ] {
            assert_eq!(described(host, hostaddr, port).as_deref(), expected, "{host} {hostaddr} {port}");
        }
    }
}
