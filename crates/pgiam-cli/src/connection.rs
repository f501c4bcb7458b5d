//! Where a program would connect, and as whom: flags, connection string, service file and environment in; hosts, ports
//! and the user out. The order of precedence is libpq's: explicit values, the service, the environment, the defaults.
//!
//! An explicit value counts even if it is empty, except that of a command-line option (`conninfo_array_parse`,
//! `conninfo_add_defaults` and `connectOptions2` in `fe-connect.c`).

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::programs::Arguments;
use crate::service_file::{self, ServiceFiles};
use pgiam_libpq::conninfo;
use pgiam_libpq::rules::{self, OwnSettings, SENTINEL};
use zeroize::Zeroizing;

const DEFAULT_PORT: u16 = 5432;

/// The environment variables. They are checked for UTF-8 only when they are used.
pub(crate) struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// The given variables.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// Whether a variable is set; it may be empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// The text of a variable, which may be empty.
    pub(crate) fn get(&self, name: &str) -> Result<Option<String>, Failure> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = value.to_str().ok_or_else(|| Failure::usage(format!("{name} is not valid UTF-8")))?;
        Ok(Some(text.to_owned()))
    }

    fn value(&self, name: &str) -> Option<&OsString> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// The environment of the process, as far as connections depend on it.
pub(crate) struct Surroundings<'a> {
    pub(crate) environment: &'a Environment,
    /// The user's name in the operating system. Called only if nothing else names the user, because the look-up may
    /// need a directory service.
    pub(crate) user_name: fn() -> Option<String>,
    /// The home directory in the password database, used if `HOME` is not set.
    pub(crate) home_directory: fn() -> Option<PathBuf>,
    /// Reads a whole file.
    pub(crate) read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

/// Where a value comes from, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag(&'static str),
    ConnectionString,
    Service { name: String, file: PathBuf },
    Environment(&'static str),
}

impl Source {
    pub(crate) fn is_environment(&self) -> bool {
        matches!(self, Self::Environment(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "option {name}"),
            Self::ConnectionString => f.write_str("the connection string"),
            Self::Service { name, file } => write!(f, "service {name:?} in {}", file.display()),
            Self::Environment(name) => f.write_str(name),
        }
    }
}

/// A value and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) value: String,
    pub(crate) source: Source,
}

/// The values given by flags and a connection string, by keyword. They are few: a list has 10 KB less code than a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Explicit(Vec<(String, Given)>);

impl Explicit {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn get(&self, keyword: &str) -> Option<&Given> {
        self.iter().find(|(known, _)| *known == keyword).map(|(_, given)| given)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Given)> {
        self.0.iter().map(|(keyword, given)| (keyword.as_str(), given))
    }

    pub(crate) fn insert(&mut self, keyword: &str, given: Given) {
        self.remove(keyword);
        self.0.push((keyword.to_owned(), given));
    }

    fn remove(&mut self, keyword: &str) -> Option<Given> {
        let at = self.0.iter().position(|(known, _)| known == keyword)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// The values of pgiam's own flags and argument. If they contradict each other it is an error; psql would silently prefer
/// one of them.
pub(crate) fn explicit<const N: usize>(
    flags: [(&'static str, &'static str, Option<String>); N],
    connection_string: Option<&str>,
) -> Result<Explicit, Failure> {
    let mut explicit = match connection_string {
        None => Explicit::new(),
        Some(text) if conninfo::is_connection_string(text) && !is_web_url(text) => from_connection_string(text)?,
        Some(text) => {
            return Err(Failure::usage(match host_of_url(text) {
                Some(host) => not_a_host_name(&host),
                None => {
                    "the argument is neither a conninfo string (\"host=… user=…\") nor a postgresql:// URI; to pass \
                         a host name, write -h HOST"
                        .to_owned()
                }
            }));
        }
    };
    for (keyword, flag, value) in flags {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if let Some(given) = explicit.get(keyword)
            && given.value != value
        {
            return Err(Failure::usage(format!(
                "{flag} and the connection string give different values for {keyword}; leave one out"
            )));
        }
        explicit.insert(keyword, Given { value, source: Source::Flag(flag) });
    }
    Ok(explicit)
}

/// The values of a PostgreSQL program's arguments. A connection string in place of the database's name overrides the
/// options.
pub(crate) fn explicit_of_program(arguments: Arguments) -> Result<Explicit, Failure> {
    let mut explicit = Explicit::new();
    let options = [
        ("host", "--host", arguments.host),
        ("port", "--port", arguments.port),
        ("user", "--username", arguments.user),
    ];
    for (keyword, flag, value) in options {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            explicit.insert(keyword, Given { value, source: Source::Flag(flag) });
        }
    }
    if let Some(text) = arguments.dbname.as_deref().filter(|text| conninfo::is_connection_string(text)) {
        for (keyword, given) in from_connection_string(text)?.0 {
            explicit.insert(&keyword, given);
        }
    }
    Ok(explicit)
}

fn from_connection_string(text: &str) -> Result<Explicit, Failure> {
    let parameters = conninfo::parse(text).map_err(|why| Failure::usage(format!("the connection string: {why}")))?;
    let given = |value: Zeroizing<String>| Given { value: value.to_string(), source: Source::ConnectionString };
    let mut explicit = Explicit::new();
    explicit.0.extend(parameters.into_iter().map(|(keyword, value)| (keyword, given(value))));
    Ok(explicit)
}

/// One host of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// The name that libpq looks up in a password file: the host name, or the address if there is no name.
    pub(crate) name: String,
    pub(crate) port: u16,
    /// The index in the connection's list of hosts.
    pub(crate) index: usize,
}

