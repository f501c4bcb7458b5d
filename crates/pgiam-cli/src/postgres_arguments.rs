//! What PostgreSQL's own programs would take from their command line: host, port, user and database. Arguments in; the
//! four, and whether the program would connect at all, out.
//!
//! A program is a table of its options, read by glibc's `getopt_long` rules: bundled letters, values attached or apart,
//! abbreviated names, options after operands (unless `POSIXLY_CORRECT` is set), `--`. psql's table is that of
//! `src/bin/psql/startup.c`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use crate::failure::Failure;

/// A program that connects through libpq, and its options.
pub(crate) struct Program {
    name: &'static str,
    options: &'static [ProgramOption],
}

/// What an option's value is to the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Other,
    Host,
    Port,
    User,
    Database,
    AsksForPassword,
    NeverAsks,
    /// Shows help or the version and exits.
    ShowsAndExits,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Takes {
    Nothing,
    Value,
    /// A value only as `--name=value`.
    MaybeValue,
}

struct ProgramOption {
    long: &'static str,
    short: Option<u8>,
    takes: Takes,
    role: Role,
}

const fn flag(long: &'static str, short: u8) -> ProgramOption {
    ProgramOption { long, short: Some(short), takes: Takes::Nothing, role: Role::Other }
}

const fn valued(long: &'static str, short: u8) -> ProgramOption {
    ProgramOption { long, short: Some(short), takes: Takes::Value, role: Role::Other }
}

impl ProgramOption {
    const fn role(mut self, role: Role) -> Self {
        self.role = role;
        self
    }
}

/// psql through version 18.
pub(crate) const PSQL: Program = Program {
    name: "psql",
    options: &[
        flag("echo-all", b'a'),
        flag("no-align", b'A'),
        valued("command", b'c'),
        valued("dbname", b'd').role(Role::Database),
        flag("echo-queries", b'e'),
        flag("echo-errors", b'b'),
        flag("echo-hidden", b'E'),
        valued("file", b'f'),
        valued("field-separator", b'F'),
        flag("field-separator-zero", b'z'),
        valued("host", b'h').role(Role::Host),
        flag("html", b'H'),
        flag("list", b'l'),
        valued("log-file", b'L'),
        flag("no-readline", b'n'),
        flag("single-transaction", b'1'),
        valued("output", b'o'),
        valued("port", b'p').role(Role::Port),
        valued("pset", b'P'),
        flag("quiet", b'q'),
        valued("record-separator", b'R'),
        flag("record-separator-zero", b'0'),
        flag("single-step", b's'),
        flag("single-line", b'S'),
        flag("tuples-only", b't'),
        valued("table-attr", b'T'),
        valued("username", b'U').role(Role::User),
        valued("set", b'v'),
        valued("variable", b'v'),
        flag("version", b'V').role(Role::ShowsAndExits),
        flag("no-password", b'w').role(Role::NeverAsks),
        flag("password", b'W').role(Role::AsksForPassword),
        flag("expanded", b'x'),
        flag("no-psqlrc", b'X'),
        ProgramOption { long: "help", short: None, takes: Takes::MaybeValue, role: Role::ShowsAndExits },
        ProgramOption { long: "csv", short: None, takes: Takes::Nothing, role: Role::Other },
    ],
};

/// Every program whose arguments can be read.
pub(crate) const PROGRAMS: &[&Program] = &[&PSQL];

/// What the arguments say about the connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The database's name, or a connection string.
    pub(crate) dbname: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<String>,
    pub(crate) user: Option<String>,
    /// The program would ask for a password before it connects.
    pub(crate) asks_for_password: bool,
}

