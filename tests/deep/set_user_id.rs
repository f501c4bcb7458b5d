//! A set-user-id program: whoever calls it chose its environment, and gets nothing done with the rights of its owner.
//!
//! The test runs as root in network and mount namespaces of its own, where only the loopback interface exists (the
//! program asks the real metadata service) and where the password database has the owner and the caller.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::examples::installed;
use crate::host_process::{Login, Machine, files, is_root, leave_out, open_to_all, tls};
use crate::support::{ENDPOINT, expect_success, root, run, temporary_directory, texts};

/// Set in the process that runs in the namespaces: the program.
const PROGRAM: &str = "PGIAM_TEST_SET_USER_ID_PROGRAM";
/// Users that no system has.
const OWNER: u32 = 64_001;
const CALLER: u32 = 64_002;

/// The program, with the library in it: the dynamic linker would search a set-user-id program's library in the directories
/// of the system only.
fn compile(program: &Path) {
    let command = "cc -std=gnu99 -O1 -Wall -Wextra -Wpedantic -Werror \"$1\" -o \"$2\" $(pkg-config --cflags pgiam) \
        -l:libpgiam.a $(pkg-config --static --libs pgiam | sed 's/-lpgiam//')";
    let output = Command::new("sh")
        .args(["-c", command, "sh"])
        .arg(root().join("tests/c/set_user_id.c"))
        .arg(program)
        .env("PKG_CONFIG_PATH", installed().prefix.join("lib/pkgconfig"))
        .output()
        .unwrap();
    expect_success(command, &output);
}

#[test]
fn a_set_user_id_program_uses_nothing_of_its_callers() {
    if let Some(program) = std::env::var_os(PROGRAM) {
        return in_namespaces(Path::new(&program));
    }
    let sudo: &[&str] = if is_root() { &[] } else { &["sudo", "-n", "--preserve-env"] };
    let has_root = Command::new("sh").args(["-c", &[sudo, &["true"]].concat().join(" ")]).output().unwrap();
    if !has_root.status.success() {
        return leave_out("only root makes set-user-id programs of another user, and sudo asks for a password");
    }
    let directory = temporary_directory();
    open_to_all(directory.path());
    let program = directory.path().join("program");
    compile(&program);
    let words = [sudo, &["unshare", "--net", "--mount"]].concat();
    let output = Command::new(words[0])
        .args(&words[1..])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "set_user_id::a_set_user_id_program_uses_nothing_of_its_callers", "--nocapture"])
        .env(PROGRAM, &program)
        .output()
        .unwrap();
    let (out, err) = texts(&output);
    if err.contains("unshare failed: Operation not permitted") {
        return leave_out(err.trim());
    }
    let count = out.lines().find(|line| line.ends_with("sources of the caller were not used"));
    assert!(output.status.success() && count.is_some(), "{out}{err}");
    println!("{}", count.unwrap_or_default());
}

/// The same program with and without the set-user-id bit, and the owner's home directory.
struct Installed {
    _directory: tempfile::TempDir,
    set_user_id: PathBuf,
    plain: PathBuf,
    owners_home: PathBuf,
}

impl Installed {
    /// In the first directory whose file system knows set-user-id programs.
    fn new(program: &Path) -> Self {
        let directories = [std::env::temp_dir(), "/var/tmp".into(), program.parent().unwrap().into()];
        let installed = directories.iter().map(|directory| Self::install(program, directory));
        installed.into_iter().find(Self::is_secure).unwrap_or_else(|| {
            panic!("{directories:?} are mounted with nosuid, so the test cannot run: set TMPDIR to another directory")
        })
    }

    fn install(program: &Path, directory: &Path) -> Self {
        let directory = tempfile::tempdir_in(directory).unwrap();
        open_to_all(directory.path());
        let (set_user_id, plain) = (directory.path().join("set-user-id"), directory.path().join("plain"));
        let owners_home = directory.path().join("owner");
        fs::create_dir_all(owners_home.join(".aws")).unwrap();
        run("chown", ["-R", &OWNER.to_string()], Some(&owners_home));
        fs::copy(program, &plain).unwrap();
        fs::copy(program, &set_user_id).unwrap();
        chown(&set_user_id, Some(OWNER), None).unwrap();
        fs::set_permissions(&set_user_id, fs::Permissions::from_mode(0o4755)).unwrap();
        Self { _directory: directory, set_user_id, plain, owners_home }
    }

