//! The part of PostgreSQL's protocol that a login needs (version 3.0, "Message Formats" in its documentation): messages in
//! and out over any stream.

use std::io::{self, Read, Write};

/// No message before the end of a login is longer; an error message may have a few kilobytes.
const MAX_MESSAGE: usize = 64 * 1024;
const SSL_REQUEST: u32 = 80_877_103;
const VERSION_3_0: u32 = 196_608;

/// A message from the server.
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) body: Vec<u8>,
}

/// What the server answers to the request for TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsAnswer {
    Yes,
    No,
    /// An error message follows, of which the first byte was read.
    Error,
}

/// Asks for TLS.
pub(super) fn request_tls(stream: &mut (impl Read + Write)) -> io::Result<TlsAnswer> {
    stream.write_all(&[8_u32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat())?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    match answer {
        [b'S'] => Ok(TlsAnswer::Yes),
        [b'N'] => Ok(TlsAnswer::No),
        [b'E'] => Ok(TlsAnswer::Error),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not PostgreSQL's")),
    }
}

/// Sends the start-up packet.
pub(super) fn send_startup(stream: &mut impl Write, parameters: &[(&str, &str)]) -> io::Result<()> {
    let mut body = VERSION_3_0.to_be_bytes().to_vec();
    for (name, value) in parameters {
        for text in [name, value] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    stream.write_all(&length_of(&body)?)?;
    stream.write_all(&body)?;
    stream.flush()
}

/// Sends a password.
pub(super) fn send_password(stream: &mut impl Write, password: &str) -> io::Result<()> {
    let mut message = zeroize::Zeroizing::new(Vec::with_capacity(password.len() + 6));
    message.push(b'p');
    message.extend_from_slice(&u32::try_from(password.len() + 5).map_err(io::Error::other)?.to_be_bytes());
    message.extend_from_slice(password.as_bytes());
    message.push(0);
    stream.write_all(&message)?;
    stream.flush()
}

/// Says good-bye, so that the server's log has no complaint.
pub(super) fn send_terminate(stream: &mut impl Write) {
    // The session is over either way.
    let _ = stream.write_all(&[b'X', 0, 0, 0, 4]).and_then(|()| stream.flush());
}

fn length_of(body: &[u8]) -> io::Result<[u8; 4]> {
    Ok(u32::try_from(body.len() + 4).map_err(io::Error::other)?.to_be_bytes())
}

/// Reads a message.
pub(super) fn read_message(stream: &mut impl Read) -> io::Result<Message> {
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    Ok(Message { kind: kind[0], body: read_body(stream)? })
}

/// Reads the length of a message and what follows.
pub(super) fn read_body(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if !(4..=MAX_MESSAGE).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is not PostgreSQL's"));
    }
    let mut body = vec![0; length - 4];
    stream.read_exact(&mut body)?;
    Ok(body)
}

/// An error of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerError {
    pub(super) code: String,
    pub(super) message: String,
}

impl ServerError {
    /// The body of an `ErrorResponse`: fields of a letter and a text.
    pub(super) fn of(body: &[u8]) -> Self {
        let mut error = Self::default();
        for field in body.split(|byte| *byte == 0) {
            let Some((letter, text)) = field.split_first() else { continue };
            let text = || String::from_utf8_lossy(text).into_owned();
            match letter {
                b'C' => error.code = text(),
                b'M' => error.message = text(),
                _ => {}
            }
        }
        error
    }
}

/// What the server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Authentication {
    Done,
    Cleartext,
    Md5,
    Sasl(String),
    Kerberos,
    Other(u32),
}

impl Authentication {
    /// The body of an authentication request.
    pub(super) fn of(body: &[u8]) -> Self {
        let (number, rest) = body.split_at(body.len().min(4));
        match u32::from_be_bytes(number.try_into().unwrap_or([255; 4])) {
            0 => Self::Done,
            2 | 7 | 9 => Self::Kerberos,
            3 => Self::Cleartext,
            5 => Self::Md5,
            10 => {
                let mechanisms = rest.split(|byte| *byte == 0).filter(|name| !name.is_empty());
                Self::Sasl(mechanisms.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" or "))
            }
            other => Self::Other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_asks_for_is_the_number_in_its_request() {
        for (body, expected) in [
            (&b"\0\0\0\0"[..], Authentication::Done),
            (b"\0\0\0\x03", Authentication::Cleartext),
            (b"\0\0\0\x05salt", Authentication::Md5),
            (
                b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0",
                Authentication::Sasl("SCRAM-SHA-256-PLUS or SCRAM-SHA-256".into()),
            ),
            (b"\0\0\0\x07", Authentication::Kerberos),
            (b"\0\0\0\x63", Authentication::Other(99)),
            (b"", Authentication::Other(u32::MAX)),
        ] {
            assert_eq!(Authentication::of(body), expected);
        }
    }

    #[test]
    fn the_code_and_the_message_of_an_error_are_read() {
        let body = b"SFATAL\0VFATAL\0C28000\0MPAM authentication failed for user \"app_user\"\0Fauth.c\0\0";
        let expected =
            ServerError { code: "28000".into(), message: "PAM authentication failed for user \"app_user\"".into() };
        assert_eq!(ServerError::of(body), expected);
    }

    #[test]
    fn an_answer_that_is_not_postgresqls_is_an_error_and_not_read_to_its_end() {
        assert!(read_message(&mut &b"HTTP/1.1 400 Bad Request\r\n"[..]).is_err());
        assert!(read_message(&mut &b"E\0\0\0\x03"[..]).is_err());
    }
}