/// Where a program would connect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    host: Option<Given>,
    address: Option<Given>,
    port: Option<Given>,
    pub(crate) user: String,
    /// Nothing names the user, so it is the operating system's.
    pub(crate) user_is_guessed: bool,
    /// `sslmode`, if it is given anywhere.
    sslmode: Option<Given>,
    /// `sslrootcert`, if it is given anywhere.
    pub(crate) sslrootcert: Option<Given>,
    /// Where a password is given that would be used instead of the token.
    password: Option<Source>,
    /// Where the password `rds-iam` is given, which asks for a token.
    pub(crate) asks_for_token: Option<Source>,
    /// Where a password file is given that would be read instead of ours.
    pub(crate) passfile: Option<Source>,
    /// The database; libpq's default is the user's name.
    pub(crate) dbname: Option<Given>,
    /// `channel_binding`, if it is given anywhere.
    pub(crate) channel_binding: Option<Given>,
    /// `require_auth`, if it is given anywhere.
    pub(crate) require_auth: Option<Given>,
    /// `replication`, which has no variable.
    pub(crate) replication: Option<Given>,
    /// pgiam's own settings, from keywords and variables.
    pub(crate) own: OwnSettings,
    /// pgiam's own keywords that a connection string or service gives.
    pub(crate) own_keywords: Explicit,
}

/// Fills in the service, the environment and the defaults.
pub(crate) fn resolve(explicit: Explicit, surroundings: &Surroundings<'_>) -> Result<Connection, Failure> {
    let environment = surroundings.environment;
    let mut given = explicit;
    let service = match given.get("service") {
        Some(service) => Some(service.value.clone()),
        None => environment.get("PGSERVICE")?,
    };
    if let Some(name) = service {
        let home = environment.get("HOME")?.filter(|home| !home.is_empty()).map(PathBuf::from);
        let files = ServiceFiles {
            named: environment.get("PGSERVICEFILE")?,
            system_directory: environment.get("PGSYSCONFDIR")?,
            home: home.or_else(surroundings.home_directory),
            read: surroundings.read,
        };
        let (parameters, file) = service_file::find(&name, &files)?;
        for (keyword, value) in parameters {
            let source = Source::Service { name: name.clone(), file: file.clone() };
            if given.get(&keyword).is_none() {
                given.insert(&keyword, Given { value: value.to_string(), source });
            }
        }
    }
    let mut take = |keyword: &str, variable: &'static str| -> Result<Option<Given>, Failure> {
        if let Some(given) = given.remove(keyword) {
            return Ok(Some(given));
        }
        let value = environment.get(variable)?;
        Ok(value.map(|value| Given { value, source: Source::Environment(variable) }))
    };
    let host = take("host", "PGHOST")?.filter(|host| !host.value.is_empty());
    let address = take("hostaddr", "PGHOSTADDR")?.filter(|address| !address.value.is_empty());
    let port = take("port", "PGPORT")?.filter(|port| !port.value.is_empty());
    let user = take("user", "PGUSER")?.map(|given| given.value).filter(|user| !user.is_empty());
    let sslmode = take("sslmode", "PGSSLMODE")?;
    let sslrootcert = take("sslrootcert", "PGSSLROOTCERT")?;
    let dbname = take("dbname", "PGDATABASE")?.filter(|dbname| !dbname.value.is_empty());
    let channel_binding = take("channel_binding", "PGCHANNELBINDING")?;
    let require_auth = take("require_auth", "PGREQUIREAUTH")?;
    let (mut password, mut asks_for_token) = (None, None);
    if let Some(given) = given.remove("password") {
        let place = if given.value == SENTINEL { &mut asks_for_token } else { &mut password };
        *place = Some(given.source);
    }
    let passfile = given.remove("passfile").map(|given| given.source);
    let replication = given.remove("replication");
    let mut own_keywords = given.clone();
    own_keywords.0.retain(|(keyword, _)| rules::KEYWORDS.iter().any(|(own, _)| own == keyword));

    Ok(Connection {
        host,
        address,
        port,
        user_is_guessed: user.is_none(),
        user: match user {
            Some(user) => user,
            None => (surroundings.user_name)().ok_or_else(|| {
                Failure::usage("no user: pass -U USER, user=USER in a connection string, or set PGUSER")
            })?,
        },
        sslmode,
        sslrootcert,
        password,
        asks_for_token,
        passfile,
        dbname,
        channel_binding,
        require_auth,
        replication,
        own: own_settings(given, environment)?,
        own_keywords,
    })
}

