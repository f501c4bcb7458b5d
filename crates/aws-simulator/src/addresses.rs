//! Addresses to which connecting fails: the connection is refused, or the attempt gets no answer.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A port on 127.0.0.1 that refuses connections while this value exists: the socket is bound, so that no other
/// process can use the port, and does not listen.
pub struct RefusedPort {
    _socket: Socket,
    address: SocketAddr,
}

/// An address on 127.0.0.1 where a connection attempt neither succeeds nor fails while this value exists: the socket
/// listens and never accepts, and its backlog is full, so that the system drops every further attempt.
pub struct Blackhole {
    _listener: Socket,
    _queue: Vec<TcpStream>,
    address: SocketAddr,
}

/// Returns a port on which no process listens.
pub fn refused_port() -> io::Result<RefusedPort> {
    let (socket, address) = bound()?;
    Ok(RefusedPort { _socket: socket, address })
}

/// Returns an address that never answers. Linux drops connection attempts when the backlog is full; the result is
/// `Unsupported` if the system still accepts them.
pub fn blackhole_address() -> io::Result<Blackhole> {
    let (listener, address) = bound()?;
    listener.listen(0)?;
    let mut queue = Vec::new();
    // On loopback, an attempt that is not dropped succeeds immediately.
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        queue.push(stream);
        if queue.len() > 64 {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this system accepts connections when the listener's backlog is full",
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
