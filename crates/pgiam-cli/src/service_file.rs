//! Service files: the parameters that `service=NAME` or `PGSERVICE` stands for. The name of a service and a way to read
//! files in; its parameters and the file that defines it out.
//!
//! The rules are libpq's (`parseServiceInfo` and `parseServiceFile` in `fe-connect.c`): `PGSERVICEFILE`, which must exist,
//! or `~/.pg_service.conf`; if the service is not there, `pg_service.conf` in `PGSYSCONFDIR` or in the directory that libpq
//! was built with. That one cannot be asked for; Debian's is assumed. Lines that query an LDAP server are an error.

use std::io;
use std::path::{Path, PathBuf};

use crate::failure::Failure;
use pgiam_libpq::conninfo::{self, Parameters};

/// The directory of Debian's libpq, used without `PGSYSCONFDIR`.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// The longest line that libpq reads, including the newline.
const LONGEST_LINE: usize = 1022;

/// Where service files are, and how to read one.
pub(crate) struct ServiceFiles<'a> {
    /// `PGSERVICEFILE`.
    pub(crate) named: Option<String>,
    /// `PGSYSCONFDIR`.
    pub(crate) system_directory: Option<String>,
    /// The home directory.
    pub(crate) home: Option<PathBuf>,
    /// Reads a whole file.
    pub(crate) read: &'a dyn Fn(&Path) -> io::Result<Vec<u8>>,
}

/// The parameters of a service and the file that defines it.
pub(crate) fn find(service: &str, files: &ServiceFiles<'_>) -> Result<(Parameters, PathBuf), Failure> {
    let own = match &files.named {
        Some(named) => Some(PathBuf::from(named)),
        None => files.home.as_ref().map(|home| home.join(".pg_service.conf")),
    };
    let system = Path::new(files.system_directory.as_deref().unwrap_or(SYSTEM_DIRECTORY)).join("pg_service.conf");
    let mut searched = Vec::new();
    for (path, must_exist) in own.map(|path| (path, files.named.is_some())).into_iter().chain([(system, false)]) {
        match (files.read)(&path) {
            Ok(contents) => {
                let found = parse(&contents, service)
                    .map_err(|why| Failure::failed(format!("service file {}, {why}", path.display())))?;
                if let Some(parameters) = found {
                    return Ok((parameters, path));
                }
                searched.push(path.display().to_string());
            }
            Err(error) if !must_exist && absent(&error) => searched.push(format!("{} (absent)", path.display())),
            Err(error) => return Err(Failure::failed(format!("service file {}: {error}", path.display()))),
        }
    }
    Err(Failure::failed(format!(
        "service {service:?} is not defined; searched: {}; set PGSERVICEFILE to use another file",
        searched.join(", ")
    )))
}

fn absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The parameters of the first section with that name. Of a repeated keyword the first value counts, as in libpq.
fn parse(contents: &[u8], service: &str) -> Result<Option<Parameters>, String> {
    let mut found: Option<Parameters> = None;
    for (index, line) in contents.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let number = index + 1;
        if line.len() > LONGEST_LINE {
            return Err(format!("line {number}: longer than the {LONGEST_LINE} bytes that libpq reads"));
        }
        let line = trim(line);
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        if let Some(name) = line.strip_prefix(b"[") {
            if found.is_some() {
                break;
            }
            if name.strip_prefix(service.as_bytes()).is_some_and(|rest| rest.starts_with(b"]")) {
                found = Some(Parameters::new());
            }
            continue;
        }
        let Some(parameters) = &mut found else { continue };
        let line = str::from_utf8(line).map_err(|_| format!("line {number}: not valid UTF-8"))?;
        if line.starts_with("ldap") {
            return Err(format!(
                "line {number}: pgiam does not query LDAP servers; write host, port and user into the section itself"
            ));
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("line {number}: '=' is missing; write KEYWORD=VALUE without spaces around '='"));
        };
        if name == "service" {
            return Err(format!("line {number}: a service cannot refer to another"));
        }
        let Some(name) = conninfo::keyword(name) else {
            return Err(format!(
                "line {number}: unknown keyword {name:?}; write KEYWORD=VALUE without spaces around '='"
            ));
        };
        parameters.entry(name.to_owned()).or_insert_with(|| value.to_owned().into());
    }
    Ok(found)
}

