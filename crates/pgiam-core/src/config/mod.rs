//! What the user configured: environment, profile files and the client's own settings, read once into a `Config`.

pub(crate) mod environment;
pub(crate) mod grammar;
mod locations;
pub(crate) mod profile_files;
pub(crate) mod region_name;
mod section_hints;
pub(crate) mod settings;

use std::path::PathBuf;

use crate::config::environment::Environment;
use crate::config::locations::{Fingerprint, Locations};
use crate::config::profile_files::{Profile, ProfileFiles};
use crate::config::settings::Settings;
use crate::error::Error;
use crate::log::{self, Log};

/// Everything that was configured at one moment. A client has one and replaces it as a whole at `refresh`.
pub(crate) struct Config {
    pub(crate) settings: Settings,
    pub(crate) environment: Environment,
    pub(crate) log: Log,
    /// Whether the environment is that of the process, which is read again at `refresh`.
    environment_is_live: bool,
    files: Result<ProfileFiles, Error>,
    fingerprint: Fingerprint,
}

impl Config {
    /// Reads the profile files. `environment`: `None` is that of the process. A file that cannot be read or parsed is an
    /// error only for callers that need the files: a program with keys in its environment does not.
    pub(crate) fn read(settings: Settings, environment: Option<Environment>) -> Self {
        let environment_is_live = environment.is_none();
        let environment = environment.unwrap_or_else(Environment::from_process);
        let log = Log::new(environment.get(log::LEVEL_VARIABLE), environment.get(log::FILE_VARIABLE));
        let log = if environment_is_live { log.become_of_process() } else { log };
        let locations = Locations::from_environment(&environment);
        let fingerprint = locations.fingerprint();
        Self { files: ProfileFiles::read(&locations), settings, environment, log, environment_is_live, fingerprint }
    }

    /// The same settings and environment, with the files read again.
    pub(crate) fn read_files_again(&self) -> Self {
        Self {
            environment_is_live: self.environment_is_live,
            log: self.log.clone(),
            ..Self::read(self.settings.clone(), Some(self.environment.clone()))
        }
    }

    /// The same settings, with environment and files read again; an environment that was given is kept.
    pub(crate) fn read_everything_again(&self) -> Self {
        if self.environment_is_live {
            return Self::read(self.settings.clone(), None);
        }
        self.read_files_again()
    }

    /// Whether the files are to be read again: they have changed since they were read, or could not be read.
    pub(crate) fn files_changed(&self) -> bool {
        self.files_failed() || Locations::from_environment(&self.environment).fingerprint() != self.fingerprint
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
        } else {
            // The AWS CLI asks the older name first.
            ["AWS_DEFAULT_PROFILE", "AWS_PROFILE"]
                .into_iter()
                .find_map(|variable| Some((self.environment.get(variable)?, Some(variable))))
                .unwrap_or(("default", None))
        }
    }

    /// The profile in use, if the files have it.
    pub(crate) fn profile(&self) -> Result<Option<&Profile>, Error> {
        let (name, _) = self.profile_name();
        Ok(self.files()?.profile(name))
    }

    /// An environment variable, else a property of the profile in use; empty counts as unset.
    pub(crate) fn variable_or_property(&self, variable: &str, property: &str) -> Result<Option<&str>, Error> {
        if let Some(value) = self.environment.get(variable) {
            return Ok(Some(value));
        }
        Ok(self.profile()?.and_then(|profile| profile.get(property)))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(home: &Path, variables: &[(&str, &str)]) -> Config {
        let all = variables.iter().copied().chain([("HOME", home.to_str().unwrap())]);
        Config::read(Settings::default(), Some(all.collect()))
    }

    fn home_with(config: &str) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/config"), config).unwrap();
        home
    }

    #[test]
    fn a_half_written_file_is_recognised_and_is_read_again_when_it_is_complete() {
        let home = home_with("[default]\nregion = eu-central-1\n[profile wo");
        let config = config(home.path(), &[]);
        assert!(config.files_failed() && config.files_changed());
        let error = config.profile().unwrap_err();
        assert!(error.message().contains(".aws/config, line 3"), "{error}");
        std::fs::write(home.path().join(".aws/config"), "[default]\nregion = eu-central-1\n[profile work]\n").unwrap();
        let config = config.read_files_again();
        assert!(!config.files_failed() && !config.files_changed());
        assert!(config.profile().unwrap().is_some());
    }

    #[test]
    fn a_file_that_is_replaced_by_one_of_the_same_size_and_time_has_changed() {
        let home = home_with("[default]\nregion = eu-central-1\n");
        let path = home.path().join(".aws/config");
        let config = config(home.path(), &[]);
        assert!(!config.files_changed());
        let time = std::fs::metadata(&path).unwrap().modified().unwrap();
        let copy = home.path().join("copy");
        std::fs::write(&copy, "[default]\nregion = eu-central-2\n").unwrap();
        std::fs::File::options().write(true).open(&copy).unwrap().set_modified(time).unwrap();
        std::fs::rename(&copy, &path).unwrap();
        assert!(config.files_changed());
    }

    #[test]
    fn the_certificate_bundle_is_found_in_the_aws_clis_order_and_below_the_home_directory() {
        let home = home_with("[default]\n[profile corp]\nca_bundle = ~/corp/ca.pem\n");
        let below_home = |name: &str| Some(home.path().join(name));
        let requests = ("REQUESTS_CA_BUNDLE", "~/requests.pem");
        assert_eq!(config(home.path(), &[]).ca_bundle(), None);
        assert_eq!(config(home.path(), &[requests]).ca_bundle(), below_home("requests.pem"));
        let corp = ("AWS_PROFILE", "corp");
        assert_eq!(config(home.path(), &[requests, corp]).ca_bundle(), below_home("corp/ca.pem"));
        let own = ("AWS_CA_BUNDLE", "/etc/own.pem");
        assert_eq!(config(home.path(), &[requests, corp, own]).ca_bundle(), Some("/etc/own.pem".into()));
    }

    #[test]
    fn the_profile_is_that_of_the_setting_then_of_the_older_variable_then_of_the_newer_one() {
        let home = home_with("");
        let both = [("AWS_PROFILE", "new"), ("AWS_DEFAULT_PROFILE", "old")];
        let mut settings = Settings::default();
        settings.set("profile", "own").unwrap();
        let with_setting = Config::read(settings, Some(both.into_iter().collect()));
        assert_eq!(with_setting.profile_name(), ("own", Some("the profile setting")));
        assert_eq!(config(home.path(), &both).profile_name(), ("old", Some("AWS_DEFAULT_PROFILE")));
        assert_eq!(config(home.path(), &both[..1]).profile_name(), ("new", Some("AWS_PROFILE")));
        assert_eq!(config(home.path(), &[]).profile_name(), ("default", None));
    }
}
