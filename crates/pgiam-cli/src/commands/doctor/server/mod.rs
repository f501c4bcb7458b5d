//! The server: TLS and its certificate, what it asks this user for before a password is sent, and the login itself. The
//! requests are PostgreSQL's ([`protocol`]); no libpq is needed.
//!
//! The token is sent over TLS only, and only to a server whose certificate is what `sslmode` and `sslrootcert` ask for.

mod certificate;
mod protocol;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use pgiam_core::rfc3339;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use self::certificate::{AcceptAny, Certificate, Trust};
use self::protocol::{Authentication, ServerError, TlsAnswer};
use crate::login::name::{self, Kind};
use crate::login::report::{Finding, Report};
use crate::login::roots::Roots;
use crate::login::{Context, Target};
use crate::shell;
use zeroize::Zeroizing;

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// A connection to the server.
pub(crate) struct Session {
    stream: Box<dyn ReadWrite>,
    /// `None`: without TLS.
    certificate: Option<Certificate>,
    /// Why a token must not be sent.
    unsafe_because: Option<&'static str>,
}

/// Asks for TLS and judges the certificate. `None`: nothing more can be asked.
pub(crate) fn start_tls(mut stream: TcpStream, context: &Context<'_>, report: &mut Report) -> Option<Session> {
    match protocol::request_tls(&mut stream) {
        Ok(TlsAnswer::Yes) => handshake(stream, context, report),
        Ok(TlsAnswer::No) => {
            let text = "the server has no TLS, and tokens are sent over TLS only. It is not an RDS endpoint: a proxy or \
                        pooler without TLS, or another server";
            report.add(Finding::fail("tls", "server-without-tls", text, whats_listening(context)));
            Some(Session { stream: Box::new(stream), certificate: None, unsafe_because: Some("there is no TLS") })
        }
        Ok(TlsAnswer::Error) => {
            let error = protocol::read_body(&mut stream).map(|body| ServerError::of(&body)).unwrap_or_default();
            report.add(refused("tls", &error, context));
            None
        }
        Err(error) => {
            let text = format!("the server does not answer like PostgreSQL: {}", reason(&error));
            report.add(Finding::fail("tls", "not-postgresql", text, whats_listening(context)));
            None
        }
    }
}

fn whats_listening(context: &Context<'_>) -> String {
    format!(
        "openssl s_client -starttls postgres -connect {}:{}",
        shell::quoted(context.connection.only_address().unwrap_or(&context.host.name)),
        context.host.port
    )
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in 30 seconds".to_owned(),
        _ => error.to_string(),
    }
}

fn handshake(stream: TcpStream, context: &Context<'_>, report: &mut Report) -> Option<Session> {
    let provider = pgiam_core::tls_provider();
    let fail = |why: String| Finding::fail("tls", "tls-handshake", format!("TLS: {why}"), whats_listening(context));
    let mut tls = match handshake_with(stream, &context.host.name, &provider) {
        Ok(tls) => tls,
        Err(why) => {
            report.add(fail(why));
            return None;
        }
    };
    let chain = tls.conn.peer_certificates().unwrap_or_default();
    let certificate = match Certificate::new(chain.iter().map(|part| part.clone().into_owned()).collect()) {
        Ok(certificate) => certificate,
        Err(why) => {
            report.add(fail(why));
            return None;
        }
    };
    let version = tls.conn.protocol_version().and_then(|version| version.as_str()).unwrap_or("TLS").replace('_', ".");
    let finding = judge(&certificate, &version, context, &provider);
    let untrusted = finding.cause.is_some();
    report.add(finding);
    // Nothing was read beyond the handshake: PostgreSQL waits for the start-up packet.
    let _ = tls.flush();
    Some(Session {
        stream: Box::new(tls),
        certificate: Some(certificate),
        unsafe_because: untrusted.then_some("the server's certificate is not trusted"),
    })
}

fn handshake_with(
    stream: TcpStream,
    host: &str,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAny(Arc::clone(provider))))
        .with_no_client_auth();
    let name = ServerName::try_from(host.trim_end_matches('.').to_owned())
        .map_err(|_| format!("{host:?} is not a host name"))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let mut tls = StreamOwned::new(connection, stream);
    while tls.conn.is_handshaking() {
        tls.conn.complete_io(&mut tls.sock).map_err(|error| reason(&error))?;
    }
    Ok(tls)
}

