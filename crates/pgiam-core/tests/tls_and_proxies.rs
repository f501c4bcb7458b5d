//! STS and SSO over TLS: the trust store, proxies, and a peer that stalls at every stage.

mod support;

use std::io::{self, BufRead, BufReader, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pgiam_core::ErrorKind;
use support::tls::{proxy_to, serve, tls_before, tls_with};
use support::{Machine, ROLE, within};

fn web_identity() -> Machine {
    let mut machine = Machine::new();
    let file = machine.file("token", "simulated-web-identity-token");
    machine.set("AWS_WEB_IDENTITY_TOKEN_FILE", &file);
    machine.set("AWS_ROLE_ARN", ROLE);
    machine
}

#[test]
fn aws_ca_bundle_is_the_trust_store_and_nothing_else_is_trusted() {
    let mut machine = web_identity();
    let tls = tls_before(&machine, "localhost");
    machine.set("AWS_ENDPOINT_URL_STS", &format!("https://localhost:{}", tls.port));
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.set("AWS_CA_BUNDLE", &bundle);
    machine.token();
    assert_eq!(tls.sessions.load(Ordering::Relaxed), 1);

    // The system's trust store and another authority's bundle do not have this authority: nothing is sent.
    machine.simulator.clear_requests();
    let other = tls_before(&machine, "localhost");
    let other = machine.file("other.pem", &other.authority);
    for bundle in [None, Some(other)] {
        match &bundle {
            Some(path) => machine.set("AWS_CA_BUNDLE", path),
            None => machine.unset("AWS_CA_BUNDLE"),
        }
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.message().contains("certificate is not trusted"), "{error}");
        assert!(error.message().contains("AWS_CA_BUNDLE"), "{error}");
    }
    assert!(machine.simulator.requests().is_empty());
}

#[test]
fn the_profiles_ca_bundle_is_used_and_an_unreadable_one_is_in_the_error() {
    let mut machine = web_identity();
    let tls = tls_before(&machine, "localhost");
    machine.set("AWS_ENDPOINT_URL_STS", &format!("https://localhost:{}", tls.port));
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.config(&format!("[default]\nca_bundle = {bundle}\n"));
    machine.token();
    for (text, part) in [(None, "/nonexistent.pem"), (Some("no certificate"), "no certificate in PEM form")] {
        let path = text.map_or_else(|| "/nonexistent.pem".to_owned(), |text| machine.file("bad.pem", text));
        machine.set("AWS_CA_BUNDLE", &path);
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert!(error.message().contains(part), "{error}");
    }
}

#[test]
fn a_server_that_supports_only_x25519_and_chacha20_works() {
    use rustls::crypto::ring::{cipher_suite, default_provider, kx_group};
    for suite in
        [cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]
    {
        let mut machine = web_identity();
        let provider = rustls::crypto::CryptoProvider {
            cipher_suites: vec![suite],
            kx_groups: vec![kx_group::X25519],
            ..default_provider()
        };
        let tls = tls_with(&machine, "localhost", provider);
        machine.set("AWS_ENDPOINT_URL_STS", &format!("https://localhost:{}", tls.port));
        let bundle = machine.file("ca.pem", &tls.authority);
        machine.set("REQUESTS_CA_BUNDLE", &bundle);
        machine.token();
    }
}

#[test]
fn a_certificate_for_another_name_is_not_trusted() {
    let mut machine = web_identity();
    let tls = tls_before(&machine, "elsewhere.example");
    machine.set("AWS_ENDPOINT_URL_STS", &format!("https://localhost:{}", tls.port));
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.set("AWS_CA_BUNDLE", &bundle);
    let error = machine.error();
    assert!(error.message().contains("not trusted: certificate not valid for name \"localhost\""), "{error}");
    assert!(machine.simulator.requests().is_empty());
}

