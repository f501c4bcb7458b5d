//! The command lines of PostgreSQL's own programs: which options and operands name the connection, as tables. The options
//! are those of PostgreSQL 13 to 18, and a test compares them with what the installed programs document.
//!
//! Also the command lines of programs that run another program (`nohup`, `timeout`), as far as needed to find that one.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::failure::Failure;
use crate::getopt_long::{GetoptLong, Item, OptionSpec, Place, Value};

/// A program that connects through libpq, and its options.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    operands: Operands,
    /// See [`OptionSpec::parse_table`].
    options: &'static str,
}

/// What the operands of a program name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operands {
    /// Nothing about the connection.
    Other,
    Database,
    DatabaseAndUser,
    /// Nothing about the connection, and the program connects only if an option names a database.
    OtherAndNoConnectionWithoutDatabase,
}

/// What an option means for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

impl Role {
    fn of(option: &OptionSpec) -> Self {
        match option.long {
            "host" => Self::Host,
            "port" => Self::Port,
            "username" => Self::User,
            "dbname" | "maintenance-db" | "source-server" | "publisher-server" => Self::Database,
            "password" => Self::AsksForPassword,
            "no-password" => Self::NeverAsks,
            "help" | "version" => Self::ShowsAndExits,
            _ => Self::Other,
        }
    }
}

