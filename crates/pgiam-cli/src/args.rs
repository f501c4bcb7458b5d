//! The groups of flags that the commands share. Each flag is declared once; help, manual pages and completions are derived
//! from it. The groups have no documentation comments: clap would take them for descriptions of the commands.

use clap::{ArgAction, Args};
use pgiam_core::Settings;

use crate::failure::Failure;

// `--help` without `-h`.
#[derive(Debug, Args)]
pub(crate) struct LongHelp {
    /// Show this help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

// Where the AWS credentials come from.
#[derive(Debug, Args)]
pub(crate) struct ClientArguments {
    /// Use this profile of the AWS config and credentials files [AWS_PROFILE]
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// Assume this role with the credentials found
    #[arg(long, value_name = "ARN")]
    pub(crate) role_arn: Option<String>,

    /// The external ID that the role's trust policy requires
    #[arg(long, value_name = "ID")]
    pub(crate) external_id: Option<String>,

    /// The name of the role's session in AWS logs
    #[arg(long, value_name = "NAME")]
    pub(crate) role_session_name: Option<String>,

    /// Wait at most this long for AWS credentials [10000]
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) timeout_ms: Option<String>,
}

impl ClientArguments {
    /// The settings of a client. Errors name the flag. `profile` is that of a connection; `--profile` overrides it.
    pub(crate) fn settings(&self, profile: Option<&str>) -> Result<Settings, Failure> {
        let mut settings = Settings::default();
        for (flag, keyword, value) in [
            ("--profile", "profile", &self.profile),
            ("--role-arn", "role_arn", &self.role_arn),
            ("--external-id", "external_id", &self.external_id),
            ("--role-session-name", "role_session_name", &self.role_session_name),
            ("--timeout-ms", "timeout_ms", &self.timeout_ms),
        ] {
            if let Some(value) = value {
                set(&mut settings, flag, keyword, value)?;
            }
        }
        if let Some(profile) = profile.filter(|_| self.profile.is_none()) {
            set(&mut settings, "PGIAM_PROFILE", "profile", profile)?;
        }
        Ok(settings)
    }
}

// How a token is signed.
#[derive(Debug, Args)]
pub(crate) struct SigningArguments {
    /// The AWS region of the database [from the endpoint name]
    #[arg(short = 'r', long, value_name = "REGION")]
    pub(crate) region: Option<String>,

    /// The kind of token; auto decides by the endpoint name [auto]
    #[arg(long, value_name = "SERVICE", value_parser = ["auto", "rds", "dsql"])]
    pub(crate) service: Option<String>,

    #[command(flatten)]
    pub(crate) client: ClientArguments,
}

impl SigningArguments {
    /// The settings of the client that signs for a connection with this profile; `--profile` overrides it.
    pub(crate) fn settings(&self, profile: Option<&str>) -> Result<Settings, Failure> {
        let mut settings = self.client.settings(profile)?;
        if let Some(service) = &self.service {
            set(&mut settings, "--service", "service", service)?;
        }
        Ok(settings)
    }
}

fn set(settings: &mut Settings, source: &str, keyword: &str, value: &str) -> Result<(), Failure> {
    settings.set(keyword, value).map_err(|error| Failure::usage(format!("{source}: {error}")))
}

// The connections that get tokens.
#[derive(Debug, Args)]
pub(crate) struct ConnectionArguments {
    /// The host to connect to, or a list a,b as in libpq; may be repeated [PGHOST]
    #[arg(short = 'h', long, visible_alias = "hostname", value_name = "HOST")]
    pub(crate) host: Vec<String>,

    /// The port: one for all, or one for each -h [PGPORT, 5432]
    #[arg(short = 'p', long, value_name = "PORT")]
    pub(crate) port: Vec<String>,

    /// The database user: one for all, one for each -h, or several for one -h [PGUSER]
    #[arg(short = 'U', long, visible_alias = "username", value_name = "USER")]
    pub(crate) user: Vec<String>,

    /// A conninfo string or a postgresql:// URI; may be repeated
    #[arg(long, value_name = "CONNINFO")]
    pub(crate) connection: Vec<String>,
}

// How often tokens are renewed.
#[derive(Debug, Args)]
pub(crate) struct RefreshArguments {
    /// Renew tokens at least this often; a token is valid for 900 seconds [300]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
    pub(crate) refresh_every: Option<u32>,
}
