//! `pgiam exec` with a program that is statically linked with libpq 18, for which the preload library has no effect.

use aws_simulator::SimulatorOptions;

use crate::support::{ENDPOINT, clean_command, expect_success, product, products, root, server};

#[test]
fn a_program_with_a_static_libpq_logs_in() {
    let target = products().join("static-libpq");
    let built = clean_command(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--manifest-path"])
        .arg(root().join("tests/deep/static-libpq/Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target)
        .output()
        .unwrap();
    expect_success("cargo build", &built);
    let program = target.join("debug/static-libpq");
    let needed = crate::support::run("readelf", ["-d"], Some(&program));
    assert!(!needed.contains("libpq.so"), "{needed}");
    let simulator = server().simulator(SimulatorOptions::default());
    let mut exec = clean_command(product("pgiam"));
    exec.args(["exec", "-h", ENDPOINT, "-p", &server().port.to_string(), "-U", "app_user", "--"])
        .arg(&program)
        .arg(server().conninfo("app_user"))
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", simulator.url());
    assert_eq!(expect_success("static-libpq", &exec.output().unwrap()).trim(), "app_user");
}