/// pgiam's own settings. Keywords override variables.
fn own_settings(given: Explicit, environment: &Environment) -> Result<OwnSettings, Failure> {
    let mut variables = Vec::new();
    for (_, variable) in rules::KEYWORDS {
        variables.push((variable, environment.get(variable)?));
    }
    let variable = |name: &str| variables.iter().find(|(known, _)| *known == name)?.1.clone();
    let mut parameters = conninfo::Parameters::new();
    // `collect` would sort first, and the code of the sort is 6 KB for each type.
    parameters.extend(given.0.into_iter().map(|(keyword, given)| (keyword, given.value.into())));
    OwnSettings::read(&parameters, variable).map_err(Failure::usage)
}

const HOW_TO_NAME_THE_HOST: &str =
    "pass the name of the database endpoint with -h HOST, host=HOST in a connection string or service, or PGHOST";

/// `https://…`: what a browser shows, and no connection string.
fn is_web_url(text: &str) -> bool {
    ["http://", "https://"]
        .iter()
        .any(|scheme| text.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme)))
}

/// The host name in a URL. User and password are left out.
fn host_of_url(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    Some(host.split(':').next().unwrap_or_default().to_owned())
}

fn not_a_host_name(host: &str) -> String {
    format!("a host is given as a URL; pass the name alone: -h {host}")
}

impl Connection {
    /// Whether a host is given anywhere.
    pub(crate) fn names_a_host(&self) -> bool {
        self.host.is_some() || self.address.is_some()
    }