impl Program {
    /// The program's name.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Reads the arguments, the program's name not among them. `None`: the program shows something and exits.
    pub(crate) fn read(&self, arguments: &[OsString], posixly_correct: bool) -> Result<Option<Arguments>, Failure> {
        let mut read = Arguments::default();
        let mut operands = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let bytes = argument.as_bytes();
            if bytes == b"--" {
                operands.extend(rest.by_ref());
            } else if let Some(long) = bytes.strip_prefix(b"--") {
                let equals = long.iter().position(|byte| *byte == b'=');
                let (name, attached) = equals.map_or((long, None), |at| (&long[..at], Some(&long[at + 1..])));
                let option = self.long(name)?;
                let value = match (option.takes, attached) {
                    (Takes::Nothing, Some(_)) => {
                        return Err(self.wrong(format!("option --{} takes no value", option.long)));
                    }
                    (Takes::Value, None) => Some(self.next_value(&mut rest, &format!("--{}", option.long))?),
                    (_, attached) => attached.map(<[u8]>::to_vec),
                };
                if self.apply(option, value, &mut read)? {
                    return Ok(None);
                }
            } else if bytes == b"-?" {
                return Ok(None);
            } else if bytes.len() > 1 && bytes[0] == b'-' {
                for (index, letter) in bytes.iter().enumerate().skip(1) {
                    let option = self.options.iter().find(|option| option.short == Some(*letter)).ok_or_else(|| {
                        self.wrong(format!("unknown option -{}", char::from(*letter).escape_default()))
                    })?;
                    let mut value = None;
                    if option.takes == Takes::Value {
                        value = Some(match &bytes[index + 1..] {
                            [] => self.next_value(&mut rest, &format!("-{}", char::from(*letter)))?,
                            attached => attached.to_vec(),
                        });
                    }
                    let ends = value.is_some();
                    if self.apply(option, value, &mut read)? {
                        return Ok(None);
                    }
                    if ends {
                        break;
                    }
                }
            } else {
                operands.push(argument);
                if posixly_correct {
                    operands.extend(rest.by_ref());
                }
            }
        }
        // The first operand is the database, the next the user, as far as options have not said so; psql ignores more.
        for operand in operands {
            let (place, name) = match (&read.dbname, &read.user) {
                (None, _) => (&mut read.dbname, "the database"),
                (_, None) => (&mut read.user, "the user"),
                _ => break,
            };
            *place = Some(self.text(operand.clone().into_vec(), name)?);
        }
        Ok(Some(read))
    }

    /// Finds an option by its name or an unambiguous beginning of it.
    fn long(&self, name: &[u8]) -> Result<&ProgramOption, Failure> {
        let shown = String::from_utf8_lossy(name);
        if let Some(exact) = self.options.iter().find(|option| option.long.as_bytes() == name) {
            return Ok(exact);
        }
        let mut begun = self.options.iter().filter(|option| option.long.as_bytes().starts_with(name));
        let first = begun.next().ok_or_else(|| self.wrong(format!("unknown option --{shown}")))?;
        if begun.any(|other| other.short.is_none() || (other.short, other.takes) != (first.short, first.takes)) {
            return Err(self.wrong(format!("option --{shown} is ambiguous")));
        }
        Ok(first)
    }

    /// Takes note of an option. Whether the program exits here.
    fn apply(&self, option: &ProgramOption, value: Option<Vec<u8>>, read: &mut Arguments) -> Result<bool, Failure> {
        let place = match option.role {
            Role::Host => &mut read.host,
            Role::Port => &mut read.port,
            Role::User => &mut read.user,
            Role::Database => &mut read.dbname,
            Role::AsksForPassword | Role::NeverAsks => {
                read.asks_for_password = option.role == Role::AsksForPassword;
                return Ok(false);
            }
            Role::ShowsAndExits => return Ok(true),
            Role::Other => return Ok(false),
        };
        *place = Some(self.text(value.unwrap_or_default(), &format!("--{}", option.long))?);
        Ok(false)
    }

    fn next_value<'a>(&self, rest: &mut impl Iterator<Item = &'a OsString>, option: &str) -> Result<Vec<u8>, Failure> {
        let value = rest.next().ok_or_else(|| self.wrong(format!("option {option} needs a value")))?;
        Ok(value.as_bytes().to_vec())
    }

    fn text(&self, value: Vec<u8>, what: &str) -> Result<String, Failure> {
        String::from_utf8(value).map_err(|_| self.wrong(format!("{what} is not valid UTF-8")))
    }

    fn wrong(&self, what: String) -> Failure {
        Failure::usage(format!("the arguments for {}: {what}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Option<Arguments>, Failure> {
        PSQL.read(&arguments.iter().map(OsString::from).collect::<Vec<_>>(), false)
    }

    /// dbname, host, port, user
    fn four(arguments: &[&str]) -> [String; 4] {
        let read = read(arguments).unwrap().expect("a connection");
        [read.dbname, read.host, read.port, read.user].map(|value| value.unwrap_or_else(|| "-".into()))
    }

    #[test]
    fn every_way_to_write_an_option_is_read() {
        for arguments in [
            &["-h", "H", "-p", "1", "-U", "U", "-d", "D"][..],
            &["-hH", "-p1", "-UU", "-dD"],
            &["--host", "H", "--port", "1", "--username", "U", "--dbname", "D"],
            &["--host=H", "--port=1", "--username=U", "--dbname=D"],
            &["--ho=H", "--po=1", "--u", "U", "--d=D"],
            &["-qAtXhH", "-1p", "1", "D", "U"],
            &["D", "-hH", "U", "-p1"],
            &["-hH", "-p1", "--", "D", "U"],
            &["-hH", "-p1", "-dD", "U"],
            &["-UU", "D", "-hH", "-p1", "extra"],
            &["-hX", "-hH", "-p1", "D", "U"],
            &["-c", "-hX", "-vh=X", "-hH", "-p1", "D", "U"],
            &["-hH", "-p1", "-f-", "D", "U"],
        ] {
            assert_eq!(four(arguments), ["D", "H", "1", "U"], "{arguments:?}");
        }
    }

    #[test]
    fn a_value_may_look_like_an_option_or_be_empty() {
        assert_eq!(four(&["-h", "--", "-U", "-x"]), ["-", "--", "-", "-x"]);
        assert_eq!(four(&["--host=", "-U", "", "D", "E"]), ["D", "", "-", ""]);
        assert_eq!(four(&["-h=H"]), ["-", "=H", "-", "-"]);
        assert_eq!(four(&["-", "U"]), ["-", "-", "-", "U"]);
        assert_eq!(four(&["--", "-h", "H"]), ["-h", "-", "-", "H"]);
    }

    #[test]
    fn a_name_begun_so_that_all_candidates_mean_the_same_is_taken() {
        assert_eq!(four(&["--se", "a=b", "D"])[0], "D");
        assert_eq!(four(&["--va", "a=b", "D"])[0], "D");
    }

    #[test]
    fn what_psql_would_refuse_is_refused() {
        for arguments in [
            &["--hostess=H"][..],
            &["--h=H"],
            &["--no-p"],
            &["--echo"],
            &["--quiet=1"],
            &["--host"],
            &["-U"],
            &["-y"],
            &["-a?"],
            &["--cluster=15/main"],
        ] {
            let Failure::Usage(message) = read(arguments).unwrap_err() else { panic!("{arguments:?}") };
            assert!(message.contains("psql"), "{message}");
        }
    }

    #[test]
    fn help_and_version_do_not_connect() {
        for arguments in [
            &["--help"][..],
            &["-?"],
            &["-V"],
            &["--version"],
            &["--vers"],
            &["--help=commands"],
            &["-hH", "D", "--version"],
            &["-qV", "--host"],
        ] {
            assert_eq!(read(arguments), Ok(None), "{arguments:?}");
        }
        assert!(read(&["-c", "--help"]).unwrap().is_some());
        assert!(read(&["--", "--help"]).unwrap().is_some());
    }

    #[test]
    fn the_last_of_asking_and_never_asking_for_a_password_counts() {
        assert!(read(&["-W"]).unwrap().unwrap().asks_for_password);
        assert!(!read(&["-W", "-w"]).unwrap().unwrap().asks_for_password);
        assert!(read(&["--no-password", "--password"]).unwrap().unwrap().asks_for_password);
    }

    #[test]
    fn under_posixly_correct_options_end_at_the_first_operand() {
        let arguments = ["D", "-h", "H"].map(OsString::from);
        let read = PSQL.read(&arguments, true).unwrap().unwrap();
        assert_eq!((read.dbname.as_deref(), read.user.as_deref(), read.host), (Some("D"), Some("-h"), None));
    }

    #[test]
    fn only_arguments_that_name_the_connection_must_be_utf_8() {
        let latin1 = OsString::from_vec(b"SELECT '\xe4'".to_vec());
        assert!(PSQL.read(&["-c".into(), latin1.clone(), "D".into()], false).unwrap().is_some());
        assert!(PSQL.read(&["-U".into(), latin1.clone()], false).is_err());
        assert!(PSQL.read(&[latin1], false).is_err());
    }
}
