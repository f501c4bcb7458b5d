//! The decision: what would libpq connect to, which hosts get a token, and how does libpq get it?
//!
//! libpq itself is asked what it would connect to ([`Libpq::resolve`]), so that connection strings, services, the
//! environment and the password file count as they do for libpq. In the first question the password file is left out,
//! so that libpq reports a file with wrong permissions once.
//!
//! A token is never sent without TLS, wherever it comes from: a token that the environment or a password file gives, as
//! `pgiam exec` does, is removed if the connection could be in clear.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pgiam_core::Log;
use zeroize::Zeroizing;

use crate::arguments::Arguments;
use crate::conninfo::Parameters;
use crate::hosts::{self, Target};
use crate::memory_file::{Lines, MemoryFile};
use crate::rules::{self, Endpoint, Mode, OwnSettings, SENTINEL};
use crate::tokens::{NoToken, Request, Unavailable};

/// libpq before 14 cuts lines of a password file after this many bytes.
const SHORT_LINE: usize = 319;
const READS_LONG_LINES: i32 = 140_000;
/// Versions for which it is known what happens to the rest of a line ([`crate::memory_file`]).
const KEEPS_ROOM: std::ops::Range<i32> = 140_000..190_000;
/// libpq before 15 takes the home directory from the password database only.
const READS_HOME: i32 = 150_000;

/// A program that passes on all of libpq's defaults (`gssencmode=prefer sslcompression=0 krbsrvname=postgres …`) has at
/// least so many of them. Nobody writes that many by hand.
const PASSED_ON_DEFAULTS: usize = 3;

/// No password file: libpq does not complain about one that does not exist.
const NO_PASSFILE: (&CStr, &CStr) = (c"passfile", c"/dev/null/none");

/// What is asked of libpq.
pub trait Libpq {
    /// The version, as 150018 for 15.18.
    fn version(&self) -> i32;

    /// What libpq would use for these arguments and more that override them. Nothing is sent. `None`: libpq refuses the
    /// arguments.
    fn resolve(&self, arguments: &Arguments, more: &[(&CStr, &CStr)]) -> Option<Resolved>;
}

/// An option of a connection, as libpq returns it.
#[derive(Clone, Copy)]
pub struct ConnectionOption<'a> {
    /// The keyword.
    pub keyword: &'a str,
    /// The compiled-in default.
    pub compiled: Option<&'a CStr>,
    /// The value, which may be a password.
    pub value: Option<&'a CStr>,
}

/// The options that the decision depends on. None of them is a password.
const OPTIONS: [&str; 6] = ["host", "hostaddr", "port", "user", "sslmode", "sslrootcert"];

/// What libpq would use.
#[derive(Clone, Default)]
pub struct Resolved {
    /// libpq's compiled-in defaults.
    pub compiled: Parameters,
    /// The values of the options that decide about a token. What is not UTF-8 in them is replaced, so they are not to be
    /// used then.
    pub values: Parameters,
    /// One of them that is not UTF-8.
    pub not_utf8: Option<String>,
    /// `passfile`.
    pub passfile: Option<CString>,
    /// The password of the first host, or an empty text.
    pub password: Zeroizing<Vec<u8>>,
}

impl Resolved {
    /// Adds an option, as far as it is needed.
    pub fn add(&mut self, option: &ConnectionOption<'_>) {
        let named = |text: &CStr| (option.keyword.to_owned(), Zeroizing::new(text.to_string_lossy().into_owned()));
        self.compiled.extend(option.compiled.map(named));
        let Some(value) = option.value else { return };
        if option.keyword == "passfile" {
            self.passfile = Some(value.to_owned());
        } else if OPTIONS.contains(&option.keyword) {
            self.values.extend([named(value)]);
            if value.to_str().is_err() {
                self.not_utf8 = Some(option.keyword.to_owned());
            }
        }
    }

    /// `None`: libpq will refuse the lists of hosts.
    fn targets(&self) -> Option<Vec<Target>> {
        hosts::targets(self.get("host"), self.get("hostaddr"), self.get("port"))
    }

    fn get(&self, keyword: &str) -> &str {
        self.values.get(keyword).map_or("", |value| value.as_str())
    }
}

/// What the decision depends on, apart from libpq and the arguments.
pub struct Surroundings<'a> {
    /// Reads an environment variable, for example with [`variable`].
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// The home directory in the password database.
    pub home_directory: fn() -> Option<PathBuf>,
    /// Makes a token.
    pub token: &'a dyn Fn(&Request<'_>) -> Result<Zeroizing<String>, NoToken>,
    /// Whether the caller writes later tokens into libpq's memory, which needs room there.
    pub keeps_room: bool,
}

/// A variable of this process' environment. What is not UTF-8 in it is replaced by a character that no setting allows, so
/// that the value is an error and not ignored.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// A host that a token was made for.
#[derive(Clone, Debug)]
pub struct Host {
    /// The host as `PQhost` returns it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What the token is signed for.
    pub endpoint: Endpoint,
    /// Bytes that a later password may have in libpq's memory.
    pub room: usize,
}

/// What a later token for the same connection needs.
#[derive(Clone, Debug)]
pub struct Renewal {
    /// The hosts that got tokens.
    pub hosts: Vec<Host>,
    /// Whether the connection has several hosts, with or without tokens.
    pub several: bool,
    /// The database user.
    pub user: String,
    /// The region, if it is configured.
    pub region: Option<String>,
    /// The profile, if it is configured.
    pub profile: Option<String>,
}

