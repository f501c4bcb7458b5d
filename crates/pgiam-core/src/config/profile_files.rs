//! The AWS `config` and `credentials` files, with the grammar of the SDKs.
//!
//! The rules are those of the AWS SDKs and Tools Reference Guide ("Shared config and credentials files") and of the
//! test cases the SDKs share: profiles are `[profile NAME]` in the config file and `[NAME]` in the credentials file,
//! `[profile default]` wins over `[default]`, credentials win over config, invalid names are passed over, and what is
//! not a line of the grammar is an error that names file and line (never the line itself: it may hold a key).

use std::collections::BTreeMap;
use std::io::ErrorKind as Io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::environment::Environment;
use crate::error::{Error, invalid_configuration, reason};
use crate::secret::Secret;
use crate::sys;

/// The most that is read of a file.
const MAX_SIZE: usize = 16 << 20;

/// Where the two files are.
pub(crate) struct Locations {
    pub(crate) config: Option<PathBuf>,
    pub(crate) credentials: Option<PathBuf>,
}

/// What the file system says of the two files.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint([Option<FileState>; 2]);

#[derive(PartialEq, Eq, Debug)]
struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Locations {
    /// `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE`, else `.aws/config` and `.aws/credentials` at home. A leading
    /// `~/` is the home directory.
    pub(crate) fn from_environment(environment: &Environment) -> Self {
        let locate = |variable, default| match environment.get(variable) {
            Some(path) => Some(environment.expand_home(path)),
            None => environment.home().map(|home| home.join(".aws").join(default)),
        };
        Self {
            config: locate("AWS_CONFIG_FILE", "config"),
            credentials: locate("AWS_SHARED_CREDENTIALS_FILE", "credentials"),
        }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        Fingerprint([&self.config, &self.credentials].map(|path| {
            let meta = std::fs::metadata(path.as_ref()?).ok()?;
            Some(FileState {
                device: meta.dev(),
                inode: meta.ino(),
                size: meta.size(),
                modified: (meta.mtime(), meta.mtime_nsec()),
            })
        }))
    }
}

/// One value, with where it stands.
#[derive(Clone, Debug)]
struct Property {
    value: Secret,
    file: PathBuf,
}

/// The properties of one section, by lower-case name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    name: String,
    properties: BTreeMap<String, Property>,
}

impl Profile {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A property's value, unless it is unset or empty.
    pub(crate) fn get(&self, property: &str) -> Option<&str> {
        self.properties.get(property).map(|property| property.value.expose()).filter(|value| !value.is_empty())
    }

    /// The file that a property stands in, for messages.
    pub(crate) fn file_of(&self, property: &str) -> String {
        self.properties.get(property).map_or_else(String::new, |property| property.file.display().to_string())
    }

    #[cfg(test)]
    fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.properties.iter().map(|(name, property)| (name.as_str(), property.value.expose()))
    }
}

/// The two files, merged.
#[derive(Debug, Default)]
pub(crate) struct ProfileFiles {
    profiles: BTreeMap<String, Profile>,
    sso_sessions: BTreeMap<String, Profile>,
    services: BTreeMap<String, Profile>,
    looked_at: Vec<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Config,
    Credentials,
}

impl ProfileFiles {
    pub(crate) fn read(locations: &Locations) -> Result<Self, Error> {
        let mut files = Self::default();
        for (path, kind) in [(&locations.config, FileKind::Config), (&locations.credentials, FileKind::Credentials)] {
            let Some(path) = path else { continue };
            files.looked_at.push(path.clone());
            match sys::read_bounded(path, MAX_SIZE).and_then(Secret::from_utf8) {
                Ok(text) => files.merge(parse(text.expose(), path, kind)?),
                // As in the AWS CLI, what is not a regular file, such as /dev/null, is as good as missing.
                Err(error)
                    if matches!(
                        error.kind(),
                        Io::NotFound | Io::NotADirectory | Io::IsADirectory | Io::InvalidInput
                    ) => {}
                Err(error) => {
                    return Err(invalid_configuration(format!(
                        "{}: cannot read the file: {}; set its permissions, or AWS_CONFIG_FILE and \
                         AWS_SHARED_CREDENTIALS_FILE to files that this program may read",
                        path.display(),
                        reason(&error)
                    )));
                }
            }
        }
        Ok(files)
    }

    pub(crate) fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.get(name)
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

    /// The files that were looked at, for messages: `a and b`.
    pub(crate) fn looked_at(&self) -> String {
        let paths: Vec<String> = self.looked_at.iter().map(|path| path.display().to_string()).collect();
        paths.join(" and ")
    }

    fn merge(&mut self, parsed: Parsed) {
        for (into, from) in [
            (&mut self.profiles, parsed.profiles),
            (&mut self.sso_sessions, parsed.sso_sessions),
            (&mut self.services, parsed.services),
        ] {
            for (name, profile) in from {
                let merged = into.entry(name.clone()).or_insert_with(|| Profile { name, ..Profile::default() });
                merged.properties.extend(profile.properties);
            }
        }
    }
}

#[derive(Default)]
struct Parsed {
    profiles: BTreeMap<String, Profile>,
    sso_sessions: BTreeMap<String, Profile>,
    services: BTreeMap<String, Profile>,
}

