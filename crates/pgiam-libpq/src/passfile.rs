//! Lines of libpq's password file: `host:port:database:user:password`.
//!
//! Rules: the PostgreSQL manual, "The Password File", and `passwordFromFile` of `fe-connect.c`: `:` and `\` are escaped
//! by `\` in every field, a field `*` matches anything, a line that begins with `#` is a comment, and the first line that
//! matches counts. libpq looks up the connection's `host`, or its `hostaddr` if it has no host; a line cannot contain a
//! line feed.

use zeroize::Zeroizing;

/// Adds a line for every database of one host, port and user. `port` is the text that libpq compares.
///
/// # Errors
///
/// A field that no line can contain.
pub fn push_line(
    file: &mut Zeroizing<Vec<u8>>,
    host: &str,
    port: &str,
    user: &str,
    password: &[u8],
) -> Result<(), String> {
    for (what, field) in [("host", host), ("user", user)] {
        if field.contains(['\n', '\r', '\0']) {
            return Err(format!("the {what} has a line feed, which a password file cannot hold"));
        }
    }
    // A vector that grows by itself would leave a copy of the password behind.
    let needed = 2 * (host.len() + user.len() + password.len()) + port.len() + 16;
    if file.capacity() - file.len() < needed {
        let mut larger = Zeroizing::new(Vec::with_capacity(2 * file.len() + needed));
        larger.extend_from_slice(file);
        *file = larger;
    }
    push_field(file, host);
    file.push(b':');
    file.extend_from_slice(port.as_bytes());
    file.extend_from_slice(b":*:");
    push_field(file, user);
    file.push(b':');
    push_escaped(file, password);
    file.push(b'\n');
    Ok(())
}

/// A field other than the password. A lone `*` would match anything, and a `#` at the beginning of a line would make it a
/// comment.
fn push_field(file: &mut Vec<u8>, field: &str) {
    if field == "*" || field.starts_with('#') {
        file.push(b'\\');
    }
    push_escaped(file, field.as_bytes());
}

fn push_escaped(file: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        if matches!(byte, b':' | b'\\') {
            file.push(b'\\');
        }
        file.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_escaped_in_every_field() {
        let mut file = Zeroizing::default();
        push_line(&mut file, "h", "05432", "a:b\\c", b"h:5432/?Action=connect").unwrap();
        push_line(&mut file, "h", "1", "*", b"t\xe4").unwrap();
        assert_eq!(file.as_slice(), b"h:05432:*:a\\:b\\\\c:h\\:5432/?Action=connect\nh:1:*:\\*:t\xe4\n");
        assert!(push_line(&mut file, "h", "1", "a\nb", b"t").is_err());
        file.clear();
        push_line(&mut file, "#h", "1", "#u", b"#t").unwrap();
        assert_eq!(file.as_slice(), b"\\#h:1:*:\\#u:#t\n");
    }
}
