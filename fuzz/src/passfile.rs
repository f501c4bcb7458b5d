//! Password files: lines of host, user, password and port.
//!
//! libpq finds for each of them the password of the first line with the same host, port and user.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::{Mutex, OnceLock};

use pgiam_libpq::passfile::push_line;
use zeroize::Zeroizing;

use crate::libpq::{self, c_string};

struct Line<'a> {
    host: &'a str,
    user: &'a str,
    port: String,
    password: &'a [u8],
}

pub fn run(data: &[u8]) {
    let fields: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let mut lines = Vec::new();
    let mut file = Zeroizing::new(Vec::new());
    for field in fields.chunks_exact(4).take(8) {
        let &[host, user, password, port] = field else { continue };
        let (Ok(host), Ok(user)) = (std::str::from_utf8(host), std::str::from_utf8(user)) else { continue };
        // As texts that libpq takes for a port.
        let number = port.iter().fold(0_u16, |number, byte| number.wrapping_mul(31).wrapping_add(u16::from(*byte)));
        let zeros = "0".repeat(port.len() % 3);
        let port = format!("{zeros}{}", number.max(1));
        let has_break = |text: &[u8]| text.contains(&b'\n') || text.contains(&b'\r');
        match push_line(&mut file, host, &port, user, password) {
            Err(why) => assert!(has_break(host.as_bytes()) || has_break(user.as_bytes()), "{why}"),
            // A token has neither.
            Ok(()) if has_break(password) => return,
            Ok(()) => lines.push(Line { host, user, port, password }),
        }
    }
    let path = write(&file);
    for line in &lines {
        // A list of hosts, a socket's directory, and what libpq takes for "not given".
        if line.host.is_empty() || line.host.contains(',') || line.host.starts_with(['/', '@']) || line.user.is_empty()
        {
            continue;
        }
        let same = |other: &&Line<'_>| (other.host, other.user, &other.port) == (line.host, line.user, &line.port);
        let expected = lines.iter().find(same).map_or(&[][..], |line| line.password);
        let [host, user, port] = [line.host, line.user, &line.port].map(|text| c_string(text).unwrap_or_default());
        let (_, found) = libpq::resolve(&[(c"host", &host), (c"user", &user), (c"port", &port), (c"passfile", &path)]);
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(&file));
    }
}

/// Writes the file, in memory, and returns its path.
fn write(text: &[u8]) -> std::ffi::CString {
    static FILE: OnceLock<Mutex<File>> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        // SAFETY: a name that ends with NUL; the descriptor is new and owned by the file from here on.
        let file = unsafe {
            let descriptor = libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_CLOEXEC);
            assert!(descriptor >= 0, "memfd_create");
            libc::fchmod(descriptor, 0o600);
            File::from_raw_fd(descriptor)
        };
        Mutex::new(file)
    });
    let mut file = file.lock().expect("one thread");
    file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text)).expect("memory");
    c_string(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}
