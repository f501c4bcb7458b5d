//! What the user configured: environment, profile files and the client's own settings, read once into a `Config`.

pub(crate) mod environment;
pub(crate) mod profile_files;
pub(crate) mod region_name;
pub(crate) mod settings;

use std::path::PathBuf;

use crate::config::environment::Environment;
use crate::config::profile_files::{Fingerprint, Profile, ProfileFiles};
use crate::config::settings::Settings;
use crate::error::Error;

/// Everything read from outside at one moment. A client holds one and replaces it whole at `refresh`.
pub(crate) struct Config {
    pub(crate) settings: Settings,
    pub(crate) environment: Environment,
    /// Whether the environment is the process' own, to be read again at `refresh`.
    environment_is_live: bool,
    files: Result<ProfileFiles, Error>,
    fingerprint: Fingerprint,
}

impl Config {
    /// Reads the profile files that the environment points to: the one given, or the process' own. A file that cannot be read or parsed is remembered as an
    /// error for whoever needs the files: a program with keys in its environment does not.
    pub(crate) fn read(settings: Settings, environment: Option<Environment>) -> Self {
        let environment_is_live = environment.is_none();
        let environment = environment.unwrap_or_else(Environment::from_process);
        let locations = profile_files::Locations::from_environment(&environment);
        let fingerprint = locations.fingerprint();
        Self { files: ProfileFiles::read(&locations), settings, environment, environment_is_live, fingerprint }
    }

    /// The same settings and environment with the files read anew.
    pub(crate) fn read_files_again(&self) -> Self {
        Self {
            environment_is_live: self.environment_is_live,
            ..Self::read(self.settings.clone(), Some(self.environment.clone()))
        }
    }

    /// The same settings with environment and files read anew; an environment that was given is kept.
    pub(crate) fn read_everything_again(&self) -> Self {
        let given = (!self.environment_is_live).then(|| self.environment.clone());
        Self::read(self.settings.clone(), given)
    }

    /// Whether the files are to be read again: they have changed since they were read, or could not be read.
    pub(crate) fn files_changed(&self) -> bool {
        self.files_failed()
            || profile_files::Locations::from_environment(&self.environment).fingerprint() != self.fingerprint
    }

    /// Whether the files could not be read or parsed. The reason may be over at the next call (too many open files, a
    /// file that another program was writing), so a caller that has no credentials yet reads them again.
    pub(crate) fn files_failed(&self) -> bool {
        self.files.is_err()
    }

    /// The file of trusted certificates, in the AWS CLI's order: AWS_CA_BUNDLE, `ca_bundle` of the profile in use,
    /// REQUESTS_CA_BUNDLE. A leading `~` is the home directory.
    pub(crate) fn ca_bundle(&self) -> Option<PathBuf> {
        let of_profile = || self.profile().ok().flatten().and_then(|profile| profile.get("ca_bundle"));
        let path = self
            .environment
            .get("AWS_CA_BUNDLE")
            .or_else(of_profile)
            .or_else(|| self.environment.get("REQUESTS_CA_BUNDLE"))?;
        Some(self.environment.expand_home(path))
    }

    pub(crate) fn files(&self) -> Result<&ProfileFiles, Error> {
        self.files.as_ref().map_err(Clone::clone)
    }

    /// The name of the profile in use, and who named it (`None`: nobody, it is `default`).
    pub(crate) fn profile_name(&self) -> (&str, Option<&'static str>) {
        if let Some(name) = self.settings.profile() {
            (name, Some("the profile setting"))
        } else if let Some(name) = self.environment.get("AWS_PROFILE") {
            (name, Some("AWS_PROFILE"))
        } else {
            ("default", None)
        }
    }

    /// The profile in use, if the files have it.
    pub(crate) fn profile(&self) -> Result<Option<&Profile>, Error> {
        let (name, _) = self.profile_name();
        Ok(self.files()?.profile(name))
    }

    /// An environment variable or, failing that, a property of the profile in use; empty counts as unset.
    pub(crate) fn variable_or_property(&self, variable: &str, property: &str) -> Result<Option<&str>, Error> {
        if let Some(value) = self.environment.get(variable) {
            return Ok(Some(value));
        }
        Ok(self.profile()?.and_then(|profile| profile.get(property)))
    }
}
