//! `--apply`: does the steps that are to do, each after a question, and logs in with a token at the end.
//!
//! The administrator's session stays open until then. On PostgreSQL 16 and later the grant of rds_iam can end logins with
//! the administrator's own password, and then this session is what can revoke it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use pgiam_core::AwsApi;

use super::steps::{Database, Setup, Step, judged};
use crate::failure::Failure;
use crate::login::admin::Session;
use crate::login::databases::{LOG, ServerKind};
use crate::login::policy::{described, why};
use crate::login::report::{Finding, Outcome, Report};
use crate::{mfa, output, shell};

/// Who agrees to a step.
pub(super) enum Consent {
    /// `--yes`
    Given,
    Ask(File),
}

impl Consent {
    /// An error if nobody can be asked.
    pub(super) fn new(is_given: bool) -> Result<Self, Failure> {
        if is_given {
            return Ok(Self::Given);
        }
        mfa::terminal().map(Self::Ask).ok_or_else(|| {
            Failure::usage(
                "--apply asks before each step, and there is no terminal to ask at; --yes does the steps without",
            )
        })
    }

    /// Whether the answer is yes. `unasked`: the answer if nobody is asked.
    fn agrees(&mut self, question: &str, unasked: bool) -> bool {
        let Self::Ask(terminal) = self else { return unasked };
        let mut answer = String::new();
        let asked = write!(terminal, "      {question} [y/N] ")
            .and_then(|()| BufReader::new((&*terminal).take(mfa::LONGEST_LINE)).read_line(&mut answer));
        asked.is_ok() && ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
    }
}

/// Does the steps.
pub(super) fn run(setup: &mut Setup<'_>, consent: Consent, wait: u32, report: &mut Report) {
    let wait = Duration::from_secs(wait.into());
    let mut run = Run {
        setup,
        consent,
        wait,
        report,
        reasons: Vec::new(),
        is_incomplete: false,
        has_failed: false,
        has_granted: false,
    };
    for step in run.setup.steps() {
        run.step(*step);
    }
    run.log_in();
}

struct Run<'a, 'b> {
    setup: &'a mut Setup<'b>,
    consent: Consent,
    wait: Duration,
    report: &'a mut Report,
    /// Why rds_iam should not be granted yet.
    reasons: Vec<String>,
    /// A step is left without which no login can succeed.
    is_incomplete: bool,
    /// Nothing more is changed after a failure.
    has_failed: bool,
    has_granted: bool,
}

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A policy that was just attached takes effect within seconds.
const LONGEST_LOGIN: Duration = Duration::from_secs(60);

impl Run<'_, '_> {
    fn step(&mut self, step: Step) {
        self.report.begin("looking at the next step");
        let before = self.setup.look(step);
        if !self.is_to_do(step, &before) {
            self.judge(step, &before, before.outcome != Outcome::Ok);
            return self.report.add(before);
        }
        if let Some(why) = self.reason_against(step)
            && matches!(self.consent, Consent::Given)
        {
            let text = format!("not done: {why}");
            self.judge(step, &before, true);
            return self.report.add(Finding { text, ..before });
        }
        let question = self.reason_against(step).map(|why| format!("{why}. "));
        let shown = self.report.show(before);
        if !self.consent.agrees(&format!("{}Do this?", question.unwrap_or_default()), true) {
            self.judge(step, &shown, true);
            return self.report.keep(shown);
        }
        let after = match self.perform(step) {
            Ok(()) => self.settle(step),
            Err(why) => {
                self.has_failed = true;
                Finding { outcome: Outcome::Fail, text: format!("not done: {why}"), ..shown }
            }
        };
        self.judge(step, &after, after.outcome == Outcome::Fail);
        self.report.add(after);
    }

    /// Takes into account that a step is left.
    fn judge(&mut self, step: Step, finding: &Finding, is_left: bool) {
        let is_needed = !matches!(step, Step::Log | Step::Ca);
        self.is_incomplete |= is_left && is_needed && finding.outcome == Outcome::Fail;
        if is_left && matches!(step, Step::Iam | Step::Policy | Step::Members) {
            self.reasons.push(finding.text.clone());
        }
    }

    /// Why a step should not be done without somebody who decides it.
    fn reason_against(&self, step: Step) -> Option<String> {
        match (step, &self.setup.database) {
            (Step::Iam, Database::Server { server, .. }) if !server.pending.is_empty() => {
                Some(format!("other pending changes would be made with it: {}", server.pending.join(", ")))
            }
            (Step::Grant, _) if !self.reasons.is_empty() => Some(self.reasons.join("; ")),
            _ => None,
        }
    }

    /// Whether this can do the step. A policy that could not be looked up is attached: one of the same name is replaced.
    fn is_to_do(&self, step: Step, finding: &Finding) -> bool {
        let setup = &*self.setup;
        let is_of_admin = || setup.admin_role().is_some_and(|admin| setup.people().contains(&admin));
        let can = match step {
            Step::Iam | Step::Log => matches!(setup.database, Database::Server { .. }),
            Step::Policy => setup.principal.is_ok(),
            Step::Members => setup.caller.is_ok() && is_of_admin(),
            Step::Role | Step::Grant => setup.admin.is_ok() && !matches!(setup.database, Database::Dsql),
            _ => false,
        };
        let is_policy = matches!(step, Step::Policy | Step::Members) && setup.unknown.is_none();
        let is_left = finding.outcome == Outcome::Fail || (is_policy && finding.outcome == Outcome::Unknown);
        can && is_left && !self.has_failed
    }

