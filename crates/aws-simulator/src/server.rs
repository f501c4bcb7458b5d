//! The listener and one thread per connection. A request is read, takes a fault from the queue and is answered by its
//! service. It is in the log before its response is sent.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::delivery::{Delivery, hang, reset};
use crate::faults::Fault;
use crate::http::{Request, RequestReader, Response};
use crate::route::Route;
use crate::state::{Call, State};
use crate::time::http_date;
use crate::{control, services};

/// Accepts connections until the gate is stopped, then closes all connections and joins their threads.
pub(crate) fn serve(listener: &TcpListener, state: &Arc<State>) {
    let mut threads: Vec<thread::JoinHandle<()>> = Vec::new();
    loop {
        let accepted = listener.accept();
        if state.gate.is_stopped() {
            break;
        }
        threads.retain(|thread| !thread.is_finished());
        match accepted {
            Ok((stream, _)) => threads.extend(open(stream, state)),
            // Probably out of file descriptors: wait until some are closed.
            Err(_) => {
                state.gate.pause(Duration::from_millis(10));
            }
        }
    }
    state.connections.shut_down();
    for thread in threads {
        // A panic in a connection's thread has been printed already and must not hide a panic of the test.
        let _ = thread.join();
    }
}

fn open(stream: TcpStream, state: &Arc<State>) -> Option<thread::JoinHandle<()>> {
    let number = state.connections.count();
    if state.faults.refuses_connection() {
        let _ = reset(&stream);
        return None;
    }
    let stream = Arc::new(stream);
    state.connections.register(Arc::downgrade(&stream));
    let state = Arc::clone(state);
    thread::Builder::new()
        .name(format!("connection {number}"))
        .stack_size(256 * 1024)
        .spawn(move || {
            // An error means that the peer closed the connection, which the faults cause.
            let _ = converse(&state, &stream, number);
        })
        .ok()
}

fn converse(state: &State, stream: &TcpStream, connection: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = RequestReader::new(stream);
    loop {
        match reader.next() {
            Ok(Some(request)) => {
                if !answer(state, stream, &request, connection)? {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let response = Response::text(400, format!("{error}\n"));
                deliver(state, stream, &response, None, false, state.now())?;
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
}

/// Answers one request. Returns whether the connection stays open for another.
fn answer(state: &State, stream: &TcpStream, request: &Request, connection: u64) -> io::Result<bool> {
    let route = services::route(request);
    let keep_alive = state.options.keep_alive && !request.wants_close;
    if route == Route::Control {
        let response = control::answer(state, request);
        return deliver(state, stream, &response, None, keep_alive, state.now());
    }

    let fault = state.faults.take(route);
    let fault = fault.as_ref();
    let number = state.log.enter(request, route, fault, connection, state.now());
    match fault {
        Some(Fault::Refuse) => {
            reset(stream)?;
            return Ok(false);
        }
        Some(Fault::HangBeforeAnswer) => {
            hang(stream)?;
            return Ok(false);
        }
        Some(Fault::Hold) if !state.gate.hold() => return Ok(false),
        Some(Fault::Delay { duration }) if !state.gate.pause(*duration) => return Ok(false),
        _ => {}
    }
    if !state.options.delay.is_zero() && !state.gate.pause(state.options.delay) {
        return Ok(false);
    }

    let call = Call::new(route, state.now(), fault);
    let response = match fault.and_then(|fault| services::replacement(fault, route)) {
        Some(replacement) => replacement,
        None => services::answer(state, request, &call),
    };
    state.log.answered(number, response.status);
    deliver(state, stream, &response, fault, keep_alive, call.now)
}

fn deliver(
    state: &State,
    stream: &TcpStream,
    response: &Response,
    fault: Option<&Fault>,
    keep_alive: bool,
    now: SystemTime,
) -> io::Result<bool> {
    let date = http_date(now);
    Delivery { stream, gate: &state.gate, response, date: &date, keep_alive }.send(fault)
}
