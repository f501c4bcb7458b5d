//! The connection under every request: ureq's own, with the fetch's deadline, a limit of what is read, and with buffers
//! that are wiped.
//!
//! ureq allows each read of a proxy's response its full time again, so a proxy that sends a byte now and then would
//! outlast the deadline. It does not count what frames a body, so chunks of a byte and headers after the last chunk could
//! go on until the deadline. And its buffers keep what went through them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};
use ureq::{Error, Timeout};
use zeroize::Zeroize;

use crate::time::Deadline;

/// The most bytes that are read for one request. A body is smaller; this counts what frames it too.
pub(crate) const MOST_RECEIVED: u64 = 512 * 1024;

/// How far a request got.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Stage {
    /// Nothing is connected.
    Connecting,
    /// The first peer is connected: the proxy, if there is one, else the server.
    Connected,
    /// The proxy has opened a connection to the server.
    Tunnelled,
}

/// The stage of the request that is being made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress(Arc<AtomicU8>);

impl Progress {
    pub(crate) fn reset(&self) {
        self.0.store(Stage::Connecting as u8, Ordering::Relaxed);
    }

    fn reached(&self, stage: Stage) {
        self.0.fetch_max(stage as u8, Ordering::Relaxed);
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.0.load(Ordering::Relaxed) {
            0 => Stage::Connecting,
            1 => Stage::Connected,
            _ => Stage::Tunnelled,
        }
    }
}

/// Notes that a connector before it in the chain made a connection of this stage.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) stage: Stage,
    pub(crate) progress: Progress,
}

impl<In: Transport> Connector<In> for Note {
    type Out = In;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<In>, Error> {
        if chained.is_some() {
            self.progress.reached(self.stage);
        }
        Ok(chained)
    }
}

/// The last connector of the chain: bounds and wipes what the others made.
#[derive(Debug)]
pub(crate) struct BoundedConnector {
    pub(crate) deadline: Deadline,
    pub(crate) progress: Progress,
}

impl<In: Transport> Connector<In> for BoundedConnector {
    type Out = Bounded<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| Bounded {
            inner,
            deadline: self.deadline,
            progress: self.progress.clone(),
            received: 0,
        }))
    }
}

/// A connection.
pub(crate) struct Bounded<T: Transport> {
    inner: T,
    deadline: Deadline,
    progress: Progress,
    /// Bytes since the last request.
    received: u64,
}

impl<T: Transport> Bounded<T> {
    fn limit(&self, timeout: NextTimeout) -> Result<NextTimeout, Error> {
        let left = self.deadline.remaining().ok_or(Error::Timeout(Timeout::Global))?;
        Ok(NextTimeout { after: timeout.after.min(left.into()), ..timeout })
    }
}

impl<T: Transport> Transport for Bounded<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        // A connection that is used again.
        self.progress.reached(Stage::Connected);
        self.received = 0;
        self.inner.transmit_output(amount, self.limit(timeout)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let before = self.inner.buffers().input().len();
        let progress = self.inner.await_input(self.limit(timeout)?)?;
        self.received += self.inner.buffers().input().len().saturating_sub(before) as u64;
        if self.received > MOST_RECEIVED { Err(Error::BodyExceedsLimit(MOST_RECEIVED)) } else { Ok(progress) }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

impl<T: Transport> fmt::Debug for Bounded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl<T: Transport> Drop for Bounded<T> {
    fn drop(&mut self) {
        let buffers = self.inner.buffers();
        // Once all input is consumed, the room for more is the whole buffer.
        buffers.input_consume(buffers.input().len());
        buffers.input_append_buf().zeroize();
        buffers.output().zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ureq::unversioned::transport::LazyBuffers;

    use super::*;

    /// Hands its buffers' content over when it is dropped, after [`Bounded`] has wiped it.
    #[derive(Debug)]
    struct Witness {
        buffers: LazyBuffers,
        left: Arc<Mutex<Vec<u8>>>,
    }

    impl Transport for Witness {
        fn buffers(&mut self) -> &mut dyn Buffers {
            &mut self.buffers
        }
        fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), Error> {
            Ok(())
        }
        fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
            Ok(false)
        }
        fn is_open(&mut self) -> bool {
            false
        }
    }

    impl Drop for Witness {
        fn drop(&mut self) {
            let mut left = self.left.lock().unwrap();
            left.extend_from_slice(self.buffers.output());
            left.extend_from_slice(self.buffers.input_append_buf());
        }
    }

    #[test]
    fn what_went_through_a_connection_is_wiped_with_it() {
        // Input as it is after a response: partly consumed, wholly consumed, and moved to the front.
        for (first, consumed, second) in [(40, 0, 0), (40, 10, 0), (40, 40, 0), (40, 30, 20), (64, 64, 10)] {
            let left = Arc::new(Mutex::new(Vec::new()));
            let mut buffers = LazyBuffers::new(64, 32);
            buffers.output().fill(b'x');
            buffers.input_append_buf()[..first].fill(b'x');
            buffers.input_appended(first);
            buffers.input_consume(consumed);
            if second > 0 {
                buffers.input_append_buf()[..second].fill(b'x');
                buffers.input_appended(second);
            }
            let inner = Witness { buffers, left: Arc::clone(&left) };
            let deadline = Deadline::after(std::time::Duration::from_secs(1));
            drop(Bounded { inner, deadline, progress: Progress::default(), received: 0 });
            let left = left.lock().unwrap();
            assert_eq!(left.len(), 32 + 64);
            assert!(left.iter().all(|byte| *byte == 0), "{first} {consumed} {second}: {left:?}");
        }
    }
}