#[test]
fn requests_to_sts_and_sso_use_the_proxy_unless_no_proxy_excludes_them() {
    let mut machine = web_identity();
    // The real name, which only the proxy can reach.
    machine.unset("AWS_ENDPOINT_URL_STS");
    let name = "sts.eu-central-1.amazonaws.com";
    let tls = tls_before(&machine, name);
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.set("AWS_CA_BUNDLE", &bundle);
    let proxy = proxy_to(tls.port);
    machine.set("HTTPS_PROXY", &format!("http://user:planted-password@127.0.0.1:{}", proxy.port));
    machine.token();
    let asked = proxy.asked();
    assert_eq!(asked.len(), 1);
    assert!(asked[0].starts_with(&format!("CONNECT {name}:443 HTTP/1.1")), "{}", asked[0]);
    assert!(asked[0].to_ascii_lowercase().contains("proxy-authorization: basic"), "{}", asked[0]);
    // The lower-case variable wins, as in curl and botocore.
    machine.set("https_proxy", &format!("http://127.0.0.1:{}", proxy.port));
    machine.token();
    assert!(!proxy.asked()[1].to_ascii_lowercase().contains("proxy-authorization"));

    machine.set("NO_PROXY", "example.com,.amazonaws.com");
    machine.set("AWS_ENDPOINT_URL_STS", &format!("https://{name}:{}", tls.port));
    machine.setting("timeout_ms", "2000");
    let error = machine.error();
    assert!(!format!("{error:?}").contains("planted"), "{error:?}");
    assert_eq!(proxy.asked().len(), 2, "the proxy is not used again");

    let mut machine = Machine::new();
    machine.profile_app(support::SSO_PROFILE);
    machine.sso_cache("corp", 8 * 3600, "");
    machine.unset("AWS_ENDPOINT_URL_SSO");
    let tls = tls_before(&machine, "portal.sso.eu-central-1.amazonaws.com");
    let bundle = machine.file("ca.pem", &tls.authority);
    machine.set("AWS_CA_BUNDLE", &bundle);
    let proxy = proxy_to(tls.port);
    machine.set("HTTPS_PROXY", &format!("http://127.0.0.1:{}", proxy.port));
    machine.token();
    assert!(proxy.asked()[0].starts_with("CONNECT portal.sso.eu-central-1.amazonaws.com:443"));
}

#[test]
fn the_error_about_an_unreachable_or_invalid_proxy_has_its_address_without_the_password() {
    let closed = aws_simulator::refused_port().unwrap().url().replace("http://", "");
    let cases = [
        (
            format!("http://jane:planted@{closed}"),
            ErrorKind::Provider,
            format!("cannot connect to the proxy {closed}: connection refused"),
        ),
        (
            "http://jane:planted@proxy.invalid:3128".into(),
            ErrorKind::Provider,
            "the proxy proxy.invalid:3128: cannot resolve".into(),
        ),
        (
            "socks5://jane:planted@127.0.0.1:1080".into(),
            ErrorKind::InvalidConfiguration,
            "HTTPS_PROXY is not the URL".into(),
        ),
        ("::not a url planted".into(), ErrorKind::InvalidConfiguration, "HTTPS_PROXY is not the URL".into()),
    ];
    for (proxy, kind, part) in cases {
        let mut machine = web_identity();
        machine.unset("AWS_ENDPOINT_URL_STS");
        machine.set("HTTPS_PROXY", &proxy);
        let error = machine.error();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(&part) && !error.message().contains("planted"), "{error}");
    }
}

#[test]
fn requests_to_a_plain_http_endpoint_use_the_proxy_too() {
    let mut machine = web_identity();
    let proxy = proxy_to(machine.simulator.port());
    machine.set("AWS_ENDPOINT_URL_STS", "http://sts.internal.example");
    machine.set("http_proxy", &format!("http://127.0.0.1:{}", proxy.port));
    // No trust store is needed for it.
    machine.set("AWS_CA_BUNDLE", "/nonexistent.pem");
    machine.token();
    assert!(proxy.asked()[0].starts_with("CONNECT sts.internal.example:80"), "{:?}", proxy.asked());
}

