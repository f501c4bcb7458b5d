//! What the fuzz targets (`fuzz/`) call: the parsers of foreign text and bytes, with plain types in and out.
//!
//! Only with the feature `fuzz-hooks`, which no product turns on. An error is its message.
#![allow(missing_docs, reason = "plain data for the fuzz targets")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ureq::Error as UreqError;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use zeroize::Zeroizing;

use crate::config::grammar::{self, FileKind, Name};
use crate::config::profile_files::ProfileFiles;
use crate::credentials::document::{Document, LOGIN, METADATA, PROCESS, SSO};
use crate::credentials::dpop::DpopKey;
use crate::credentials::{login, process, sso};
use crate::error::{self, Error, invalid_configuration};
use crate::net::http::{Http, Limits, Request};
use crate::net::xml;
use crate::time::{self, Deadline, unix_seconds};
use crate::token::endpoint;

/// What [`Error::new`] makes of a text.
#[must_use]
pub fn message(text: &str) -> String {
    error::presentable(text)
}

/// Why a host is refused under `service=auto`: it is an address.
#[must_use]
pub fn address(host: &str) -> Option<String> {
    endpoint::refuse_addresses(host).err().map(text_of)
}

/// What is repeated of a service's words.
#[must_use]
pub fn service_words(text: &str, secrets: &[&str]) -> String {
    error::service_words(text, secrets)
}

/// A section of a profile file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The kind of section, as the core names it.
    pub kind: &'static str,
    /// Empty for sections without one, and for those that are passed over.
    pub name: String,
    pub line: usize,
    pub properties: Vec<(String, String)>,
}

fn file_kind(is_credentials: bool) -> FileKind {
    if is_credentials { FileKind::Credentials } else { FileKind::Config }
}

/// The sections of a profile file, or the line of a fault and its description.
pub fn profile_file(text: &str, is_credentials: bool) -> Result<Vec<Section>, (usize, &'static str)> {
    let sections = grammar::parse(text, file_kind(is_credentials)).map_err(|fault| (fault.line, fault.what))?;
    let plain = |section: grammar::Section| {
        let (kind, name) = match section.name {
            Name::Profile(name) => ("profile", name),
            Name::UnprefixedDefault => ("default", String::new()),
            Name::CliProfile(name) => ("cli-profile", name),
            Name::SsoSession(name) => ("sso-session", name),
            Name::Services(name) => ("services", name),
            Name::Defaults => ("DEFAULT", String::new()),
            Name::PassedOver(_) => ("passed over", String::new()),
        };
        let properties = section.properties.iter().map(|(name, value)| (name.clone(), value.expose().to_owned()));
        Section { kind, name, line: section.line, properties: properties.collect() }
    };
    Ok(sections.into_iter().map(plain).collect())
}

/// The properties of a profile of the two merged files; the message, if there is no such profile.
pub fn profile(config: &str, credentials: &str, name: &str) -> Result<Vec<(String, String)>, String> {
    let mut files = ProfileFiles::default();
    for (text, is_credentials) in [(config, false), (credentials, true)] {
        let file: Arc<Path> = Arc::from(Path::new(if is_credentials { "credentials" } else { "config" }));
        files.add_text(&file, file_kind(is_credentials), text).map_err(text_of)?;
    }
    match files.profile(name) {
        Some(profile) => {
            Ok(profile.all().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        }
        None => Err(text_of(invalid_configuration(files.looked_at_for_profile(name)))),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn text_of(error: Error) -> String {
    error.message().to_owned()
}

/// Credentials that were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub id: String,
    pub secret: String,
    pub session_token: Option<String>,
    /// Unix seconds.
    pub expires: Option<i64>,
    pub account: Option<String>,
}

impl From<aws_credential_types::Credentials> for Keys {
    fn from(credentials: aws_credential_types::Credentials) -> Self {
        Self {
            id: credentials.access_key_id().to_owned(),
            secret: credentials.secret_access_key().to_owned(),
            session_token: credentials.session_token().map(str::to_owned),
            expires: credentials.expiry().map(unix_seconds),
            account: credentials.account_id().map(|account| account.as_str().to_owned()),
        }
    }
}

/// The forms of a credentials document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Process,
    Metadata,
    Sso,
    Login,
}

fn document(bytes: &[u8]) -> Result<Document, String> {
    Document::parse("the response", Zeroizing::new(bytes.to_vec())).map_err(text_of)
}

/// The credentials in a JSON document.
pub fn credentials_document(form: Form, bytes: &[u8]) -> Result<Keys, String> {
    let members = match form {
        Form::Process => &PROCESS,
        Form::Metadata => &METADATA,
        Form::Sso => &SSO,
        Form::Login => &LOGIN,
    };
    document(bytes)?.credentials(members, "fuzz").map(Keys::from).map_err(text_of)
}

/// The text of the first element of each name.
pub fn xml_texts(document: &str, names: [&str; 5]) -> Result<[Option<String>; 5], &'static str> {
    Ok(xml::texts(document, names)?.map(|text| text.map(|text| text.to_string())))
}