    /// The hosts of the connection in order, without those that have neither name nor address (the default socket). At
    /// least one.
    pub(crate) fn hosts(&self) -> Result<Vec<Host>, Failure> {
        let items = |given: &Option<Given>| -> Vec<String> {
            given.as_ref().map(|given| given.value.split(',').map(str::to_owned).collect()).unwrap_or_default()
        };
        let (names, addresses, ports) = (items(&self.host), items(&self.address), items(&self.port));
        if let Some(host) = names.iter().find_map(|name| host_of_url(name)) {
            return Err(Failure::usage(not_a_host_name(&host)));
        }
        let Some(Given { source, .. }) = self.host.as_ref().or(self.address.as_ref()) else {
            return Err(Failure::usage(format!("no host: {HOW_TO_NAME_THE_HOST}")));
        };
        let count = names.len().max(addresses.len());
        if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
            return Err(Failure::usage(format!(
                "{source} gives {} hosts for {} addresses; hostaddr needs one for each",
                names.len(),
                addresses.len()
            )));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(Failure::usage(format!(
                "there are {} ports for {count} hosts; give one, or one for each",
                ports.len()
            )));
        }
        let mut hosts = Vec::new();
        for index in 0..count {
            let name = names.get(index).filter(|name| !name.is_empty()).or_else(|| addresses.get(index));
            let Some(name) = name.filter(|name| !name.is_empty()) else { continue };
            if *source == Source::ConnectionString && name.find('@').is_some_and(|at| at > 0) {
                // Not shown, because it may be the end of a password.
                return Err(Failure::usage(
                    "the host in the connection string contains '@'; in a URI, write the '@' of a password as %40",
                ));
            }
            let port = ports.get(index).or(ports.first().filter(|_| ports.len() == 1)).map_or("", String::as_str);
            hosts.push(Host { name: name.clone(), port: one_port(port, self.port.as_ref())?, index });
        }
        Ok(hosts)
    }

    /// The only host of the connection, for which a token can be made.
    pub(crate) fn only_host(&self) -> Result<Host, Failure> {
        let several = |given: &Option<Given>| given.as_ref().filter(|given| given.value.contains(',')).cloned();
        for (list, what) in [(&self.host, "hosts"), (&self.address, "addresses"), (&self.port, "ports")] {
            if let Some(Given { source, .. }) = several(list) {
                return Err(Failure::usage(format!(
                    "{source} gives several {what}; a token is for one host: run pgiam once for each"
                )));
            }
        }
        let mut hosts = self.hosts()?;
        let host = hosts.pop().ok_or_else(|| Failure::usage(format!("no host: {HOW_TO_NAME_THE_HOST}")))?;
        let source = self.host.as_ref().or(self.address.as_ref()).map(|given| given.source.to_string());
        let source = source.unwrap_or_default();
        if host.name.starts_with(['/', '@']) {
            return Err(Failure::usage(format!(
                "{source} gives a Unix socket, and IAM tokens are for databases at AWS: {HOW_TO_NAME_THE_HOST}"
            )));
        }
        if self.host.is_none() && self.own.endpoint(0, &host.name, host.port).host == host.name {
            return Err(Failure::usage(format!(
                "{source} gives an address and no host; a token is valid only for the name of the endpoint: \
                 {HOW_TO_NAME_THE_HOST}, in addition to hostaddr"
            )));
        }
        Ok(host)
    }

    /// The address to connect to instead of looking up the name, if the only host has one.
    pub(crate) fn only_address(&self) -> Option<&str> {
        self.address.as_ref().map(|given| given.value.as_str())
    }

    /// The settings, other than host, port, user and database, that a connection string or service gives. Those of the
    /// environment are not among them.
    pub(crate) fn settings_of_strings(&self) -> conninfo::Parameters {
        let libpq = [
            ("hostaddr", &self.address),
            ("sslmode", &self.sslmode),
            ("sslrootcert", &self.sslrootcert),
            ("channel_binding", &self.channel_binding),
            ("require_auth", &self.require_auth),
            ("replication", &self.replication),
        ];
        let libpq = libpq.into_iter().filter_map(|(keyword, given)| Some((keyword, given.as_ref()?)));
        let own = self.own_keywords.iter();
        let all = libpq.chain(own).filter(|(_, given)| !matches!(given.source, Source::Environment(_)));
        let mut settings = conninfo::Parameters::new();
        settings.extend(all.map(|(keyword, given)| (keyword.to_owned(), Zeroizing::new(given.value.clone()))));
        settings
    }

    /// `sslmode` as given.
    pub(crate) fn given_sslmode(&self) -> Option<&Given> {
        self.sslmode.as_ref()
    }

    /// Whether a flag of pgiam names the host, which is then the endpoint itself.
    pub(crate) fn host_is_from_flag(&self) -> bool {
        self.host.as_ref().is_some_and(|given| matches!(given.source, Source::Flag(_)))
    }

    /// The same for the port.
    pub(crate) fn port_is_from_flag(&self) -> bool {
        self.port.as_ref().is_some_and(|given| matches!(given.source, Source::Flag(_)))
    }

    /// The `sslmode` to connect with. An error if it could send the token in clear, or if a password would be used
    /// instead of the token.
    pub(crate) fn check_token_is_safe(&self) -> Result<String, Failure> {
        let mode = self.required_sslmode()?;
        if let Some(source) = &self.password {
            return Err(Failure::usage(format!(
                "{source} has a password, which would be used instead of the token; remove the password"
            )));
        }
        Ok(mode)
    }

    /// The `sslmode` to connect with. An error if it could send the token in clear.
    pub(crate) fn required_sslmode(&self) -> Result<String, Failure> {
        let value = |given: &'_ Option<Given>| given.as_ref().map(|given| given.value.clone());
        let (mode, root) = (value(&self.sslmode), value(&self.sslrootcert));
        let mode = rules::required_sslmode(mode.as_deref(), root.as_deref()).map_err(|why| {
            let source = self.sslmode.as_ref().map(|given| given.source.to_string()).unwrap_or_default();
            Failure::usage(format!("{source}: {why}"))
        })?;
        Ok(mode.to_owned())
    }

    /// Whether `sslmode` is not given, so that it depends on `PGSSLMODE`.
    pub(crate) fn has_no_sslmode(&self) -> bool {
        self.sslmode.is_none()
    }
}

