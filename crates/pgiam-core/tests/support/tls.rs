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
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&parameters, &authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();

    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
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
    Tls { authority: authority.pem(), port, sessions }
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
