//! Secret text: wiped when dropped, never shown by `Debug`.

use std::{fmt, io};

use zeroize::Zeroizing;

/// A secret text.
#[derive(Clone, PartialEq, Eq, Default)]
pub(crate) struct Secret(Zeroizing<String>);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Text that was read from a file or another source of bytes.
    ///
    /// # Errors
    ///
    /// It is not UTF-8; the error's text is a phrase that fits behind the source's name.
    pub(crate) fn from_utf8(mut bytes: Zeroizing<Vec<u8>>) -> io::Result<Self> {
        String::from_utf8(std::mem::take(&mut *bytes)).map(Self::new).map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text")
        })
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("** redacted **")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_show_a_secret() {
        assert_eq!(format!("{:?}", Secret::new("planted".into())), "** redacted **");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_an_error_without_the_bytes() {
        let error = Secret::from_utf8(Zeroizing::new(b"planted\xff".to_vec())).unwrap_err();
        assert_eq!(error.to_string(), "it is not UTF-8 text");
        assert_eq!(Secret::from_utf8(Zeroizing::new(b"text".to_vec())).unwrap().expose(), "text");
    }
}
