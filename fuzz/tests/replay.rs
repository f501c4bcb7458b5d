//! The corpus, without libFuzzer: every input that was worth keeping, those of mended faults included.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn names(directory: &str) -> BTreeSet<String> {
    let directory = Path::new(ROOT).join(directory);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<String> = pgiam_fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    for target in targets {
        assert!(names(&format!("corpus/{target}")).len() >= 5, "{target}");
    }
}

#[test]
fn what_must_hold_for_every_input_holds_for_the_corpus() {
    for (target, _) in pgiam_fuzz::TARGETS {
        // A program of its own: a target may set variables of its environment, and a fault may end it.
        let output = Command::new(env!("CARGO_BIN_EXE_replay"))
            .args([target, &format!("{ROOT}/corpus/{target}")])
            .output()
            .unwrap();
        let (said, wrong) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{target}: {}: {wrong}", said.lines().last().unwrap_or_default());
    }
}
