//! The flags that become a client's settings, shared by the subcommands.

use clap::{Arg, ArgMatches};
use pgiam_core::Settings;

use crate::failure::Failure;

/// Flag, keyword of the setting, placeholder, help.
const FLAGS: [(&str, &str, &str, &str); 5] = [
    ("profile", "profile", "NAME", "A profile of the AWS config and credentials files [AWS_PROFILE]"),
    ("role-arn", "role_arn", "ARN", "A role to assume with the credentials found"),
    ("external-id", "external_id", "ID", "The external id that the role's trust policy asks for"),
    ("role-session-name", "role_session_name", "NAME", "The name of that session in AWS' logs"),
    ("timeout-ms", "timeout_ms", "MILLISECONDS", "How long to wait for AWS credentials [10000]"),
];

/// The flags, for a subcommand to add.
pub(crate) fn arguments() -> impl Iterator<Item = Arg> {
    FLAGS.into_iter().map(|(flag, _, placeholder, help)| Arg::new(flag).long(flag).value_name(placeholder).help(help))
}

/// The settings that were given.
pub(crate) fn settings(matches: &ArgMatches) -> Result<Settings, Failure> {
    let mut settings = Settings::default();
    for (flag, keyword, _, _) in FLAGS {
        if let Some(value) = matches.get_one::<String>(flag) {
            set(&mut settings, flag, keyword, value)?;
        }
    }
    Ok(settings)
}

/// One setting, with the flag named in the error.
pub(crate) fn set(settings: &mut Settings, flag: &str, keyword: &str, value: &str) -> Result<(), Failure> {
    settings.set(keyword, value).map_err(|error| Failure::usage(format!("--{flag}: {error}")))
}
