//! The connection under every request: TCP with the fetch's deadline kept at the socket itself.
//!
//! Whatever stands above reads and writes through here, a proxy's answer byte by byte included, so nothing can outlast
//! the deadline. It asks little of the kernel, because three exchanges with the metadata service take a fraction of a
//! millisecond and each call counts (docs/performance.md): a time-out is set when it changes, and one call tells whether
//! a connection can be used again. What went through the buffers is wiped with them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport};
use ureq::{Error, Timeout};
use zeroize::Zeroize;

use crate::sys;
use crate::time::Deadline;

/// Opens connections, unless a proxy's is at hand already.
#[derive(Debug)]
pub(crate) struct SocketConnector {
    pub(crate) deadline: Deadline,
    /// Set when a peer was reached: by connecting, or by sending over a connection that is open.
    pub(crate) reached: Arc<AtomicBool>,
}

impl<In: Transport> Connector<In> for SocketConnector {
    type Out = Either<In, Socket>;

    fn connect(&self, details: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        let connection = match chained {
            Some(tunnel) => Either::A(tunnel),
            None => {
                let (input, output) = (details.config.input_buffer_size(), details.config.output_buffer_size());
                Either::B(Socket {
                    stream: self.open(details)?,
                    deadline: self.deadline,
                    reached: Arc::clone(&self.reached),
                    read_limit: Duration::ZERO,
                    write_limit: Duration::ZERO,
                    buffers: SocketBuffers::new(input, output),
                })
            }
        };
        self.reached.store(true, Ordering::Relaxed);
        Ok(Some(connection))
    }
}

impl SocketConnector {
    /// Tries the addresses in their order. Each may take its share of the time that is left.
    fn open(&self, details: &ConnectionDetails<'_>) -> Result<TcpStream, Error> {
        let deadline = self.deadline.at_most(*details.timeout.after);
        let mut outcome = Err(Error::ConnectionFailed);
        for (tried, address) in details.addrs.iter().enumerate() {
            let Some(left) = deadline.remaining() else { return Err(Error::Timeout(Timeout::Connect)) };
            let addresses = u32::try_from(details.addrs.len() - tried).unwrap_or(u32::MAX);
            outcome = TcpStream::connect_timeout(address, (left / addresses).max(LIMIT_STEP)).map_err(told);
            if outcome.is_ok() {
                break;
            }
        }
        let stream = outcome?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn told(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Error::Timeout(Timeout::Connect),
        _ => Error::Io(error),
    }
}

/// A connection.
pub(crate) struct Socket {
    stream: TcpStream,
    deadline: Deadline,
    reached: Arc<AtomicBool>,
    /// What the kernel was told; zero: nothing yet.
    read_limit: Duration,
    write_limit: Duration,
    buffers: SocketBuffers,
}

/// Limits are rounded up to a multiple of this, so that one that is a few microseconds shorter need not be set anew.
const LIMIT_STEP: Duration = Duration::from_millis(4);

/// How long the next call may take. `Err`: the time is over.
fn limit(deadline: Deadline, timeout: NextTimeout) -> Result<Duration, Error> {
    let left = deadline.remaining().ok_or(Error::Timeout(timeout.reason))?;
    let steps = left.as_nanos().div_ceil(LIMIT_STEP.as_nanos());
    Ok(LIMIT_STEP * u32::try_from(steps).unwrap_or(u32::MAX))
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.reached.store(true, Ordering::Relaxed);
        self.buffers.used_output = self.buffers.used_output.max(amount);
        // One for all calls: signals and small steps do not begin it anew.
        let deadline = self.deadline.at_most(*timeout.after);
        let mut sent = 0;
        while sent < amount {
            let limit = limit(deadline, timeout)?;
            if limit != self.write_limit {
                self.stream.set_write_timeout(Some(limit))?;
                self.write_limit = limit;
            }
            match self.stream.write(&self.buffers.output[sent..amount]) {
                Ok(0) => return Err(Error::Io(ErrorKind::WriteZero.into())),
                Ok(count) => sent += count,
                Err(error) => interrupted(error, timeout)?,
            }
        }
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let deadline = self.deadline.at_most(*timeout.after);
        loop {
            let limit = limit(deadline, timeout)?;
            if limit != self.read_limit {
                self.stream.set_read_timeout(Some(limit))?;
                self.read_limit = limit;
            }
            let room = self.buffers.input_append_buf();
            if room.is_empty() {
                // Nothing that stands above wants more than a buffer at a time, but for the head of an answer.
                return Err(Error::LargeResponseHeader(self.buffers.input.len(), self.buffers.input.len()));
            }
            match self.stream.read(room) {
                Ok(count) => {
                    self.buffers.input_appended(count);
                    return Ok(count > 0);
                }
                Err(error) => interrupted(error, timeout)?,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        // What comes between two exchanges is either the end or not meant for us.
        sys::is_open_and_silent(&self.stream)
    }
}

/// `Ok`: the call was interrupted by a signal and is to be made again.
fn interrupted(error: std::io::Error, timeout: NextTimeout) -> Result<(), Error> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(Error::Timeout(timeout.reason)),
        _ => Err(Error::Io(error)),
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("stream", &self.stream).finish_non_exhaustive()
    }
}

/// What is to be sent and what has come. Allocated at the first use, and wiped as far as they were used.
struct SocketBuffers {
    sizes: (usize, usize),
    output: Vec<u8>,
    used_output: usize,
    input: Vec<u8>,
    /// What has come and is not consumed stands between the two.
    start: usize,
    end: usize,
    used_input: usize,
    progress: bool,
}

impl SocketBuffers {
    fn new(input: usize, output: usize) -> Self {
        Self {
            sizes: (input, output),
            output: Vec::new(),
            used_output: 0,
            input: Vec::new(),
            start: 0,
            end: 0,
            used_input: 0,
            progress: false,
        }
    }

    fn allocate(&mut self) {
        if self.output.is_empty() {
            let (input, output) = self.sizes;
            (self.input, self.output) = (vec![0; input], vec![0; output]);
        }
    }

    /// Moves what is not consumed to the front, so that all the room is behind it.
    fn compact(&mut self) {
        self.input.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
    }
}

impl Buffers for SocketBuffers {
    fn output(&mut self) -> &mut [u8] {
        self.allocate();
        &mut self.output
    }

    fn input(&self) -> &[u8] {
        &self.input[self.start..self.end]
    }

    fn input_append_buf(&mut self) -> &mut [u8] {
        self.allocate();
        self.compact();
        &mut self.input[self.end..]
    }

    fn input_appended(&mut self, amount: usize) {
        self.end += amount;
        self.used_input = self.used_input.max(self.end);
    }

    fn input_consume(&mut self, amount: usize) {
        self.progress = amount > 0;
        self.start += amount;
    }

    fn tmp_and_output(&mut self) -> (&mut [u8], &mut [u8]) {
        self.allocate();
        self.compact();
        (&mut self.input[self.end..], &mut self.output)
    }

    fn can_use_input(&self) -> bool {
        self.start < self.end && self.progress
    }
}

impl Drop for SocketBuffers {
    fn drop(&mut self) {
        self.input[..self.used_input].zeroize();
        self.output[..self.used_output].zeroize();
    }
}
