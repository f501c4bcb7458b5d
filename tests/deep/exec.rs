//! `pgiam exec` with drivers that have no libpq: they read the password file by their own code.

use std::fs;

use aws_simulator::SimulatorOptions;

use crate::support::{ENDPOINT, clean_command, expect_success, product, server, temporary_directory};

const NODE: &str = "
const { Pool } = require('pg');
(async () => {
  const pool = new Pool({ max: 2 });
  const [a, b] = await Promise.all([1, 2].map(() => pool.query('select current_user as u, pg_sleep(0.1)')));
  console.log(a.rows[0].u, b.rows[0].u);
  await pool.end();
})().catch(error => { console.error(error.message); process.exit(1); });
";

#[test]
fn node_logs_in_through_a_tunnel() {
    let directory = temporary_directory();
    let mut npm = clean_command("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent", "pg@8"]).current_dir(directory.path());
    expect_success("npm install pg", &npm.output().unwrap());
    fs::write(directory.path().join("login.js"), NODE).unwrap();
    let simulator = server().simulator(SimulatorOptions::default());
    let mut exec = clean_command(product("pgiam"));
    exec.args(["exec", "--", "node", "login.js"]).current_dir(directory.path()).envs([
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url().as_str()),
        ("PGIAM_HOST", ENDPOINT),
        ("PGHOST", "localhost"),
        ("PGPORT", &server().port.to_string()),
        ("PGUSER", "app_user"),
        ("PGDATABASE", "app"),
        ("PGSSLMODE", "verify-full"),
        ("NODE_EXTRA_CA_CERTS", &server().ca),
    ]);
    let out = expect_success("node", &exec.output().unwrap());
    assert_eq!(out.trim(), "app_user app_user");
}
