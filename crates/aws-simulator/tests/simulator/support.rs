//! An HTTP client that exposes the received bytes, and a fixed clock.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_simulator::{Simulator, SimulatorOptions};
use serde_json::Value;

/// A limit that a successful test never reaches.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// 2026-01-31T12:00:00Z
pub(crate) const NOON: u64 = 1_769_860_800;

pub(crate) fn start() -> Simulator {
    start_with(|_| {})
}

pub(crate) fn start_with(change: impl FnOnce(&mut SimulatorOptions)) -> Simulator {
    let mut options = SimulatorOptions { now: Arc::new(|| at(NOON)), ..SimulatorOptions::default() };
    change(&mut options);
    Simulator::start(options).expect("start the simulator")
}

pub(crate) fn at(unix_seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(unix_seconds)
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// The text between `<name>` and `</name>`.
    pub(crate) fn element(&self, name: &str) -> &str {
        let text = self.text();
        let inside = text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once(&format!("</{name}>")));
        inside.unwrap_or_else(|| panic!("no <{name}> in {text}")).0
    }
}

/// A connection for one or more requests.
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(simulator: &Simulator) -> Self {
        Self::connect_to(simulator.port())
    }

    pub(crate) fn connect_to(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect to the simulator");
        let client = Self { stream, received: Vec::new() };
        client.set_patience(PATIENCE);
        client
    }

    pub(crate) fn set_patience(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("set the read timeout");
    }

    pub(crate) fn send(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> io::Result<()> {
        let mut request = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            request.push_str("Host: simulator\r\n");
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        self.stream.write_all(request.as_bytes())
    }

    /// Reads one response by its `Content-Length`.
    pub(crate) fn receive(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.more()?;
        };
        let head: Vec<u8> = self.received.drain(..end).collect();
        let head = String::from_utf8(head).expect("the head is UTF-8");
        let mut answer = Answer { status: head[9..12].parse().expect("a status"), head, body: Vec::new() };
        let length: usize = answer.header("content-length").map_or(usize::MAX, |text| text.parse().expect("a length"));
        while self.received.len() < length {
            self.more()?;
        }
        answer.body = self.received.drain(..length).collect();
        Ok(answer)
    }

    /// Waits for bytes; fails if the connection is closed, is reset, or times out.
    pub(crate) fn more(&mut self) -> io::Result<()> {
        let mut piece = [0; 65_536];
        match self.stream.read(&mut piece)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.received.extend_from_slice(&piece[..count]);
                Ok(())
            }
        }
    }

    /// Reads until the connection ends or times out. Returns the bytes and how it ended.
    pub(crate) fn drain(&mut self) -> (Vec<u8>, io::ErrorKind) {
        loop {
            if let Err(error) = self.more() {
                return (std::mem::take(&mut self.received), error.kind());
            }
        }
    }

    pub(crate) fn received(&self) -> &[u8] {
        &self.received
    }
}

/// A request on a new connection.
pub(crate) fn try_request(
    simulator: &Simulator,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<Answer> {
    let mut client = Client::connect(simulator);
    client.send(method, target, headers, body)?;
    client.receive()
}

pub(crate) fn request(
    simulator: &Simulator,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    try_request(simulator, method, target, headers, body).expect("an answer")
}

/// A new IMDS session token.
pub(crate) fn imds_token(simulator: &Simulator) -> String {
    let ttl = ("X-aws-ec2-metadata-token-ttl-seconds", "21600");
    let answer = request(simulator, "PUT", "/latest/api/token", &[ttl], "");
    assert_eq!(answer.status, 200);
    answer.text().to_owned()
}

/// Metadata, fetched with a new session token.
pub(crate) fn metadata(simulator: &Simulator, path: &str) -> Answer {
    let token = imds_token(simulator);
    let headers = [("X-aws-ec2-metadata-token", token.as_str())];
    request(simulator, "GET", path, &headers, "")
}

pub(crate) const ROLE_PATH: &str = "/latest/meta-data/iam/security-credentials/app-server-role";
pub(crate) const REGION_PATH: &str = "/latest/meta-data/placement/region";
