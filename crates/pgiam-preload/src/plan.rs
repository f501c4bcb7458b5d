//! The decision: what would libpq connect to, is it served, and with which token?
//!
//! libpq itself is asked, so that connection strings, services, the environment and the password file count as they do
//! for it: a connection is started with a `target_session_attrs` that libpq refuses before it looks at the network, and
//! its options are read. A password file is left out of the first such question, so that what libpq has to say about a
//! file with wrong rights is said once.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};

use pgiam_core::sys;
use pgiam_libpq::conninfo::Parameters;
use pgiam_libpq::own_settings::{Mode, OwnSettings};
use pgiam_libpq::tls;
use zeroize::Zeroizing;

use crate::arguments::Arguments;
use crate::libpq::{Libpq, PGconn, PQconninfoOption};
use crate::passfile::{Lines, MemoryFile};
use crate::served::{self, Host, Served};
use crate::tokens::{self, Failure, Wait};

/// libpq before 14 cuts lines of a password file at 320 bytes; what versions after these do with a line's rest is not
/// known.
const VERSIONS_WITH_ROOM: std::ops::Range<i32> = 140_000..190_000;

/// `gssencmode=prefer sslcompression=0 krbsrvname=postgres …`: so many of them are no person's writing.
const DEFAULTS_THAT_NOBODY_WRITES: usize = 3;

/// How to connect.
#[derive(Default)]
pub(crate) struct Plan {
    /// `None`: the program's own call, untouched.
    pub(crate) arguments: Option<Arguments>,
    /// What is said besides.
    more: Vec<(&'static CStr, Zeroizing<Vec<u8>>)>,
    /// Kept until libpq has read it.
    file: Option<MemoryFile>,
    /// What to remember of the connection.
    pub(crate) served: Option<Served>,
}

impl Plan {
    /// What is said besides the program's arguments.
    pub(crate) fn more(&self) -> Vec<(&'static CStr, &CStr)> {
        let texts = self.more.iter().filter_map(|(keyword, value)| {
            Some((*keyword, CStr::from_bytes_until_nul(value).ok()?)) //
        });
        texts.chain(self.file.iter().map(|file| (c"passfile", file.path.as_c_str()))).collect()
    }

    fn say(&mut self, keyword: &'static CStr, value: &str) {
        let mut text = Zeroizing::new(Vec::with_capacity(value.len() + 1));
        text.extend_from_slice(value.as_bytes());
        text.push(0);
        self.more.push((keyword, text));
    }
}

/// A host of the connection, as libpq would try it.
struct Target {
    host: String,
    address: String,
    port: String,
    number: u16,
}

/// What libpq would use.
struct Options {
    /// libpq's own defaults.
    compiled: BTreeMap<String, String>,
    values: BTreeMap<String, String>,
    password: Zeroizing<String>,
}

impl Options {
    fn get(&self, keyword: &str) -> &str {
        self.values.get(keyword).map_or("", String::as_str)
    }

    /// The hosts in their order; `None` where libpq will refuse the lists.
    fn targets(&self) -> Option<Vec<Target>> {
        let list = |keyword| self.get(keyword).split(',').map(str::to_owned).collect::<Vec<_>>();
        let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
        let count = hosts.len().max(addresses.len());
        let fits = |list: &[String]| list.len() == count || (list.len() == 1 && list[0].is_empty());
        if !fits(&hosts) || !fits(&addresses) || (ports.len() != 1 && ports.len() != count) {
            return None;
        }
        let targets = (0..count).map(|index| {
            let item = |list: &[String]| list.get(index).cloned().unwrap_or_default();
            let port = if ports.len() == 1 { ports[0].clone() } else { item(&ports) };
            let number = served::port_number(&port)?;
            Some(Target { host: item(&hosts), address: item(&addresses), port, number })
        });
        targets.collect()
    }
}

/// The options of a connection with libpq's own defaults, passwords left out.
///
/// # Safety
///
/// `connection` is this libpq's.
unsafe fn options_of(libpq: &Libpq, connection: *mut PGconn) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut compiled, mut values) = (BTreeMap::new(), BTreeMap::new());
    // SAFETY: the caller's promise; libpq's array ends with a keyword that is NULL, and is read before it is freed.
    unsafe {
        let options = libpq.ask::<*mut PQconninfoOption>(c"PQconninfo", connection);
        let Some(options) = options.filter(|options| !options.is_null()) else { return (compiled, values) };
        let mut entry = options;
        while !(*entry).keyword.is_null() {
            let option = &*entry;
            let text = |text: *const c_char| {
                (!text.is_null()).then(|| CStr::from_ptr(text).to_str().ok().map(str::to_owned)).flatten()
            };
            if let Some(keyword) = text(option.keyword).filter(|keyword| keyword != "password") {
                values.extend(text(option.val).map(|value| (keyword.clone(), value)));
                compiled.extend(text(option.compiled).map(|value| (keyword, value)));
            }
            entry = entry.add(1);
        }
        libpq.free_options(options);
    }
    (compiled, values)
}

