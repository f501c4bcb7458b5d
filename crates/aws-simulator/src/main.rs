//! `aws-simulator`: runs the simulator as a process, for tests in other languages and for demonstrations.

#![deny(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use aws_simulator::{Simulator, SimulatorOptions};

const USAGE: &str = "\
Usage: aws-simulator [OPTION]...
Simulates the EC2 metadata service, the container credentials endpoint, STS,
the SSO portal and SSO OIDC on one port of 127.0.0.1. When it accepts
connections, it prints one line: ready url=http://127.0.0.1:PORT

  --port PORT                  port to listen on (default: a free one)
  --ipv6                       also listen on [::1]; the line then has ipv6_url=
  --role ROLE                  role of the instance (default: app-server-role)
  --no-role                    the instance has no role
  --region REGION              region (default: eu-central-1)
  --credentials-dir DIR        write every credential to DIR/ACCESS_KEY_ID.json
  --lifetime SECONDS           lifetime of credentials (default: 21600)
  --session-token-length N     length of session tokens (default: 1000)
  --keep-alive                 keep connections open between requests
  --container-token TOKEN      require this Authorization header from containers
  --external-id ID             require this external id for AssumeRole
  --web-identity-token TOKEN   the web identity token that STS accepts
  --stop-at-end-of-input       exit at the end of standard input
  --help                       print this help

Control API, for curl for example:
  GET    /simulator/health
  GET    /simulator/requests      list the requests; DELETE clears the list
  POST   /simulator/faults        {\"route\":\"imds_token\",\"fault\":{\"status\":503},
                                  \"times\":2}; DELETE removes all faults
  POST   /simulator/release       send the responses that wait because of the fault hold
  POST   /simulator/rotate        new credentials for instance and container
  POST   /simulator/credentials   {\"access_key_id\":..., \"secret_access_key\":...}
  POST   /simulator/account       set databases, identities and policies
  POST   /simulator/clock         {\"offset_seconds\":-3600}
  POST   /simulator/expiration    {\"expiration\":UNIX_SECONDS or null}
";

struct Arguments {
    options: SimulatorOptions,
    stop_at_end_of_input: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(message) => {
            eprintln!("aws-simulator: {message}; --help lists the options");
            return ExitCode::from(2);
        }
    };
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aws-simulator: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> io::Result<()> {
    let simulator = Simulator::start(arguments.options)?;
    let mut line = format!("ready url={}", simulator.url());
    if let Some(url) = simulator.url_ipv6() {
        line.push_str(&format!(" ipv6_url={url}"));
    }
    let mut output = io::stdout();
    writeln!(output, "{line}")?;
    output.flush()?;

    if arguments.stop_at_end_of_input {
        io::copy(&mut io::stdin(), &mut io::sink())?;
        return Ok(());
    }
    loop {
        thread::park();
    }
}

/// `None` for `--help`.
fn parse(arguments: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let mut options = SimulatorOptions::default();
    let mut stop_at_end_of_input = false;
    // `--flag=value` is the same as `--flag value`.
    let mut words = arguments.flat_map(|word| match word.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => {
            vec![flag.to_owned(), value.to_owned()]
        }
        _ => vec![word],
    });
    while let Some(flag) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--help" => return Ok(None),
            "--ipv6" => options.ipv6 = true,
            "--no-role" => options.role = None,
            "--keep-alive" => options.keep_alive = true,
            "--stop-at-end-of-input" => stop_at_end_of_input = true,
            "--port" => options.port = number(&flag, &value()?)?,
            "--role" => options.role = Some(value()?),
            "--region" => options.region = value()?,
            "--credentials-dir" => options.credentials_dir = Some(value()?.into()),
            "--lifetime" => options.lifetime = Duration::from_secs(number(&flag, &value()?)?),
            "--session-token-length" => options.session_token_length = number(&flag, &value()?)?,
            "--container-token" => options.container_token = Some(value()?),
            "--external-id" => options.external_id = Some(value()?),
            "--web-identity-token" => options.web_identity_token = value()?,
            _ => return Err(format!("unknown option {flag}")),
        }
    }
    Ok(Some(Arguments { options, stop_at_end_of_input }))
}

fn number<T: FromStr>(flag: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{flag} needs a number in range, not {text:?}"))
}
