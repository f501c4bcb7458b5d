//! A copy of pgiam installed by `make install`, the examples built against it, and the instance they run on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use aws_simulator::Simulator;

use crate::support::{clean_command, expect_success, root, server, temporary_directory};

/// A copy installed by `make install`, and the examples built against it.
pub(crate) struct Installed {
    _directory: tempfile::TempDir,
    pub(crate) prefix: PathBuf,
    pub(crate) examples: PathBuf,
}

pub(crate) fn make(arguments: &[&str]) -> Command {
    let mut command = clean_command("make");
    // A make that runs these tests must not pass on its job server and flags.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL").current_dir(root()).arg("--silent").args(arguments);
    command
}

pub(crate) fn installed() -> &'static Installed {
    static INSTALLED: OnceLock<Installed> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let directory = temporary_directory();
        let prefix = directory.path().join("usr");
        let examples = directory.path().join("examples");
        expect_success("make", &make(&["build"]).output().unwrap());
        let install = make(&["install", &format!("PREFIX={}", prefix.display())]).output().unwrap();
        expect_success("make install", &install);
        build(&prefix, &examples, &[]);
        build(&prefix, &examples, &["static"]);
        Installed { _directory: directory, prefix, examples }
    })
}

/// Builds the examples with more flags or for another target.
pub(crate) fn build(prefix: &Path, into: &Path, more: &[&str]) {
    let output = make(&["-C", "c-examples", &format!("BUILD={}", into.display())])
        .args(more)
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .output()
        .unwrap();
    expect_success("make -C c-examples", &output);
}

/// Sets a program's environment to that of an EC2 instance: the role is the only source of credentials, and the endpoint
/// is this computer.
pub(crate) fn on_instance(command: &mut Command, simulator: &Simulator, installed: &Installed) {
    command
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url())
        .env("LD_LIBRARY_PATH", installed.prefix.join("lib"))
        .env("PGHOSTADDR", "127.0.0.1")
        .env("PGSSLROOTCERT", &server().ca);
}