/// Every program whose arguments can be read. Up to PostgreSQL 15 the letter `-d` of pgbench is `--debug`, which takes no
/// value.
pub(crate) const PROGRAMS: &[Program] = &[
    Program {
        name: "psql",
        operands: Operands::DatabaseAndUser,
        options: "a,echo-all A,no-align c,command= d,dbname= e,echo-queries b,echo-errors E,echo-hidden f,file= \
                  F,field-separator= z,field-separator-zero h,host= H,html l,list L,log-file= n,no-readline \
                  1,single-transaction o,output= p,port= P,pset= q,quiet R,record-separator= 0,record-separator-zero \
                  s,single-step S,single-line t,tuples-only T,table-attr= U,username= v,set= v,variable= V,version \
                  w,no-password W,password x,expanded X,no-psqlrc ,help? ,csv",
    },
    Program {
        name: "pg_dump",
        operands: Operands::Database,
        options: "b,large-objects b,blobs B,no-large-objects B,no-blobs C,create e,extension= F,format= j,jobs= \
                  n,schema= N,exclude-schema= R,no-reconnect t,table= T,exclude-table= Z,compress= \
                  ,enable-row-security ,exclude-extension= ,exclude-table-and-children= ,exclude-table-data= \
                  ,exclude-table-data-and-children= ,include-foreign-data= ,section= ,serializable-deferrable \
                  ,snapshot= ,strict-names ,no-synchronized-snapshots ,sync-method= ,table-and-children= a,data-only \
                  c,clean E,encoding= O,no-owner s,schema-only S,superuser= x,no-privileges x,no-acl v,verbose f,file= \
                  ,lock-wait-timeout= ,binary-upgrade ,column-inserts ,attribute-inserts ,disable-dollar-quoting \
                  ,disable-triggers ,extra-float-digits= ,if-exists ,inserts ,load-via-partition-root ,no-comments \
                  ,no-publications ,no-security-labels ,no-subscriptions ,no-sync ,no-table-access-method \
                  ,no-tablespaces ,no-toast-compression ,no-unlogged-table-data ,on-conflict-do-nothing \
                  ,quote-all-identifiers ,restrict-key= ,rows-per-insert= ,use-set-session-authorization ,role= \
                  ,filter= ,no-data ,no-policies ,no-schema ,no-statistics ,statistics ,statistics-only ,sequence-data \
                  d,dbname= h,host= p,port= U,username= w,no-password W,password V,version ,help",
    },
    Program {
        name: "pg_dumpall",
        operands: Operands::Other,
        options: "F,format= g,globals-only l,database= r,roles-only t,tablespaces-only ,exclude-database= \
                  ,no-role-passwords a,data-only c,clean E,encoding= O,no-owner s,schema-only S,superuser= \
                  x,no-privileges x,no-acl v,verbose f,file= ,lock-wait-timeout= ,binary-upgrade ,column-inserts \
                  ,attribute-inserts ,disable-dollar-quoting ,disable-triggers ,extra-float-digits= ,if-exists \
                  ,inserts ,load-via-partition-root ,no-comments ,no-publications ,no-security-labels \
                  ,no-subscriptions ,no-sync ,no-table-access-method ,no-tablespaces ,no-toast-compression \
                  ,no-unlogged-table-data ,on-conflict-do-nothing ,quote-all-identifiers ,restrict-key= \
                  ,rows-per-insert= ,use-set-session-authorization ,role= ,filter= ,no-data ,no-policies ,no-schema \
                  ,no-statistics ,statistics ,statistics-only ,sequence-data d,dbname= h,host= p,port= U,username= \
                  w,no-password W,password V,version ,help",
    },
    Program {
        name: "pg_restore",
        operands: Operands::OtherAndNoConnectionWithoutDatabase,
        options: "a,data-only c,clean C,create d,dbname= e,exit-on-error f,file= F,format= g,globals-only I,index= \
                  j,jobs= l,list L,use-list= n,schema= N,exclude-schema= O,no-owner P,function= R,no-reconnect \
                  s,schema-only S,superuser= t,table= T,trigger= v,verbose x,no-privileges x,no-acl \
                  1,single-transaction ,disable-triggers ,enable-row-security ,exclude-database= ,filter= ,if-exists \
                  ,no-comments ,no-data ,no-data-for-failed-tables ,no-policies ,no-publications ,no-schema \
                  ,no-security-labels ,no-statistics ,no-subscriptions ,no-table-access-method ,no-tablespaces \
                  ,restrict-key= ,role= ,section= ,statistics ,statistics-only ,strict-names ,transaction-size= \
                  ,use-set-session-authorization h,host= p,port= U,username= w,no-password W,password V,version ,help",
    },
    Program {
        name: "pgbench",
        operands: Operands::Database,
        options: "i,initialize I,init-steps= F,fillfactor= n,no-vacuum q,quiet s,scale= ,foreign-keys \
                  ,index-tablespace= ,partition-method= ,partitions= ,tablespace= ,unlogged-tables b,builtin= f,file= \
                  N,skip-some-updates S,select-only c,client= C,connect D,define= j,jobs= l,log L,latency-limit= \
                  M,protocol= P,progress= r,report-per-command r,report-latencies R,rate= t,transactions= T,time= \
                  v,vacuum-all ,aggregate-interval= ,exit-on-abort ,failures-detailed ,log-prefix= ,max-tries= \
                  ,progress-timestamp ,random-seed= ,sampling-rate= ,show-script= ,verbose-errors ,debug d,dbname~ \
                  h,host= p,port= U,username= V,version ,help",
    },
    Program {
        name: "pg_basebackup",
        operands: Operands::Other,
        options: "D,pgdata= F,format= i,incremental= r,max-rate= R,write-recovery-conf t,target= T,tablespace-mapping= \
                  ,waldir= X,wal-method= z,gzip Z,compress= c,checkpoint= C,create-slot l,label= n,no-clean N,no-sync \
                  P,progress s,status-interval= S,slot= v,verbose ,manifest-checksums= ,manifest-force-encode \
                  ,no-estimate-size ,no-manifest ,no-slot ,no-verify-checksums ,sync-method= d,dbname= h,host= p,port= \
                  U,username= w,no-password W,password V,version ,help",
    },
    Program {
        name: "pg_receivewal",
        operands: Operands::Other,
        options: "D,directory= E,endpos= ,if-not-exists n,no-loop ,no-sync s,status-interval= S,slot= ,synchronous \
                  v,verbose Z,compress= ,create-slot ,drop-slot d,dbname= h,host= p,port= U,username= w,no-password \
                  W,password V,version ,help",
    },
    Program {
        name: "pg_recvlogical",
        operands: Operands::Other,
        options: "E,endpos= f,file= F,fsync-interval= ,if-not-exists I,startpos= n,no-loop o,option= P,plugin= \
                  s,status-interval= S,slot= t,two-phase t,enable-two-phase ,enable-failover v,verbose ,create-slot \
                  ,drop-slot ,start d,dbname= h,host= p,port= U,username= w,no-password W,password V,version ,help",
    },
    Program {
        name: "createdb",
        operands: Operands::Other,
        options: "D,tablespace= e,echo E,encoding= l,locale= ,lc-collate= ,lc-ctype= ,builtin-locale= ,icu-locale= \
                  ,icu-rules= ,locale-provider= O,owner= S,strategy= T,template= ,maintenance-db= h,host= p,port= \
                  U,username= w,no-password W,password V,version ,help",
    },
    Program {
        name: "dropdb",
        operands: Operands::Other,
        options: "e,echo f,force i,interactive ,if-exists ,maintenance-db= h,host= p,port= U,username= w,no-password \
                  W,password V,version ,help",
    },
    Program {
        name: "createuser",
        operands: Operands::Other,
        options: "a,with-admin= c,connection-limit= d,createdb D,no-createdb e,echo g,role= g,member-of= i,inherit \
                  I,no-inherit l,login L,no-login m,with-member= P,pwprompt r,createrole R,no-createrole s,superuser \
                  S,no-superuser v,valid-until= ,bypassrls ,no-bypassrls ,interactive ,replication ,no-replication \
                  h,host= p,port= U,username= w,no-password W,password V,version ,help",
    },
    Program {
        name: "dropuser",
        operands: Operands::Other,
        options: "e,echo i,interactive ,if-exists h,host= p,port= U,username= w,no-password W,password V,version \
                 ,help",
    },
    Program {
        name: "vacuumdb",
        operands: Operands::Database,
        options: "a,all ,buffer-usage-limit= d,dbname= ,disable-page-skipping e,echo f,full F,freeze \
                  ,force-index-cleanup j,jobs= ,min-mxid-age= ,min-xid-age= ,missing-stats-only ,no-index-cleanup \
                  ,no-process-main ,no-process-toast ,no-truncate n,schema= N,exclude-schema= P,parallel= q,quiet \
                  ,skip-locked t,table= v,verbose z,analyze Z,analyze-only ,analyze-in-stages ,maintenance-db= h,host= \
                  p,port= U,username= w,no-password W,password V,version ,help",
    },
    Program {
        name: "reindexdb",
        operands: Operands::Database,
        options: "a,all ,concurrently d,dbname= e,echo i,index= j,jobs= q,quiet s,system S,schema= t,table= \
                  ,tablespace= v,verbose ,maintenance-db= h,host= p,port= U,username= w,no-password W,password \
                  V,version ,help",
    },
    Program {
        name: "clusterdb",
        operands: Operands::Database,
        options: "a,all d,dbname= e,echo q,quiet t,table= v,verbose ,maintenance-db= h,host= p,port= U,username= \
                  w,no-password W,password V,version ,help",
    },
    Program {
        name: "pg_isready",
        operands: Operands::Other,
        options: "d,dbname= q,quiet t,timeout= h,host= p,port= U,username= V,version ,help",
    },
    Program {
        name: "pg_amcheck",
        operands: Operands::Database,
        options: "a,all d,database= D,exclude-database= i,index= I,exclude-index= r,relation= R,exclude-relation= \
                  s,schema= S,exclude-schema= t,table= T,exclude-table= ,no-dependent-indexes ,no-dependent-toast \
                  ,no-strict-names ,exclude-toast-pointers ,on-error-stop ,skip= ,startblock= ,endblock= \
                  ,heapallindexed ,checkunique ,parent-check ,rootdescend e,echo j,jobs= P,progress v,verbose \
                  ,install-missing? ,maintenance-db= h,host= p,port= U,username= w,no-password W,password V,version \
                 ,help",
    },
    Program {
        name: "vacuumlo",
        operands: Operands::Database,
        options: "l,limit= n,dry-run v,verbose h,host= p,port= U,username= w,no-password W,password V,version ,help",
    },
    Program {
        name: "oid2name",
        operands: Operands::Other,
        options: "f,filenode= i,indexes o,oid= q,quiet s,tablespaces S,system-objects t,table= x,extended d,dbname= \
                  H,host= h,host= p,port= U,username= V,version ,help",
    },
    Program {
        name: "pg_rewind",
        operands: Operands::OtherAndNoConnectionWithoutDatabase,
        options: "c,restore-target-wal D,target-pgdata= ,source-pgdata= ,source-server= n,dry-run N,no-sync P,progress \
                  R,write-recovery-conf ,config-file= ,debug ,no-ensure-shutdown ,sync-method= V,version ,help",
    },
    Program {
        name: "pg_createsubscriber",
        operands: Operands::OtherAndNoConnectionWithoutDatabase,
        options: "a,all d,database= D,pgdata= n,dry-run p,subscriber-port= P,publisher-server= s,socketdir= \
                  t,recovery-timeout= T,enable-two-phase U,subscriber-username= v,verbose ,config-file= ,publication= \
                  ,replication-slot= ,subscription= ,clean= V,version ,help",
    },
];

