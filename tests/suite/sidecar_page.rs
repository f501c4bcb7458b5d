//! The examples in docs/sidecar.md: the files are well formed, and the commands write a password file that works.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aws_simulator::SimulatorOptions;

use crate::support::{ENDPOINT, clean_command, expect_success, product, python, root, server, temporary_directory};

/// The code blocks in a language.
fn blocks(language: &str) -> Vec<String> {
    let page = fs::read_to_string(root().join("docs/sidecar.md")).unwrap();
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

/// Runs a command of the page once, with a temporary path, and logs in with the file.
fn writes_a_working_file(words: &[&str]) {
    let server = server();
    let simulator = server.simulator(SimulatorOptions::default());
    let directory = temporary_directory();
    let place = |path: &str| directory.path().join(Path::new(path).file_name().unwrap());
    let file = place(words.iter().find(|word| word.starts_with('/')).unwrap());
    let port = server.port.to_string();
    let mut pgiam = clean_command(product("pgiam"));
    for word in words {
        match *word {
            word if word.starts_with('/') => pgiam.arg(place(word)),
            word if word.ends_with(".rds.amazonaws.com") => pgiam.arg(ENDPOINT),
            word => pgiam.arg(word),
        };
    }
    pgiam.args(["--once", "-p", &port]).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url());
    expect_success("pgiam", &pgiam.output().unwrap());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    let mut psql = clean_command("psql");
    psql.args(["-XAtwc", "select current_user", &server.conninfo("app_user")]).env("PGPASSFILE", &file);
    assert_eq!(expect_success("psql", &psql.output().unwrap()), "app_user\n");
}

#[test]
fn the_commands_of_the_systemd_unit_write_a_password_file_that_works() {
    let units = blocks("ini");
    let commands: Vec<&str> = units[0].lines().filter(|line| line.starts_with("ExecStart")).collect();
    assert_eq!(commands.len(), 1);
    for command in commands {
        let words: Vec<&str> = command.split_whitespace().skip(1).filter(|word| *word != "--once").collect();
        writes_a_working_file(&words);
    }
    let written = "/run/pgiam/passfile";
    assert!(units[0].contains("RuntimeDirectory=pgiam\n") && units[1].contains(&format!("PGPASSFILE={written}\n")));
    assert_eq!(units[0].matches(written).count(), 1);
}

/// Checks with PyYAML that the parts of the pod agree, and prints the arguments of the sidecar.
const POD: &str = "
import sys, yaml
account, pod = yaml.safe_load_all(sys.stdin)
spec = pod['spec']
sidecar, app = spec['initContainers'][0], spec['containers'][0]
assert spec['serviceAccountName'] == account['metadata']['name']
assert [volume['name'] for volume in spec['volumes']] == ['passfile']
for container in (sidecar, app):
    assert [mount['name'] for mount in container['volumeMounts']] == ['passfile'], container
path = {variable['name']: variable['value'] for variable in app['env']}['PGPASSFILE']
assert path in sidecar['args'] and path in sidecar['startupProbe']['exec']['command']
health = sidecar['args'][sidecar['args'].index('--health-file') + 1]
assert health in ' '.join(sidecar['readinessProbe']['exec']['command'])
assert path.startswith(sidecar['volumeMounts'][0]['mountPath'] + '/')
assert sidecar['restartPolicy'] == 'Always'
print(' '.join(sidecar['args']))
";

#[test]
fn the_parts_of_the_pod_agree_and_its_command_writes_a_password_file_that_works() {
    let directory = temporary_directory();
    let file = directory.path().join("pod.yaml");
    fs::write(&file, &blocks("yaml")[0]).unwrap();
    let mut reader = clean_command(python());
    let out = expect_success("pod", &reader.args(["-c", POD]).stdin(fs::File::open(file).unwrap()).output().unwrap());
    writes_a_working_file(&out.split_whitespace().collect::<Vec<_>>());
}
