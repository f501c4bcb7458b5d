//! The AWS `config` and `credentials` files: a config file, a credentials file and a profile's name.
//!
//! What was read is written plainly and read again with the same result; a merged profile has only values of the files;
//! messages repeat no value.

use pgiam_core::fuzz_hooks::{Section, profile, profile_file};

use crate::{assert_one_line, texts};

pub fn run(data: &[u8]) {
    let Some([config, credentials, name]) = texts(data) else { return };
    let sections: Vec<Section> =
        [(config, false), (credentials, true)].into_iter().flat_map(|(text, kind)| read(text, kind)).collect();
    let values = || sections.iter().flat_map(|section| &section.properties);
    match profile(config, credentials, name) {
        Ok(found) => {
            for property in &found {
                assert!(values().any(|known| known == property), "{property:?} is in no section");
            }
        }
        Err(message) => {
            assert_one_line(&message);
            // Headers and the name are repeated, and may be the same as a value.
            let headers = config.lines().chain(credentials.lines()).filter(|line| line.contains('['));
            let shown: String = headers.chain([name, FIXED_WORDS]).collect::<Vec<_>>().join("\n");
            for (_, value) in values().filter(|(_, value)| value.len() >= 8) {
                assert!(!message.contains(value) || shown.contains(value), "{value:?} is in {message:?}");
            }
        }
    }
}

/// Words of messages that may be the same as a value too: the grammar's faults, and what is said of a profile that is not
/// found.
const FIXED_WORDS: &str = "credentials, line \
    Profile definition must end with ']' \
    Expected a profile definition ([profile NAME]) before any other line \
    Property did not have a name \
    Expected a property definition, found continuation \
    Expected an '=' sign defining a property (name = value) \
    Expected an '=' sign defining a sub-property \
    Sub-property did not have a name \
    no file (HOME is not set) config and credentials; line is passed over: write [default] in lower case; did you mean ? \
    it is indented below a property and counts as part of its value; write [] in the first column \
    a quote is not closed; is needed here, without quotes and without the word profile";

fn read(text: &str, is_credentials: bool) -> Vec<Section> {
    let sections = match profile_file(text, is_credentials) {
        Ok(sections) => sections,
        Err((line, what)) => {
            assert!((1..=text.lines().count()).contains(&line), "line {line}: {what}");
            return Vec::new();
        }
    };
    let plain: Vec<&Section> = sections.iter().filter(|section| header(section, is_credentials).is_some()).collect();
    let again = profile_file(&written(&plain, is_credentials), is_credentials).expect("what was written is read");
    // A continuation line in brackets is remembered as a header.
    let again: Vec<&Section> = again.iter().filter(|section| section.kind != "passed over").collect();
    assert_eq!(again.len(), plain.len());
    for (again, section) in again.iter().zip(plain) {
        assert_eq!((again.kind, &again.name), (section.kind, &section.name));
        assert_eq!(again.properties, section.properties);
    }
    sections
}

/// The header of a section, if its name needs no quotes.
fn header(section: &Section, is_credentials: bool) -> Option<String> {
    let Section { kind, name, .. } = section;
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_./%@:+".contains(c));
    match *kind {
        "default" => Some("default".into()),
        "DEFAULT" => Some("DEFAULT".into()),
        "profile" if is_credentials => Some(name.clone()),
        "profile" | "sso-session" | "services" if is_plain => Some(format!("{kind} {name}")),
        _ => None,
    }
}

fn written(sections: &[&Section], is_credentials: bool) -> String {
    let mut text = String::new();
    for section in sections {
        text.push_str(&format!("[{}]\n", header(section, is_credentials).unwrap_or_default()));
        for (name, value) in &section.properties {
            text.push_str(&format!("{name}={}\n", value.replace('\n', "\n ")));
        }
    }
    text
}
