//! Where a program would connect, and as whom: flags, connection string, service file and environment in; one host, port
//! and user out. libpq's order: explicit, then the service, then the environment, then the defaults.
//!
//! An explicit value counts even when it is empty, except that of a command-line option (`conninfo_array_parse`,
//! `conninfo_add_defaults` and `connectOptions2` of `fe-connect.c`).

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use crate::postgres_arguments::Arguments;
use crate::service_file::{self, ServiceFiles};
use pgiam_libpq::conninfo;

const DEFAULT_PORT: u16 = 5432;

/// Environment variables, looked at only when they count.
pub(crate) struct Environment(HashMap<OsString, OsString>);

impl Environment {
    /// The given variables.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// Whether a variable is set, be it empty.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(std::ffi::OsStr::new(name))
    }

    /// A variable's text, which may be empty.
    pub(crate) fn get(&self, name: &str) -> Result<Option<String>, Failure> {
        let Some(value) = self.0.get(std::ffi::OsStr::new(name)) else { return Ok(None) };
        let text = value.to_str().ok_or_else(|| Failure::usage(format!("{name} is not valid UTF-8")))?;
        Ok(Some(text.to_owned()))
    }
}

/// What surrounds the process, as far as a connection depends on it.
pub(crate) struct Surroundings<'a> {
    pub(crate) environment: &'a Environment,
    /// The operating system's name for the user.
    pub(crate) user_name: Option<String>,
    /// The home directory by the password database, for when `HOME` is not set.
    pub(crate) home_directory: Option<PathBuf>,
    /// Reads a whole file.
    pub(crate) read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

/// Where a value stands, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag(&'static str),
    ConnectionString,
    Service { name: String, file: PathBuf },
    Environment(&'static str),
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

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) value: String,
    pub(crate) source: Source,
}

/// What the caller said itself, by flags and a connection string.
pub(crate) type Explicit = BTreeMap<&'static str, Given>;

/// The helper's own flags and its argument. Unlike psql, the helper does not let the one silently beat the other.
pub(crate) fn explicit(
    flags: [(&'static str, &'static str, Option<String>); 3],
    connection_string: Option<&str>,
) -> Result<Explicit, Failure> {
    let mut explicit = match connection_string {
        None => Explicit::new(),
        Some(text) if conninfo::is_connection_string(text) => from_connection_string(text)?,
        Some(_) => {
            return Err(Failure::usage(
                "the argument is neither a conninfo string (\"host=… user=…\") nor a postgresql:// URI; \
                 a host is passed with -h",
            ));
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

/// A PostgreSQL program's arguments: what a connection string in the database's place says beats the options.
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
        explicit.extend(from_connection_string(text)?);
    }
    Ok(explicit)
}

fn from_connection_string(text: &str) -> Result<Explicit, Failure> {
    let parameters = conninfo::parse(text).map_err(|why| Failure::usage(format!("the connection string: {why}")))?;
    Ok(parameters
        .into_iter()
        .map(|(keyword, value)| (keyword, Given { value, source: Source::ConnectionString }))
        .collect())
}

/// Where a program would connect.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    /// `sslmode`, if it is given anywhere.
    pub(crate) sslmode: Option<Given>,
    /// `sslrootcert`, if it is given anywhere.
    pub(crate) sslrootcert: Option<Given>,
    /// Where a password is given that would be used instead of `PGPASSWORD`.
    pub(crate) password: Option<Source>,
}

/// Fills in the service, the environment and the defaults, and checks that a token can be made for the result.
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
            home: home.or_else(|| surroundings.home_directory.clone()),
            read: surroundings.read,
        };
        let (parameters, file) = service_file::find(&name, &files)?;
        for (keyword, value) in parameters {
            let source = Source::Service { name: name.clone(), file: file.clone() };
            given.entry(keyword).or_insert(Given { value, source });
        }
    }
    let mut take = |keyword: &str, variable: &'static str| -> Result<Option<Given>, Failure> {
        if let Some(given) = given.remove(keyword) {
            return Ok(Some(given));
        }
        let value = environment.get(variable)?;
        Ok(value.map(|value| Given { value, source: Source::Environment(variable) }))
    };
    let host = take("host", "PGHOST")?;
    let address = take("hostaddr", "PGHOSTADDR")?;
    let port = take("port", "PGPORT")?;
    let user = take("user", "PGUSER")?;
    let sslmode = take("sslmode", "PGSSLMODE")?;
    let sslrootcert = take("sslrootcert", "PGSSLROOTCERT")?;
    let password = given.remove("password").map(|given| given.source);

    Ok(Connection {
        host: one_host(host, address)?,
        port: one_port(port)?,
        user: match user.map(|given| given.value).filter(|user| !user.is_empty()) {
            Some(user) => user,
            None => surroundings.user_name.clone().ok_or_else(|| {
                Failure::usage("no user: pass -U USER, user=USER in a connection string, or set PGUSER")
            })?,
        },
        sslmode,
        sslrootcert,
        password,
    })
}

const HOW_TO_NAME_THE_HOST: &str =
    "pass the database endpoint's name with -h HOST, host=HOST in a connection string or service, or PGHOST";

