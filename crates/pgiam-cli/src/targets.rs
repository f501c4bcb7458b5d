//! What tokens are wanted, and their making: connections in, tokens and a password file out. Shared by all commands that
//! keep tokens fresh.

use clap::{Arg, ArgAction, ArgMatches};
use pgiam_core::{Client, ErrorKind, RegionSource, Settings, Token, TokenRequest};
use pgiam_libpq::own_settings::{Endpoint, Mode};
use pgiam_libpq::passfile;
use zeroize::Zeroizing;

use crate::client_flags;
use crate::connection::{self, Connection, Explicit, Given, Source, Surroundings};
use crate::failure::Failure;

/// The flags that name connections, for a subcommand to add.
pub(crate) fn arguments() -> impl Iterator<Item = Arg> {
    let repeated = |name: &'static str, short, placeholder, help| {
        Arg::new(name).short(short).long(name).value_name(placeholder).action(ArgAction::Append).help(help)
    };
    [
        repeated(
            "host",
            'h',
            "HOST",
            "The host to connect to, or a list a,b as libpq takes it; again for more [PGHOST]",
        )
        .visible_alias("hostname"),
        repeated("port", 'p', "PORT", "The port: one for all, or one for each -h [PGPORT, 5432]"),
        repeated(
            "user",
            'U',
            "USER",
            "The database user: one for all, one for each -h, or several for one -h [PGUSER]",
        )
        .visible_alias("username"),
        Arg::new("connection")
            .long("connection")
            .value_name("CONNINFO")
            .action(ArgAction::Append)
            .help("A conninfo string or a postgresql:// URI; again for more"),
        Arg::new("region").short('r').long("region").value_name("REGION").help("The databases' AWS region"),
        Arg::new("service")
            .long("service")
            .value_name("SERVICE")
            .value_parser(["auto", "rds", "dsql"])
            .help("The kind of token; auto tells by the endpoint's name [auto]"),
        Arg::new("refresh-every")
            .long("refresh-every")
            .value_name("SECONDS")
            .value_parser(clap::value_parser!(u32).range(1..=600))
            .help("How often to make new tokens, at the latest; a token is good for 900 [300]"),
    ]
    .into_iter()
    .chain(client_flags::arguments())
}

/// The connections that the flags name. What they leave out comes from `base`, then as for every connection.
pub(crate) fn connections(
    matches: &ArgMatches,
    base: &Explicit,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<Connection>, Failure> {
    let all = |name: &str| matches.get_many::<String>(name).unwrap_or_default().cloned().collect::<Vec<_>>();
    let mut connections = Vec::new();
    for text in all("connection") {
        connections.push(connection::resolve(connection::explicit([], Some(&text))?, surroundings)?);
    }
    let (hosts, ports, users) = (all("host"), all("port"), all("user"));
    if hosts.is_empty() && ports.is_empty() && users.is_empty() {
        return Ok(connections);
    }
    let count = if hosts.len() > 1 { hosts.len() } else { ports.len().max(users.len()).max(1) };
    for (flag, given) in [("-h", &hosts), ("-p", &ports), ("-U", &users)] {
        if given.len() > 1 && given.len() != count {
            return Err(Failure::usage(format!(
                "{flag} is given {} times for {count} connections; give it once for all, or once for each",
                given.len()
            )));
        }
    }
    for number in 0..count {
        let mut explicit = base.clone();
        for (keyword, flag, given) in [("host", "-h", &hosts), ("port", "-p", &ports), ("user", "-U", &users)] {
            if let Some(value) = given.get(number).or_else(|| given.first()) {
                explicit.insert(keyword, Given { value: value.clone(), source: Source::Flag(flag) });
            }
        }
        connections.push(connection::resolve(explicit, surroundings)?);
    }
    Ok(connections)
}

/// One line of a password file and what its token is signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    endpoint: Endpoint,
    region: Option<String>,
    profile: Option<String>,
}

