//! Runs one target on files, or on every file of a folder: `replay TARGET PATH...`. Each file's name is printed before it
//! is run, so that the last line names the one that fails.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let Some((_, target)) = pgiam_fuzz::TARGETS.iter().find(|(known, _)| *known == name) else {
        eprintln!("usage: replay TARGET PATH...; there is no target {name:?}");
        return ExitCode::from(2);
    };
    for path in arguments {
        for file in files(Path::new(&path)).unwrap_or_else(|error| panic!("{path}: {error}")) {
            println!("{}", file.display());
            target(&fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())));
        }
    }
    ExitCode::SUCCESS
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut files: Vec<PathBuf> = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.sort();
    Ok(files)
}