/// What the arguments of a program say about its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The name of the database, or a connection string.
    pub(crate) dbname: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<String>,
    pub(crate) user: Option<String>,
    /// The program would ask for a password before it connects.
    pub(crate) asks_for_password: bool,
    /// Where `dbname` begins.
    pub(crate) dbname_at: Option<Place>,
}

impl Arguments {
    /// Replaces the connection string that was read by another one.
    pub(crate) fn replace_connection_string(&self, arguments: &mut [OsString], text: &str) {
        let Some(place) = self.dbname_at else { return };
        let Some(argument) = arguments.get_mut(place.argument) else { return };
        let mut bytes = argument.as_bytes()[..place.byte].to_vec();
        bytes.extend_from_slice(text.as_bytes());
        *argument = OsString::from_vec(bytes);
    }
}

/// What a program does with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Connects(Arguments),
    /// Help, the version, or no work with a database.
    DoesNotConnect,
}

impl Program {
    /// The program that a command names, with or without its directory.
    pub(crate) fn find(command: &OsStr) -> Option<&'static Self> {
        let name = Path::new(command).file_name()?;
        PROGRAMS.iter().find(|program| OsStr::new(program.name) == name)
    }

    fn options(&self) -> Vec<OptionSpec> {
        OptionSpec::parse_table(self.options)
    }

    /// Reads the arguments, which do not include the program's name.
    pub(crate) fn read(&self, arguments: &[OsString], posixly_correct: bool) -> Result<Action, Failure> {
        let options = self.options();
        let mut read = Arguments::default();
        let mut operands = Vec::new();
        for item in GetoptLong::new(&options, arguments, posixly_correct) {
            match item.map_err(|what| self.error(&what))? {
                Item::QuestionMark => return Ok(Action::DoesNotConnect),
                Item::Operand(argument) => operands.push(argument),
                Item::Option { spec, .. } if Role::of(&spec) == Role::ShowsAndExits => {
                    return Ok(Action::DoesNotConnect);
                }
                Item::Option { spec, value } => self.apply(&spec, value, &mut read)?,
            }
        }
        self.apply_operands(&operands, arguments, &mut read)?;
        let connects = self.operands != Operands::OtherAndNoConnectionWithoutDatabase || read.dbname.is_some();
        Ok(if connects { Action::Connects(read) } else { Action::DoesNotConnect })
    }

    fn apply(&self, option: &OptionSpec, value: Option<Value<'_>>, read: &mut Arguments) -> Result<(), Failure> {
        let role = Role::of(option);
        if matches!(role, Role::AsksForPassword | Role::NeverAsks) {
            read.asks_for_password = role == Role::AsksForPassword;
        }
        let Some(value) = value else { return Ok(()) };
        let place = match role {
            Role::Host => &mut read.host,
            Role::Port => &mut read.port,
            Role::User => &mut read.user,
            Role::Database => {
                read.dbname_at = Some(value.place);
                &mut read.dbname
            }
            _ => return Ok(()),
        };
        *place = Some(self.text(value.bytes, &format!("--{}", option.long))?);
        Ok(())
    }

    /// The first operand is the database and the next one the user, unless options name them; others are ignored.
    fn apply_operands(&self, at: &[usize], arguments: &[OsString], read: &mut Arguments) -> Result<(), Failure> {
        for &argument in at {
            let (place, name) = match (self.operands, &read.dbname, &read.user) {
                (Operands::Database | Operands::DatabaseAndUser, None, _) => {
                    read.dbname_at = Some(Place { argument, byte: 0 });
                    (&mut read.dbname, "the database")
                }
                (Operands::DatabaseAndUser, _, None) => (&mut read.user, "the user"),
                _ => break,
            };
            *place = Some(self.text(arguments[argument].as_bytes(), name)?);
        }
        Ok(())
    }

    fn text(&self, value: &[u8], what: &str) -> Result<String, Failure> {
        String::from_utf8(value.to_vec()).map_err(|_| self.error(&format!("{what} is not valid UTF-8")))
    }

    fn error(&self, what: &str) -> Failure {
        Failure::usage(format!("the arguments of {}: {what}", self.name))
    }
}

