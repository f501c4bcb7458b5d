//! STS and SSO over TLS: the trust store, proxies, and a peer that stalls at every stage.

mod support;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pgiam_core::ErrorKind;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use support::{Machine, ROLE, within};

/// Listens on loopback and serves each connection on a thread of its own, until the process ends.
fn serve(serve_one: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve_one = Arc::new(serve_one);
    thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let serve_one = Arc::clone(&serve_one);
            thread::spawn(move || serve_one(connection).ok());
        }
    });
    port
}

/// A certificate authority of the test's own, and a server of that authority before the simulator.
struct Tls {
    authority: String,
    port: u16,
    /// Handshakes that were completed.
    sessions: Arc<AtomicUsize>,
}

fn tls_before(machine: &Machine, name: &str) -> Tls {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&parameters, &authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();

    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let (simulator, sessions) = (machine.simulator.port(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&sessions);
    let port = serve(move |connection| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut stream = rustls::StreamOwned::new(session, connection);
        // The simulator closes after its answer, and the clients' requests have no answer before their end.
        let mut request = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            let read = stream.read(&mut chunk)?;
            counted.fetch_add(usize::from(request.is_empty()), Ordering::Relaxed);
            request.extend_from_slice(&chunk[..read]);
            if read == 0 || is_whole(&request) {
                break;
            }
        }
        let mut upstream = TcpStream::connect(("127.0.0.1", simulator))?;
        upstream.write_all(&request)?;
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer)?;
        stream.write_all(&answer)?;
        stream.conn.send_close_notify();
        stream.flush()
    });
    Tls { authority: authority.pem(), port, sessions }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// A proxy that takes CONNECT and leads every connection to one port. Counts the connections and keeps what was asked.
struct Proxy {
    port: u16,
    asked: Arc<std::sync::Mutex<Vec<String>>>,
}

fn proxy_to(port: u16) -> Proxy {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let listening = serve(move |connection| {
        let mut reader = BufReader::new(connection.try_clone()?);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
        log.lock().unwrap().push(head.clone());
        let upstream = TcpStream::connect(("127.0.0.1", port))?;
        let (mut down, mut up) = (connection.try_clone()?, upstream.try_clone()?);
        down.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        let back = thread::spawn(move || {
            io::copy(&mut up, &mut down).ok();
            down.shutdown(Shutdown::Write).ok();
        });
        io::copy(&mut reader, &mut &upstream)?;
        upstream.shutdown(Shutdown::Write).ok();
        back.join().ok();
        Ok(())
    });
    Proxy { port: listening, asked }
}

impl Proxy {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn web_identity() -> Machine {
    let mut machine = Machine::new();
    let file = machine.file("token", "simulated-web-identity-token");
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    machine.set("AWS_ROLE_ARN", ROLE);
    machine
}

#[test]
fn aws_ca_bundle_is_the_trust_store_and_nothing_else_is_trusted() {
    let mut machine = web_identity();
    let tls = tls_before(&machine, "localhost");
    machine.set("AWS_ENDPOINT_URL_STS", &format!("https://localhost:{}", tls.port));
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.set("AWS_CA_BUNDLE", &bundle);
    machine.token();
    assert_eq!(tls.sessions.load(Ordering::Relaxed), 1);

    // The system's store, and another authority's bundle, do not know the server; the requests never leave.
    machine.simulator.clear_requests();
    let other = tls_before(&machine, "localhost");
    let other = machine.file("other.pem", &other.authority);
    for bundle in [None, Some(other)] {
        match &bundle {
            Some(path) => machine.set("AWS_CA_BUNDLE", path),
            None => machine.unset("AWS_CA_BUNDLE"),
        }
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.message().contains("certificate is not trusted"), "{error}");
        assert!(error.message().contains("AWS_CA_BUNDLE"), "{error}");
    }
    assert!(machine.simulator.requests().is_empty());
}

#[test]
fn the_profiles_ca_bundle_is_used_and_one_that_cannot_be_read_is_named() {
    let mut machine = web_identity();
    let tls = tls_before(&machine, "localhost");
    machine.set("AWS_ENDPOINT_URL_STS", &format!("https://localhost:{}", tls.port));
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.config(&format!("[default]\nca_bundle = {bundle}\n"));
    machine.token();
    for (text, part) in [(None, "/nonexistent.pem"), (Some("no certificate"), "no certificate in PEM form")] {
        let path = text.map_or_else(|| "/nonexistent.pem".to_owned(), |text| machine.file("bad.pem", text));
        machine.set("AWS_CA_BUNDLE", &path);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert!(error.message().contains(part), "{error}");
    }
}

#[test]
fn a_server_of_another_name_is_not_trusted() {
    let mut machine = web_identity();
    let tls = tls_before(&machine, "elsewhere.example");
    machine.set("AWS_ENDPOINT_URL_STS", &format!("https://localhost:{}", tls.port));
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.set("AWS_CA_BUNDLE", &bundle);
    assert!(machine.error().message().contains("not trusted"));
    assert!(machine.simulator.requests().is_empty());
}

