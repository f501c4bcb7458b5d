//! What `pgiam doctor` and `pgiam setup` found: one finding for each check or step, printed as lines while they run, or as
//! JSON at the end.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output;
use crate::shell;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// The login cannot succeed like this.
    Fail,
    /// It cannot be checked, for example because a permission is missing.
    Unknown,
}

/// The words of a command for outcomes, and its names in JSON.
pub(crate) struct Words {
    /// For ok, fail and unknown.
    symbols: [&'static str; 3],
    outcomes: [&'static str; 3],
    /// The list of findings.
    findings: &'static str,
    check: &'static str,
    outcome: &'static str,
    remedy: &'static str,
}

pub(crate) const DOCTOR: Words = Words {
    symbols: ["ok", "FAIL", "?"],
    outcomes: ["ok", "fail", "unknown"],
    findings: "findings",
    check: "check",
    outcome: "outcome",
    remedy: "remedy",
};

pub(crate) const SETUP: Words = Words {
    symbols: ["done", "to do", "?"],
    outcomes: ["done", "to do", "unknown"],
    findings: "steps",
    check: "step",
    outcome: "state",
    remedy: "commands",
};

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// The name of the check, at most 11 characters.
    pub(crate) check: &'static str,
    pub(crate) outcome: Outcome,
    /// One line for people, without secrets.
    pub(crate) text: String,
    /// What to do: commands to copy, one in each line.
    pub(crate) remedy: Option<String>,
    /// A stable identifier of the cause, for scripts and docs/doctor.md.
    pub(crate) cause: Option<&'static str>,
}

impl Finding {
    pub(crate) fn ok(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Ok, text: text.into(), remedy: None, cause: None }
    }

    /// `remedy`: commands to copy, one in each line.
    pub(crate) fn fail(
        check: &'static str,
        cause: &'static str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            check,
            outcome: Outcome::Fail,
            text: text.into(),
            remedy: Some(remedy.into()).filter(|remedy| !remedy.is_empty()),
            cause: Some(cause),
        }
    }

    pub(crate) fn unknown(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, outcome: Outcome::Unknown, text: text.into(), remedy: None, cause: None }
    }

    /// The same with these commands, one in each line.
    pub(crate) fn with_remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..self }
    }

    /// The lines that are printed.
    fn lines(&self, words: &Words) -> String {
        let symbol = words.symbols[self.outcome as usize];
        let mut lines = format!("{symbol:<5} {:<11} {}\n", self.check, printable(&self.text));
        for command in self.remedy.iter().flat_map(|remedy| remedy.lines()) {
            lines.push_str(&format!("      -> {}\n", printable(command)));
        }
        lines
    }

    fn json(&self, words: &Words) -> Value {
        let remedy: Vec<String> = self.remedy.iter().flat_map(|remedy| remedy.lines()).map(printable).collect();
        json!({
            words.check: self.check,
            words.outcome: words.outcomes[self.outcome as usize],
            "text": printable(&self.text),
            words.remedy: remedy,
            "cause": self.cause,
        })
    }
}

/// The text of one line. Control characters, which servers may send, become spaces.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The commands with the profile for the AWS CLI, except where they have one.
fn with_profile(remedy: &str, profile: &str) -> String {
    let line = |line: &str| match line.strip_prefix("aws ") {
        Some(rest) if !rest.contains("--profile") => {
            format!("aws{profile} {}", rest.replace("$(aws ", &format!("$(aws{profile} ")))
        }
        _ => line.to_owned(),
    };
    remedy.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// Where findings go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Each finding is printed when it is added.
    Text,
    /// [`Report::finish`] prints all findings as one object.
    Json,
}

/// The findings so far.
pub(crate) struct Report {
    words: &'static Words,
    format: Format,
    /// More members of the JSON object.
    pub(crate) more: Vec<(&'static str, Value)>,
    findings: Vec<Finding>,
    progress: Option<Progress>,
    /// ` --profile NAME` for the commands of the AWS CLI, or empty.
    profile: String,
    /// The first error of writing to standard output.
    written: Result<(), Failure>,
}

impl Report {
    pub(crate) fn new(words: &'static Words, format: Format) -> Self {
        Self {
            words,
            format,
            more: Vec::new(),
            findings: Vec::new(),
            progress: None,
            profile: String::new(),
            written: Ok(()),
        }
    }

    /// The commands of the AWS CLI that are shown use this profile.
    pub(crate) fn use_profile(&mut self, profile: Option<&str>) {
        self.profile = profile.map(|profile| format!(" --profile {}", shell::quoted(profile))).unwrap_or_default();
    }