    fn is_secure(&self) -> bool {
        let said = call(&Machine::new(), &self.set_user_id, ENDPOINT);
        (said["secure"].as_str(), said["effective"].as_str()) == ("1", &*OWNER.to_string())
    }
}

/// What the program prints, called by the caller in the machine's environment.
fn call(machine: &Machine, program: &Path, host: &str) -> BTreeMap<String, String> {
    run("chown", ["-R", &CALLER.to_string()], Some(machine.home.path()));
    let (user, group) = (format!("--reuid={CALLER}"), format!("--regid={CALLER}"));
    let mut command = machine.command("/usr/bin/setpriv");
    command.args([&user, &group, "--clear-groups", "--"]).arg(program).arg(host);
    let output = command.current_dir(machine.home.path()).output().unwrap();
    let text = expect_success("the program", &output);
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

/// Puts the owner and the caller into this mount namespace's password database.
fn add_users(installed: &Installed, directory: &Path) {
    let mut users = fs::read_to_string("/etc/passwd").unwrap();
    let home = installed.owners_home.display();
    users += &format!("pgiam-owner:x:{OWNER}:{OWNER}::{home}:/bin/sh\npgiam-caller:x:{CALLER}:{CALLER}::/:/bin/sh\n");
    let file = directory.join("passwd");
    fs::write(&file, users).unwrap();
    run("mount", [Path::new("--bind"), &file], Some("/etc/passwd"));
}

/// A machine of the caller's with one source of credentials.
struct Case {
    what: &'static str,
    machine: Machine,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |what, machine| cases.push(Case { what, machine });
    let keys = "aws_access_key_id = AKIDCALLER\naws_secret_access_key = s\n";

    let mut machine = Machine::new();
    machine.set("AWS_ACCESS_KEY_ID", "AKIDCALLER");
    machine.set("AWS_SECRET_ACCESS_KEY", "s");
    add("keys of the environment", machine);

    let machine = Machine::new();
    machine.file(".aws/credentials", &format!("[default]\n{keys}"));
    add("the credentials file below HOME", machine);

    let mut machine = Machine::new();
    machine.set("HOME", ".");
    machine.file(".aws/config", &format!("[default]\n{keys}"));
    add("the config file below a relative HOME", machine);

    for variable in ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"] {
        let mut machine = Machine::new();
        machine.set("HOME", "/nonexistent");
        machine.set(variable, machine.file("file", &format!("[profile app]\n[default]\n{keys}")));
        add(variable, machine);
    }

    let mut machine = Machine::new();
    let user = aws_simulator::Credentials::of_user("caller");
    machine.simulator.register_credentials(&user);
    let role = "[profile app]\nrole_arn = arn:aws:iam::123456789012:role/app\nsource_profile = base\n[profile base]\n";
    let (id, secret) = (&user.access_key_id, &user.secret_access_key);
    machine.file(".aws/config", &format!("{role}aws_access_key_id = {id}\naws_secret_access_key = {secret}\n"));
    machine.set("AWS_PROFILE", "app");
    add("a role of AWS_PROFILE, and AWS_ENDPOINT_URL_STS", machine);

    add("a credential_process", Machine::process());

    let mut machine = Machine::process();
    machine.file(".aws/config", "[default]\ncredential_process = quick\n");
    machine.set("PATH", machine.home.path().to_str().unwrap().to_owned());
    add("a credential_process in PATH", machine);

    let mut machine = Machine::new();
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", machine.file("token", "simulated-web-identity-token"));
    machine.set("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/app");
    add("a web identity", machine);

    add("a web identity over TLS, and AWS_CA_BUNDLE", Machine::over_tls());

    let mut machine = Machine::over_tls();
    let sts: u16 = machine.variable("AWS_ENDPOINT_URL_STS").rsplit(':').next().unwrap().parse().unwrap();
    machine.set("HTTPS_PROXY", format!("http://127.0.0.1:{}", tls::proxy_to(sts).port));
    add("a web identity through HTTPS_PROXY", machine);

    let mut machine = Machine::new();
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", machine.simulator.url()));
    machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "simulated-container-token");
    add("a container's endpoint", machine);

    let mut machine = Machine::new();
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", machine.simulator.url()));
    machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", machine.file("token", "simulated-container-token"));
    add("a container's endpoint with a token file", machine);

    add("AWS_EC2_METADATA_SERVICE_ENDPOINT", Machine::instance());

    let soon = Duration::from_secs(240);
    add("the cache of aws sso login, and its refresh", Machine::logged_in(Login::Sso, soon));
    add("the cache of aws login, and its refresh", Machine::logged_in(Login::Cli, soon));

    let mut machine = Machine::logged_in(Login::Cli, soon);
    let elsewhere = machine.path("elsewhere");
    fs::rename(machine.path(".aws/login/cache"), &elsewhere).unwrap();
    machine.set("AWS_LOGIN_CACHE_DIRECTORY", elsewhere.to_str().unwrap());
    add("AWS_LOGIN_CACHE_DIRECTORY", machine);
    cases
}