/// Compares the certificate with what libpq would ask for.
fn judge(
    certificate: &Certificate,
    version: &str,
    context: &Context<'_>,
    provider: &rustls::crypto::CryptoProvider,
) -> Finding {
    let sslmode = context.connection.required_sslmode().unwrap_or_else(|_| "require".to_owned());
    let roots = Roots::of(context, &sslmode);
    let issuer = certificate.issuer.as_deref().unwrap_or("an unnamed CA");
    let names = listed(certificate);
    let trusted = match &roots {
        Roots::None => {
            let given = context.connection.sslrootcert.as_ref().filter(|given| !given.value.is_empty());
            let why = given.map_or("no sslrootcert".to_owned(), |given| format!("{} does not exist", given.value));
            let text = format!("{version}; certificate for {names} by {issuer}, not verified ({why})");
            return Finding::ok("tls", text);
        }
        Roots::System => "the system's trust store".to_owned(),
        Roots::File(path) => path.display().to_string(),
    };
    let verdict = roots.read(context).map(|roots| certificate.trust(&roots, provider));
    match verdict {
        Err(why) => {
            Finding::fail("tls", "no-root-certificates", format!("sslmode={sslmode}: {why}"), context.ca_bundle())
        }
        Ok(Trust::UnknownIssuer) => Finding::fail(
            "tls",
            "unknown-ca",
            format!("the certificate was issued by {issuer}, which is not in {trusted}"),
            context.ca_bundle(),
        ),
        Ok(Trust::Expired) => Finding::fail(
            "tls",
            "certificate-expired",
            format!("the certificate by {issuer} has expired, or the clock of this machine is wrong"),
            "date -u".to_owned(),
        ),
        Ok(Trust::Other(why)) => {
            let text = format!("the certificate by {issuer} is not valid: {why}");
            Finding::fail("tls", "certificate-invalid", text, whats_listening(context))
        }
        Ok(Trust::Trusted) if sslmode == "verify-full" && !certificate.is_for(&context.host.name) => Finding::fail(
            "tls",
            "certificate-name",
            format!("sslmode=verify-full: the certificate is for {names}, not for {}", context.host.name),
            connect_by_endpoint(certificate, context),
        ),
        Ok(Trust::Trusted) => {
            Finding::ok("tls", format!("{version}; certificate for {names} by {issuer}, verified with {trusted}"))
        }
    }
}

/// The name of the endpoint, or the first one, and how many more there are.
fn listed(certificate: &Certificate) -> String {
    let first = endpoints_in(certificate).next().or(certificate.names.first().map(String::as_str));
    match (first, certificate.names.len()) {
        (None, _) => "no host name".to_owned(),
        (Some(first), 1) => first.to_owned(),
        (Some(first), count) => format!("{first} (and {} more)", count - 1),
    }
}

/// By name and address: the certificate is compared with the name, the connection goes to the address.
fn connect_by_endpoint(certificate: &Certificate, context: &Context<'_>) -> String {
    let Some(endpoint) = endpoints_in(certificate).next() else { return whats_listening(context) };
    let address = match context.connection.only_address() {
        Some(address) => address,
        None if Kind::of(&context.host.name) == Kind::ThisMachine => "127.0.0.1",
        None => context.host.name.as_str(),
    };
    let (target, port) = (Target { host: endpoint, ..context.target() }, port_of(context).to_string());
    context.command_to(target, "psql-iam", &[("hostaddr", address), ("iam_port", &port)])
}

/// The names of endpoints in a certificate. Tokens are not valid for custom endpoints.
fn endpoints_in(certificate: &Certificate) -> impl Iterator<Item = &str> {
    let names = certificate.names.iter().map(String::as_str).filter(|name| !name.starts_with('*'));
    names.filter(|name| Kind::of(name).is_endpoint() && Kind::of(name) != Kind::ClusterCustom)
}

/// The wildcard for endpoints in a certificate, such as that of RDS Proxy.
fn wildcard_in(certificate: &Certificate) -> Option<String> {
    let is_wildcard = |name: &&String| name.starts_with("*.") && Kind::of(&name.replacen('*', "x", 1)).is_endpoint();
    certificate.names.iter().find(is_wildcard).cloned()
}

/// The port of the endpoint. That of a tunnel on this machine or an address is another one, and PostgreSQL's default is
/// likely unless `PGIAM_PORT` gives it.
fn port_of(context: &Context<'_>) -> u16 {
    let given = context.endpoint.port != context.host.port;
    match Kind::of(&context.host.name) {
        Kind::ThisMachine | Kind::Address if !given => 5432,
        _ => context.endpoint.port,
    }
}

