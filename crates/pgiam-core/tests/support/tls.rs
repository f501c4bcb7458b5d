//! TLS servers and proxies in front of the simulator.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::Machine;

/// Listens on loopback and handles each connection on its own thread, until the process ends.
pub(crate) fn serve(serve_one: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> u16 {
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

/// A server with a certificate of the test's authority, in front of the simulator.
pub(crate) struct Tls {
    pub(crate) authority: String,
    pub(crate) port: u16,
    /// Handshakes that were completed.
    pub(crate) sessions: Arc<AtomicUsize>,
}

pub(crate) fn tls_before(machine: &Machine, name: &str) -> Tls {
    tls_with(machine, name, rustls::crypto::ring::default_provider())
}

pub(crate) fn tls_with(machine: &Machine, name: &str, provider: rustls::crypto::CryptoProvider) -> Tls {
    tls_of(machine, &Chain { name, ..Chain::default() }, provider, rustls::ALL_VERSIONS)
}

/// A kind of key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Key {
    P256,
    P384,
    Ed25519,
    /// 2048 bits, SHA-256.
    Rsa,
}

impl Key {
    fn pair(self) -> rcgen::KeyPair {
        let algorithm = match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
            Self::Rsa => {
                // ring makes none. This one protects nothing.
                let pem = include_str!("../data/rsa-2048.pem");
                return rcgen::KeyPair::from_pkcs8_pem_and_sign_algo(pem, &rcgen::PKCS_RSA_SHA256).unwrap();
            }
        };
        rcgen::KeyPair::generate_for(algorithm).unwrap()
    }
}

/// A certificate and who signed it.
pub(crate) struct Chain<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: Key,
    pub(crate) authority_key: Key,
    /// The years in which it begins and ends to be valid.
    pub(crate) years: [i32; 2],
    /// Signed by an authority between.
    pub(crate) by_intermediate: bool,
    /// Signed by itself.
    pub(crate) self_signed: bool,
}

impl Default for Chain<'_> {
    fn default() -> Self {
        let (key, authority_key) = (Key::P256, Key::P256);
        Self { name: "localhost", key, authority_key, years: [1975, 4096], by_intermediate: false, self_signed: false }
    }
}

fn authority(name: &str) -> rcgen::CertificateParams {
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    parameters
}

impl Chain<'_> {
    /// The authority's certificate in PEM form, what the server sends, and its key.
    fn make(&self) -> (String, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let (root, root_key) = (authority("root"), self.authority_key.pair());
        let root_certificate = root.self_signed(&root_key).unwrap();
        let (between, between_key) = (authority("between"), self.authority_key.pair());
        let root = rcgen::Issuer::from_params(&root, &root_key);
        let between_certificate = between.signed_by(&between_key, &root).unwrap();
        let between = rcgen::Issuer::from_params(&between, &between_key);

        let key = self.key.pair();
        let mut parameters = rcgen::CertificateParams::new(vec![self.name.to_owned()]).unwrap();
        let [from, to] = self.years;
        (parameters.not_before, parameters.not_after) =
            (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
        let mut chain = Vec::new();
        if self.self_signed {
            chain.push(parameters.self_signed(&key).unwrap().der().to_vec());
        } else if self.by_intermediate {
            chain.push(parameters.signed_by(&key, &between).unwrap().der().to_vec());
            chain.push(between_certificate.der().to_vec());
        } else {
            chain.push(parameters.signed_by(&key, &root).unwrap().der().to_vec());
        }
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        (root_certificate.pem(), chain.into_iter().map(CertificateDer::from).collect(), key)
    }
}

pub(crate) fn tls_of(
    machine: &Machine,
    chain: &Chain<'_>,
    provider: rustls::crypto::CryptoProvider,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Tls {
    let (authority, certificates, key) = chain.make();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .unwrap();
    let config = Arc::new(config);
    let (simulator, sessions) = (machine.simulator.port(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&sessions);
    let port = serve(move |connection| {
        let session = rustls::ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut stream = rustls::StreamOwned::new(session, connection);
        // The simulator answers a whole request and closes.
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
    Tls { authority, port, sessions }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// A proxy that connects every CONNECT to one port, and keeps the requests.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    pub(crate) asked: Arc<std::sync::Mutex<Vec<String>>>,
}

pub(crate) fn proxy_to(port: u16) -> Proxy {
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
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}
