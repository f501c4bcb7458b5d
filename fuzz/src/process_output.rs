//! `credential_process`: what it writes to standard error, what it prints, and the command.
//!
//! No word of the output is repeated in a message. A command is split as the crate `shlex` splits it, where the two
//! follow the same rules.

use pgiam_core::fuzz_hooks::{Form, process_command, process_credentials, process_last_words};

use crate::credentials_document::{check, is_fixed};
use crate::{assert_one_line, parts};

const NAMES: [&str; 5] = ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "AccountId"];
/// Bytes of a secret that are recognised wherever they appear.
const RECOGNISED: usize = 12;

pub fn run(data: &[u8]) {
    let [errors, output, command] = parts(data);
    match process_credentials(output) {
        Ok(keys) => check(Form::Process, &keys, NAMES, output),
        Err(message) => assert!(is_fixed(&message, NAMES), "{message}"),
    }
    let message = process_last_words(errors, output);
    assert_one_line(&message);
    assert!(message.chars().count() <= 310, "{message}");
    let is_word = |c: char| c.is_ascii_alphanumeric() || "+/=_.%~-".contains(c);
    let output = String::from_utf8_lossy(output);
    let secrets = output.split(|c| !is_word(c)).filter(|word| word.len() >= RECOGNISED);
    for word in secrets.filter(|word| !["SecretAccessKey", "SessionToken"].contains(word)) {
        for part in word.as_bytes().windows(RECOGNISED) {
            assert!(!message.as_bytes().windows(RECOGNISED).any(|shown| shown == part), "{word} is in {message}");
        }
    }
    if let Ok(command) = std::str::from_utf8(command) {
        split(command);
    }
}

fn split(command: &str) {
    let words = process_command(command);
    // `shlex` knows comments and the shell's escapes in double quotes, and no carriage return.
    if !command.contains(['#', '\r']) && !["\\$", "\\`", "\\\n"].iter().any(|escape| command.contains(escape)) {
        assert_eq!(words, shlex::split(command), "{command:?}");
    }
    let Some(words) = words else { return };
    if let Ok(joined) = shlex::try_join(words.iter().map(String::as_str)) {
        assert_eq!(process_command(&joined), Some(words));
    }
}