/// Compares the name that is signed with those in the certificate. If the connection names no endpoint, the one in the
/// certificate is used from then on.
pub(crate) fn endpoint_by_certificate(session: Option<&Session>, context: &mut Context<'_>, report: &mut Report) {
    let certificate = session.and_then(|session| session.certificate.as_ref());
    let found: Vec<&str> = certificate.into_iter().flat_map(endpoints_in).collect();
    let signed = name::normalized(&context.endpoint.host).into_owned();
    let kind = context.kind();
    let is_named = certificate.is_some_and(|certificate| certificate.is_for(&signed));
    if kind.is_endpoint() && (found.is_empty() || kind == Kind::Global || (is_named && kind != Kind::ClusterCustom)) {
        return;
    }
    let Some(endpoint) = found.first() else {
        if !context.connection.own.gets_token(context.host.index, &context.endpoint.host) {
            let finding = match certificate.and_then(wildcard_in) {
                Some(name) => {
                    let text = format!("nothing names the endpoint; the server's certificate is for {name}");
                    Finding::fail("name", "not-an-endpoint", text, name::name_the_endpoint(context, &name))
                }
                None => {
                    let text = "nothing names the endpoint: neither the connection nor the server's certificate";
                    Finding::fail("name", "not-an-endpoint", text, name::name_the_endpoint(context, ""))
                }
            };
            report.add(finding);
        }
        return;
    };
    let port = port_of(context);
    let cause = if kind.is_endpoint() { "other-endpoint" } else { "not-an-endpoint" };
    let text = format!("the server's certificate is for {endpoint}, but the token would be signed for {signed}");
    let port_text = port.to_string();
    let mut changes = vec![("iam_host", *endpoint)];
    if port != context.host.port {
        changes.push(("iam_port", &port_text));
    }
    report.add(Finding::fail("name", cause, text, context.command_with("psql-iam", &changes)));
    context.endpoint.host = (*endpoint).to_owned();
    context.endpoint.port = port;
}

/// The server's answer to the start-up packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It lets the user in without a password.
    NoPassword,
    /// It asks for a clear-text password, as it does for members of rds_iam.
    Cleartext,
    /// Something else, or an error: a token cannot be sent.
    NoToken,
}

/// Sends the start-up packet and tells what the server asks this user for. No password is sent.
pub(crate) fn ask(session: &mut Session, context: &Context<'_>, report: &mut Report) -> Answer {
    report.begin("asking the server what it wants from this user");
    let mut parameters = vec![("user", context.user()), ("database", context.database.as_str())];
    parameters.push(("application_name", "pgiam doctor"));
    if let Some(replication) = &context.connection.replication {
        parameters.push(("replication", replication.value.as_str()));
    }
    let message = protocol::send_startup(&mut session.stream, &parameters)
        .and_then(|()| protocol::read_message(&mut session.stream));
    let (answer, finding) = match message {
        Err(error) => (
            Answer::NoToken,
            Finding::fail(
                "server",
                "no-answer",
                format!("no answer to the start-up packet: {}", reason(&error)),
                whats_listening(context),
            ),
        ),
        Ok(message) if message.kind == b'E' => {
            (Answer::NoToken, refused("server", &ServerError::of(&message.body), context))
        }
        Ok(message) if message.kind == b'R' => asked_for(&Authentication::of(&message.body), context),
        Ok(_) => (
            Answer::NoToken,
            Finding::fail(
                "server",
                "not-postgresql",
                "the server does not answer like PostgreSQL",
                whats_listening(context),
            ),
        ),
    };
    report.add(finding);
    answer
}

fn asked_for(authentication: &Authentication, context: &Context<'_>) -> (Answer, Finding) {
    let user = context.user();
    let fail = |cause, text: String, remedy: String| (Answer::NoToken, Finding::fail("server", cause, text, remedy));
    match authentication {
        Authentication::Cleartext => (
            Answer::Cleartext,
            Finding::ok(
                "server",
                format!("asks {user} for a token (clear-text password): member of rds_iam, IAM authentication on"),
            ),
        ),
        Authentication::Done => {
            let text = format!("lets {user} in without a password, which RDS never does");
            (Answer::NoPassword, Finding::ok("server", text))
        }
        Authentication::Sasl(mechanisms) => {
            fail("not-granted", not_granted(user, &format!("a password ({mechanisms})")), grant(context))
        }
        Authentication::Md5 => fail("not-granted", not_granted(user, "a password (MD5)"), grant(context)),
        Authentication::Kerberos => fail(
            "rds-ad",
            format!("asks {user} for a Kerberos ticket: a member of rds_ad, which takes precedence over rds_iam"),
            context.as_admin(&format!("REVOKE rds_ad FROM {}", shell::identifier(user))),
        ),
        Authentication::Other(number) => fail(
            "other-authentication",
            format!("asks {user} for authentication method {number}, which has no token"),
            grant(context),
        ),
    }
}

