//! Measures that each parser takes time in proportion to the size of its input, up to the limit that is read:
//! `cargo run --manifest-path fuzz/Cargo.toml --release --bin limits`.
//!
//! Each line is the processor's time for a quarter, half and all of the largest input, and the ratio of the last two: 2 is linear, 4
//! quadratic. The inputs are those that are worst for the parser, as far as we know.

use std::time::Duration;

use pgiam_core::fuzz_hooks::{
    Form, credentials_document, http_answer, message, process_command, process_last_words, profile, profile_file,
    service_words, sso_cache, xml_texts, xml_tree,
};
use pgiam_core::token::endpoint;
use pgiam_core::{Settings, parse_rfc3339};
use pgiam_libpq::{conninfo, hosts, passfile};
use zeroize::Zeroizing;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// What is read, what is read of it at most, and how an input of a size is made and read.
struct Case {
    parser: &'static str,
    input: &'static str,
    limit: usize,
    make: fn(usize) -> Vec<u8>,
    read: fn(&[u8]),
}

fn main() {
    println!("| parser | input | size | 1/4 | 1/2 | all | ratio |");
    println!("|---|---|---|---|---|---|---|");
    let mut is_linear = true;
    for case in cases() {
        let times = [4, 2, 1].map(|part| best((case.make)(case.limit / part), case.read));
        let ratio = times[2].as_secs_f64() / times[1].as_secs_f64();
        // A head is so small that ureq's way, to read it from its beginning for each piece that arrives, does not matter.
        is_linear &= ratio < 3.0 || case.limit <= 16 * KIB;
        let [quarter, half, all] = times.map(|time| format!("{:.2} ms", time.as_secs_f64() * 1e3));
        let Case { parser, input, .. } = case;
        println!("| {parser} | {input} | {} | {quarter} | {half} | {all} | {ratio:.1} |", size(case.limit));
    }
    if !is_linear {
        eprintln!("not linear: a ratio of 3 or more");
        std::process::exit(1);
    }
}

fn size(bytes: usize) -> String {
    if bytes >= MIB { format!("{} MiB", bytes / MIB) } else { format!("{} KiB", bytes / KIB) }
}

/// The shortest of five times: other load only adds to them.
fn best(input: Vec<u8>, read: fn(&[u8])) -> Duration {
    let once = |_| {
        let began = processor_time();
        read(&input);
        processor_time() - began
    };
    (0..5).map(once).min().unwrap_or_default()
}

/// The time that this thread has had of the processor.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the time; the clock is always there.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(status, 0);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs().try_into().unwrap_or_default())
}

fn repeated(text: &str, size: usize) -> Vec<u8> {
    text.bytes().cycle().take(size).collect()
}

