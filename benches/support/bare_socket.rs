//! The three exchanges of IMDSv2 with nothing but a socket: what the network and the service cost by themselves.

use std::io::{Read, Write};
use std::net::TcpStream;

/// Session token, role, credentials. A connection is used again if the service leaves it open.
pub(crate) fn instance_credentials(address: &str) -> Vec<u8> {
    let mut connection = None;
    let token = exchange(
        &mut connection,
        address,
        "PUT /latest/api/token",
        "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\ncontent-length: 0",
    );
    let header = format!("x-aws-ec2-metadata-token: {}", text(&token));
    let path = "GET /latest/meta-data/iam/security-credentials/";
    let role = exchange(&mut connection, address, path, &header);
    exchange(&mut connection, address, &format!("{path}{}", text(&role)), &header)
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

/// One request and the body of its answer.
fn exchange(connection: &mut Option<TcpStream>, address: &str, what: &str, header: &str) -> Vec<u8> {
    let mut stream = connection.take().unwrap_or_else(|| {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("a socket option");
        stream
    });
    let request = format!("{what} HTTP/1.1\r\nhost: {address}\r\n{header}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request sent");

    let (mut answer, mut filled) = (vec![0; 8192], 0);
    loop {
        let count = stream.read(&mut answer[filled..]).expect("an answer");
        assert_ne!(count, 0, "the answer ends early");
        filled += count;
        let Some(head) = answer[..filled].windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let (mut length, mut close) = (0, false);
        for (name, value) in text(&answer[..head]).lines().filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().expect("a length");
            } else if name.eq_ignore_ascii_case("connection") {
                close = value.trim().eq_ignore_ascii_case("close");
            }
        }
        if filled >= head + 4 + length {
            assert!(answer.starts_with(b"HTTP/1.1 200"), "{what}: {}", text(&answer[..head]));
            if !close {
                *connection = Some(stream);
            }
            return answer[head + 4..head + 4 + length].to_vec();
        }
    }
}
