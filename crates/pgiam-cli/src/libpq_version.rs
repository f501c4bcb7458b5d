//! Which libpq a PostgreSQL program uses. Before version 14 libpq reads 319 bytes of a line of a password file and silently
//! drops the rest, and a token is longer.
//!
//! The version is in the name of the library's file: `libpq.so.5` is a link to `libpq.so.5.N`, where N is the version of
//! PostgreSQL since 10. The directories are about those of the dynamic linker. If there is no such file, the program is
//! asked for its version.

use std::env::consts::ARCH;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The first version that reads lines of any length.
pub(crate) const READS_LONG_LINES: u32 = 14;

/// The version that `program` uses, if it can be found out.
pub(crate) fn of_program(program: &Path, library_path: Option<&OsStr>, path: Option<&OsStr>) -> Option<u32> {
    of_library(program, library_path, path).or_else(|| of_version_output(program))
}

fn of_library(program: &Path, library_path: Option<&OsStr>, path: Option<&OsStr>) -> Option<u32> {
    let mut directories: Vec<PathBuf> =
        library_path.map(|list| std::env::split_paths(list).collect()).unwrap_or_default();
    // Packages with a directory of their own have bin and lib in it.
    let found = if program.components().count() > 1 {
        Some(program.to_owned())
    } else {
        path.and_then(|list| std::env::split_paths(list).map(|place| place.join(program)).find(|file| file.exists()))
    };
    if let Some(bin) = found.and_then(|file| file.canonicalize().ok()).and_then(|file| Some(file.parent()?.to_owned()))
    {
        directories.extend([bin.join("../lib"), bin.join("../lib64")]);
    }
    directories.extend(["/usr/local/lib".into(), format!("/usr/lib/{ARCH}-linux-gnu").into()]);
    directories.extend(["/usr/lib64", "/usr/lib"].map(PathBuf::from));
    directories.iter().find_map(|directory| {
        let target = std::fs::canonicalize(directory.join("libpq.so.5")).ok()?;
        target.file_name()?.to_str()?.strip_prefix("libpq.so.5.")?.parse().ok()
    })
}

/// `psql (PostgreSQL) 15.4 …`
fn of_version_output(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    major(str::from_utf8(&output.stdout).ok()?)
}

fn major(output: &str) -> Option<u32> {
    let (_, version) = output.split_once("(PostgreSQL) ")?;
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    version[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_version_is_in_the_name_of_the_library() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str, version: &str| {
            let lib = directory.path().join(name);
            std::fs::create_dir_all(&lib).unwrap();
            std::fs::write(lib.join(version), "").unwrap();
            symlink(version, lib.join("libpq.so.5")).unwrap();
            lib
        };
        let old = place("old", "libpq.so.5.13");
        place("pgsql/lib", "libpq.so.5.18");
        std::fs::create_dir(directory.path().join("pgsql/bin")).unwrap();
        let psql = directory.path().join("pgsql/bin/psql");
        std::fs::write(&psql, "").unwrap();
        assert_eq!(of_library(&psql, None, None), Some(18));
        assert_eq!(of_library(Path::new("psql"), None, psql.parent().map(Path::as_os_str)), Some(18));
        assert_eq!(of_library(&psql, Some(old.as_os_str()), None), Some(13));
    }

    #[test]
    fn the_version_is_in_the_output_of_the_program() {
        assert_eq!(major("psql (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("pg_dump (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("something else"), None);
    }
}