/// A beginning and an end around as many copies of a text as the size has room for.
fn between(begin: &str, text: &str, end: &str, size: usize) -> Vec<u8> {
    let count = size.saturating_sub(begin.len() + end.len()) / text.len();
    format!("{begin}{}{end}", text.repeat(count)).into_bytes()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// As many numbered lines as the size has room for.
fn numbered(size: usize, line: fn(usize) -> String) -> Vec<u8> {
    let mut text = String::with_capacity(size);
    for number in 0.. {
        let line = line(number);
        if text.len() + line.len() > size {
            break;
        }
        text.push_str(&line);
    }
    text.into_bytes()
}

fn cases() -> Vec<Case> {
    let mut cases = files();
    cases.extend(documents());
    cases.extend(responses());
    cases.extend(connections());
    cases
}

fn files() -> Vec<Case> {
    const PARSER: &str = "profile files";
    let limit = 16 * MIB;
    let config: fn(&[u8]) = |bytes| drop(profile_file(text(bytes), false));
    let case = |input, make, read| Case { parser: PARSER, input, limit, make, read };
    vec![
        case("many profiles", |size| numbered(size, |n| format!("[profile p{n}]\nregion = eu-central-1\n")), config),
        case("one property many times", |size| between("[default]\n", "a = b\n", "", size), config),
        case("one value of many lines", |size| between("[default]\na =\n", " b = c\n", "", size), config),
        case("headers within a value", |size| between("[default]\na = b\n", " [c]\n", "", size), config),
        case("one line", |size| between("[default]\na = ", "b #", "", size), config),
        case("one header", |size| between("[profile ", "'a' ", "]", size), config),
        case(
            "no such profile, similar names",
            |size| numbered(size, |n| format!("[profile {:0>98}]\n", n)),
            |bytes| drop(profile(text(bytes), "", &"a".repeat(98))),
        ),
    ]
}

fn documents() -> Vec<Case> {
    let metadata: fn(&[u8]) = |bytes| drop(credentials_document(Form::Metadata, bytes));
    let case = |input, make| Case { parser: "JSON documents", input, limit: MIB, make, read: metadata };
    vec![
        case("many members", |size| {
            let mut text = b"{\"\":0".to_vec();
            text.extend(numbered(size.saturating_sub(6), |n| format!(",\"a{n}\":{n}")));
            text.push(b'}');
            text
        }),
        case("one member many times", |size| between("{\"\":0", ",\"AccessKeyId\":\"A\"", "}", size)),
        case("one string of escapes", |size| between("{\"AccessKeyId\":\"", "\\u00e9", "\"}", size)),
        case("one number", |size| between("{\"Expiration\":", "1", "}", size)),
        case("nested", |size| repeated("{\"a\":", size)),
        Case {
            parser: "session caches",
            input: "one string",
            limit: MIB,
            make: |size| between("{\"accessToken\":\"", "a", "\"}", size),
            read: |bytes| drop(sso_cache(bytes)),
        },
        Case {
            parser: "credential_process, its errors and output",
            input: "one word",
            limit: MIB,
            make: |size| repeated("planted-secret", size),
            read: |bytes| drop(process_last_words(&bytes[..bytes.len().min(2 * KIB)], bytes)),
        },
        Case {
            parser: "credential_process, the command",
            input: "many words",
            limit: 16 * MIB,
            make: |size| repeated("'a b' \"c\\\"d\" e\\ f ", size),
            read: |bytes| drop(process_command(text(bytes))),
        },
    ]
}

fn responses() -> Vec<Case> {
    const NAMES: [&str; 5] = ["AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration", "Arn"];
    let xml: fn(&[u8]) = |bytes| {
        drop(xml_texts(text(bytes), NAMES));
        drop(xml_tree(text(bytes)));
    };
    let http: fn(&[u8]) = |bytes| drop(http_answer(bytes, usize::MAX, "secret"));
    let by_byte: fn(&[u8]) = |bytes| drop(http_answer(bytes, 1, "secret"));
    let limit = 256 * KIB;
    let of_xml = |input, make| Case { parser: "XML documents", input, limit, make, read: xml };
    let of_http = |input, limit, make, read| Case { parser: "HTTP responses", input, limit, make, read };
    vec![
        of_xml("nested", |size| repeated("<a xmlns:b=\"c\">", size)),
        of_xml("flat", |size| between("<a>", "<b>c</b>", "</a>", size)),
        of_xml("one text of entities", |size| between("<Arn>", "&amp;", "</Arn>", size)),
        of_xml("attributes", |size| between("<a ", "b=\"c\" ", "/>", size)),
        of_xml("a DTD", |size| between("<!DOCTYPE a [", "<!ENTITY b \"&c;\">", "]><a/>", size)),
        of_http(
            "one header, in pieces of a byte",
            16 * KIB,
            |size| between("HTTP/1.1 200 OK\r\na: ", "b", "", size),
            by_byte,
        ),
        of_http(
            "a body of one chunk",
            256 * KIB,
            |size| {
                let body = "a".repeat(size);
                format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n")
                    .into_bytes()
            },
            http,
        ),
        of_http(
            "chunks of a byte",
            256 * KIB,
            |size| between("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\na\r\n", "0\r\n\r\n", size),
            http,
        ),
        of_http(
            "a body with a length, in pieces of a byte",
            256 * KIB,
            |size| format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{}", "a".repeat(size)).into_bytes(),
            by_byte,
        ),
        Case {
            parser: "the words of a service",
            input: "URLs",
            limit,
            make: |size| repeated("https://user:password@host ", size),
            read: |bytes| drop(service_words(text(bytes), &["planted-secret"])),
        },
    ]
}

fn connections() -> Vec<Case> {
    let string: fn(&[u8]) = |bytes| {
        if let Ok(parameters) = conninfo::parse(text(bytes)) {
            drop(conninfo::write(&parameters));
        }
        drop(conninfo::split_own(text(bytes)));
    };
    let case = |input, make, read| Case { parser: "connection strings", input, limit: MIB, make, read };
    let other = |parser, input, make, read| Case { parser, input, limit: MIB, make, read };
    vec![
        case("one keyword many times", |size| repeated("host=h ", size), string),
        case("one value of escapes", |size| between("host='", "\\'", "' iam=on", size), string),
        case("a URI with many parameters", |size| between("postgresql://h/?", "host=%41&", "host=h", size), string),
        case("a URI with many hosts", |size| between("postgresql://", "h:1,", "h:1/db", size), string),
        case("an unknown keyword at the end", |size| between("", "host=h ", "bogus=1", size), string),
        other(
            "lists of hosts",
            "many hosts",
            |size| repeated("h,", size),
            |bytes| {
                drop(hosts::targets(text(bytes), "", "5432"));
            },
        ),
        other(
            "lines of password files",
            "one line of escapes",
            |size| repeated(":\\", size),
            |bytes| {
                let mut file = Zeroizing::new(Vec::new());
                drop(passfile::push_line(&mut file, text(bytes), "5432", text(bytes), bytes));
            },
        ),
        other(
            "host names",
            "one name",
            |size| repeated("a.", size),
            |bytes| {
                drop(endpoint::normalize(text(bytes)));
            },
        ),
        other(
            "times",
            "a fraction",
            |size| between("2026-01-02T03:04:05.", "0", "Z", size),
            |bytes| {
                let _ = parse_rfc3339(text(bytes));
            },
        ),
        other(
            "settings",
            "one value",
            |size| repeated("a", size),
            |bytes| {
                drop(Settings::default().set("profile", text(bytes)));
                drop(Settings::default().set(text(bytes), ""));
            },
        ),
        other("messages", "URLs", |size| repeated("s3://a@b://", size), |bytes| drop(message(text(bytes)))),
    ]
}
