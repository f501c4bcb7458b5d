//! moto, an AWS simulator by other authors: a test with it finds errors that pgiam and its own simulator have in common.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::{clean_command, expect_success, python};

/// A running moto server.
pub(crate) struct Moto {
    url: String,
    process: std::process::Child,
}

impl Moto {
    pub(crate) fn start() -> Self {
        let script = "
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print('ready', server.get_host_and_port()[1], flush=True)
sys.stdin.read()
server.stop()
";
        let mut process = clean_command(python())
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().strip_prefix("ready ").unwrap_or_else(|| panic!("moto printed {line:?}"));
        Self { url: format!("http://127.0.0.1:{port}"), process }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Runs a script and returns what it prints.
    pub(crate) fn python(&self, script: &str) -> String {
        let output = clean_command(python()).args(["-c", script]).output().unwrap();
        expect_success("the script", &output).trim().to_owned()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().ok();
    }
}
