//! The AWS `config` and `credentials` files, read and merged: profiles, SSO sessions, service settings.
//!
//! A property of the credentials file wins over the same one of the config file. Keys are looked up per file
//! ([`Profile::get_in`]), because the AWS CLI never combines an id of one file with a secret of the other.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind as Io};
use std::path::Path;
use std::sync::Arc;

use crate::config::grammar::{self, FileKind, Name, Properties, Section};
use crate::config::locations::Locations;
use crate::config::section_hints::{self, OddHeader};
use crate::error::{Error, invalid_configuration, reason};
use crate::secret::Secret;
use crate::sys;

/// The most that is read of a file.
const MAX_SIZE: usize = 16 << 20;

/// A section, or a profile's sections of both files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    name: String,
    config: Part,
    credentials: Part,
}

/// What one file has of a section.
#[derive(Clone, Debug, Default)]
struct Part {
    file: Option<Arc<Path>>,
    properties: Properties,
}

impl Part {
    fn get(&self, property: &str) -> Option<&str> {
        self.properties.get(property).map(Secret::expose)
    }
}

impl Profile {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A property's value, unless it is unset or empty.
    pub(crate) fn get(&self, property: &str) -> Option<&str> {
        self.part_with(property).get(property).filter(|value| !value.is_empty())
    }

    /// A property's value in one of the files, unless it is unset or empty there.
    pub(crate) fn get_in(&self, file: FileKind, property: &str) -> Option<&str> {
        self.part(file).get(property).filter(|value| !value.is_empty())
    }

    /// The file that has a property, for messages.
    pub(crate) fn file_of(&self, property: &str) -> String {
        self.part_with(property).file.as_ref().map_or_else(String::new, |file| file.display().to_string())
    }

    /// The file and the profile that have a property, for messages.
    pub(crate) fn place(&self, property: &str) -> String {
        format!("{}: profile {:?}", self.file_of(property), self.name)
    }

    /// One of the files and the profile, for messages.
    pub(crate) fn place_in(&self, file: FileKind) -> String {
        let file = self.part(file).file.as_ref().map_or_else(String::new, |file| file.display().to_string());
        format!("{file}: profile {:?}", self.name)
    }

    fn part(&self, file: FileKind) -> &Part {
        match file {
            FileKind::Config => &self.config,
            FileKind::Credentials => &self.credentials,
        }
    }

    fn part_with(&self, property: &str) -> &Part {
        if self.credentials.properties.contains_key(property) { &self.credentials } else { &self.config }
    }

    fn add(&mut self, file: &Arc<Path>, kind: FileKind, properties: Properties) {
        let part = match kind {
            FileKind::Config => &mut self.config,
            FileKind::Credentials => &mut self.credentials,
        };
        part.file = Some(Arc::clone(file));
        part.properties.extend(properties);
    }

    #[cfg(any(test, feature = "fuzz-hooks"))]
    pub(crate) fn all(&self) -> BTreeMap<&str, &str> {
        let parts = [&self.config, &self.credentials];
        parts.iter().flat_map(|part| &part.properties).map(|(name, value)| (name.as_str(), value.expose())).collect()
    }
}

/// Sections by name.
type Sections = BTreeMap<String, Profile>;

/// The two files, merged.
#[derive(Debug, Default)]
pub(crate) struct ProfileFiles {
    profiles: Sections,
    /// Profiles with names that the AWS CLI reads and the SDKs do not.
    cli_profiles: Sections,
    sso_sessions: Sections,
    services: Sections,
    /// For messages about a section that is not found.
    odd_headers: Vec<OddHeader>,
    looked_at: Vec<LookedAt>,
}

#[derive(Debug)]
struct LookedAt {
    file: Arc<Path>,
    /// Why nothing was read, if so.
    note: Option<String>,
}

impl ProfileFiles {
    /// Reads both files. A file that does not exist is empty.
    pub(crate) fn read(locations: &Locations) -> Result<Self, Error> {
        let mut files = Self::default();
        for (path, kind) in [(&locations.config, FileKind::Config), (&locations.credentials, FileKind::Credentials)] {
            let Some(path) = path else { continue };
            let file: Arc<Path> = Arc::from(path.as_path());
            let note = match sys::read_bounded(path, MAX_SIZE).and_then(Secret::from_utf8) {
                Ok(text) => {
                    files.add_text(&file, kind, text.expose())?;
                    None
                }
                Err(error) => nothing_to_read(path, &error)?,
            };
            files.looked_at.push(LookedAt { file, note });
        }
        Ok(files)
    }

