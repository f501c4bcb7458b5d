//! Addresses at which connecting fails: nobody listens, or nobody answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A port on 127.0.0.1 that refuses connections for as long as this value lives: it is bound, so nobody else can have
/// it, and does not listen.
pub struct RefusedPort {
    _socket: Socket,
    address: SocketAddr,
}

/// An address on 127.0.0.1 at which connecting neither succeeds nor fails for as long as this value lives: it listens,
/// never accepts, and its queue is full, so that the system drops every further attempt.
pub struct Blackhole {
    _listener: Socket,
    _queue: Vec<TcpStream>,
    address: SocketAddr,
}

/// A port that nobody listens on.
pub fn refused_port() -> io::Result<RefusedPort> {
    let (socket, address) = bound()?;
    Ok(RefusedPort { _socket: socket, address })
}

/// An address that never answers. Relies on Linux's habit of dropping connection attempts when the queue is full;
/// `Unsupported` when the system goes on accepting them.
pub fn blackhole_address() -> io::Result<Blackhole> {
    let (listener, address) = bound()?;
    listener.listen(0)?;
    let mut queue = Vec::new();
    // On loopback an attempt that is not dropped succeeds at once.
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        queue.push(stream);
        if queue.len() > 64 {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this system takes connections beyond the queue of the listener",
            ));
        }
    }
    Ok(Blackhole { _listener: listener, _queue: queue, address })
}

fn bound() -> io::Result<(Socket, SocketAddr)> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    let address = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok((socket, address))
}

impl RefusedPort {
    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Blackhole {
    /// The address that never answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