/// Adds what a connection needs. Every host of it must be served; with `PGIAM=off` none is.
pub(crate) fn add(targets: &mut Vec<Target>, connection: &Connection) -> Result<(), Failure> {
    let own = &connection.own;
    if own.mode == Mode::Off {
        return Ok(());
    }
    for host in connection.hosts()? {
        if !own.serves(host.index, &host.name) {
            return Err(not_served(&host.name));
        }
        let target = Target {
            endpoint: own.endpoint(host.index, &host.name, host.port),
            host: host.name,
            port: host.port,
            user: connection.user.clone(),
            region: own.region.clone(),
            profile: own.profile.clone(),
        };
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    Ok(())
}

fn not_served(host: &str) -> Failure {
    if host.starts_with(['/', '@']) {
        return Failure::usage(format!(
            "{host:?} is a Unix socket; IAM tokens are for databases at AWS: name the endpoint with -h HOST, host=HOST in \
             a connection string or service, or PGHOST"
        ));
    }
    Failure::usage(format!(
        "{host} is not an endpoint name of RDS, Aurora or Aurora DSQL. Behind a tunnel or a CNAME set PGIAM_HOST to the \
         endpoint's name; PGIAM=on makes tokens for {host} itself; PGIAM_HOSTS names more hosts to make tokens for; \
         PGIAM=off makes none"
    ))
}

/// Tokens that were made together.
pub(crate) struct Fresh {
    /// One for each target, in their order.
    pub(crate) tokens: Vec<Token>,
    /// When the first of them ends, in Unix seconds.
    pub(crate) expires_at: i64,
}

/// Makes tokens for targets, as often as they are wanted.
pub(crate) struct Tokens {
    pub(crate) targets: Vec<Target>,
    region: Option<String>,
    /// One for each profile among the targets.
    clients: Vec<(Option<String>, Client)>,
}

impl Tokens {
    /// Reads the flags of [`arguments`] that say how to sign. They beat the targets' own settings.
    pub(crate) fn new(targets: Vec<Target>, matches: &ArgMatches) -> Result<Self, Failure> {
        let mut settings = client_flags::settings(matches)?;
        if let Some(service) = matches.get_one::<String>("service") {
            client_flags::set(&mut settings, "service", "service", service)?;
        }
        let by_flag = matches.contains_id("profile");
        let mut clients: Vec<(Option<String>, Client)> = Vec::new();
        for target in &targets {
            if !clients.iter().any(|(profile, _)| *profile == target.profile) {
                clients.push((target.profile.clone(), client(&settings, target.profile.as_deref(), by_flag)?));
            }
        }
        Ok(Self { targets, region: matches.get_one::<String>("region").cloned(), clients })
    }

    /// A token for each target.
    pub(crate) fn make(&self) -> Result<Fresh, Failure> {
        let mut fresh = Fresh { tokens: Vec::with_capacity(self.targets.len()), expires_at: i64::MAX };
        for target in &self.targets {
            let client = self.clients.iter().find(|(profile, _)| *profile == target.profile);
            let (_, client) = client.ok_or_else(|| Failure::failed("a profile without a client"))?;
            let request = TokenRequest {
                host: &target.endpoint.host,
                port: target.endpoint.port.into(),
                region: self.region.as_deref().or(target.region.as_deref()),
                user: &target.user,
            };
            let token = client.generate_token(&request).map_err(|error| match error.kind() {
                ErrorKind::InvalidArgument => Failure::usage(error.message()),
                _ => Failure::failed(error.message()),
            })?;
            fresh.expires_at = fresh.expires_at.min(token.expires_at());
            fresh.tokens.push(token);
        }
        Ok(fresh)
    }

    /// A password file's lines: each host as it is given, and in small letters for programs that write it so.
    pub(crate) fn passfile(&self, fresh: &Fresh) -> Result<Zeroizing<String>, Failure> {
        let mut text = Zeroizing::new(String::with_capacity(4096 * self.targets.len()));
        for (target, token) in self.targets.iter().zip(&fresh.tokens) {
            let lower = target.host.to_ascii_lowercase();
            for host in [Some(&target.host), Some(&lower).filter(|lower| **lower != target.host)].into_iter().flatten()
            {
                passfile::push_line(&mut text, host, target.port, &target.user, token.as_str())
                    .map_err(Failure::usage)?;
            }
        }
        Ok(text)
    }

    /// Warns of regions that are a guess: a server accepts the token only if the guess is right.
    pub(crate) fn warn_of_doubtful_regions(fresh: &Fresh) {
        for warning in fresh.tokens.iter().filter_map(doubtful_region) {
            warn(&warning);
        }
    }
}

fn client(settings: &Settings, profile: Option<&str>, by_flag: bool) -> Result<Client, Failure> {
    let mut settings = settings.clone();
    if let Some(profile) = profile.filter(|_| !by_flag) {
        client_flags::set(&mut settings, "profile", "profile", profile)?;
    }
    Ok(Client::new(settings))
}

/// A line on standard error. One that cannot be written changes nothing.
pub(crate) fn warn(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "pgiam: warning: {text}");
}

/// Says so when the region is a guess: the server accepts the token only if the guess is right.
pub(crate) fn doubtful_region(token: &Token) -> Option<String> {
    if matches!(token.region_source(), RegionSource::Argument | RegionSource::EndpointName) {
        return None;
    }
    let source = token.region_source().describe();
    let (host, region) = (token.host(), token.region());
    Some(if token.endpoint_recognized() {
        format!(
            "{host} does not tell its region; {region} is from {source}. The token is valid only if the database is \
             there: pass --region to be sure"
        )
    } else {
        format!(
            "{host} is not an endpoint name of RDS, Aurora or Aurora DSQL, and region {region} is from {source}. The \
             token is valid only if they are the server's own name and region: pass the endpoint's name, or --region"
        )
    })
}