/// A document as a tree.
pub fn xml_tree(document: &str) -> Result<xml::Element, &'static str> {
    xml::Element::parse(document)
}

/// The access token in the cache of `aws sso login`, and its end.
pub fn sso_cache(bytes: &[u8]) -> Result<(Option<String>, Option<i64>), String> {
    let document = document(bytes)?;
    Ok((sso::access_token(&document).map(str::to_owned), (sso::KIND.end)(&document)))
}

/// The credentials in the cache of `aws login`, and their end.
pub fn login_cache(bytes: &[u8]) -> Result<(Result<Keys, String>, Option<i64>), String> {
    let document = document(bytes)?;
    Ok((login::credentials(&document).map(Keys::from).map_err(text_of), (login::KIND.end)(&document)))
}

/// The cache of `aws login` after a refresh with this answer.
pub fn login_refreshed(cache: &[u8], answer: &[u8], now: i64) -> Result<String, String> {
    let mut cache = document(cache)?;
    login::update(&mut cache, document(answer)?, now).map_err(text_of)?;
    Ok(String::from_utf8_lossy(&cache.to_json()).into_owned())
}

/// A DPoP proof by a key in PEM; `None`: it is no key.
#[must_use]
pub fn dpop_proof(pem: &str, url: &str, now: i64) -> Option<Result<String, String>> {
    let key = DpopKey::from_pem(pem)?;
    Some(key.proof(url, now).map(|proof| proof.expose().to_owned()).map_err(text_of))
}

/// The credentials that a `credential_process` printed.
pub fn process_credentials(output: &[u8]) -> Result<Keys, String> {
    process::credentials(Zeroizing::new(output.to_vec())).map(Keys::from).map_err(text_of)
}

/// What is repeated of the standard error of a `credential_process`.
#[must_use]
pub fn process_last_words(errors: &[u8], output: &[u8]) -> String {
    process::last_words(errors, output)
}

/// The words of a `credential_process` command.
#[must_use]
pub fn process_command(command: &str) -> Option<Vec<String>> {
    process::split(command)
}

/// A `Date` header in Unix seconds.
#[must_use]
pub fn http_date(text: &str) -> Option<i64> {
    time::parse_http_date(text)
}

/// A response that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// Unix seconds.
    pub date: Option<i64>,
    /// What a message says of it.
    pub described: String,
    pub code: Option<String>,
}

/// Reads a whole response, of which `step` bytes arrive at a time. `sent` is a secret of the request.
pub fn http_answer(response: &[u8], step: usize, sent: &str) -> Result<Answer, String> {
    let second = Duration::from_secs(60);
    let canned = Canned { response: response.into(), step: step.max(1) };
    let http = Http::over(Deadline::after(second), canned);
    let headers = [("x-aws-ec2-metadata-token", sent)];
    let request = Request { method: "GET", url: "http://127.0.0.1/latest/", headers: &headers, body: b"" };
    let answer = http.send(&request, Limits { connect: second, read: second });
    let answer = answer.map_err(|failure| text_of(failure.into_error("the service")))?;
    let described = text_of(invalid_configuration(answer.describe()));
    Ok(Answer {
        status: answer.status,
        date: answer.date,
        code: answer.error_code(),
        described,
        body: answer.body.to_vec(),
    })
}

/// A server that answers every request with the same bytes, and then closes the connection.
#[derive(Clone, Debug)]
struct Canned {
    response: Arc<[u8]>,
    step: usize,
}

impl Connector for Canned {
    type Out = CannedConnection;

    fn connect(&self, _: &ConnectionDetails<'_>, _: Option<()>) -> Result<Option<Self::Out>, UreqError> {
        let buffers = LazyBuffers::new(16 * 1024, 16 * 1024);
        Ok(Some(CannedConnection { canned: self.clone(), sent: 0, buffers }))
    }
}

#[derive(Debug)]
struct CannedConnection {
    canned: Canned,
    sent: usize,
    buffers: LazyBuffers,
}

impl Transport for CannedConnection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, _: usize, _: NextTimeout) -> Result<(), UreqError> {
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, UreqError> {
        let left = &self.canned.response[self.sent..];
        let room = self.buffers.input_append_buf();
        let count = left.len().min(room.len()).min(self.canned.step);
        room[..count].copy_from_slice(&left[..count]);
        self.buffers.input_appended(count);
        self.sent += count;
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        false
    }
}