fn one_port(port: &str, given: Option<&Given>) -> Result<u16, Failure> {
    if port.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let source = given.map(|given| given.source.to_string()).unwrap_or_default();
    // Like libpq's parse_int_param: white space around the number is allowed.
    let number = port.trim_matches(|character: char| u8::try_from(character).is_ok_and(conninfo::is_space));
    match number.parse::<i32>() {
        Ok(number) => u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| {
            Failure::usage(format!("{source} gives port {number}, which is not in the range 1 to 65535"))
        }),
        // Not shown, because in a URI it may be the beginning of a password that contains '/'.
        Err(_) => Err(Failure::usage(format!(
            "{source} gives a port that is not a number from 1 to 65535 (in a URI, write ':', '/' and '@' in a user or \
             password as %3A, %2F and %40)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: &str = "[app]\nhost=service.h\nport=7\nuser=su\nsslmode=require\n\
                            [secret]\nhost=h\npassword=hush\n[bare]\nuser=su\n";

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::new(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())))
    }

    fn resolved(explicit: Explicit, variables: &[(&str, &str)]) -> Result<Connection, Failure> {
        let connection = resolved_with_hosts(explicit, variables)?;
        connection.only_host()?;
        Ok(connection)
    }

    fn resolved_with_hosts(explicit: Explicit, variables: &[(&str, &str)]) -> Result<Connection, Failure> {
        resolve(
            explicit,
            &Surroundings {
                environment: &environment(variables),
                user_name: || Some("me".into()),
                home_directory: || Some("/home/me".into()),
                read: &|path| match path.to_str() {
                    Some("/home/me/.pg_service.conf" | "/named") => Ok(SERVICES.into()),
                    _ => Err(io::ErrorKind::NotFound.into()),
                },
            },
        )
    }

    fn from_string(text: &str, variables: &[(&str, &str)]) -> Result<Connection, Failure> {
        resolved(from_connection_string(text)?, variables)
    }

    fn target(connection: &Connection) -> String {
        let host = connection.only_host().unwrap();
        format!("{}@{}:{}", connection.user, host.name, host.port)
    }

    fn usage(result: Result<Connection, Failure>) -> String {
        match result {
            Err(Failure::Usage(message)) => message,
            other => panic!("not a usage error: {other:?}"),
        }
    }

    #[test]
    fn explicit_values_override_the_service_which_overrides_the_environment_which_overrides_the_defaults() {
        let variables = [("PGHOST", "env.h"), ("PGPORT", "9"), ("PGUSER", "eu")];
        for (text, variables, expected) in [
            ("host=h", &[][..], "me@h:5432"),
            ("", &variables, "eu@env.h:9"),
            ("user=u", &variables, "u@env.h:9"),
            ("service=app", &variables, "su@service.h:7"),
            ("service=app user=u port=1", &variables, "u@service.h:1"),
            ("service=bare", &variables, "su@env.h:9"),
            ("", &[("PGSERVICE", "app"), ("PGHOST", "env.h")], "su@service.h:7"),
            ("service=bare", &[("PGSERVICE", "app"), ("PGHOST", "env.h")], "su@env.h:5432"),
            ("", &[("PGSERVICE", "app"), ("HOME", "/nowhere"), ("PGSERVICEFILE", "/named")], "su@service.h:7"),
        ] {
            assert_eq!(target(&from_string(text, variables).unwrap()), expected, "{text} {variables:?}");
        }
    }

    #[test]
    fn an_empty_value_counts_in_a_string_and_not_in_an_option() {
        let variables = [("PGHOST", "env.h"), ("PGPORT", "9"), ("PGUSER", "eu")];
        assert_eq!(target(&from_string("user='' port=''", &variables).unwrap()), "me@env.h:5432");
        assert!(usage(from_string("host=''", &variables)).contains("no host"));
        let arguments = Arguments {
            host: Some(String::new()),
            port: Some(String::new()),
            user: Some(String::new()),
            ..Arguments::default()
        };
        assert_eq!(target(&resolved(explicit_of_program(arguments).unwrap(), &variables).unwrap()), "eu@env.h:9");
    }

    #[test]
    fn for_psql_a_connection_string_overrides_options() {
        let arguments = |dbname: &str| Arguments {
            dbname: Some(dbname.into()),
            host: Some("option.h".into()),
            port: Some("1".into()),
            user: Some("ou".into()),
            ..Arguments::default()
        };
        for (dbname, expected) in [
            ("app", "ou@option.h:1"),
            ("host=h", "ou@h:1"),
            ("postgresql://u@h:2/d", "u@h:2"),
            ("postgresql://", "ou@option.h:1"),
            ("service=app", "ou@option.h:1"),
        ] {
            let explicit = explicit_of_program(arguments(dbname)).unwrap();
            assert_eq!(target(&resolved(explicit, &[]).unwrap()), expected, "{dbname}");
        }
    }

    #[test]
    fn the_flags_may_not_contradict_the_connection_string() {
        let flags = |host: &str| {
            [("host", "--host", Some(host.to_owned())), ("port", "--port", None), ("user", "--username", None)]
        };
        assert!(explicit(flags("h"), Some("host=h user=u")).is_ok());
        assert!(explicit(flags(""), Some("host=h user=u")).is_ok());
        let Err(Failure::Usage(message)) = explicit(flags("other"), Some("host=h")) else { panic!("accepted") };
        assert!(message.contains("--host"), "{message}");
        let Err(Failure::Usage(message)) = explicit(flags("h"), Some("mydb")) else { panic!("accepted") };
        assert!(message.contains("-h"), "{message}");
    }

    #[test]
    fn a_host_that_no_token_can_be_made_for_is_a_usage_error_that_says_what_to_pass() {
        for (text, why) in [
            ("", "no host"),
            ("user=u", "no host"),
            ("hostaddr=10.0.0.1", "hostaddr"),
            ("host=/var/run/postgresql", "Unix socket"),
            ("host=@abstract", "Unix socket"),
            ("postgresql://%2Ftmp/db", "Unix socket"),
        ] {
            let message = usage(from_string(text, &[]));
            assert!(message.contains(why) && message.contains("-h HOST"), "{text}: {message}");
        }
        assert_eq!(target(&from_string("host=h hostaddr=10.0.0.1", &[]).unwrap()), "me@h:5432");
    }

    #[test]
    fn a_url_in_place_of_a_host_name_is_an_error_that_shows_the_name_and_no_password() {
        let name = "mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com";
        for url in [format!("https://{name}"), format!("https://{name}:5432/"), format!("HTTP://u:hush@{name}/app?x=1")]
        {
            let as_flag = explicit([("host", "-h", Some(url.clone()))], None).unwrap();
            let Err(Failure::Usage(as_argument)) = explicit([], Some(&url)) else { panic!("{url} is accepted") };
            for message in [usage(resolved(as_flag, &[])), as_argument] {
                assert!(message.ends_with(&format!("-h {name}")) && !message.contains("hush"), "{message}");
            }
        }
    }

    #[test]
    fn a_user_that_nothing_names_is_marked_as_a_guess() {
        for (text, variables, guessed) in [
            ("host=h", &[][..], true),
            ("host=h user=''", &[], true),
            ("host=h", &[("PGUSER", "")], true),
            ("host=h user=u", &[], false),
            ("host=h", &[("PGUSER", "u")], false),
            ("service=app", &[], false),
        ] {
            assert_eq!(from_string(text, variables).unwrap().user_is_guessed, guessed, "{text} {variables:?}");
        }
    }

    #[test]
    fn several_hosts_or_ports_are_refused() {
        for text in
            ["host=a,b", "host=a,a port=1,2", "host=a port=1,2", "postgresql://a:1,b:2/db", "host=a hostaddr=1,2"]
        {
            assert!(usage(from_string(text, &[])).contains("one host"), "{text}");
        }
    }

    #[test]
    fn several_hosts_are_listed_with_their_ports_and_addresses() {
        let hosts = |text| -> Result<Vec<String>, Failure> {
            let hosts = resolved_with_hosts(from_connection_string(text)?, &[])?.hosts()?;
            Ok(hosts.iter().map(|host| format!("{}:{}={}", host.index, host.name, host.port)).collect())
        };
        for (text, expected) in [
            ("host=a,b", "0:a=5432 1:b=5432"),
            ("host=a,b port=7", "0:a=7 1:b=7"),
            ("host=a,,b port=1,2,", "0:a=1 2:b=5432"),
            ("host=a, hostaddr=1.1.1.1,2.2.2.2", "0:a=5432 1:2.2.2.2=5432"),
            ("hostaddr=1.1.1.1 port=1", "0:1.1.1.1=1"),
            ("postgresql://a:1,b/db", "0:a=1 1:b=5432"),
        ] {
            assert_eq!(hosts(text).unwrap().join(" "), expected, "{text}");
        }
        for text in ["host=a port=1,2", "host=a,b,c port=1,2", "host=a,b hostaddr=1.1.1.1", "user=u"] {
            assert!(hosts(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_iam_keywords_are_read_from_the_string_the_service_and_the_environment() {
        let endpoint = |text, variables| {
            let connection = from_string(text, variables).unwrap();
            connection.own.endpoint(0, "h", 1).host
        };
        assert_eq!(endpoint("host=h iam_host=a", &[("PGIAM_HOST", "b")]), "a");
        assert_eq!(endpoint("host=h", &[("PGIAM_HOST", "b")]), "b");
        assert_eq!(endpoint("hostaddr=10.0.0.1 iam_host=a", &[]), "a");
        assert!(usage(from_string("host=h", &[("PGIAM", "yes")])).contains("PGIAM"));
    }

    #[test]
    fn ports_are_read_as_libpq_reads_them() {
        assert_eq!(from_string("host=h port=' 5433 '", &[]).unwrap().only_host().unwrap().port, 5433);
        for port in ["0", "65536", "-1", "5432x", "99999999999"] {
            assert!(usage(from_string(&format!("host=h port={port}"), &[])).contains("65535"), "{port}");
        }
        assert!(usage(from_string("host=h", &[("PGPORT", "x")])).contains("PGPORT"));
        for text in ["postgresql://u:hush/hush@h/", "postgresql://u:p@hush@h/"] {
            assert!(!usage(from_string(text, &[])).contains("hush"));
        }
    }

    #[test]
    fn a_password_is_found_with_its_source_even_if_it_is_empty() {
        let asks = from_string("host=h password=rds-iam", &[]).unwrap();
        assert_eq!((asks.password, asks.asks_for_token), (None, Some(Source::ConnectionString)));
        let place = |text| from_string(text, &[("PGPASSWORD", "x")]).unwrap().password;
        assert_eq!(place("host=h"), None);
        assert_eq!(place("host=h password=''"), Some(Source::ConnectionString));
        assert_eq!(place("postgresql://u:p@h"), Some(Source::ConnectionString));
        assert_eq!(place("postgresql://u:@h"), None);
        assert!(matches!(place("service=secret"), Some(Source::Service { name, .. }) if name == "secret"));
    }

    #[test]
    fn sslmode_is_found_wherever_it_is_given() {
        let mode = |text, variables| from_string(text, variables).unwrap().sslmode.map(|given| given.value);
        assert_eq!(mode("host=h", &[]), None);
        assert_eq!(mode("host=h", &[("PGSSLMODE", "disable")]).as_deref(), Some("disable"));
        assert_eq!(mode("service=app", &[("PGSSLMODE", "disable")]).as_deref(), Some("require"));
        assert_eq!(mode("host=h sslmode=verify-full", &[("PGSSLMODE", "disable")]).as_deref(), Some("verify-full"));
        assert_eq!(mode("host=h requiressl=0", &[]).as_deref(), Some("prefer"));
    }

    #[test]
    fn a_variable_that_is_not_utf_8_is_an_error_only_when_it_is_used() {
        use std::os::unix::ffi::OsStringExt;
        let broken = Environment::new([("PGUSER".into(), OsString::from_vec(vec![0xff]))]);
        let surroundings = Surroundings {
            environment: &broken,
            user_name: || None,
            home_directory: || None,
            read: &|_| Err(io::ErrorKind::NotFound.into()),
        };
        assert!(resolve(from_connection_string("host=h user=u").unwrap(), &surroundings).is_ok());
        assert!(usage(resolve(from_connection_string("host=h").unwrap(), &surroundings)).contains("PGUSER"));
    }
}