#[test]
fn the_error_about_a_proxy_that_refuses_has_its_response() {
    for (status, part, tries) in [
        ("407 Proxy Authentication Required", "HTTP 407: it needs a user name and password", 1),
        ("403 Forbidden", "HTTP 403: its rules do not allow this host", 1),
        ("502 Bad Gateway", "HTTP 502: it cannot reach the service", 3),
        ("503 Service Unavailable", "HTTP 503: it cannot reach the service", 3),
    ] {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let port = serve(move |mut connection| {
            counted.fetch_add(1, Ordering::Relaxed);
            let mut reader = BufReader::new(connection.try_clone()?);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head)? > 0 {}
            connection.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes())
        });
        let mut machine = web_identity();
        machine.unset("AWS_ENDPOINT_URL_STS");
        machine.set("https_proxy", &format!("http://jane:planted@127.0.0.1:{port}"));
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::Provider);
        let named = format!("the proxy 127.0.0.1:{port} answered CONNECT with {part}");
        assert!(error.message().contains(&named) && !error.message().contains("planted"), "{error}");
        assert_eq!(connections.load(Ordering::Relaxed), tries, "{status}");
    }
}

#[test]
fn a_response_with_a_part_larger_than_its_limit_is_refused() {
    let chunked = "Transfer-Encoding: chunked\r\n\r\n";
    for (before, repeated, part) in [
        ("x: ".to_owned(), "x", "the head of the response is larger than 16 KiB"),
        (String::new(), "x: y\r\n", "more than 128 headers"),
        (format!("{chunked}1;"), "x", "a chunk's header in the response is larger than 16 KiB"),
        (format!("{chunked}0\r\n"), "x: y\r\n", "the response is larger than 256 KiB"),
    ] {
        let port = serve(move |mut connection| {
            connection.write_all(format!("HTTP/1.1 200 OK\r\n{before}").as_bytes())?;
            loop {
                connection.write_all(repeated.repeat(1000).as_bytes())?;
            }
        });
        let mut machine = web_identity();
        machine.set("AWS_ENDPOINT_URL_STS", &format!("http://127.0.0.1:{port}"));
        let error = machine.error();
        assert_eq!(error.kind(), ErrorKind::Provider);
        assert!(error.message().contains(part), "{error}");
    }
}

#[test]
fn the_deadline_applies_when_a_peer_stalls_at_any_stage() {
    let time_out = Duration::from_millis(400);
    let silent = serve(|mut connection| {
        // The connection is accepted and read from, and never answered.
        io::copy(&mut connection, &mut io::sink()).map(drop)
    });
    let hello_by_drops = serve(|mut connection| {
        // The beginning of a TLS record of 16 KiB, then a byte from time to time.
        connection.write_all(&[0x16, 0x03, 0x03, 0x40, 0x00])?;
        loop {
            connection.write_all(&[0])?;
            thread::sleep(Duration::from_millis(50));
        }
    });
    let proxy_by_drops = serve(|mut connection| {
        for byte in b"HTTP/1.1 200 Connection established though it takes its time".iter().cycle() {
            connection.write_all(&[*byte])?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    });
    let hole = aws_simulator::blackhole_address().unwrap();
    let stages: [(&str, &str, String); 5] = [
        ("connect", "AWS_ENDPOINT_URL_STS", hole.url().replace("http:", "https:")),
        ("TLS", "AWS_ENDPOINT_URL_STS", format!("https://127.0.0.1:{silent}")),
        ("TLS by drops", "AWS_ENDPOINT_URL_STS", format!("https://127.0.0.1:{hello_by_drops}")),
        ("proxy", "HTTPS_PROXY", format!("http://127.0.0.1:{silent}")),
        ("proxy by drops", "HTTPS_PROXY", format!("http://127.0.0.1:{proxy_by_drops}")),
    ];
    for (stage, variable, url) in stages {
        let mut machine = web_identity();
        machine.unset("AWS_ENDPOINT_URL_STS");
        machine.set(variable, &url);
        machine.setting("timeout_ms", &time_out.as_millis().to_string());
        let mut kinds = Vec::new();
        within(time_out, || kinds.push(machine.error())).unwrap_or_else(|took| panic!("{stage}: {took:?}"));
        for error in kinds {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{stage}: {error:?}");
        }
    }
}

#[test]
fn a_name_that_does_not_resolve_or_resolves_slowly_is_an_error_of_the_source() {
    let mut machine = web_identity();
    machine.set("AWS_ENDPOINT_URL_STS", "https://sts.invalid");
    machine.setting("timeout_ms", "3000");
    let error = machine.error();
    assert!(error.message().contains("https://sts.invalid"), "{error}");
    assert!(matches!(error.kind(), ErrorKind::Provider | ErrorKind::Timeout), "{error:?}");
}
