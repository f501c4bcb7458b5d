//! Sends a response: complete and in one write, or damaged as a fault specifies.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::faults::Fault;
use crate::http::Response;
use crate::sync::Gate;

/// The parts of a response in bytes, and the connection to send them on.
pub(crate) struct Delivery<'a> {
    pub(crate) stream: &'a TcpStream,
    pub(crate) gate: &'a Gate,
    pub(crate) response: &'a Response,
    pub(crate) date: &'a str,
    pub(crate) keep_alive: bool,
}

impl Delivery<'_> {
    /// Sends the response. Returns whether the connection stays open for another request.
    pub(crate) fn send(&self, fault: Option<&Fault>) -> io::Result<bool> {
        let body = &self.response.body;
        let half = &body[..body.len() / 2];
        match fault {
            Some(Fault::HangInHeader) => {
                let head = self.head(false);
                self.write(&head[..head.len() / 2])?;
                hang(self.stream)?;
            }
            Some(Fault::HangAfterHeader) => {
                self.write(&self.head(false))?;
                hang(self.stream)?;
            }
            Some(Fault::HangInBody) => {
                self.write(&[&self.head(false), half].concat())?;
                hang(self.stream)?;
            }
            Some(Fault::Drip { interval }) => {
                self.write(&self.head(false))?;
                self.drip(body, *interval)?;
            }
            Some(Fault::DripHeader { interval }) => {
                self.drip(&self.head(false), *interval)?;
                self.drip(body, *interval)?;
            }
            Some(Fault::Reset) => {
                self.write(&[&self.head(false), half].concat())?;
                reset(self.stream)?;
            }
            Some(Fault::Truncate) => self.write(&[&self.head(false), half].concat())?,
            Some(Fault::Endless) => {
                self.write(&self.response.head(false, None, self.date))?;
                while !self.gate.is_stopped() {
                    self.write(&[b' '; 65_536])?;
                }
            }
            Some(Fault::EndlessPart { part, interval }) => {
                let (opening, piece) = part.pieces();
                // Without a pause, as much as one write can take.
                let piece = if interval.is_zero() { piece.repeat(100) } else { piece.to_owned() };
                self.write(opening.as_bytes())?;
                while !self.gate.is_stopped() && self.gate.pause(*interval) {
                    self.write(piece.as_bytes())?;
                }
            }
            Some(Fault::SplitBody) => {
                self.write(&[&self.head(self.keep_alive), half].concat())?;
                self.gate.pause(Duration::from_millis(5));
                self.write(&body[half.len()..])?;
                return Ok(self.keep_alive);
            }
            _ => {
                self.write(&[&self.head(self.keep_alive), body.as_slice()].concat())?;
                return Ok(self.keep_alive);
            }
        }
        Ok(false)
    }

    fn head(&self, keep_alive: bool) -> Vec<u8> {
        let length = self.response.body.len();
        self.response.head(keep_alive, Some(length), self.date)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let mut stream = self.stream;
        stream.write_all(bytes)
    }

    fn drip(&self, bytes: &[u8], interval: Duration) -> io::Result<()> {
        for byte in bytes {
            if !self.gate.pause(interval) {
                break;
            }
            self.write(&[*byte])?;
        }
        Ok(())
    }
}

/// Sends nothing until the peer closes the connection or the simulator stops.
pub(crate) fn hang(mut stream: &TcpStream) -> io::Result<()> {
    let mut ignored = [0; 1024];
    while stream.read(&mut ignored)? > 0 {}
    Ok(())
}

/// Makes the following close send a reset.
pub(crate) fn reset(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