    /// Names what runs now: it is shown on a terminal if it takes longer than half a second. The next finding ends it.
    pub(crate) fn begin(&mut self, what: &str) {
        self.progress = None;
        self.progress = Progress::start(what);
    }

    /// Adds a finding.
    pub(crate) fn add(&mut self, finding: Finding) {
        let finding = self.show(finding);
        self.keep(finding);
    }

    /// Adds a finding that was shown.
    pub(crate) fn keep(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Prints a finding. It does not count unless it is kept.
    pub(crate) fn show(&mut self, mut finding: Finding) -> Finding {
        self.progress = None;
        finding.remedy = finding.remedy.map(|remedy| with_profile(&remedy, &self.profile));
        if self.format == Format::Text && self.written.is_ok() {
            self.written = output::result(&finding.lines(self.words));
        }
        finding
    }

    /// Whether a finding is a FAIL.
    pub(crate) fn has_failure(&self) -> bool {
        self.findings.iter().any(|finding| finding.outcome == Outcome::Fail)
    }

    /// Whether a finding has this cause.
    pub(crate) fn has_cause(&self, cause: &str) -> bool {
        self.findings.iter().any(|finding| finding.cause == Some(cause))
    }

    /// Whether the login of this run failed.
    pub(crate) fn was_refused(&self) -> bool {
        self.findings.iter().any(|finding| finding.outcome == Outcome::Fail && finding.check == "login")
    }

    /// Prints what is not printed yet, and returns the exit status.
    pub(crate) fn finish(mut self) -> Result<u8, Failure> {
        self.progress = None;
        self.written?;
        let status = u8::from(self.findings.iter().any(|finding| finding.outcome == Outcome::Fail));
        if self.format == Format::Json {
            let findings: Vec<Value> = self.findings.iter().map(|finding| finding.json(self.words)).collect();
            let mut object = json!({"ok": status == 0, self.words.findings: findings});
            for (name, value) in self.more {
                object[name] = value;
            }
            output::result(&format!("{object}\n"))?;
        }
        Ok(status)
    }
}

/// A line on the terminal that names what runs. Dropping it removes the line.
struct Progress {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

const SHOWN_AFTER: Duration = Duration::from_millis(500);

impl Progress {
    /// `None`: standard error is no terminal.
    fn start(what: &str) -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let (end, ended) = mpsc::channel::<()>();
        let line = format!("      {what} ...");
        let thread = thread::Builder::new().spawn(move || {
            if ended.recv_timeout(SHOWN_AFTER) == Err(RecvTimeoutError::Timeout) {
                // Nothing can be done if standard error cannot be written to.
                let _ = write!(io::stderr(), "{line}");
                let _ = ended.recv();
                let _ = write!(io::stderr(), "\r\x1b[K");
            }
        });
        Some(Self { end: Some(end), thread: Some(thread.ok()?) })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line_and_each_command_of_the_remedy_another() {
        let finding = Finding::fail("server", "not-granted", "no rds_iam\nfor app_user", "GRANT a\nGRANT b");
        assert_eq!(
            finding.lines(&DOCTOR),
            "FAIL  server      no rds_iam for app_user\n      -> GRANT a\n      -> GRANT b\n"
        );
        assert_eq!(Finding::ok("credentials", "x").lines(&DOCTOR), "ok    credentials x\n");
        assert_eq!(Finding::unknown("name", "x").lines(&DOCTOR), "?     name        x\n");
    }

    #[test]
    fn commands_of_the_aws_cli_use_the_profile_of_the_connection() {
        let shown = |remedy: &str| with_profile(remedy, " --profile 'my team'");
        assert_eq!(
            shown("aws rds a --b \"$(aws rds c)\"\npsql -h aws"),
            "aws --profile 'my team' rds a --b \"$(aws --profile 'my team' rds c)\"\npsql -h aws"
        );
        assert_eq!(shown("aws sts x --profile PROFILE"), "aws sts x --profile PROFILE");
        assert_eq!(with_profile("aws rds a", ""), "aws rds a");
    }

    #[test]
    fn json_has_the_same_fields_for_every_finding() {
        let finding = Finding::fail("server", "not-granted", "text", "one\ntwo");
        let expected = json!({
            "check": "server", "outcome": "fail", "text": "text", "remedy": ["one", "two"], "cause": "not-granted",
        });
        assert_eq!(finding.json(&DOCTOR), expected);
        assert_eq!(Finding::unknown("log", "x").json(&DOCTOR)["remedy"], json!([]));
    }
}