fn one_host(host: Option<Given>, address: Option<Given>) -> Result<String, Failure> {
    let address = address.filter(|address| !address.value.is_empty());
    let Some(Given { value: host, source }) = host.filter(|host| !host.value.is_empty()) else {
        return Err(Failure::usage(match address {
            Some(address) => format!(
                "{} gives an address and no host; a token is valid only for the endpoint's name: {HOW_TO_NAME_THE_HOST} \
                 beside hostaddr",
                address.source
            ),
            None => format!("no host: {HOW_TO_NAME_THE_HOST}"),
        }));
    };
    if host.contains(',') || address.is_some_and(|address| address.value.contains(',')) {
        return Err(Failure::usage(format!(
            "{source} gives several hosts; a token is for one host: ask for each host's token by itself"
        )));
    }
    if source == Source::ConnectionString && host.find('@').is_some_and(|at| at > 0) {
        // Not shown: it may be the end of a password.
        return Err(Failure::usage(
            "the connection string's host has an '@'; in a URI, write '@' of a password as %40",
        ));
    }
    if host.starts_with(['/', '@']) {
        return Err(Failure::usage(format!(
            "{source} gives a Unix socket; IAM tokens are for databases at AWS: {HOW_TO_NAME_THE_HOST}"
        )));
    }
    Ok(host)
}

fn one_port(port: Option<Given>) -> Result<u16, Failure> {
    let Some(Given { value, source }) = port.filter(|port| !port.value.is_empty()) else { return Ok(DEFAULT_PORT) };
    if value.contains(',') {
        return Err(Failure::usage(format!("{source} gives several ports; a token is for one host and port")));
    }
    // As libpq's parse_int_param: white space may stand around the number.
    let number = value.trim_matches(|character: char| u8::try_from(character).is_ok_and(conninfo::is_space));
    match number.parse::<i32>() {
        Ok(number) => u16::try_from(number)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| Failure::usage(format!("{source} gives port {number}, which is outside 1 to 65535"))),
        // Not shown: in a URI it may be the beginning of a password that has a '/'.
        Err(_) => Err(Failure::usage(format!(
            "{source} gives a port that is not a number from 1 to 65535 (in a URI, write ':' '/' '@' of a password or \
             user as %3A %2F %40)"
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
        resolve(
            explicit,
            &Surroundings {
                environment: &environment(variables),
                user_name: Some("me".into()),
                home_directory: Some("/home/me".into()),
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
        format!("{}@{}:{}", connection.user, connection.host, connection.port)
    }

    fn usage(result: Result<Connection, Failure>) -> String {
        match result {
            Err(Failure::Usage(message)) => message,
            other => panic!("not a usage error: {other:?}"),
        }
    }

    #[test]
    fn what_is_said_beats_the_service_which_beats_the_environment_which_beats_the_defaults() {
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
    fn an_empty_value_in_a_string_counts_and_one_of_an_option_does_not() {
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
    fn for_psql_a_connection_string_beats_options() {
        let arguments = |dbname: &str| Arguments {
            dbname: Some(dbname.into()),
            host: Some("option.h".into()),
            port: Some("1".into()),
            user: Some("ou".into()),
            asks_for_password: false,
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
    fn the_helpers_own_flags_may_not_contradict_its_argument() {
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
    fn a_host_that_no_token_can_be_for_is_a_usage_error_that_says_what_to_pass() {
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
    fn several_hosts_or_ports_are_refused() {
        for text in
            ["host=a,b", "host=a,a port=1,2", "host=a port=1,2", "postgresql://a:1,b:2/db", "host=a hostaddr=1,2"]
        {
            assert!(usage(from_string(text, &[])).contains("one host"), "{text}");
        }
    }

    #[test]
    fn ports_are_read_as_libpq_reads_them() {
        assert_eq!(from_string("host=h port=' 5433 '", &[]).unwrap().port, 5433);
        for port in ["0", "65536", "-1", "5432x", "99999999999"] {
            assert!(usage(from_string(&format!("host=h port={port}"), &[])).contains("65535"), "{port}");
        }
        assert!(usage(from_string("host=h", &[("PGPORT", "x")])).contains("PGPORT"));
        for text in ["postgresql://u:hush/hush@h/", "postgresql://u:p@hush@h/"] {
            assert!(!usage(from_string(text, &[])).contains("hush"));
        }
    }

    #[test]
    fn a_password_is_told_with_its_place_even_when_it_is_empty() {
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
    fn a_variable_that_is_not_utf_8_matters_only_when_it_counts() {
        use std::os::unix::ffi::OsStringExt;
        let broken = Environment::new([("PGUSER".into(), OsString::from_vec(vec![0xff]))]);
        let surroundings = Surroundings {
            environment: &broken,
            user_name: None,
            home_directory: None,
            read: &|_| Err(io::ErrorKind::NotFound.into()),
        };
        assert!(resolve(from_connection_string("host=h user=u").unwrap(), &surroundings).is_ok());
        assert!(usage(resolve(from_connection_string("host=h").unwrap(), &surroundings)).contains("PGUSER"));
    }
}