/// How to connect.
#[derive(Default)]
pub struct Plan {
    /// What to connect with, followed by [`Plan::more`]. `None`: the program's own call, unchanged.
    pub arguments: Option<Arguments>,
    more: Vec<(&'static CStr, Zeroizing<CString>)>,
    /// Must exist until libpq has read it.
    file: Option<MemoryFile>,
    /// Why a token is missing. The arguments are then such that no token is sent.
    pub failure: Option<String>,
    /// Why no token was used, in case the login fails.
    pub hint: Option<String>,
    /// Why no token was tried for any host, for the log.
    pub no_token: Option<String>,
    /// The hosts that got tokens.
    pub renewal: Option<Renewal>,
    /// pgiam's own keywords of this connection.
    pub own: Parameters,
    /// Whether `passfile` is overridden.
    pub hides_passfile: bool,
    /// The password file that libpq would have used.
    pub passfile: Option<CString>,
}

impl Plan {
    /// What overrides the arguments.
    #[must_use]
    pub fn more(&self) -> Vec<(&CStr, &CStr)> {
        let texts = self.more.iter().map(|(keyword, value)| (*keyword, value.as_c_str()));
        texts.chain(self.file.iter().map(|file| (c"passfile", file.path.as_c_str()))).collect()
    }

    fn without_token(why: impl Into<String>) -> Self {
        Self { no_token: Some(why.into()), ..Self::default() }
    }

    /// Logs why the connection gets no token. [`crate::tokens::TokenMaker`] logs the tokens that are made, and why one could
    /// not be.
    pub fn log(&self, log: &Log) {
        match &self.no_token {
            Some(why) if self.failure.is_some() => log.warn(format_args!("connection without a token: {why}")),
            Some(why) => log.debug(format_args!("connection without a token: {why}")),
            None => {}
        }
    }

    fn set(&mut self, keyword: &'static CStr, value: &[u8]) {
        self.more.push((keyword, Zeroizing::new(CString::new(value).unwrap_or_default())));
    }
}

/// With [`crate::tokens::Wait::Never`]: credentials are being fetched; decide again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotYet;

/// Decides how to connect. `given`: `None` if the program's arguments are not a connection string.
///
/// # Errors
///
/// [`NotYet`]. What else is missing or wrong is in [`Plan::failure`].
pub fn decide(libpq: &dyn Libpq, given: Option<Arguments>, around: &Surroundings<'_>) -> Result<Plan, NotYet> {
    let Some(mut given) = given else { return Ok(Plan::default()) };
    let own = given.take_own();
    let (settings, wrong) = match OwnSettings::read(&own, around.variable) {
        Ok(settings) => (settings, None),
        Err(why) => (OwnSettings::off(), Some(why)),
    };
    let mut plan = match Connection::find(libpq, &given, &settings, around) {
        Some(connection) => connection.decide()?,
        None => Plan::without_token("libpq refuses the arguments"),
    };
    // Connections without tokens are made as the program makes them, without our own keywords.
    if plan.arguments.is_none() && !own.is_empty() {
        plan.arguments = Some(given);
    }
    if let Some(why) = wrong {
        plan.no_token = Some(why.clone());
        plan.failure = Some(why);
    }
    plan.own = own;
    Ok(plan)
}

/// What is done about the password of one host.
#[derive(Clone, PartialEq, Eq)]
enum Action {
    /// It has none, and gets none.
    Nothing,
    /// It has one that stays.
    Keep(Zeroizing<Vec<u8>>),
    /// It gets a token.
    Make,
    /// It has a token that must not be sent there.
    Remove,
    /// It has a request for a token, and gets none.
    Refuse,
}

/// `found` is the password, and empty if there is none.
fn action(found: &[u8], host: &str, gets_token: bool) -> Action {
    match found {
        _ if gets_token && (found.is_empty() || rules::is_replaceable(found)) => Action::Make,
        [] => Action::Nothing,
        _ if found == SENTINEL.as_bytes() => Action::Refuse,
        // There is no TLS over a Unix socket.
        _ if rules::is_token(found) && rules::is_socket(host) => Action::Remove,
        _ => Action::Keep(Zeroizing::new(found.to_owned())),
    }
}

fn carries_token(action: &Action) -> bool {
    match action {
        Action::Make => true,
        Action::Keep(password) => rules::is_token(password.as_slice()),
        Action::Nothing | Action::Remove | Action::Refuse => false,
    }
}

/// A connection that libpq accepts.
struct Connection<'a> {
    libpq: &'a dyn Libpq,
    around: &'a Surroundings<'a>,
    settings: &'a OwnSettings,
    given: Arguments,
    resolved: Resolved,
    targets: Vec<Target>,
}

impl<'a> Connection<'a> {
    /// `None`: libpq refuses the arguments, and says why.
    fn find(
        libpq: &'a dyn Libpq,
        given: &Arguments,
        settings: &'a OwnSettings,
        around: &'a Surroundings<'a>,
    ) -> Option<Self> {
        let resolved = libpq.resolve(given, &[NO_PASSFILE])?;
        let targets = resolved.targets()?;
        Some(Self { libpq, around, settings, given: given.clone(), resolved, targets })
    }

    fn gets_token(&self, index: usize) -> bool {
        self.settings.gets_token(index, self.targets[index].name())
    }

    fn decide(self) -> Result<Plan, NotYet> {
        let given = self.resolved.password.as_slice();
        if !given.is_empty() && !rules::is_replaceable(given) {
            return Ok(Plan::without_token("it has a password"));
        }
        let any = (0..self.targets.len()).any(|index| self.gets_token(index));
        let file = self.password_file();
        // Of a file with wrong permissions libpq says so when it is asked; it is asked for connections with tokens only.
        let file_is_read = given.is_empty() && (any || file.as_deref().is_some_and(is_private_file));
        if given.is_empty() && !file_is_read {
            return Ok(Plan::without_token(self.why_none_gets_one()));
        }
        let Some(actions) = self.actions(file_is_read) else { return Ok(self.unanswered()) };
        let hint = self.hint(&actions, file.as_deref());
        if actions.iter().all(|action| matches!(action, Action::Nothing | Action::Keep(_)) && !carries_token(action)) {
            let why = if any { "the password file has its password".to_owned() } else { self.why_none_gets_one() };
            return Ok(Plan { hint, ..Plan::without_token(why) });
        }
        let mut plan = self.connect(&actions)?;
        plan.hint = hint;
        plan.passfile = file.and_then(|path| CString::new(path.into_os_string().into_encoded_bytes()).ok());
        Ok(plan)
    }