fn in_namespaces(program: &Path) {
    run(program, ["start-loopback"], None::<&str>);
    let directory = temporary_directory();
    let installed = Installed::new(program);
    add_users(&installed, directory.path());
    let mut count = 0;
    for Case { what, mut machine } in cases() {
        // Each caller also wants a log.
        machine.set("PGIAM_LOG", "debug");
        let log = machine.path("log");
        machine.set("PGIAM_LOG_FILE", log.to_str().unwrap());

        let before = files(machine.home.path());
        let said = call(&machine, &installed.set_user_id, ENDPOINT);
        assert_eq!(said["secure"], "1", "{what}");
        assert_ne!(said["status"], "PGIAM_OK", "{what}: {said:?}");
        assert!(said["reason"].contains("169.254.169.254"), "all sources were asked, {what}: {said:?}");
        assert_eq!(machine.simulator.requests().len(), 0, "{what}");
        assert!(before == files(machine.home.path()), "{what}: the caller's files have changed");
        assert_eq!(files(&installed.owners_home).len(), 0, "{what}");

        // The caller's own rights are enough for the same program without the bit, so the case is one.
        let said = call(&machine, &installed.plain, ENDPOINT);
        assert_eq!((&*said["secure"], &*said["status"]), ("0", "PGIAM_OK"), "{what}: {said:?}");
        assert!(fs::read_to_string(&log).unwrap().contains("credentials from"), "{what}");
        count += 1;
    }
    the_owners_files_count(&installed);
    println!("{count} sources of the caller were not used");
}

/// The owner's own files are the program's configuration, whatever the caller's variables say.
fn the_owners_files_count(installed: &Installed) {
    let aws = installed.owners_home.join(".aws");
    fs::write(aws.join("credentials"), "[default]\naws_access_key_id = AKIDOWNER\naws_secret_access_key = s\n")
        .unwrap();
    fs::write(aws.join("config"), "[default]\nregion = eu-west-1\n[profile app]\nregion = us-east-2\n").unwrap();
    let cname = "db.example.com";
    for Case { what, mut machine } in cases() {
        machine.set("AWS_REGION", "ap-south-1");
        machine.set("AWS_DEFAULT_REGION", "ap-south-1");
        machine.set("AWS_DEFAULT_PROFILE", "app");
        let said = call(&machine, &installed.set_user_id, cname);
        let signed = [&*said["status"], &*said["key"], &*said["region"]];
        assert_eq!(signed, ["PGIAM_OK", "AKIDOWNER", "eu-west-1"], "{what}: {said:?}");
        assert_eq!(machine.simulator.requests().len(), 0, "{what}");
    }
}
