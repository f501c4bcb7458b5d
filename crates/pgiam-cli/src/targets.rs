//! Which tokens connections need: flags and connections in, a list of targets out.

use pgiam_libpq::rules::{Endpoint, Mode};

use crate::args::ConnectionArguments;
use crate::connection::{self, Connection, Explicit, Given, Source, Surroundings};
use crate::failure::Failure;

/// The connections that the flags name. Missing values are taken from `base`, then as for every connection.
pub(crate) fn connections(
    arguments: &ConnectionArguments,
    base: &Explicit,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<Connection>, Failure> {
    let mut connections = Vec::new();
    for text in &arguments.connection {
        connections.push(connection::resolve(connection::explicit([], Some(text))?, surroundings)?);
    }
    let lists = [("host", "-h", &arguments.host), ("port", "-p", &arguments.port), ("user", "-U", &arguments.user)];
    for number in 0..connection_count(&lists)? {
        let mut explicit = base.clone();
        for (keyword, flag, given) in lists {
            if let Some(value) = given.get(number).or_else(|| given.first()) {
                explicit.insert(keyword, Given { value: value.clone(), source: Source::Flag(flag) });
            }
        }
        connections.push(connection::resolve(explicit, surroundings)?);
    }
    Ok(connections)
}

/// How many connections the lists of hosts, ports and users describe.
fn connection_count(lists: &[(&str, &str, &Vec<String>); 3]) -> Result<usize, Failure> {
    let [hosts, ports, users] = lists.map(|(_, _, given)| given.len());
    let count = if hosts > 1 { hosts } else { hosts.max(ports).max(users) };
    match lists.iter().find(|(_, _, given)| given.len() > 1 && given.len() != count) {
        None => Ok(count),
        Some((_, flag, given)) => Err(Failure::usage(format!(
            "{flag} is given {} times for {count} connections; give it once for all, or once for each",
            given.len()
        ))),
    }
}

/// A line of a password file, and what its token is signed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) region: Option<String>,
    pub(crate) profile: Option<String>,
}

/// Adds the targets of a connection. It is an error if one of its hosts gets no token. With `PGIAM=off` nothing is added.
pub(crate) fn add(targets: &mut Vec<Target>, connection: &Connection) -> Result<(), Failure> {
    let own = &connection.own;
    if own.mode == Mode::Off {
        return Ok(());
    }
    for host in connection.hosts()? {
        if !own.gets_token(host.index, &host.name) {
            return Err(gets_no_token(&host.name));
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

fn gets_no_token(host: &str) -> Failure {
    if host.starts_with(['/', '@']) {
        return Failure::usage(format!(
            "{host:?} is a Unix socket, and IAM tokens are for databases at AWS: pass the endpoint with -h HOST, \
             host=HOST in a connection string or service, or PGHOST"
        ));
    }
    Failure::usage(format!(
        "{host} is not an endpoint name of RDS, Aurora or Aurora DSQL, so it gets no token. Behind a tunnel or a CNAME set \
         PGIAM_HOST to the name of the endpoint; PGIAM=on makes tokens for {host} itself; PGIAM_HOSTS adds names; \
         PGIAM=off makes no tokens"
    ))
}

/// The warning for connections whose user is a guess: the token is valid for that user only.
pub(crate) fn guessed_user<'a>(connections: impl IntoIterator<Item = &'a Connection>) -> Option<String> {
    let connection = connections.into_iter().find(|connection| connection.user_is_guessed)?;
    Some(format!(
        "no database user is given, so the token is for {:?}, your user name on this machine; pass -U USER or set PGUSER",
        connection.user
    ))
}