#[test]
fn sts_and_sso_go_through_the_proxy_and_no_proxy_exempts() {
    let mut machine = web_identity();
    // The real name: nothing resolves it here, so only through the proxy can it be reached.
    machine.unset("AWS_ENDPOINT_URL_STS");
    let name = "sts.eu-central-1.amazonaws.com";
    let tls = tls_before(&machine, name);
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.set("AWS_CA_BUNDLE", &bundle);
    let proxy = proxy_to(tls.port);
    machine.set("HTTPS_PROXY", &format!("http://user:planted-password@127.0.0.1:{}", proxy.port));
    machine.token();
    let asked = proxy.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with(&format!("CONNECT {name}:443 HTTP/1.1")), "{}", asked[0]);
    assert!(asked[0].to_ascii_lowercase().contains("proxy-authorization: basic"), "{}", asked[0]);
    // The lower-case name wins, as in curl and botocore.
    machine.set("https_proxy", &format!("http://127.0.0.1:{}", proxy.port));
    machine.token();
    assert!(!proxy.asked()[1].to_ascii_lowercase().contains("proxy-authorization"));

    machine.set("NO_PROXY", "example.com,.amazonaws.com");
    machine.set("AWS_ENDPOINT_URL_STS", &format!("https://{name}:{}", tls.port));
    machine.setting("timeout_ms", "2000");
    let error = machine.error();
    assert!(!format!("{error:?}").contains("planted"), "{error:?}");
    assert_eq!(proxy.asked().len(), 2, "not asked again");

    let mut machine = Machine::new();
    machine.profile_app(support::SSO_PROFILE);
    machine.sso_cache("corp", 8 * 3600, "");
    machine.unset("AWS_ENDPOINT_URL_SSO");
    let tls = tls_before(&machine, "portal.sso.eu-central-1.amazonaws.com");
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.set("AWS_CA_BUNDLE", &bundle);
    let proxy = proxy_to(tls.port);
    machine.set("HTTPS_PROXY", &format!("http://127.0.0.1:{}", proxy.port));
    machine.token();
    assert!(proxy.asked()[0].starts_with("CONNECT portal.sso.eu-central-1.amazonaws.com:443"));
}

#[test]
fn a_proxy_that_is_not_there_or_makes_no_sense_is_told_without_its_password() {
    for proxy in [aws_simulator::refused_port().unwrap().url(), "::not a url planted-password".into()] {
        let mut machine = web_identity();
        machine.unset("AWS_ENDPOINT_URL_STS");
        machine.set("HTTPS_PROXY", &proxy);
        let error = machine.error();
        assert!(!format!("{error:?}").contains("planted"), "{error:?}");
        assert!(matches!(error.kind(), ErrorKind::Provider | ErrorKind::InvalidConfiguration), "{error:?}");
    }
}

#[test]
fn the_deadline_holds_against_a_peer_that_stalls_at_any_stage() {
    let time_out = Duration::from_millis(400);
    let silent = serve(|mut connection| {
        // Accepted, and read from; no answer ever comes.
        io::copy(&mut connection, &mut io::sink()).map(drop)
    });
    let hello_by_drops = serve(|mut connection| {
        // The beginning of a TLS record that promises 16 KiB, then a byte now and then.
        connection.write_all(&[0x16, 0x03, 0x03, 0x40, 0x00])?;
        loop {
            connection.write_all(&[0])?;
            thread::sleep(Duration::from_millis(50));
        }
    });
    let proxy_by_drops = serve(|mut connection| {
        for byte in b"HTTP/1.1 200 Connection established though it takes its time".iter().cycle() {
            connection.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    });
    let hole = aws_simulator::blackhole_address().unwrap();
    let stages: [(&str, &str, String); 5] = [
        ("connect", "AWS_ENDPOINT_URL_STS", hole.url().replace("http:", "https:")),
        ("TLS", "AWS_ENDPOINT_URL_STS", format!("https://127.0.0.1:{silent}")),
        ("TLS by drops", "AWS_ENDPOINT_URL_STS", format!("https://127.0.0.1:{hello_by_drops}")),
        ("proxy", "HTTPS_PROXY", format!("http://127.0.0.1:{silent}")),
        ("proxy by drops", "HTTPS_PROXY", format!("http://127.0.0.1:{proxy_by_drops}")),
    ];
    for (stage, variable, url) in stages {
        let mut machine = web_identity();
        machine.unset("AWS_ENDPOINT_URL_STS");
        machine.set(variable, &url);
        machine.setting("timeout_ms", &time_out.as_millis().to_string());
        let mut kinds = Vec::new();
        within(time_out, || kinds.push(machine.error())).unwrap_or_else(|took| panic!("{stage}: {took:?}"));
        for error in kinds {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{stage}: {error:?}");
        }
    }
}

#[test]
fn a_name_that_does_not_resolve_or_resolves_slowly_is_an_error_of_the_source() {
    let mut machine = web_identity();
    machine.set("AWS_ENDPOINT_URL_STS", "https://sts.invalid");
    machine.setting("timeout_ms", "3000");
    let error = machine.error();
    assert!(error.message().contains("https://sts.invalid"), "{error}");
    assert!(matches!(error.kind(), ErrorKind::Provider | ErrorKind::Timeout), "{error:?}");
}