fn not_granted(user: &str, what: &str) -> String {
    format!(
        "asks {user} for {what}, not for a token: the role was not granted rds_iam, or does not exist, or IAM \
         authentication is off (--admin tells which). A role with rds_iam can no longer log in with a password"
    )
}

/// Creates and grants the role, and turns IAM authentication on.
fn grant(context: &Context<'_>) -> String {
    let role = shell::identifier(context.user());
    let (identifier, region) = (context.identifier(), context.region().unwrap_or_default());
    let (identifier, region) = (shell::quoted(&identifier), shell::quoted(&region));
    let on = "--enable-iam-database-authentication --apply-immediately";
    let enable = match context.kind() {
        Kind::Instance => {
            format!("aws rds modify-db-instance --region {region} --db-instance-identifier {identifier} {on}")
        }
        Kind::Cluster | Kind::ClusterReader => {
            format!("aws rds modify-db-cluster --region {region} --db-cluster-identifier {identifier} {on}")
        }
        Kind::Proxy => {
            return format!(
                "aws rds describe-db-proxies --region {region} --query 'DBProxies[].[DBProxyName,Endpoint,Auth]'"
            );
        }
        Kind::Dsql => {
            let target = Target { user: "admin", database: "postgres", ..context.target() };
            let as_admin = context.command_to(target, "psql-iam", &[]);
            let grant = format!("AWS IAM GRANT {role} TO 'IAM_ROLE_OR_USER_ARN'");
            let create = format!("CREATE ROLE {role} WITH LOGIN");
            return format!("{as_admin} -c {}\n{as_admin} -c {}", shell::quoted(&create), shell::quoted(&grant));
        }
        _ => with_admin(context),
    };
    format!(
        "{}\n{}\n{enable}\n{}",
        context.as_admin(&format!("CREATE USER {role}")),
        context.as_admin(&format!("GRANT rds_iam TO {role}")),
        context.command("pgiam setup")
    )
}

/// The doctor's own command that looks up the role.
fn with_admin(context: &Context<'_>) -> String {
    if context.admin.is_some() {
        return context.as_admin(r"\du");
    }
    let (mut admin, target) = (context.connection.settings_of_strings(), context.target());
    admin.retain(|keyword, _| ["hostaddr", "sslmode", "sslrootcert"].contains(&keyword.as_str()));
    let port = target.port.to_string();
    let more = [("host", target.host), ("port", &port), ("user", "ADMIN"), ("dbname", target.database)];
    admin.extend(more.map(|(keyword, value)| (keyword.to_owned(), Zeroizing::new(value.to_owned()))));
    format!("{} --admin {}", context.command("pgiam doctor"), shell::quoted(&shell::conninfo(&admin)))
}

/// What an error of the server means.
fn refused(check: &'static str, error: &ServerError, context: &Context<'_>) -> Finding {
    let says = if error.message.is_empty() { "an error without a message" } else { error.message.as_str() };
    let fail = |cause, why: &str, remedy: String| Finding::fail(check, cause, format!("{says}{why}"), remedy);
    let contains = |part: &str| says.contains(part);
    let region = context.region().unwrap_or_default();
    if contains("pg_hba.conf") && contains("replication connection") {
        fail("replication", "; replication with tokens needs rds.iam_auth_for_replication=1", parameter_group(context))
    } else if contains("no encryption") || contains("SSL off") {
        fail("no-tls", "; members of rds_iam must use TLS", context.command_with("psql-iam", &[("sslmode", "require")]))
    } else if contains("IAM authentication failed for the role") || contains("supports only IAM") {
        fail(
            "proxy",
            "; look at IAMAuth and the authentication scheme of the proxy",
            format!("aws rds describe-db-proxies --region {region} --query 'DBProxies[].[DBProxyName,Endpoint,Auth]'"),
        )
    } else if error.code == "3D000" {
        fail(
            "no-database",
            "; the login itself succeeded",
            context.command_to(Target { database: "postgres", ..context.target() }, "psql-iam -l", &[]),
        )
    } else if contains("canceling authentication due to timeout") {
        fail(
            "timeout",
            "; the server may be short of memory: IAM authentication needs 300 to 1,000 MiB",
            memory(context),
        )
    } else if error.code == "57P03" || error.code == "53300" {
        fail("not-ready", "", format!("{} --wait", context.command("pgiam doctor")))
    } else if contains("authentication failed") || contains("access denied") {
        fail("refused", "", with_admin(context))
    } else {
        fail("other-error", "", with_admin(context))
    }
}

