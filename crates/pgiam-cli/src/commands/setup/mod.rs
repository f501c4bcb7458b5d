//! `pgiam setup`: what a database, a user and an AWS identity need for a login with a token, which of it is there, and the
//! commands for the rest. It looks only, unless `--apply` asks it to do the steps ([`apply`]).

mod apply;
mod steps;
mod template;

use clap::Args;

use self::apply::Consent;
use self::steps::Setup;
use crate::args::LongHelp;
use crate::connection::Surroundings;
use crate::failure::Failure;
use crate::login::LoginArguments;
use crate::login::report::{Finding, Format, Report, SETUP};
use crate::output;

const EXAMPLES: &str = "\
Examples:
  pgiam setup -h mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com -U app_user
  pgiam setup -h HOST -U app_user --principal arn:aws:iam::123456789012:role/app-server --admin \"host=HOST user=postgres\"
  pgiam setup -h HOST -U app_user --admin \"host=HOST user=postgres\" --apply
  pgiam setup -h HOST -U app_user --format terraform >pgiam.tf.json

Finds the instance, cluster or proxy of the endpoint and prints, for each step, whether it is done and the command or SQL
that does it: IAM authentication, the log of refused logins, the policy and whom it is attached to, the role, its
membership in rds_iam, the CA bundle. Each line begins with

  done   nothing is to do
  to do  the lines after -> do it
  ?      it could not be looked up; the text names what is missing, such as a permission

Nothing is changed without --apply. With it, each step that is to do is done after a question at the terminal, or without
one with --yes. rds_iam is granted last: from then on only a token logs the user in. The administrator's session stays
open until a login with a token has succeeded; if it fails, the grant can be revoked.

Exit status: 0; 1 if there is something to do, or a step failed; 2 if the arguments are wrong.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    login: LoginArguments,

    /// The role or user that logs in [the one whose AWS credentials these are]
    #[arg(long, value_name = "ARN")]
    principal: Option<String>,

    /// Print the steps as text or json, or policy and role for terraform or cloudformation [text]
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json", "terraform", "cloudformation"])]
    format: Option<String>,

    /// Do the steps, each after a question at the terminal
    #[arg(long, conflicts_with = "format")]
    apply: bool,

    /// Do the steps without questions
    #[arg(long, requires = "apply")]
    yes: bool,

    /// Wait at most this long for AWS to complete a step [600]
    #[arg(long, value_name = "SECONDS", requires = "apply")]
    wait: Option<u32>,

    #[command(flatten)]
    help: LongHelp,
}

const WAIT: u32 = 600;

/// Prints or does the steps.
pub(crate) fn run(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let consent = arguments.apply.then(|| Consent::new(arguments.yes)).transpose()?;
    let format = arguments.format.as_deref().unwrap_or("text");
    let mut report = Report::new(&SETUP, if format == "json" { Format::Json } else { Format::Text });
    report.begin("asking AWS about the database");
    let mut setup = Setup::new(&arguments.login, arguments.principal.as_deref(), surroundings)?;
    report.use_profile(setup.context.profile.as_deref());
    if ["terraform", "cloudformation"].contains(&format) {
        let template = template::of(&setup, format == "terraform", arguments.principal.is_some())?;
        output::result(&format!("{template:#}\n"))?;
        return Ok(0);
    }
    match consent {
        Some(consent) => apply::run(&mut setup, consent, arguments.wait.unwrap_or(WAIT), &mut report),
        None => {
            for step in setup.steps() {
                report.begin("looking at the next step");
                report.add(setup.look(*step));
            }
            let doctor = setup.context.command("pgiam doctor");
            report
                .add(Finding::unknown("login", "not tried; this tries it, and explains a refusal").with_remedy(doctor));
        }
    }
    report.more.push(("policy", template::document(&setup.need())));
    report.finish()
}