    /// libpq accepted the connection, and then not a question about one of its hosts. No password is sent.
    fn unanswered(self) -> Plan {
        let why = "libpq did not return the passwords of the hosts; connect to one host";
        let mut plan = Plan::without_token(why);
        self.deliver(&mut plan, Passwords { failure: Some(why.to_owned()), ..Passwords::default() });
        plan
    }

    /// The password file that libpq would read. libpq is given a password, so that it does not read the file now.
    fn password_file(&self) -> Option<PathBuf> {
        let resolved = self.libpq.resolve(&self.given, &[(c"password", c"pgiam-asks")])?;
        if let Some(named) = resolved.passfile.filter(|path| !path.is_empty()) {
            return Some(PathBuf::from(OsStr::from_bytes(named.to_bytes())));
        }
        let home = self.around.home.clone().filter(|home| {
            self.libpq.version() >= READS_HOME && !home.as_os_str().is_empty() //
        });
        Some(home.or_else(self.around.home_directory)?.join(".pgpass"))
    }

    /// `None`: libpq did not answer.
    fn actions(&self, file_is_read: bool) -> Option<Vec<Action>> {
        let one = |(index, target): (usize, &Target)| {
            let in_file = if file_is_read { Some(self.password_in_file(target)?) } else { None };
            let found = in_file.as_ref().unwrap_or(&self.resolved.password);
            Some(action(found, target.name(), self.gets_token(index)))
        };
        self.targets.iter().enumerate().map(one).collect()
    }

    /// The password that the password file has for one host. `None`: libpq did not answer.
    fn password_in_file(&self, target: &Target) -> Option<Zeroizing<Vec<u8>>> {
        // An empty value would not override a list. libpq looks up the host, and the address only if there is no host;
        // for its default socket it looks up localhost.
        let or = |text: &str, other: &str| CString::new(if text.is_empty() { other } else { text }).ok();
        let host = or(target.name(), "localhost")?;
        let (address, port) = (or(&target.address, "127.0.0.1")?, or(target.port_text(), "")?);
        let one = [(c"host", host.as_c_str()), (c"hostaddr", address.as_c_str()), (c"port", port.as_c_str())];
        let more = if self.targets.len() > 1 { one.as_slice() } else { &[] };
        let answer = self.libpq.resolve(&self.given, more)?;
        // It does not look for a password for lists that do not fit together.
        let of = answer.targets()?;
        (of.len() == 1).then_some(answer.password)
    }

    /// What a person should know if the login fails with a password of the password file.
    fn hint(&self, actions: &[Action], file: Option<&Path>) -> Option<String> {
        if actions.contains(&Action::Remove) {
            return Some("a token is not sent over a Unix socket, which has no TLS".into());
        }
        let kept = actions.iter().enumerate().find(|(index, action)| {
            matches!(action, Action::Keep(_)) && !carries_token(action) && self.gets_token(*index)
        });
        let (index, _) = kept.filter(|_| self.resolved.password.is_empty())?;
        Some(format!(
            "the password for {} came from {}, so no token was used; remove its line there, or ask for a token with \
             password={SENTINEL}",
            self.targets[index].name(),
            file?.display()
        ))
    }

    /// The `sslmode` to connect with. libpq's own default is `prefer`; a program's or person's `prefer` is refused.
    fn sslmode(&mut self) -> Result<String, String> {
        let effective = self.resolved.get("sslmode").to_owned();
        let written = if effective == "prefer" {
            // ruby-pg passes on all defaults, psql's \c all options of the connection before.
            let passed_on = self.given.count_defaults(&self.resolved.compiled) >= PASSED_ON_DEFAULTS;
            let written = self.given.sslmode().or_else(|| (self.around.variable)("PGSSLMODE"));
            written.filter(|mode| mode == "prefer" && !passed_on)
        } else {
            Some(effective)
        };
        rules::required_sslmode(written.as_deref(), Some(self.resolved.get("sslrootcert"))).map(str::to_owned)
    }

    fn connect(mut self, actions: &[Action]) -> Result<Plan, NotYet> {
        let mut plan = Plan::default();
        let sslmode = self.sslmode();
        let mut passwords = match &sslmode {
            _ if self.resolved.not_utf8.is_some() => {
                let passwords = self.not_utf8();
                plan.no_token.clone_from(&passwords.failure);
                passwords
            }
            Err(why) if actions.iter().any(carries_token) => {
                plan.no_token = Some(why.clone());
                Passwords::without_tokens(actions, why.clone())
            }
            _ => self.collect(actions)?,
        };
        let carry_token = passwords.list.iter().any(|password| rules::is_token(password.text.as_slice()));
        if let Ok(mode) = sslmode
            && carry_token
        {
            plan.set(c"sslmode", mode.as_bytes());
        }
        if let Some(index) = actions.iter().position(|action| *action == Action::Refuse)
            && !carry_token
        {
            let why = passwords.failure.get_or_insert_with(|| self.why_no_token(index));
            plan.no_token.get_or_insert_with(|| why.clone());
        }
        self.deliver(&mut plan, passwords);
        Ok(plan)
    }

    /// No passwords: neither can a token be made for such a host or user, nor a line of a password file be written.
    fn not_utf8(&self) -> Passwords {
        let keyword = self.resolved.not_utf8.as_deref().unwrap_or_default();
        let why = format!("no token for this connection: the value of {keyword} is not UTF-8");
        Passwords { failure: Some(why), ..Passwords::default() }
    }

    fn why_no_token(&self, index: usize) -> String {
        let why = self.why_not(index);
        format!("the password {SENTINEL} asks for a token, and this connection gets none: {why}")
    }

    /// Why a host gets no token.
    fn why_not(&self, index: usize) -> String {
        let host = self.targets[index].name();
        if self.settings.mode == Mode::Off {
            "pgiam is switched off (PGIAM or iam)".to_owned()
        } else if rules::is_socket(host) {
            "it is a Unix socket, which has no TLS".to_owned()
        } else {
            format!(
                "{host:?} is not an endpoint name of RDS, Aurora or Aurora DSQL. Set PGIAM_HOST to the endpoint to \
                 sign for, or list the host in PGIAM_HOSTS"
            )
        }
    }