    /// Does a step. The error is a phrase.
    fn perform(&mut self, step: Step) -> Result<(), String> {
        self.report.begin("doing it");
        match step {
            Step::Iam => self.modify(&[("EnableIAMDatabaseAuthentication", "true"), ("ApplyImmediately", "true")]),
            Step::Log => self.modify(&[("CloudwatchLogsExportConfiguration.EnableLogTypes.member.1", LOG)]),
            Step::Policy => {
                self.setup.need().put(&self.setup.session, self.setup.principal.as_ref().map_err(Clone::clone)?)
            }
            Step::Members => {
                let admin = self.setup.admin_role().unwrap_or_default();
                let caller = self.setup.caller.as_ref().map_err(Clone::clone)?;
                self.setup.need_of(&admin).put(&self.setup.session, caller)
            }
            Step::Role => self.sql(&self.setup.role_statement()),
            Step::Grant => {
                self.sql(&self.setup.grant_statement())?;
                self.has_granted = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn modify(&self, changes: &[(&str, &str)]) -> Result<(), String> {
        let Database::Server { server, .. } = &self.setup.database else { return Ok(()) };
        let action = match server.kind {
            ServerKind::Instance => "ModifyDBInstance",
            ServerKind::Cluster => "ModifyDBCluster",
        };
        let parameters = [&[(server.kind.dimension(), server.identifier.as_str())][..], changes].concat();
        self.setup.session.query(AwsApi::Rds, action, &parameters).map(|_| ()).map_err(|failure| why(&failure))
    }

    fn sql(&mut self, statement: &str) -> Result<(), String> {
        self.setup.admin.as_mut().map_err(|why| why.clone())?.run(statement).map(|_| ())
    }

    /// Looks until the step is done, or the time is over.
    fn settle(&mut self, step: Step) -> Finding {
        let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            match step {
                Step::Iam | Step::Log => self.setup.find_database(),
                Step::Role | Step::Grant => self.setup.find_roles(),
                _ => {}
            }
            let finding = self.setup.look(step);
            let status = self.changing();
            if finding.outcome != Outcome::Fail && status.is_none() {
                return finding;
            }
            if start.elapsed() + pause > self.wait {
                let status = status.map(|status| format!(", and its status is {status}")).unwrap_or_default();
                let text = format!("{} after {} seconds{status}", finding.text, self.wait.as_secs());
                return Finding { outcome: Outcome::Fail, text, ..finding };
            }
            if pause == FIRST_PAUSE {
                output::note(&format!("waiting for AWS, at most {} seconds", self.wait.as_secs()));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The status of a server that is being changed, and so takes no other change.
    fn changing(&self) -> Option<String> {
        let Database::Server { server, .. } = &self.setup.database else { return None };
        let status = &server.status;
        (status == "modifying" || status.starts_with("configuring-")).then(|| status.clone())
    }

    /// The login with a token, while the administrator's session is open.
    fn log_in(&mut self) {
        let context = &self.setup.context;
        let doctor = context.command("pgiam doctor");
        if self.is_incomplete {
            let text = "not tried, because there is something to do before";
            return self.report.add(Finding::unknown("login", text).with_remedy(doctor));
        }
        let user = context.user().to_owned();
        let admin = self.setup.admin_role().filter(|admin| self.has_granted && self.setup.people().contains(admin));
        let admin = admin.map_or(Ok(()), |admin| self.try_login(&admin));
        let outcome = match admin {
            Err(words) => Err(words),
            Ok(()) if self.setup.is_other() => match self.confirm_elsewhere() {
                Some(true) => Ok(()),
                Some(false) => Err(format!("the login of {user} failed")),
                None => {
                    let text = format!("not tried: it is to be tried as {}", self.who());
                    return self.report.add(Finding::unknown("login", text).with_remedy(doctor));
                }
            },
            Ok(()) => self.try_login(&user),
        };
        let finding = match outcome {
            Ok(()) => judged("login", true, format!("{user} is logged in with a token")),
            Err(words) => {
                let undone = self.undo();
                judged("login", false, format!("{words}. {undone}")).with_remedy(doctor)
            }
        };
        self.report.add(finding);
    }

    fn who(&self) -> String {
        self.setup.principal.as_ref().map(described).unwrap_or_default()
    }

    /// Whether the login as somebody else succeeds, says who tried it. `None`: nobody can be asked.
    fn confirm_elsewhere(&mut self) -> Option<bool> {
        let Consent::Ask(_) = self.consent else { return None };
        let context = &self.setup.context;
        let command = context.command_to(context.target(), "psql-iam", &[]);
        let question = format!("Try this as {}: {command}\n      Did it log in?", self.who());
        Some(self.consent.agrees(&question, false))
    }

    /// Logs in with a token, again and again while a new policy may not have taken effect.
    fn try_login(&mut self, user: &str) -> Result<(), String> {
        self.report.begin(&format!("logging in as {user} with a token"));
        let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
        loop {
            let login = self.setup.context.with_token(user)?;
            let Err(words) = Session::open(&login, &self.setup.context) else { return Ok(()) };
            if start.elapsed() + pause > self.wait.min(LONGEST_LOGIN) {
                return Err(format!("{user} cannot log in with a token: {words}"));
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Revokes the grant of this run. Returns what was done, a sentence.
    fn undo(&mut self) -> String {
        if !self.has_granted {
            return "Nothing was granted in this run".to_owned();
        }
        let statement = format!("REVOKE rds_iam FROM {}", shell::identifier(self.setup.context.user()));
        let question = format!("The login failed. Undo the grant with {statement}?");
        if !self.consent.agrees(&question, true) {
            return format!("This undoes the grant: {statement}");
        }
        match self.sql(&statement) {
            Ok(()) => format!("The grant is undone: {statement}"),
            Err(why) => format!("{statement} failed: {why}"),
        }
    }
}
