//! HTTP/1.1 as far as the services need it: requests with a length or in chunks, responses with a length. This module
//! reads requests from a socket; `delivery` sends responses.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

const MAXIMUM_HEAD: usize = 64 * 1024;
const MAXIMUM_BODY: usize = 1024 * 1024;

/// One complete request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// The request target as received.
    pub(crate) target: String,
    /// The path within the target, still percent-encoded.
    pub(crate) path: String,
    /// The query string, still percent-encoded.
    pub(crate) query: String,
    pub(crate) wants_close: bool,
    /// Names as received, values trimmed, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The first header of that name, ignoring case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// A parameter of the query, decoded.
    pub(crate) fn query_parameter(&self, name: &str) -> Option<String> {
        parameter(&self.query, name)
    }

    /// A parameter of a form-encoded body, decoded.
    pub(crate) fn form_parameter(&self, name: &str) -> Option<String> {
        parameter(&String::from_utf8_lossy(&self.body), name)
    }
}

/// The first value of `name`, ignoring case.
pub(crate) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn parameter(encoded: &str, name: &str) -> Option<String> {
    pairs(encoded).into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// `a=1&b=2` decoded, in order; `+` is a space.
pub(crate) fn pairs(encoded: &str) -> Vec<(String, String)> {
    encoded
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%')
            .then(|| text.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (escaped, bytes[at]) {
            (Some(byte), _) => {
                out.push(byte);
                at += 3;
            }
            (None, b'+') => {
                out.push(b' ');
                at += 1;
            }
            (None, byte) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads requests from a connection.
pub(crate) struct RequestReader<'a> {
    stream: &'a TcpStream,
    buffer: Vec<u8>,
}

struct Head {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    keeps_alive_by_default: bool,
    length: usize,
}

impl<'a> RequestReader<'a> {
    pub(crate) fn new(stream: &'a TcpStream) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The next request; `None` if the peer closed the connection after a request. `InvalidData` means that the bytes
    /// are not HTTP.
    pub(crate) fn next(&mut self) -> io::Result<Option<Request>> {
        let head = loop {
            if let Some(head) = parse_head(&self.buffer)? {
                break head;
            }
            if self.buffer.len() > MAXIMUM_HEAD {
                return Err(invalid("request head too large"));
            }
            let nothing_yet = self.buffer.is_empty();
            if !self.fill()? {
                return if nothing_yet { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        };
        self.buffer.drain(..head.length);
        if find(&head.headers, "expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue")) {
            let mut stream = self.stream;
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = self.body(&head.headers)?;
        let connection = find(&head.headers, "connection").unwrap_or("");
        let wants_close = connection.eq_ignore_ascii_case("close")
            || !(head.keeps_alive_by_default || connection.eq_ignore_ascii_case("keep-alive"));
        let (path, query) = split_target(&head.target);
        Ok(Some(Request {
            path: path.to_owned(),
            query: query.to_owned(),
            method: head.method,
            target: head.target,
            wants_close,
            headers: head.headers,
            body,
        }))
    }

    fn body(&mut self, headers: &[(String, String)]) -> io::Result<Vec<u8>> {
        if find(headers, "transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked")) {
            return self.chunks();
        }
        let Some(length) = find(headers, "content-length") else {
            return Ok(Vec::new());
        };
        let length = length.parse().map_err(|_| invalid("Content-Length is not a number"))?;
        self.exactly(length)
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or("").trim();
            let length = usize::from_str_radix(digits, 16).map_err(|_| invalid("chunk length is not a number"))?;
            if length == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.exactly(length)?);
            if body.len() > MAXIMUM_BODY {
                return Err(invalid("request body too large"));
            }
            self.line()?;
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.buffer.len() > MAXIMUM_BODY || !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > MAXIMUM_BODY {
            return Err(invalid("request body too large"));
        }
        while self.buffer.len() < length {
            if !self.fill()? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    /// Reads more bytes. Returns false if the peer closed the connection.
    fn fill(&mut self) -> io::Result<bool> {
        let mut piece = [0; 4096];
        let mut stream = self.stream;
        let count = stream.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count > 0)
    }
}

fn parse_head(buffer: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    let status = parsed.parse(buffer).map_err(|error| invalid(&error.to_string()))?;
    let httparse::Status::Complete(length) = status else {
        return Ok(None);
    };
    Ok(Some(Head {
        method: parsed.method.unwrap_or("").to_owned(),
        target: parsed.path.unwrap_or("").to_owned(),
        keeps_alive_by_default: parsed.version == Some(1),
        headers: parsed
            .headers
            .iter()
            .map(|header| {
                let value = String::from_utf8_lossy(header.value);
                (header.name.to_owned(), value.trim().to_owned())
            })
            .collect(),
        length,
    }))
}

/// Path and query of a target. A client that uses this server as a proxy sends an absolute URL; its path is used, and
/// the log keeps the target, so that a test can check it.
fn split_target(target: &str) -> (&str, &str) {
    let origin = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('/') => rest.find('/').map_or("/", |slash| &rest[slash..]),
        _ => target,
    };
    origin.split_once('?').unwrap_or((origin, ""))
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// A response that has not been sent yet.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: vec![("Content-Type".to_owned(), content_type.to_owned())], body: body.into() }
    }

    pub(crate) fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self::new(status, "text/plain", body)
    }

    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::new(status, "application/json", body.to_string())
    }

    pub(crate) fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Status line and headers. `length` is the value of `Content-Length`; with `None` there is no such header, and the
    /// body ends when the connection is closed.
    pub(crate) fn head(&self, keep_alive: bool, length: Option<usize>, date: &str) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(length) = length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        let connection = if keep_alive { "keep-alive" } else { "close" };
        head.push_str(&format!("Date: {date}\r\nConnection: {connection}\r\n\r\n"));
        head.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_decoded() {
        assert_eq!(
            pairs("a=1+2&b=%2Fx%3D&c&d=100%"),
            [("a", "1 2"), ("b", "/x="), ("c", ""), ("d", "100%")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn the_path_is_read_from_a_target_that_is_an_absolute_url() {
        assert_eq!(split_target("http://169.254.169.254/latest/api/token"), ("/latest/api/token", ""));
        assert_eq!(split_target("/a?b=c://d"), ("/a", "b=c://d"));
        assert_eq!(split_target("http://host"), ("/", ""));
    }
}