fn trim(mut line: &[u8]) -> &[u8] {
    while let [rest @ .., last] = line
        && conninfo::is_space(*last)
    {
        line = rest;
    }
    while let [first, rest @ ..] = line
        && conninfo::is_space(*first)
    {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(contents: &str, service: &str) -> Vec<(String, String)> {
        parse(contents.as_bytes(), service)
            .unwrap()
            .expect("the service")
            .into_iter()
            .map(|(name, value)| (name, value.to_string()))
            .collect()
    }

    fn read(files: &[(&str, &str)], path: &Path) -> io::Result<Vec<u8>> {
        let file = files.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, contents)| contents.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn look(files: &[(&str, &str)], named: Option<&str>, system: Option<&str>) -> Result<String, Failure> {
        let (parameters, _) = find(
            "app",
            &ServiceFiles {
                named: named.map(str::to_owned),
                system_directory: system.map(str::to_owned),
                home: Some("/home/me".into()),
                read: &|path| read(files, path),
            },
        )?;
        Ok(parameters["host"].to_string())
    }

    #[test]
    fn a_service_is_read_with_its_white_space_and_comments() {
        let text = "host=before\n[other]\nhost=x\n\n  [app] # note\n\t host=h \r\n# user=no\n port=1\nport=2\nuser=a b\n[app]\nhost=y\n";
        assert_eq!(
            found(text, "app"),
            [("host", "h"), ("port", "1"), ("user", "a b")].map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
        assert_eq!(parse(text.as_bytes(), "ap"), Ok(None));
        assert_eq!(parse(text.as_bytes(), "app2"), Ok(None));
        assert_eq!(found("[app]", "app"), []);
    }

    #[test]
    fn values_are_not_quoted() {
        assert_eq!(found("[a]\nhost='h'\nuser= u\noptions=-c x=1", "a")[0].1, "'h'");
        assert_eq!(found("[a]\nuser= u", "a")[0].1, " u");
        assert_eq!(found("[a]\noptions=-c x=1", "a")[0].1, "-c x=1");
    }

    #[test]
    fn a_broken_line_is_an_error_with_its_number_but_only_within_the_service() {
        for line in ["host", "host =x", "service=b", "bogus=1", "ldap://x", "=x"] {
            let error = parse(format!("[app]\n{line}\n").as_bytes(), "app").unwrap_err();
            assert!(error.contains("line 2"), "{error}");
            assert!(parse(format!("[b]\n{line}\n[app]\n").as_bytes(), "app").unwrap().is_some());
        }
        let long = format!("#{}\n[app]\n", "x".repeat(LONGEST_LINE));
        assert!(parse(long.as_bytes(), "app").unwrap_err().contains("line 1"));
        assert!(parse(b"[app]\nuser=\xff\n", "app").unwrap_err().contains("UTF-8"));
        assert!(parse(b"[b]\nuser=\xff\n[app]\n", "app").unwrap().is_some());
    }

    #[test]
    fn the_users_file_is_searched_before_the_one_of_the_system() {
        let own = ("/home/me/.pg_service.conf", "[app]\nhost=own");
        let system = ("/etc/postgresql-common/pg_service.conf", "[app]\nhost=system");
        assert_eq!(look(&[own, system], None, None).unwrap(), "own");
        assert_eq!(look(&[system], None, None).unwrap(), "system");
        assert_eq!(look(&[(own.0, "[b]"), system], None, None).unwrap(), "system");
        assert_eq!(look(&[("/s/pg_service.conf", "[app]\nhost=s"), system], None, Some("/s")).unwrap(), "s");
    }

    #[test]
    fn a_file_named_by_pgservicefile_replaces_the_users_and_must_exist() {
        let own = ("/home/me/.pg_service.conf", "[app]\nhost=own");
        assert_eq!(look(&[own, ("/n", "[app]\nhost=named")], Some("/n"), None).unwrap(), "named");
        let Failure::Failed(message) = look(&[own], Some("/n"), None).unwrap_err() else { panic!("usage") };
        assert!(message.contains("/n"), "{message}");
    }

    #[test]
    fn an_undefined_service_is_an_error_that_names_the_files() {
        let message = look(&[("/home/me/.pg_service.conf", "")], None, None).unwrap_err().to_string();
        for part in ["\"app\"", "/home/me/.pg_service.conf", "/etc/postgresql-common/pg_service.conf (absent)"] {
            assert!(message.contains(part), "{message}");
        }
    }
}