    /// Why no host gets a token: the reason for the first.
    fn why_none_gets_one(&self) -> String {
        if self.targets.is_empty() { "it has no host".to_owned() } else { self.why_not(0) }
    }

    /// Makes the tokens, and keeps the passwords that stay.
    fn collect(&self, actions: &[Action]) -> Result<Passwords, NotYet> {
        let mut passwords = Passwords::default();
        let mut unavailable = Unavailable::default();
        for (index, action) in actions.iter().enumerate() {
            match action {
                Action::Keep(text) => passwords.push(index, text.clone(), false),
                Action::Make => {
                    let request = self.request(index);
                    if unavailable.concerns(&request) {
                        continue;
                    }
                    match (self.around.token)(&request) {
                        Ok(mut token) => {
                            let text = Zeroizing::new(std::mem::take(&mut *token).into_bytes());
                            passwords.push(index, text, true);
                        }
                        Err(NoToken::NotYet) => return Err(NotYet),
                        Err(failed) => passwords.fail(self.targets[index].name(), unavailable.note(failed)),
                    }
                }
                Action::Nothing | Action::Remove | Action::Refuse => {}
            }
        }
        Ok(passwords)
    }

    fn request(&self, index: usize) -> Request<'_> {
        let target = &self.targets[index];
        Request {
            endpoint: self.settings.endpoint(index, target.name(), target.number),
            user: self.resolved.get("user"),
            region: self.settings.region.as_deref(),
            profile: self.settings.profile.as_deref(),
        }
    }

    /// Passes the passwords to libpq, such that it finds no others.
    fn deliver(self, plan: &mut Plan, mut passwords: Passwords) {
        let mut arguments = self.given.clone();
        let delivery = self.delivery(&mut passwords);
        if matches!(delivery, Delivery::Nothing | Delivery::File(_)) {
            plan.hides_passfile = true;
            // A password that the arguments, the environment or a service file give would override the file.
            if !self.resolved.password.is_empty() {
                arguments.remove_password();
            }
        }
        match delivery {
            Delivery::Nothing => plan.more.push((NO_PASSFILE.0, Zeroizing::new(NO_PASSFILE.1.to_owned()))),
            Delivery::Password(password) => plan.set(c"password", &password),
            Delivery::File(file) => plan.file = Some(file),
        }
        plan.renewal = self.renewal(&passwords.list);
        plan.failure = passwords.failure;
        plan.arguments = Some(arguments);
    }

    /// How libpq gets the passwords. If it cannot get them, they are removed, and the failure says why.
    fn delivery(&self, passwords: &mut Passwords) -> Delivery {
        let version = self.libpq.version();
        let keeps_room = self.around.keeps_room && KEEPS_ROOM.contains(&version);
        let only = match passwords.list.as_slice() {
            [] => return Delivery::Nothing,
            [only] if self.targets.len() == 1 => Some(only.text.clone()),
            _ => None,
        };
        if keeps_room || only.is_none() {
            match self.lines(passwords, keeps_room) {
                Ok((lines, longest)) if version >= READS_LONG_LINES || longest <= SHORT_LINE => {
                    if let Some(file) = MemoryFile::new(&lines) {
                        return Delivery::File(file);
                    }
                }
                Ok(_) => {}
                Err(why) => {
                    passwords.remove_all(why);
                    return Delivery::Nothing;
                }
            }
        }
        passwords.list.iter_mut().for_each(|password| password.room = password.text.len());
        if let Some(only) = only {
            return Delivery::Password(only);
        }
        passwords.remove_all(
            "several hosts need a token each, which takes libpq 14 or later and a mounted /proc; connect to one host"
                .into(),
        );
        Delivery::Nothing
    }

    /// The lines of a password file and the length of the longest.
    fn lines(&self, passwords: &mut Passwords, room: bool) -> Result<(Lines, usize), String> {
        let mut lines = Lines::default();
        let mut longest = 0;
        for password in &mut passwords.list {
            let (target, user) = (&self.targets[password.index], self.resolved.get("user"));
            password.room = lines.push(target.name(), target.port_text(), user, &password.text, room)?;
            // At most, with all escapes.
            longest = longest.max(2 * (target.name().len() + user.len() + password.text.len()) + 16);
        }
        Ok((lines, longest))
    }

    fn renewal(&self, passwords: &[Password]) -> Option<Renewal> {
        let made = passwords.iter().filter(|password| password.made);
        let hosts: Vec<Host> = made
            .map(|password| Host {
                host: self.targets[password.index].name().to_owned(),
                port: self.targets[password.index].number,
                endpoint: self.request(password.index).endpoint,
                room: password.room,
            })
            .collect();
        (!hosts.is_empty()).then(|| Renewal {
            hosts,
            several: self.targets.len() > 1,
            user: self.resolved.get("user").to_owned(),
            region: self.settings.region.clone(),
            profile: self.settings.profile.clone(),
        })
    }
}

/// How libpq gets the passwords.
enum Delivery {
    /// There are none.
    Nothing,
    /// As the password of the only host.
    Password(Zeroizing<Vec<u8>>),
    /// As lines of a password file.
    File(MemoryFile),
}

/// The password of one host.
struct Password {
    /// The number of the host.
    index: usize,
    text: Zeroizing<Vec<u8>>,
    /// Whether it is a token that was made now.
    made: bool,
    /// Bytes that a later password may have.
    room: usize,
}

/// The passwords to pass to libpq, and why one is missing.
#[derive(Default)]
struct Passwords {
    list: Vec<Password>,
    failure: Option<String>,
}

impl Passwords {
    /// The user's own passwords that are not tokens, and why there are no tokens.
    fn without_tokens(actions: &[Action], why: String) -> Self {
        let mut passwords = Self { failure: Some(why), ..Self::default() };
        for (index, action) in actions.iter().enumerate().filter(|(_, action)| !carries_token(action)) {
            if let Action::Keep(text) = action {
                passwords.push(index, text.clone(), false);
            }
        }
        passwords
    }