/// Whether a connection has a time-out for each of its hosts.
///
/// # Safety
///
/// `connection` is this libpq's.
pub(crate) unsafe fn has_timeout(libpq: &Libpq, connection: *mut PGconn) -> bool {
    // SAFETY: the caller's promise.
    let (_, values) = unsafe { options_of(libpq, connection) };
    values.get("connect_timeout").is_some_and(|seconds| !seconds.is_empty() && seconds != "0")
}

/// Asks libpq what it would use. Nothing is sent.
fn ask(libpq: &Libpq, arguments: &Arguments, more: &[(&'static CStr, &CStr)]) -> Option<Options> {
    let mut more = more.to_vec();
    more.push((c"target_session_attrs", c"pgiam-asks"));
    let pairs = arguments.with(&more);
    // SAFETY: the texts outlive the call; the connection is this libpq's, its options and texts are read before they
    // are freed, and it is finished once.
    unsafe {
        let connection = libpq.connect(c"PQconnectStartParams", &pairs, arguments.expand_dbname);
        if connection.is_null() {
            return None;
        }
        let password = Zeroizing::new(libpq.text(c"PQpass", connection).unwrap_or_default());
        let refused = libpq.is_bad(connection);
        let (compiled, values) = options_of(libpq, connection);
        libpq.ask::<()>(c"PQfinish", connection);
        // Without a user the arguments were not even read.
        (refused && values.contains_key("user")).then_some(Options { compiled, values, password })
    }
}

/// No file: libpq says nothing about one that is not there.
const NO_PASSFILE: (&CStr, &CStr) = (c"passfile", c"/dev/null/none");

/// Decides. Never fails: where there is no token the connection is made without, and the reason goes to who asks for
/// the error message.
pub(crate) fn decide(libpq: &Libpq, arguments: Option<Arguments>, wait: Wait) -> Plan {
    let Some(mut arguments) = arguments else { return Plan::default() };
    // The environment of a program with more rights than its caller is the caller's word.
    if sys::runs_privileged() {
        return Plan::default();
    }
    let own = arguments.take_own();
    // What is not served is called as the program called it, less our own keywords.
    let untouched = |note: Option<String>| Plan {
        arguments: (!own.is_empty()).then(|| arguments.clone()),
        served: note.map(|note| Served::unserved(note, own.clone())),
        ..Plan::default()
    };
    let settings = match OwnSettings::read(&own, tokens::variable) {
        Ok(settings) => settings,
        Err(why) => return untouched(Some(why)),
    };
    if settings.mode == Mode::Off {
        return untouched(None);
    }
    let Some(options) = ask(libpq, &arguments, &[NO_PASSFILE]) else { return untouched(None) };
    let Some(targets) = options.targets() else { return untouched(None) };
    if !targets.iter().enumerate().any(|(index, target)| settings.serves(index, &target.host)) {
        return untouched(None);
    }
    if !options.password.is_empty() && !tokens::stands_for_a_token(&options.password) {
        return untouched(None);
    }
    match serve(libpq, &arguments, &own, &settings, &options, &targets, wait) {
        Ok(Some(plan)) => plan,
        Ok(None) => untouched(None),
        Err(why) => untouched(Some(why)),
    }
}

/// `Ok(None)`: every host has a password of the user's own.
fn serve(
    libpq: &Libpq,
    given: &Arguments,
    own: &Parameters,
    settings: &OwnSettings,
    options: &Options,
    targets: &[Target],
    wait: Wait,
) -> Result<Option<Plan>, String> {
    let mut arguments = given.clone();
    let mut plan = Plan::default();
    let user = options.get("user");

    // A password that the environment or a service file gives cannot be taken back, only overridden by one for all.
    let mut one_for_all = !VERSIONS_WITH_ROOM.contains(&libpq.version());
    if !options.password.is_empty() {
        arguments.take_password();
        let left = ask(libpq, &arguments, &[NO_PASSFILE]).ok_or("libpq does not take the arguments apart")?;
        one_for_all |= !left.password.is_empty();
    }

    let mut lines = Lines::default();
    let mut hosts = Vec::new();
    let mut only = Zeroizing::new(String::new());
    let (mut failure, mut given_up) = (None, false);
    for (index, target) in targets.iter().enumerate() {
        if options.password.is_empty() {
            let in_file = password_in_file(libpq, &arguments, target, targets.len());
            if !in_file.is_empty() && !tokens::stands_for_a_token(&in_file) {
                let host = if target.host.is_empty() { &target.address } else { &target.host };
                lines.push(host, target.number, user, &in_file)?;
                continue;
            }
        }
        if given_up || !settings.serves(index, &target.host) {
            continue;
        }
        let endpoint = settings.endpoint(index, &target.host, target.number);
        match tokens::token(&endpoint, user, settings.region.as_deref(), settings.profile.as_deref(), wait) {
            Ok(token) => {
                let room = lines.push(&target.host, target.number, user, &token)?;
                let room = if one_for_all { token.len() } else { room };
                hosts.push(Host { host: target.host.clone(), port: target.number, endpoint, room });
                only = token;
            }
            Err(Failure { why, of_credentials }) => {
                failure = failure.or(Some(format!("no token for {}: {why}", target.host)));
                given_up = of_credentials;
            }
        }
    }
    if hosts.is_empty() {
        return failure.map_or(Ok(None), Err);
    }

    let written = arguments.sslmode().or_else(|| tokens::variable("PGSSLMODE")).filter(|mode| !mode.is_empty());
    // Nobody wrote the `prefer` of a program that hands on all defaults (ruby-pg), or all options of another connection
    // (psql's `\c`).
    let handed_on = arguments.defaults_among(&options.compiled) >= DEFAULTS_THAT_NOBODY_WRITES;
    let written = match written {
        Some(mode) if !(mode == "prefer" && handed_on) => Some(mode),
        // libpq's own default is `prefer`. Any other value comes from a service file, or from `sslrootcert=system`.
        _ => Some(options.get("sslmode").to_owned()).filter(|mode| mode != "prefer"),
    };
    let sslmode = tls::required_sslmode(written.as_deref(), Some(options.get("sslrootcert")))?;
    if written.is_none() {
        plan.say(c"sslmode", sslmode);
    }

    if !one_for_all {
        plan.file = MemoryFile::new(&lines);
    }
    if plan.file.is_none() {
        if targets.len() > 1 {
            return Err(
                "several hosts need a token each, and libpq takes one password for all of them when PGPASSWORD or a \
                 service file gives one, before version 14, and where /proc is not mounted"
                    .into(),
            );
        }
        for host in &mut hosts {
            host.room = only.len();
        }
        plan.say(c"password", &only);
    }
    let passfile = Some(options_with_passfile(libpq, given));
    plan.served = Some(Served::new(
        (hosts, targets.len() > 1),
        user,
        (settings.region.clone(), settings.profile.clone()),
        own.clone(),
        plan.file.is_some().then_some(passfile).flatten(),
        failure,
    ));
    plan.arguments = Some(arguments);
    Ok(Some(plan))
}

/// The password file that the program's connection would have named.
fn options_with_passfile(libpq: &Libpq, arguments: &Arguments) -> Option<CString> {
    let options = ask(libpq, arguments, &[])?;
    options.values.get("passfile").and_then(|path| CString::new(path.as_str()).ok())
}

/// The password that the user's own file has for one host.
fn password_in_file(libpq: &Libpq, arguments: &Arguments, target: &Target, of: usize) -> Zeroizing<String> {
    let texts =
        [&target.host, &target.address, &target.port].map(|text| CString::new(text.as_str()).unwrap_or_default());
    let one: Vec<(&'static CStr, &CStr)> = [c"host", c"hostaddr", c"port"]
        .into_iter()
        .zip(texts.iter().map(CString::as_c_str))
        // An empty value would leave the list in place: a host without a name, a port by default.
        .filter(|(_, text)| of > 1 && !text.is_empty())
        .collect();
    ask(libpq, arguments, &one).map_or_else(Zeroizing::default, |options| options.password)
}
