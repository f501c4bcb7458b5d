//! The network: looks up the host's name and opens a TCP connection.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::login::Context;
use crate::login::name::Kind;
use crate::login::report::{Finding, Report};
use crate::shell;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A refused login takes RDS a few seconds.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// Connects as libpq would, to one address after the other.
pub(crate) fn connect(context: &Context<'_>, report: &mut Report) -> Option<TcpStream> {
    let (name, port) = (context.connection.only_address().unwrap_or(&context.host.name), context.host.port);
    let addresses: Vec<SocketAddr> = match (name, port).to_socket_addrs() {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            let why = error.to_string().replace("failed to lookup address information: ", "");
            let text = format!("{name} cannot be resolved: {why}");
            report.add(Finding::fail("network", "unknown-name", text, endpoints(context)));
            return None;
        }
    };
    let mut refusals = Vec::new();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).and_then(with_timeouts) {
            Ok(stream) => {
                report.add(Finding::ok("network", format!("connected to {address}")));
                return Some(stream);
            }
            Err(error) => refusals.push(format!("{address}: {}", reason(&error))),
        }
    }
    let text = format!("no connection to {name}: {}", refusals.join("; "));
    report.add(Finding::fail("network", "unreachable", text, state(context)));
    None
}

fn with_timeouts(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_write_timeout(Some(READ_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut => {
            "no answer in 5 seconds (a security group, or a private address from outside the VPC)".to_owned()
        }
        io::ErrorKind::ConnectionRefused => {
            "connection refused (wrong port, a stopped server, or no tunnel)".to_owned()
        }
        _ => error.to_string(),
    }
}

/// Lists the endpoints that exist.
fn endpoints(context: &Context<'_>) -> String {
    let Some(region) = context.region() else { return format!("getent ahosts {}", shell::quoted(&context.host.name)) };
    let region = shell::quoted(&region);
    match context.kind() {
        Kind::Dsql => format!("aws dsql list-clusters --region {region}"),
        Kind::Proxy => format!("aws rds describe-db-proxies --region {region} --query 'DBProxies[].Endpoint'"),
        Kind::Instance => {
            format!("aws rds describe-db-instances --region {region} --query 'DBInstances[].Endpoint.Address'")
        }
        _ => format!("aws rds describe-db-clusters --region {region} --query 'DBClusters[].Endpoint'"),
    }
}

/// Shows whether the database is running, and on which port.
fn state(context: &Context<'_>) -> String {
    let (identifier, region) = (context.identifier(), context.region().unwrap_or_default());
    let (identifier, region) = (shell::quoted(&identifier), shell::quoted(&region));
    match Kind::of(&context.host.name) {
        Kind::Instance => format!(
            "aws rds describe-db-instances --region {region} --db-instance-identifier {identifier} --query \
             'DBInstances[0].[DBInstanceStatus,Endpoint.Port,PubliclyAccessible,VpcSecurityGroups]'"
        ),
        Kind::Cluster | Kind::ClusterReader => format!(
            "aws rds describe-db-clusters --region {region} --db-cluster-identifier {identifier} --query \
             'DBClusters[0].[Status,Port,VpcSecurityGroups]'"
        ),
        Kind::Proxy => format!("aws rds describe-db-proxies --region {region} --query 'DBProxies[].[Endpoint,Status]'"),
        Kind::Dsql => format!("aws dsql get-cluster --region {region} --identifier {identifier}"),
        _ => format!("ss -ltn 'sport = :{}'", context.host.port),
    }
}