/// Allows replication with tokens in the parameter group of the instance or the cluster.
fn parameter_group(context: &Context<'_>) -> String {
    let (region, identifier) = (context.region().unwrap_or_default(), context.identifier());
    let (region, identifier) = (shell::quoted(&region), shell::quoted(&identifier));
    let (group, name) = match context.kind() {
        Kind::Cluster | Kind::ClusterReader => (
            "db-cluster-parameter-group",
            format!(
                "describe-db-clusters --region {region} --db-cluster-identifier {identifier} --query \
                 'DBClusters[0].DBClusterParameterGroup'"
            ),
        ),
        _ => (
            "db-parameter-group",
            format!(
                "describe-db-instances --region {region} --db-instance-identifier {identifier} --query \
                 'DBInstances[0].DBParameterGroups[0].DBParameterGroupName'"
            ),
        ),
    };
    format!(
        "aws rds modify-{group} --region {region} --{group}-name \"$(aws rds {name} --output text)\" --parameters \
         ParameterName=rds.iam_auth_for_replication,ParameterValue=1,ApplyMethod=immediate"
    )
}

/// Shows the free memory of the last hour. A proxy has no such metric; its targets are listed.
fn memory(context: &Context<'_>) -> String {
    let (region, identifier) = (context.region().unwrap_or_default(), context.identifier());
    let (region, identifier) = (shell::quoted(&region), shell::quoted(&identifier));
    let dimension = match context.kind() {
        Kind::Proxy => {
            return format!("aws rds describe-db-proxy-targets --region {region} --db-proxy-name {identifier}");
        }
        Kind::Cluster | Kind::ClusterReader => "DBClusterIdentifier",
        _ => "DBInstanceIdentifier",
    };
    format!(
        "aws cloudwatch get-metric-statistics --region {region} --namespace AWS/RDS --metric-name FreeableMemory --dimensions \
         Name={dimension},Value={identifier} --start-time {} --end-time {} --period 300 --statistics Minimum",
        rfc3339(context.now - 3600),
        rfc3339(context.now),
    )
}

/// Logs in with the token.
pub(crate) fn log_in(mut session: Session, answer: Option<Answer>, token: &str, context: &Context<'_>) -> Finding {
    let stream = &mut session.stream;
    match (answer, session.unsafe_because) {
        (Some(Answer::Cleartext), Some(why)) => {
            return Finding::unknown("login", format!("not tried: the token is not sent, because {why}"));
        }
        (Some(Answer::Cleartext), None) => {
            if let Err(error) = protocol::send_password(stream, token) {
                return no_answer(&error, context);
            }
        }
        (Some(Answer::NoPassword), _) => {}
        (Some(Answer::NoToken) | None, _) => {
            return Finding::unknown("login", "not tried, because the server does not ask for a token");
        }
    }
    let finding = outcome(stream, context);
    protocol::send_terminate(stream);
    finding
}

fn no_answer(error: &io::Error, context: &Context<'_>) -> Finding {
    let text = format!("no answer to the token: {}", reason(error));
    Finding::fail("login", "no-answer", text, memory(context))
}

/// Reads until the session is ready or refused.
fn outcome(stream: &mut impl Read, context: &Context<'_>) -> Finding {
    let mut version = String::new();
    loop {
        let message = match protocol::read_message(stream) {
            Ok(message) => message,
            Err(error) => return no_answer(&error, context),
        };
        match message.kind {
            b'E' => return refused("login", &ServerError::of(&message.body), context),
            b'Z' => {
                let (user, database) = (context.user(), &context.database);
                return Finding::ok("login", format!("{user} is logged in to database {database}{version}"));
            }
            b'S' => {
                if let Some(value) = message.body.strip_prefix(b"server_version\0") {
                    version = format!(", PostgreSQL {}", String::from_utf8_lossy(value).trim_end_matches('\0'));
                }
            }
            _ => {}
        }
    }
}