/// A program that runs the command in its arguments as its own child or in its own place, with the same user,
/// environment and descriptors.
struct Wrapper {
    name: &'static str,
    options: &'static str,
    /// How many operands precede the command.
    operands: usize,
}

const WRAPPERS: [Wrapper; 6] = [
    Wrapper { name: "ionice", options: "c,class= n,classdata= t,ignore", operands: 0 },
    Wrapper { name: "nice", options: "n,adjustment=", operands: 0 },
    Wrapper { name: "nohup", options: "", operands: 0 },
    Wrapper { name: "stdbuf", options: "i,input= o,output= e,error=", operands: 0 },
    Wrapper { name: "time", options: "a,append f,format= o,output= p,portability q,quiet v,verbose", operands: 0 },
    Wrapper { name: "timeout", options: "k,kill-after= s,signal= v,verbose ,foreground ,preserve-status", operands: 1 },
];

/// The index of the word that names the program which connects: the first one, or the one after programs such as `nohup`
/// and `timeout 5`.
pub(crate) fn command_index(words: &[OsString]) -> usize {
    let mut at = 0;
    while let Some(next) = words.get(at).and_then(|name| command_of_wrapper(name, &words[at + 1..])) {
        at += 1 + next;
    }
    at
}

fn command_of_wrapper(name: &OsStr, arguments: &[OsString]) -> Option<usize> {
    let name = Path::new(name).file_name()?;
    let wrapper = WRAPPERS.iter().find(|wrapper| OsStr::new(wrapper.name) == name)?;
    let options = OptionSpec::parse_table(wrapper.options);
    let mut operands = 0;
    for item in GetoptLong::new(&options, arguments, true) {
        match item {
            Ok(Item::Option { .. }) => {}
            Ok(Item::Operand(at)) if operands == wrapper.operands => return Some(at),
            Ok(Item::Operand(_)) => operands += 1,
            Ok(Item::QuestionMark) | Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt_long::Takes;

    fn program(name: &str) -> &'static Program {
        Program::find(OsStr::new(name)).expect(name)
    }

    fn read(arguments: &[&str]) -> Result<Option<Arguments>, Failure> {
        read_by("psql", arguments)
    }

    /// `None`: the program does not connect.
    fn read_by(name: &str, arguments: &[&str]) -> Result<Option<Arguments>, Failure> {
        read_words(name, &arguments.iter().map(OsString::from).collect::<Vec<_>>(), false)
    }

    fn read_words(name: &str, words: &[OsString], posixly_correct: bool) -> Result<Option<Arguments>, Failure> {
        Ok(match program(name).read(words, posixly_correct)? {
            Action::Connects(arguments) => Some(arguments),
            Action::DoesNotConnect => None,
        })
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
    fn an_abbreviation_is_accepted_if_all_its_candidates_mean_the_same() {
        assert_eq!(four(&["--se", "a=b", "D"])[0], "D");
        assert_eq!(four(&["--va", "a=b", "D"])[0], "D");
    }

    #[test]
    fn arguments_that_psql_would_refuse_are_refused() {
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
    fn of_password_and_no_password_the_last_one_counts() {
        assert!(read(&["-W"]).unwrap().unwrap().asks_for_password);
        assert!(!read(&["-W", "-w"]).unwrap().unwrap().asks_for_password);
        assert!(read(&["--no-password", "--password"]).unwrap().unwrap().asks_for_password);
    }

    #[test]
    fn under_posixly_correct_options_end_at_the_first_operand() {
        let arguments = ["D", "-h", "H"].map(OsString::from);
        let read = read_words("psql", &arguments, true).unwrap().unwrap();
        assert_eq!((read.dbname.as_deref(), read.user.as_deref(), read.host), (Some("D"), Some("-h"), None));
    }

    #[test]
    fn only_arguments_that_name_the_connection_must_be_utf_8() {
        let latin1 = OsString::from_vec(b"SELECT '\xe4'".to_vec());
        assert!(read_words("psql", &["-c".into(), latin1.clone(), "D".into()], false).unwrap().is_some());
        assert!(program("psql").read(&["-U".into(), latin1.clone()], false).is_err());
        assert!(program("psql").read(&[latin1], false).is_err());
    }

    #[test]
    fn each_program_names_its_connection_in_its_own_way() {
        for (name, arguments, expected) in [
            ("pg_dump", &["-Fd", "-j2", "-f", "x", "-hH", "-p1", "-UU", "D"][..], ["D", "H", "1", "U"]),
            ("pg_dump", &["--blobs", "--table=t", "-d", "D", "-hH"], ["D", "H", "-", "-"]),
            ("pg_dumpall", &["-l", "x", "-d", "host=H", "-g"], ["host=H", "-", "-", "-"]),
            ("pg_restore", &["-j", "2", "-d", "D", "-hH", "file"], ["D", "H", "-", "-"]),
            ("pgbench", &["-C", "-d", "-h", "H", "-c4", "D"], ["D", "H", "-", "-"]),
            ("pgbench", &["-d", "D", "-h", "H"], ["D", "H", "-", "-"]),
            ("pg_basebackup", &["-D", "x", "-d", "host=H", "-Xs", "-R"], ["host=H", "-", "-", "-"]),
            ("createdb", &["new", "a comment", "-hH", "-UU"], ["-", "H", "-", "U"]),
            ("createuser", &["-d", "-P", "new", "-hH"], ["-", "H", "-", "-"]),
            ("vacuumdb", &["-a", "--maintenance-db=host=H"], ["host=H", "-", "-", "-"]),
            ("oid2name", &["-HH", "-dD"], ["D", "H", "-", "-"]),
            ("pg_rewind", &["-D", "x", "--source-server=host=H"], ["host=H", "-", "-", "-"]),
        ] {
            let read = read_by(name, arguments).unwrap().expect(name);
            let four = [read.dbname, read.host, read.port, read.user];
            assert_eq!(four.map(|value| value.unwrap_or_else(|| "-".into())), expected, "{name} {arguments:?}");
        }
        assert_eq!(read_by("pg_restore", &["-l", "file"]), Ok(None));
        assert!(Program::find(OsStr::new("/usr/lib/postgresql/15/bin/pg_dump")).is_some());
        assert!(Program::find(OsStr::new("python3")).is_none());
    }

    #[test]
    fn the_program_behind_nohup_and_the_like_is_found() {
        for (words, expected) in [
            (&["psql", "-h", "H"][..], 0),
            (&["nohup", "psql", "-h", "H"], 1),
            (&["/usr/bin/nohup", "--", "psql"], 2),
            (&["nice", "-n", "5", "timeout", "-k1", "10m", "pg_dump", "-h", "H"], 6),
            (&["stdbuf", "-oL", "time", "-p", "pgbench"], 4),
            (&["ionice", "-c", "3", "vacuumdb"], 3),
            // Not understood, or not the same environment: the first word counts.
            (&["nice", "-5", "psql"], 0),
            (&["env", "PGHOST=H", "psql"], 0),
            (&["sudo", "-u", "app", "psql"], 0),
            (&["nohup", "--help"], 0),
            (&["timeout", "5"], 0),
        ] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(command_index(&words), expected, "{words:?}");
        }
    }

    #[test]
    fn a_connection_string_is_replaced_in_place() {
        for (arguments, expected) in [
            (&["-X", "host=H", "-c", "host=H"][..], &["-X", "new", "-c", "host=H"][..]),
            (&["-dhost=H", "x"], &["-dnew", "x"]),
            (&["-qXd", "host=H"], &["-qXd", "new"]),
            (&["-qXdhost=H"], &["-qXdnew"]),
            (&["--dbname=host=H", "u"], &["--dbname=new", "u"]),
            (&["--db", "host=H"], &["--db", "new"]),
            (&["-d", "x", "-d", "host=H"], &["-d", "x", "-d", "new"]),
            (&["--", "host=H"], &["--", "new"]),
            (&["-h", "H"], &["-h", "H"]),
        ] {
            let mut owned: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            read_words("psql", &owned, false).unwrap().unwrap().replace_connection_string(&mut owned, "new");
            assert_eq!(owned, expected, "{arguments:?}");
        }
    }

    /// The options in a program's help: letter, name, whether a value follows.
    fn documented(help: &str) -> Vec<(Option<u8>, String, bool)> {
        let mut found = Vec::new();
        for line in help.lines().map(str::trim_start).filter(|line| line.starts_with('-')) {
            let mut short = None;
            let mut rest = line;
            if let Some(after) = line.strip_prefix('-').filter(|after| !after.starts_with('-')) {
                short = after.bytes().next();
                rest = after[1..].trim_start_matches([',', ' ']);
            }
            let Some(long) = rest.strip_prefix("--") else { continue };
            let name: String = long.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
            let valued = long[name.len()..].starts_with('=');
            if name != "help" {
                found.push((short, name, valued));
            }
        }
        found
    }

    #[test]
    fn the_tables_have_the_options_that_the_installed_programs_document() {
        let mut places: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
            .collect();
        places.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut compared = 0;
        for program in PROGRAMS {
            for path in places.iter().map(|place| place.join(program.name)).filter(|path| path.exists()) {
                let output = std::process::Command::new(&path).arg("--help").output().unwrap();
                let documented = documented(&String::from_utf8_lossy(&output.stdout));
                assert!(documented.len() > 3 || !output.status.success(), "{}", path.display());
                let options = program.options();
                for (short, name, valued) in documented {
                    let option = options.iter().find(|option| option.long == name);
                    let option = option.unwrap_or_else(|| panic!("{} --{name}", path.display()));
                    assert_eq!(
                        matches!(option.takes, Takes::Value | Takes::ValueUnlessOption),
                        valued,
                        "{} --{name}",
                        path.display()
                    );
                    let by_letter = options.iter().find(|option| option.short == short).map(|option| option.takes);
                    // pgbench's -d: see PROGRAMS.
                    if let Some(letter) = short.filter(|_| !(program.name == "pgbench" && name == "debug")) {
                        let letter = char::from(letter);
                        assert_eq!(by_letter, Some(option.takes), "{} -{letter}, --{name}", path.display());
                    }
                    compared += 1;
                }
            }
        }
        assert!(compared > 100, "{compared} options of installed programs were compared");
    }
}
