//! Lines of libpq's password file: `host:port:database:user:password`.
//!
//! Rules: the PostgreSQL manual, "The Password File", and `passwordFromFile` of `fe-connect.c`: `:` and `\` are escaped
//! by `\` in every field, a field `*` matches anything, and the first line that matches counts. libpq looks up the
//! connection's `host`, or its `hostaddr` if it has no host; a line cannot contain a line feed.

use zeroize::Zeroizing;

/// Adds a line for every database of one host, port and user.
///
/// # Errors
///
/// A field that no line can contain.
pub fn push_line(file: &mut Zeroizing<String>, host: &str, port: u16, user: &str, token: &str) -> Result<(), String> {
    for (what, field) in [("host", host), ("user", user)] {
        if field.contains(['\n', '\r', '\0']) {
            return Err(format!("the {what} has a line feed, which a password file cannot hold"));
        }
    }
    // A string that grows would leave a copy of the token behind.
    file.reserve(2 * (host.len() + user.len() + token.len()) + 16);
    push_field(file, host);
    file.push(':');
    file.push_str(&port.to_string());
    file.push_str(":*:");
    push_field(file, user);
    file.push(':');
    push_escaped(file, token);
    file.push('\n');
    Ok(())
}

/// A field other than the password: a lone `*` would match anything.
fn push_field(file: &mut Zeroizing<String>, field: &str) {
    if field == "*" {
        file.push_str("\\*");
    } else {
        push_escaped(file, field);
    }
}

fn push_escaped(file: &mut Zeroizing<String>, text: &str) {
    for character in text.chars() {
        if matches!(character, ':' | '\\') {
            file.push('\\');
        }
        file.push(character);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators_are_escaped_in_every_field() {
        let mut file = Zeroizing::new(String::new());
        push_line(&mut file, "h", 5432, "a:b\\c", "h:5432/?Action=connect").unwrap();
        push_line(&mut file, "h", 1, "*", "t").unwrap();
        assert_eq!(file.as_str(), "h:5432:*:a\\:b\\\\c:h\\:5432/?Action=connect\nh:1:*:\\*:t\n");
        assert!(push_line(&mut file, "h", 1, "a\nb", "t").is_err());
    }
}
