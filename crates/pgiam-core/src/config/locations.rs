//! Where the AWS `config` and `credentials` files are, and how to tell that they have changed.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::config::environment::Environment;

/// The paths of the two files; `None` where no home directory is known.
pub(crate) struct Locations {
    pub(crate) config: Option<PathBuf>,
    pub(crate) credentials: Option<PathBuf>,
}

/// What the file system says about the two files.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Fingerprint([Option<FileState>; 2]);

#[derive(PartialEq, Eq, Debug)]
struct FileState {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also set by a copy that keeps the old modification time.
    changed: (i64, i64),
}

impl Locations {
    /// `AWS_CONFIG_FILE` and `AWS_SHARED_CREDENTIALS_FILE`, else `.aws/config` and `.aws/credentials` in the home
    /// directory. As in the AWS CLI, `$NAME` and `${NAME}` are expanded in the variables, and then a leading `~`.
    pub(crate) fn from_environment(environment: &Environment) -> Self {
        let locate = |variable, default| match environment.get(variable) {
            Some(path) => Some(environment.expand_home(&environment.expand_variables(path))),
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
                changed: (meta.ctime(), meta.ctime_nsec()),
            })
        }))
    }
}