/// Which section a line belongs to.
enum Section {
    Profile(String),
    SsoSession(String),
    Services(String),
    /// A section of no known kind, or with an invalid name: its lines are passed over.
    Ignored,
}

/// What a continuation line continues.
enum Current {
    Nothing,
    Ignored,
    Property { name: String, has_sub_properties: bool },
}

fn parse(text: &str, path: &Path, kind: FileKind) -> Result<Parsed, Error> {
    let mut parsed = Parsed::default();
    let mut unprefixed_default = Profile::default();
    let mut section: Option<Section> = None;
    let mut default_is_prefixed = false;
    let mut in_unprefixed_default = false;
    let mut current = Current::Nothing;

    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let fault = |what: &str| invalid_configuration(format!("{}, line {}: {what}", path.display(), index + 1));
        let trimmed = line.trim();
        if trimmed.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(rest) = line.strip_prefix('[') {
            let inside = rest
                .split_once(']')
                .map(|(inside, _)| inside.trim())
                .ok_or_else(|| fault("Profile definition must end with ']'"))?;
            let (new, prefixed) = classify(inside, kind);
            in_unprefixed_default = false;
            if let Section::Profile(name) = &new {
                if name == "default" && kind == FileKind::Config {
                    default_is_prefixed |= prefixed;
                    in_unprefixed_default = !prefixed;
                }
                // Where `[profile default]` stands, `[default]` does not count.
                if !(in_unprefixed_default && default_is_prefixed) {
                    parsed.profiles.entry(name.clone()).or_default();
                }
            }
            section = Some(new);
            current = Current::Nothing;
            continue;
        }
        let Some(section) = &section else {
            return Err(fault("Expected a profile definition ([profile NAME]) before any other line"));
        };
        let into = match section {
            Section::Profile(_) if in_unprefixed_default => Some(&mut unprefixed_default),
            Section::Profile(name) => Some(parsed.profiles.entry(name.clone()).or_default()),
            Section::SsoSession(name) => Some(parsed.sso_sessions.entry(name.clone()).or_default()),
            Section::Services(name) => Some(parsed.services.entry(name.clone()).or_default()),
            Section::Ignored => None,
        };
        let Some(into) = into else { continue };

        if line.starts_with(char::is_whitespace) {
            match &current {
                Current::Nothing => return Err(fault("Expected a property definition, found continuation")),
                Current::Ignored => {}
                Current::Property { name, has_sub_properties } => {
                    if *has_sub_properties {
                        match trimmed.split_once('=') {
                            None => return Err(fault("Expected an '=' sign defining a sub-property")),
                            Some((key, _)) if key.trim().is_empty() => {
                                return Err(fault("Sub-property did not have a name"));
                            }
                            Some(_) => {}
                        }
                    }
                    if let Some(property) = into.properties.get_mut(name) {
                        property.value = Secret::new(format!("{}\n{trimmed}", property.value.expose()));
                    }
                }
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(fault("Expected an '=' sign defining a property (name = value)"));
        };
        let key = key.trim();
        if key.is_empty() {
            return Err(fault("Property did not have a name"));
        }
        if !key.chars().all(is_name_character) {
            current = Current::Ignored;
            continue;
        }
        let value = without_comment(value).trim();
        let name = key.to_ascii_lowercase();
        current = Current::Property { name: name.clone(), has_sub_properties: value.is_empty() };
        into.properties.insert(name, Property { value: Secret::new(value.to_owned()), file: path.to_owned() });
    }
    if !default_is_prefixed && let Some(default) = parsed.profiles.get_mut("default") {
        default.properties.extend(unprefixed_default.properties);
    }
    Ok(parsed)
}

/// Reads the inside of a section's brackets. The second result: whether it had the word `profile`.
fn classify(inside: &str, kind: FileKind) -> (Section, bool) {
    let valid = |name: &str| !name.is_empty() && name.chars().all(is_name_character);
    let named = |make: fn(String) -> Section, name: &str| {
        if valid(name) { make(name.to_owned()) } else { Section::Ignored }
    };
    let (word, rest) = match inside.split_once(char::is_whitespace) {
        Some((word, rest)) => (word, Some(rest.trim())),
        None => (inside, None),
    };
    match (kind, word, rest) {
        (FileKind::Credentials, name, None) => (named(Section::Profile, name), false),
        (FileKind::Config, "profile", Some(name)) => (named(Section::Profile, name), true),
        (FileKind::Config, "sso-session", Some(name)) => (named(Section::SsoSession, name), false),
        (FileKind::Config, "services", Some(name)) => (named(Section::Services, name), false),
        (FileKind::Config, "default", None) => (Section::Profile("default".into()), false),
        _ => (Section::Ignored, false),
    }
}

fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_./%@:+".contains(character)
}

/// A comment inside a value begins at white space followed by `#` or `;`.
fn without_comment(value: &str) -> &str {
    let mut before = None;
    for (at, character) in value.char_indices() {
        if matches!(character, '#' | ';') && before.is_some_and(char::is_whitespace) {
            return &value[..at];
        }
        before = Some(character);
    }
    value
}

#[cfg(test)]
#[path = "profile_files_tests.rs"]
mod tests;
