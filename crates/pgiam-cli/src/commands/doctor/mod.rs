//! `pgiam doctor`: explains why a login with a token fails. Each check is a module that adds findings to a [`Report`]; the
//! checks run in the order in which a login can fail. Nothing is changed anywhere.

mod activity;
mod aws;
mod credentials;
mod network;
mod roles;
mod server;
mod settings;
mod token;

use std::io::Read;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use zeroize::Zeroizing;

use self::server::{Answer, Session};
use crate::args::LongHelp;
use crate::connection::Surroundings;
use crate::failure::Failure;
use crate::login::report::{DOCTOR, Finding, Format, Outcome, Report};
use crate::login::{Context, LoginArguments, name};

const EXAMPLES: &str = "\
Examples:
  pgiam doctor -h mydb.c9akciq32rpa.eu-central-1.rds.amazonaws.com -U app_user -d app
  pgiam doctor \"host=mydb.….rds.amazonaws.com user=app_user sslmode=verify-full sslrootcert=global-bundle.pem\"
  PGSERVICE=app pgiam doctor --profile production --json
  aws rds generate-db-auth-token --hostname HOST --port 5432 --username app_user | pgiam doctor -h HOST -U app_user --token -
  pgiam doctor -h HOST -U app_user --admin \"host=HOST user=postgres dbname=postgres\"

Takes the connection as 'pgiam token' does and checks, in the order in which a login can fail: the name of the host, the
settings, the network, TLS, the clock, the AWS credentials, what the server asks this user for before a password is sent,
the token, and the login itself. If the login fails, it queries AWS for the reason. Each line begins with

  ok     the check passed
  FAIL   the reason, or one of the reasons; the lines after -> are commands that help
  ?      it could not be checked; the text names what is missing, such as a permission

Nothing is changed, and secrets and tokens are not printed. The token is sent to the server only over TLS and only if the
server's certificate is what sslmode and sslrootcert ask for.

Exit status: 0; 1 if there is a FAIL; 2 if the arguments are wrong.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_override_self = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    login: LoginArguments,

    /// Check the token on standard input instead of one made here
    #[arg(long, value_name = "-", value_parser = ["-"])]
    token: Option<String>,

    /// Print a JSON object
    #[arg(long)]
    json: bool,

    /// Do not connect to the database or ask AWS about it: check name, settings, credentials, token
    #[arg(long, conflicts_with = "admin")]
    offline: bool,

    /// Repeat the checks until none fails, for at most this long [600]
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "600",
        conflicts_with_all = ["json", "token"]
    )]
    wait: Option<u32>,

    #[command(flatten)]
    help: LongHelp,
}

/// The time between two rounds of `--wait`.
const ROUND: Duration = Duration::from_secs(5);

/// Runs the checks.
pub(crate) fn run(arguments: &Arguments, surroundings: &Surroundings<'_>) -> Result<u8, Failure> {
    let given = arguments.token.as_ref().map(|_| read_token()).transpose()?;
    let start = Instant::now();
    let most = Duration::from_secs(arguments.wait.unwrap_or(0).into());
    loop {
        let mut report = Report::new(&DOCTOR, if arguments.json { Format::Json } else { Format::Text });
        let mut context = Context::new(&arguments.login, surroundings)?;
        report.use_profile(context.profile.as_deref());
        check(&mut context, arguments, given.as_ref().map(|token| token.as_str()), &mut report);
        if !report.has_failure() || start.elapsed() + ROUND > most {
            return report.finish();
        }
        report.finish()?;
        crate::output::result(&format!("\nagain in {} seconds\n\n", ROUND.as_secs()))?;
        thread::sleep(ROUND);
    }
}

/// More than any token has.
const MAX_TOKEN: u64 = 256 * 1024;

/// The token on standard input.
fn read_token() -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(8192));
    std::io::stdin()
        .lock()
        .take(MAX_TOKEN)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("--token: cannot read standard input: {error}")))?;
    Ok(text)
}

/// Runs the checks in the order in which a login can fail.
fn check(context: &mut Context<'_>, arguments: &Arguments, given: Option<&str>, report: &mut Report) {
    name::check(context, arguments.offline, report);
    settings::check(context, report);
    let mut session = if arguments.offline { None } else { connect(context, report) };
    let made = given.is_none();
    if !arguments.offline {
        aws::clock(context, report);
    }
    if made {
        credentials::check(context, report);
        if !arguments.offline {
            report.begin("asking STS whose credentials these are");
            aws::identity(context, report);
        }
    }
    let answer = session.as_mut().map(|session| server::ask(session, context, report));
    let token = token::check(context, given, report);
    if arguments.offline {
        return;
    }
    let key = token.as_ref().filter(|_| !made).and_then(|token| token::key_of(token));
    let logged_in = match (session, token) {
        (Some(session), Some(token)) => log_in(session, answer, &token, context, report),
        (_, None) => {
            report.add(Finding::unknown("login", "not tried, because there is no token"));
            false
        }
        (None, _) => {
            report.add(Finding::unknown("login", "not tried, because there is no connection"));
            false
        }
    };
    if !logged_in {
        aws::check(context, key.as_deref(), report);
    }
    if let Some(admin) = &context.admin {
        report.begin("looking up the roles");
        roles::check(admin, context, report);
    }
}

/// Connects, and finds out what the certificate says about the endpoint.
fn connect(context: &mut Context<'_>, report: &mut Report) -> Option<Session> {
    report.begin("connecting");
    let stream = network::connect(context, report);
    report.begin("negotiating TLS");
    let session = stream.and_then(|stream| server::start_tls(stream, context, report));
    server::endpoint_by_certificate(session.as_ref(), context, report);
    session
}

fn log_in(session: Session, answer: Option<Answer>, token: &str, context: &Context<'_>, report: &mut Report) -> bool {
    report.begin("logging in");
    let finding = server::log_in(session, answer, token, context);
    let logged_in = finding.outcome == Outcome::Ok;
    report.add(finding);
    logged_in
}