    fn push(&mut self, index: usize, text: Zeroizing<Vec<u8>>, made: bool) {
        self.list.push(Password { index, text, made, room: 0 });
    }

    /// The first failure counts.
    fn fail(&mut self, host: &str, why: String) {
        self.failure.get_or_insert_with(|| format!("no token for {host}: {why}"));
    }

    fn remove_all(&mut self, why: String) {
        self.list.clear();
        self.failure.get_or_insert(why);
    }
}

/// Whether libpq would read it as a password file.
fn is_private_file(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o077 == 0)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::io::Write;

    use super::*;
    use crate::conninfo;

    const RDS: &str = "orders-prod.c9akciq32rpa.eu-central-1.rds.amazonaws.com";

    /// A libpq that reads connection strings, variables and a password file.
    struct FakeLibpq {
        version: i32,
        variables: Vec<(&'static str, String)>,
        /// In place of `~/.pgpass`.
        home_file: Option<PathBuf>,
    }

    impl FakeLibpq {
        fn variable(&self, name: &str) -> Option<String> {
            self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
        }

        /// The first line of the file that matches, by libpq's rules.
        fn password_in(path: &Path, host: &str, port: &str, user: &str) -> Option<Vec<u8>> {
            let file = latin1(&std::fs::read(path).ok()?);
            file.lines().find_map(|line| {
                let fields = split_fields(line);
                let matches = |index: usize, value: &str| fields[index] == "*" || fields[index] == value;
                (matches(0, host) && matches(1, port) && matches(3, user)).then(|| bytes(&fields[4]))
            })
        }
    }

    fn latin1(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| char::from(*byte)).collect()
    }

    fn bytes(latin1: &str) -> Vec<u8> {
        latin1.chars().map(|character| u8::try_from(character).unwrap()).collect()
    }

    fn split_fields(line: &str) -> Vec<String> {
        let (mut fields, mut characters) = (vec![String::new()], line.chars());
        while let Some(character) = characters.next() {
            match character {
                ':' => fields.push(String::new()),
                '\\' => fields.last_mut().unwrap().extend(characters.next()),
                other => fields.last_mut().unwrap().push(other),
            }
        }
        fields
    }

    impl Libpq for FakeLibpq {
        fn version(&self) -> i32 {
            self.version
        }

        fn resolve(&self, arguments: &Arguments, more: &[(&CStr, &CStr)]) -> Option<Resolved> {
            let mut values: BTreeMap<String, String> = BTreeMap::new();
            let mut expand = arguments.expand_dbname;
            for (keyword, value) in arguments.with(more) {
                let (keyword, value) = (keyword.to_str().unwrap(), latin1(value.unwrap_or_default().to_bytes()));
                if value.is_empty() {
                    continue;
                }
                if keyword == "dbname" && expand && conninfo::is_connection_string(&value) {
                    expand = false;
                    let parsed = conninfo::parse(&value).ok()?;
                    values.extend(parsed.into_iter().map(|(keyword, value)| (keyword, value.to_string())));
                } else {
                    values.insert(keyword.into(), value);
                }
            }
            for (keyword, variable) in [
                ("host", "PGHOST"),
                ("port", "PGPORT"),
                ("user", "PGUSER"),
                ("password", "PGPASSWORD"),
                ("passfile", "PGPASSFILE"),
                ("sslmode", "PGSSLMODE"),
            ] {
                if !values.contains_key(keyword) {
                    values.extend(self.variable(variable).map(|value| (keyword.to_owned(), value)));
                }
            }
            values.entry("port".into()).or_insert_with(|| "5432".into());
            values.entry("user".into()).or_insert_with(|| "me".into());
            values.entry("sslmode".into()).or_insert_with(|| "prefer".into());
            let mut password = bytes(&values.remove("password").unwrap_or_default());
            let get = |keyword: &str| values.get(keyword).cloned().unwrap_or_default();
            // It refuses lists of different lengths before it looks for a password.
            let targets = hosts::targets(&get("host"), &get("hostaddr"), &get("port")).unwrap_or_default();
            let named = Some(get("passfile")).filter(|path| !path.is_empty()).map(PathBuf::from);
            if password.is_empty()
                && let (Some(first), Some(path)) = (targets.first(), named.or_else(|| self.home_file.clone()))
            {
                let name = if rules::is_socket(first.name()) { "localhost" } else { first.name() };
                password = Self::password_in(&path, name, first.port_text(), &get("user")).unwrap_or_default();
            }
            let mut resolved = Resolved { password: password.into(), ..Resolved::default() };
            for (keyword, value) in &values {
                let value = CString::new(bytes(value)).unwrap();
                resolved.add(&ConnectionOption { keyword, compiled: None, value: Some(&value) });
            }
            Some(resolved)
        }
    }

    fn token_for(host: &str) -> String {
        format!("{host}:5432/?Action=connect&DBUser=me&X-Amz-Signature=0")
    }

    fn no_token(_: &Request<'_>) -> Result<Zeroizing<String>, NoToken> {
        panic!("no token is wanted")
    }

    fn around(keeps_room: bool) -> Surroundings<'static> {
        Surroundings { variable: &|_| None, home: None, home_directory: || None, token: &no_token, keeps_room }
    }

    /// How a connection would be made.
    struct Connected {
        plan: Plan,
        /// What libpq would use.
        used: Resolved,
        /// For which endpoints tokens were made.
        made: Vec<String>,
    }

    struct Case {
        libpq: FakeLibpq,
        _passfile: tempfile::NamedTempFile,
        no_credentials: bool,
        keeps_room: bool,
    }

    impl Case {
        fn new(passfile: &str, variables: &[(&'static str, &str)]) -> Self {
            Self::of_bytes(passfile.as_bytes(), variables)
        }

        /// Variables are read as Latin-1.
        fn of_bytes(passfile: &[u8], variables: &[(&'static str, &str)]) -> Self {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(passfile).unwrap();
            let mut variables: Vec<_> = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            variables.push(("PGPASSFILE", file.path().display().to_string()));
            let libpq = FakeLibpq { version: 150_000, variables, home_file: None };
            Self { libpq, _passfile: file, no_credentials: false, keeps_room: false }
        }

        fn connect(&self, conninfo: impl AsRef<[u8]>) -> Connected {
            let made = RefCell::new(Vec::new());
            let around = Surroundings {
                variable: &|name| self.libpq.variable(name),
                token: &|request| {
                    if self.no_credentials {
                        return Err(NoToken::NoCredentials("no credentials".into()));
                    }
                    made.borrow_mut().push(format!("{}:{}", request.endpoint.host, request.endpoint.port));
                    Ok(Zeroizing::new(token_for(&request.endpoint.host)))
                },
                ..around(self.keeps_room)
            };
            let given = Arguments::of_conninfo(&CString::new(conninfo.as_ref()).unwrap());
            let plan = decide(&self.libpq, given.clone(), &around).unwrap();
            let arguments = plan.arguments.clone().or(given).unwrap();
            let used = self.libpq.resolve(&arguments, &plan.more()).unwrap();
            Connected { plan, used, made: made.into_inner() }
        }
    }

    /// Every host's password, as libpq would find it in the connection that the plan describes.
    fn passwords(connected: &Connected) -> Vec<String> {
        let get = |keyword: &str| connected.used.get(keyword);
        let targets = hosts::targets(get("host"), get("hostaddr"), get("port")).unwrap();
        let path = connected.used.passfile.as_ref().map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes())));
        let in_file =
            |target: &Target| FakeLibpq::password_in(path.as_ref()?, target.name(), target.port_text(), get("user"));
        if targets.len() == 1 {
            return vec![latin1(&connected.used.password)];
        }
        targets.iter().map(|target| latin1(&in_file(target).unwrap_or_default())).collect()
    }

    #[test]
    fn a_token_never_goes_over_a_connection_without_tls_whatever_gives_it() {
        let old = token_for("old");
        let mut sent = 0;
        let line = |host: &str| format!("{host}:*:*:*:{}\n", token_for(host).replace(':', "\\:"));
        // A host that gets tokens, one that `exec -h` names, and a socket.
        for host in [RDS, "db.example.com", "", "/run/postgresql"] {
            let file_host = if rules::is_socket(host) { "localhost" } else { host };
            for (passfile, password) in
                [(line(file_host), ""), (String::new(), old.as_str()), (String::new(), SENTINEL)]
            {
                for iam in ["", "off", "auto", "wrong"] {
                    for no_credentials in [false, true] {
                        for (mode, by_variable) in ["", "disable", "allow", "prefer", "require"]
                            .into_iter()
                            .flat_map(|m| [(m, true), (m, false)])
                        {
                            let mut variables = vec![("PGPASSWORD", password), ("PGIAM", iam)];
                            variables.extend(by_variable.then_some(("PGSSLMODE", mode)).filter(|_| !mode.is_empty()));
                            let mut case = Case::new(&passfile, &variables);
                            case.no_credentials = no_credentials;
                            let written =
                                if by_variable || mode.is_empty() { String::new() } else { format!(" sslmode={mode}") };
                            let connected = case.connect(format!("host='{host}'{written}"));
                            let what = format!("{host:?} {passfile:?} {password:?} {iam:?} {no_credentials} {mode:?}");
                            let found = &connected.used.password;
                            assert_ne!(found.as_slice(), SENTINEL.as_bytes(), "{what}");
                            if rules::is_token(found.as_slice()) {
                                sent += 1;
                                let mode = connected.used.get("sslmode");
                                assert!(mode == "require" && !rules::is_socket(host), "{what}: {mode}");
                            }
                        }
                    }
                }
            }
        }
        assert!(sent > 50, "{sent} connections with a token");
    }

    #[test]
    fn a_host_that_gets_no_token_finds_none_in_the_password_file_that_exec_set() {
        let line = format!("{RDS}:5432:*:me:{}\n", token_for("exec").replace(':', "\\:"));
        let mut case = Case::new(&line, &[]);
        case.no_credentials = true;
        let connected = case.connect(format!("host={RDS}"));
        assert_eq!(passwords(&connected), [""]);
        assert_eq!(connected.plan.failure, Some(format!("no token for {RDS}: no credentials")));
        case.no_credentials = false;
        assert_eq!(passwords(&case.connect(format!("host={RDS}"))), [token_for(RDS)]);
    }

    #[test]
    fn a_refused_sslmode_is_named_and_leaves_no_password() {
        for conninfo in [format!("host={RDS} sslmode=disable"), format!("host={RDS} sslmode=disable password=rds-iam")]
        {
            let connected = Case::new("", &[]).connect(&conninfo);
            assert!(connected.plan.failure.as_ref().unwrap().starts_with("sslmode=disable could send"), "{conninfo}");
            assert_eq!((passwords(&connected), connected.made), (vec![String::new()], vec![]));
        }
    }

    #[test]
    fn the_effective_sslmode_counts_wherever_it_is_written() {
        let case = Case::new("", &[]);
        let around = Surroundings { token: &|_| Ok(token_for("x").into()), ..around(false) };
        let conninfo = CString::new(format!("host={RDS} sslmode=disable")).unwrap();
        let pairs = [(c"sslmode", Some(c"require")), (c"dbname", Some(conninfo.as_c_str()))];
        let plan = decide(&case.libpq, Some(Arguments::new(pairs, true)), &around).unwrap();
        assert!(plan.failure.unwrap().starts_with("sslmode=disable"));
    }

    #[test]
    fn each_host_gets_its_own_token_and_other_hosts_keep_their_own_passwords() {
        let other = RDS.replace("orders", "other");
        let case = Case::new("localhost:*:*:*:mine\n", &[("PGPASSWORD", "")]);
        let connected = case.connect(format!("host={RDS},localhost,{other} port=5432,1,6000"));
        assert_eq!(passwords(&connected), [token_for(RDS), "mine".into(), token_for(&other)]);
        assert_eq!(connected.made, [format!("{RDS}:5432"), format!("{other}:6000")]);
        let rooms: Vec<_> = connected.plan.renewal.unwrap().hosts.iter().map(|host| host.room).collect();
        assert_eq!(rooms, [token_for(RDS).len(), token_for(&other).len()]);
    }

    #[test]
    fn a_request_for_a_token_in_the_environment_gives_each_host_its_own() {
        let connected = Case::new("", &[("PGPASSWORD", SENTINEL)]).connect(format!("host={RDS},localhost"));
        assert_eq!(passwords(&connected), [token_for(RDS), String::new()]);
        assert_eq!(passwords(&connected)[0], token_for(RDS), "the variable no longer counts");
    }

    #[test]
    fn a_request_for_a_token_for_a_host_that_gets_none_is_not_sent_and_explained() {
        for (conninfo, why) in [
            ("host=db.example.com", "\"db.example.com\" is not an endpoint name"),
            ("host=localhost", "list the host in PGIAM_HOSTS"),
            ("host=/run/postgresql", "Unix socket"),
            ("host=db.example.com iam=off", "switched off"),
        ] {
            for connected in [
                Case::new("", &[]).connect(format!("{conninfo} password=rds-iam")),
                Case::new("", &[("PGPASSWORD", SENTINEL)]).connect(conninfo),
                Case::new("*:*:*:*:rds-iam\n", &[]).connect(conninfo),
            ] {
                assert_eq!(passwords(&connected), [""], "{conninfo}");
                let failure = connected.plan.failure.expect(conninfo);
                assert!(failure.contains("asks for a token") && failure.contains(why), "{conninfo}: {failure}");
            }
        }
    }

    #[test]
    fn a_password_of_the_password_file_that_beats_the_token_is_named() {
        let case = Case::new(&format!("{RDS}:*:*:*:forgotten\n"), &[]);
        let connected = case.connect(format!("host={RDS}"));
        assert!(connected.plan.arguments.is_none() && connected.made.is_empty());
        let hint = connected.plan.hint.expect("a hint");
        let path = case.libpq.variable("PGPASSFILE").unwrap();
        assert!(hint.starts_with(&format!("the password for {RDS} came from {path}")), "{hint}");
        assert!(Case::new("", &[]).connect("host=localhost").plan.hint.is_none());
    }

    #[test]
    fn a_password_that_is_not_utf8_is_the_users_own() {
        for (passfile, variable, conninfo) in [
            (&b""[..], "", &b"password=p\xe4ss"[..]),
            (b"", "", b"user=caf\xe9 password='\xff'"),
            (b"", "p\u{e4}ss", b""),
            (b"*:*:*:*:gr\xfc\xdfe\n", "", b""),
            (b"*:*:*:caf\xe9:mine\n", "", b"user=caf\xe9"),
        ] {
            let case = Case::of_bytes(passfile, &[("PGPASSWORD", variable)]);
            let connected = case.connect([format!("host={RDS} ").as_bytes(), conninfo].concat());
            assert!(connected.plan.arguments.is_none() && connected.plan.failure.is_none(), "{conninfo:?}");
            assert!(connected.made.is_empty(), "{conninfo:?}");
        }
        // Beside a host that gets a token it keeps its bytes.
        let case = Case::of_bytes(b"localhost:*:*:*:gr\xfc\xdfe\n", &[]);
        let connected = case.connect(format!("host={RDS},localhost"));
        assert_eq!(passwords(&connected), [token_for(RDS), "gr\u{fc}\u{df}e".into()]);
    }

    #[test]
    fn a_request_for_a_token_with_a_user_or_host_that_is_not_utf8_is_not_sent_and_explained() {
        for (passfile, variable, conninfo, keyword) in [
            ("", "", &b"user=caf\xe9 password=rds-iam host="[..], "user"),
            ("", SENTINEL, b"user=caf\xe9 iam=off host=", "user"),
            ("*:*:*:*:rds-iam\n", "", b"user=\xff host=", "user"),
            ("", "", b"password=rds-iam iam=on host=caf\xe9.example.com,", "host"),
            ("", "", b"user='caf\xe9' host=", "user"),
        ] {
            let case = Case::new(passfile, &[("PGPASSWORD", variable)]);
            let connected = case.connect([conninfo, RDS.as_bytes()].concat());
            assert!(passwords(&connected).iter().all(String::is_empty), "{conninfo:?}");
            let failure = connected.plan.failure.expect("a failure");
            assert!(failure.contains(&format!("{keyword} is not UTF-8")), "{failure}");
        }
    }

    #[test]
    fn the_port_in_the_password_file_is_the_text_that_libpq_compares() {
        for (ports, number) in [("05432", "5432"), ("' 6000 '", "6000"), ("+7000", "7000"), ("''", "5432")] {
            let mut case = Case::new("", &[]);
            case.keeps_room = true;
            let connected = case.connect(format!("host={RDS} port={ports}"));
            assert_eq!(passwords(&connected), [token_for(RDS)], "{ports}");
            assert_eq!(connected.made, [format!("{RDS}:{number}")]);
            case.keeps_room = false;
            let connected = case.connect(format!("host={RDS},{RDS} port={ports}"));
            assert_eq!(passwords(&connected), [token_for(RDS), token_for(RDS)], "{ports}");
        }
    }

    #[test]
    fn a_password_of_the_password_file_counts_for_hosts_whose_list_items_are_empty() {
        let file = format!("{RDS}:*:*:*:mine\n10.0.0.9:*:*:*:mine\nlocalhost:*:*:*:mine\n");
        for conninfo in [
            format!("host={RDS},{RDS} hostaddr=,127.0.0.2"),
            format!("host={RDS},{RDS} port=,5433"),
            format!("host={RDS},{RDS} hostaddr=10.0.0.1, port=5433,"),
            format!("host={RDS}, hostaddr=,10.0.0.9 port=1,"),
            format!("host={RDS},,/run/x hostaddr=10.0.0.1,, port=,,"),
            format!("host=,{RDS} hostaddr=10.0.0.9,127.0.0.1 iam_host={RDS}"),
        ] {
            let connected = Case::new(&file, &[("PGPORT", "5432,5433")]).connect(&conninfo);
            assert!(connected.made.is_empty() && connected.plan.failure.is_none(), "{conninfo}");
        }
        let connected = Case::new(&file.replace(RDS, "other"), &[]).connect(format!("host={RDS}, hostaddr=,10.0.0.9"));
        assert_eq!(passwords(&connected), [token_for(RDS), "mine".into()]);
    }

    #[test]
    fn a_host_is_not_asked_for_again_what_was_missing_for_another() {
        let asked = RefCell::new(Vec::new());
        let failing = |failure: fn(String) -> NoToken| {
            asked.borrow_mut().clear();
            let case = Case::new("", &[]);
            let token = |request: &Request<'_>| {
                asked.borrow_mut().push(request.endpoint.host.clone());
                if request.names_region() { Ok(token_for(RDS).into()) } else { Err(failure("nothing".into())) }
            };
            let around = Surroundings { token: &token, ..around(false) };
            let given = Arguments::of_conninfo(&CString::new(format!("host=a.x,b.x,{RDS},c.x iam=on")).unwrap());
            (decide(&case.libpq, given, &around).unwrap().failure, asked.borrow().join(" "))
        };
        let failure = Some("no token for a.x: nothing".to_owned());
        assert_eq!(failing(NoToken::Failed), (failure.clone(), format!("a.x b.x {RDS} c.x")));
        assert_eq!(failing(NoToken::NoRegion), (failure.clone(), format!("a.x {RDS}")));
        assert_eq!(failing(NoToken::NoCredentials), (failure, "a.x".to_owned()));
    }

    #[test]
    fn the_password_file_in_the_home_directory_is_found_as_this_version_of_libpq_finds_it() {
        let (home, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = home.path().join(".pgpass");
        std::fs::write(&file, "*:*:*:*:rds-iam\n").unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let libpq = |version| FakeLibpq { version, variables: vec![], home_file: Some(file.clone()) };
        static DATABASE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
        DATABASE.get_or_init(|| home.path().to_owned());
        for (version, variable, expected) in [
            (150_000, None, true),
            (150_000, Some(PathBuf::new()), true),
            (150_000, Some(home.path().to_owned()), true),
            (140_000, Some(other.path().to_owned()), true),
            (150_000, Some(other.path().to_owned()), false),
        ] {
            let around =
                Surroundings { home: variable.clone(), home_directory: || DATABASE.get().cloned(), ..around(false) };
            let given = Arguments::of_conninfo(c"host=db.example.com");
            let plan = decide(&libpq(version), given, &around).unwrap();
            assert_eq!(plan.failure.is_some(), expected, "{version} {variable:?}");
        }
    }

    #[test]
    fn own_passwords_and_other_hosts_are_left_alone() {
        for (conninfo, variables, why) in [
            (format!("host={RDS} password=mine"), vec![], "it has a password"),
            (format!("host={RDS}"), vec![("PGPASSWORD", "mine")], "it has a password"),
            (format!("host={RDS}"), vec![("PGIAM", "off")], "pgiam is switched off"),
            ("host=localhost".to_owned(), vec![], "\"localhost\" is not an endpoint name"),
            ("host=a,b,c port=1,2".to_owned(), vec![], "libpq refuses the arguments"),
        ] {
            let connected = Case::new("localhost:*:*:*:mine\n", &variables);
            let around = Surroundings { variable: &|name| connected.libpq.variable(name), ..around(false) };
            let given = Arguments::of_conninfo(&CString::new(conninfo.as_str()).unwrap());
            let plan = decide(&connected.libpq, given, &around).unwrap();
            assert!(plan.arguments.is_none() && plan.failure.is_none(), "{conninfo}");
            assert!(
                plan.no_token.as_ref().is_some_and(|said| said.starts_with(why)),
                "{conninfo}: {:?}",
                plan.no_token
            );
        }
    }

    #[test]
    fn a_wrong_setting_is_a_failure_for_every_connection() {
        let connected = Case::new("", &[("PGIAM_PORT", "70000")]).connect("host=localhost");
        assert!(connected.plan.failure.unwrap().contains("PGIAM_PORT has \"70000\""));
    }

    #[test]
    fn an_address_alone_is_served_when_the_endpoint_is_named() {
        let connected = Case::new("", &[]).connect(format!("hostaddr=10.0.0.7 iam_host={RDS} iam_port=6000"));
        assert_eq!(connected.made, [format!("{RDS}:6000")]);
        assert_eq!(passwords(&connected), [token_for(RDS)]);
        assert!(Case::new("", &[]).connect("hostaddr=10.0.0.7").made.is_empty());
    }

    #[test]
    fn an_old_libpq_takes_one_token_as_a_password_and_several_not_at_all() {
        let mut case = Case::new("", &[]);
        case.libpq.version = 130_000;
        case.keeps_room = true;
        let long = format!("{RDS} user={}", "u".repeat(120));
        assert_eq!(passwords(&case.connect(format!("host={long}"))), [token_for(RDS)]);
        let connected = case.connect(format!("host={RDS},{long}"));
        assert_eq!(passwords(&connected), ["", ""]);
        assert!(connected.plan.failure.unwrap().contains("libpq 14 or later"));
    }

    #[test]
    fn a_caller_that_resets_connections_gets_room_for_longer_tokens() {
        let mut case = Case::new("", &[]);
        case.keeps_room = true;
        let connected = case.connect(format!("host={RDS}"));
        assert_eq!(passwords(&connected), [token_for(RDS)]);
        assert!(connected.plan.renewal.unwrap().hosts[0].room > token_for(RDS).len() + 4000);
        assert!(connected.plan.hides_passfile);
    }
}
