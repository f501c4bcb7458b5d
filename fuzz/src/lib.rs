//! The fuzz targets of pgiam: each takes bytes and checks what must hold for all of them, in a module of its own.
//!
//! A target that takes several texts finds them separated by NUL, so that the files of the corpus can be read and written
//! by hand. `fuzz/run` runs a target under libFuzzer; `replay` runs the corpus without it.

pub mod c_settings;
pub mod conninfo;
pub mod credentials_document;
pub mod endpoint_name;
pub mod http_response;
mod libpq;
pub mod passfile;
pub mod process_output;
pub mod profile_files;
pub mod service_file;
pub mod service_words;
pub mod session_cache;
pub mod sts_xml;
pub mod time;

// Parts of the program `pgiam`, which is no library.
#[allow(dead_code)]
#[path = "../../crates/pgiam-cli/src/failure.rs"]
mod failure;
#[allow(dead_code)]
#[path = "../../crates/pgiam-cli/src/service_file.rs"]
mod program_service_file;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by the name of its module, of its program and of its folder in `corpus/`.
pub const TARGETS: [(&str, Target); 13] = [
    ("c_settings", c_settings::run),
    ("conninfo", conninfo::run),
    ("credentials_document", credentials_document::run),
    ("endpoint_name", endpoint_name::run),
    ("http_response", http_response::run),
    ("passfile", passfile::run),
    ("process_output", process_output::run),
    ("profile_files", profile_files::run),
    ("service_file", service_file::run),
    ("service_words", service_words::run),
    ("session_cache", session_cache::run),
    ("sts_xml", sts_xml::run),
    ("time", time::run),
];

/// The texts of an input; those that are missing are empty. `None`: not UTF-8.
fn texts<const N: usize>(data: &[u8]) -> Option<[&str; N]> {
    let mut texts = [""; N];
    for (text, part) in texts.iter_mut().zip(data.splitn(N, |byte| *byte == 0)) {
        *text = std::str::from_utf8(part).ok()?;
    }
    Some(texts)
}

/// The parts of an input; those that are missing are empty.
fn parts<const N: usize>(data: &[u8]) -> [&[u8]; N] {
    let mut parts = [&[][..]; N];
    for (part, found) in parts.iter_mut().zip(data.splitn(N, |byte| *byte == 0)) {
        *part = found;
    }
    parts
}

/// Checks that a message is one printable line.
#[track_caller]
fn assert_one_line(message: &str) {
    let bad = |c: &char| c.is_control() || matches!(*c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{feff}');
    assert_eq!(message.chars().find(bad), None, "in the message {message:?}");
}
