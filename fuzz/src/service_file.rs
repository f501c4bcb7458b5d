//! Service files: a service's name and a file.
//!
//! libpq finds the same parameters in it, or refuses it too.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::{env, fs, io, process};

use crate::failure::Failure;
use crate::libpq::{self, c_string};
use crate::program_service_file::{ServiceFiles, find};
use crate::{assert_one_line, texts};

pub fn run(data: &[u8]) {
    let Some([service, text]) = texts(data) else { return };
    let ours = ours(service, text);
    // libpq would ask an LDAP server, and it reads C strings.
    if service.is_empty() || text.contains('\0') || text.lines().any(|line| line.trim().starts_with("ldap")) {
        return;
    }
    let path = path();
    fs::write(path, text).expect("it can be written");
    let Some(name) = c_string(service) else { return };
    let (theirs, _) = libpq::resolve(&[(c"service", &name)]);
    // Without a user libpq has refused the file before it looked for defaults.
    let was_read = theirs.contains_key("user");
    match ours {
        Ok(parameters) => {
            if parameters.keys().all(|name| libpq::knows(name)) {
                assert!(was_read, "libpq refuses {text:?}");
                // libpq has a default for an empty one, and the other is ours.
                let given = parameters.iter().filter(|(_, value)| !value.is_empty());
                for (name, value) in given.filter(|(name, _)| name.as_str() != "target_session_attrs") {
                    assert_eq!(theirs.get(name).map(Vec::as_slice), Some(value.as_bytes()), "{name} in {text:?}");
                }
            }
        }
        Err(message) => {
            assert_one_line(&pgiam_core::fuzz_hooks::message(&message));
            assert!(!was_read, "libpq reads {text:?}: {message}");
        }
    }
}

fn ours(service: &str, text: &str) -> Result<pgiam_libpq::conninfo::Parameters, String> {
    let files = ServiceFiles {
        named: Some("services".into()),
        system_directory: Some("/nonexistent".into()),
        home: None,
        read: &|path| {
            if path == std::path::Path::new("services") {
                Ok(text.as_bytes().to_vec())
            } else {
                Err(io::ErrorKind::NotFound.into())
            }
        },
    };
    match find(service, &files) {
        Ok((parameters, _)) => Ok(parameters),
        Err(Failure::Failed(message) | Failure::Usage(message)) => Err(message),
    }
}

/// The file that libpq reads, in memory.
fn path() -> &'static PathBuf {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let path = PathBuf::from(format!("/dev/shm/pgiam-fuzz-{}.conf", process::id()));
        // SAFETY: the targets run on one thread, and this is the first input.
        unsafe {
            env::set_var("PGSERVICEFILE", &path);
            env::set_var("PGSYSCONFDIR", "/nonexistent");
        }
        path
    })
}