    pub(crate) fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.get(name).or_else(|| self.cli_profiles.get(name))
    }

    pub(crate) fn sso_session(&self, name: &str) -> Option<&Profile> {
        self.sso_sessions.get(name)
    }

    /// A `[services NAME]` section's setting for one service.
    pub(crate) fn service_setting(&self, section: &str, service: &str, setting: &str) -> Option<&str> {
        self.services.get(section)?.get(service)?.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim().eq_ignore_ascii_case(setting)).then(|| value.trim())
        })
    }

    /// Where a profile was looked for, and why it may not have been found: `a and b; c, line 3: …`.
    pub(crate) fn looked_at_for_profile(&self, name: &str) -> String {
        let names = self.profiles.keys().chain(self.cli_profiles.keys()).map(String::as_str);
        format!("{}{}", self.looked_at(), section_hints::hint("profile", name, &self.odd_headers, names))
    }

    /// The same for an SSO session.
    pub(crate) fn looked_at_for_sso_session(&self, name: &str) -> String {
        let names = self.sso_sessions.keys().map(String::as_str);
        format!("{}{}", self.looked_at(), section_hints::hint("sso-session", name, &self.odd_headers, names))
    }

    /// The files that were looked at, for messages: `a and b`.
    fn looked_at(&self) -> String {
        let files: Vec<String> = self
            .looked_at
            .iter()
            .map(|LookedAt { file, note }| match note {
                Some(note) => format!("{} ({note})", file.display()),
                None => file.display().to_string(),
            })
            .collect();
        if files.is_empty() { "no file (HOME is not set)".into() } else { files.join(" and ") }
    }

    /// Adds the sections of a file.
    pub(crate) fn add_text(&mut self, file: &Arc<Path>, kind: FileKind, text: &str) -> Result<(), Error> {
        let sections = grammar::parse(text, kind).map_err(|fault| {
            invalid_configuration(format!("{}, line {}: {}", file.display(), fault.line, fault.what))
        })?;
        self.add(file, kind, sections);
        Ok(())
    }

    fn add(&mut self, file: &Arc<Path>, kind: FileKind, sections: Vec<Section>) {
        let of_name = |wanted: &Name| sections.iter().any(|section| section.name == *wanted);
        let default_is_prefixed = kind == FileKind::Config && of_name(&Name::Profile("default".into()));
        let mut defaults = Properties::new();
        sections
            .iter()
            .filter(|section| section.name == Name::Defaults)
            .for_each(|section| defaults.extend(section.properties.clone()));

        for Section { name, line, header, properties } in sections {
            let (sections, name) = match name {
                Name::Profile(name) => (&mut self.profiles, name),
                Name::UnprefixedDefault if default_is_prefixed => continue,
                Name::UnprefixedDefault => (&mut self.profiles, "default".to_owned()),
                Name::SsoSession(name) => (&mut self.sso_sessions, name),
                Name::Services(name) => (&mut self.services, name),
                Name::CliProfile(name) => {
                    let odd = Name::CliProfile(name.clone());
                    self.odd_headers.push(OddHeader { file: Arc::clone(file), kind, line, header, name: odd });
                    (&mut self.cli_profiles, name)
                }
                name @ (Name::Defaults | Name::PassedOver(_)) => {
                    self.odd_headers.push(OddHeader { file: Arc::clone(file), kind, line, header, name });
                    continue;
                }
            };
            let section = sections.entry(name.clone()).or_insert_with(|| Profile { name, ..Profile::default() });
            section.add(file, kind, properties);
        }
        if !defaults.is_empty() {
            for sections in [&mut self.profiles, &mut self.cli_profiles, &mut self.sso_sessions, &mut self.services] {
                sections.values_mut().for_each(|section| section.add_defaults(kind, &defaults));
            }
        }
    }
}

impl Profile {
    /// Gives the part of one file, if there is one, the properties of the file's `[DEFAULT]` that it lacks.
    fn add_defaults(&mut self, kind: FileKind, defaults: &Properties) {
        let part = match kind {
            FileKind::Config => &mut self.config,
            FileKind::Credentials => &mut self.credentials,
        };
        if part.file.is_some() {
            for (name, value) in defaults {
                part.properties.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

/// What to note about a file of which nothing is read. As in the AWS CLI, what is not a regular file counts as missing.
/// Every other reason is an error.
fn nothing_to_read(path: &Path, error: &io::Error) -> Result<Option<String>, Error> {
    let advice = match error.kind() {
        Io::NotFound | Io::NotADirectory => return Ok(Some("no such file".into())),
        Io::IsADirectory => return Ok(Some("it is a directory".into())),
        Io::InvalidInput if path == Path::new("/dev/null") => return Ok(None),
        Io::InvalidInput => return Ok(Some(reason(error))),
        Io::PermissionDenied => {
            "; set its permissions, or AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE to files that this program may \
             read"
        }
        _ => "",
    };
    Err(invalid_configuration(format!("{}: cannot read the file: {}{advice}", path.display(), reason(error))))
}

#[cfg(test)]
#[path = "profile_files_tests.rs"]
mod tests;
