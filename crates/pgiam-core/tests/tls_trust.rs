//! Every source that is asked over TLS: which servers it trusts, and that nothing is sent to others.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_simulator::{Fault, Route, Times};
use pgiam_core::ErrorKind;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{ALL_CIPHER_SUITES, ALL_KX_GROUPS, default_provider};
use support::Machine;
use support::tls::{Chain, Key, Tls, serve, tls_of};

/// A source over TLS, the setup in which its service is the first to be asked, and the route there.
struct Source {
    name: &'static str,
    route: Route,
    prepare: fn(&mut Machine),
}

const SOURCES: [Source; 6] = [
    Source { name: "web identity", route: Route::StsWebIdentity, prepare: Machine::use_web_identity },
    Source { name: "role", route: Route::StsAssumeRole, prepare: Machine::assume_a_role },
    Source { name: "SSO", route: Route::SsoRoleCredentials, prepare: Machine::use_sso },
    Source { name: "SSO that is refreshed", route: Route::OidcCreateToken, prepare: Machine::use_sso_to_refresh },
    Source { name: "login", route: Route::SignInToken, prepare: Machine::use_login_to_refresh },
    Source { name: "container", route: Route::Container, prepare: container },
];

/// The address is set with those of the others.
fn container(machine: &mut Machine) {
    machine.set("AWS_CONTAINER_AUTHORIZATION_TOKEN", "planted-pod-token");
    machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "https://set.later.example");
}

impl Source {
    /// A machine whose services are behind this server, at https://localhost.
    fn behind(&self, chain: &Chain<'_>) -> (Machine, Tls) {
        self.behind_with(chain, default_provider(), rustls::ALL_VERSIONS)
    }

    fn behind_with(
        &self,
        chain: &Chain<'_>,
        provider: CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> (Machine, Tls) {
        let mut machine = Machine::new();
        (self.prepare)(&mut machine);
        let tls = tls_of(&machine, chain, provider, versions);
        let url = format!("https://localhost:{}", tls.port);
        for service in ["STS", "SSO", "SSO_OIDC", "SIGNIN"] {
            machine.set(&format!("AWS_ENDPOINT_URL_{service}"), &url);
        }
        if self.route == Route::Container {
            machine.set("AWS_CONTAINER_CREDENTIALS_FULL_URI", &format!("{url}/v1/credentials"));
        }
        let bundle = machine.file("ca.pem", &tls.authority);
        machine.set("AWS_CA_BUNDLE", &bundle);
        (machine, tls)
    }

    /// The error of a server that is not trusted. Nothing was sent to it.
    fn refusal(&self, machine: &Machine) -> String {
        let error = machine.error();
        let expected = match self.route {
            Route::OidcCreateToken | Route::SignInToken => [ErrorKind::Provider, ErrorKind::CredentialsExpired],
            _ => [ErrorKind::Provider; 2],
        };
        assert!(expected.contains(&error.kind()), "{}: {error:?}", self.name);
        assert!(machine.simulator.requests().is_empty(), "{}: {error}", self.name);
        error.message().to_owned()
    }
}

#[test]
fn each_source_refuses_a_certificate_that_is_expired_or_not_yet_valid_self_signed_or_for_another_name() {
    for source in &SOURCES {
        for (chain, why) in [
            (Chain { years: [2001, 2002], ..Chain::default() }, "certificate expired: verification time "),
            (Chain { years: [3001, 3002], ..Chain::default() }, "certificate not valid yet: verification time "),
            (Chain { self_signed: true, ..Chain::default() }, "UnknownIssuer"),
            (Chain { name: "elsewhere.example", ..Chain::default() }, "certificate not valid for name \"localhost\""),
            (Chain { name: "127.0.0.1", ..Chain::default() }, "certificate not valid for name \"localhost\""),
        ] {
            let (machine, _tls) = source.behind(&chain);
            let message = source.refusal(&machine);
            assert!(message.contains(&format!("is not trusted: {why}")), "{}: {message}", source.name);
        }
    }
}

#[test]
fn each_source_refuses_an_authority_that_is_not_in_the_trust_store() {
    for source in &SOURCES {
        let (mut machine, tls) = source.behind(&Chain::default());
        let bundle = machine.path("ca.pem");
        // Another authority of the same name, and the system's trust store.
        let (_, other) = source.behind(&Chain::default());
        std::fs::write(&bundle, &other.authority).unwrap();
        for bundle in [Some(()), None] {
            if bundle.is_none() {
                machine.unset("AWS_CA_BUNDLE");
            }
            let message = source.refusal(&machine);
            assert!(message.contains("certificate is not trusted"), "{}: {message}", source.name);
        }
        // With it, the same server is trusted: the certificate was the only reason.
        let bundle = machine.file("ca.pem", &tls.authority);
        machine.set("AWS_CA_BUNDLE", &bundle);
        machine.token();
        assert!(!machine.simulator.requests_for(source.route).is_empty(), "{}", source.name);
    }
}

#[test]
fn an_endpoint_of_any_setting_is_asked_only_if_it_is_trusted() {
    for (variable, config) in [
        ("AWS_ENDPOINT_URL_STS", ""),
        ("AWS_ENDPOINT_URL", ""),
        ("", "[default]\nendpoint_url = URL\n"),
        ("", "[default]\nservices = here\n[services here]\nsts =\n  endpoint_url = URL\n"),
    ] {
        for trusted in [false, true] {
            let (mut machine, tls) = SOURCES[0].behind(&Chain::default());
            let url = format!("https://localhost:{}", tls.port);
            machine.unset("AWS_ENDPOINT_URL_STS");
            if !variable.is_empty() {
                machine.set(variable, &url);
            }
            machine.config(&config.replace("URL", &url));
            if trusted {
                machine.token();
                assert_eq!(machine.simulator.requests().len(), 1);
            } else {
                machine.unset("AWS_CA_BUNDLE");
                let message = SOURCES[0].refusal(&machine);
                assert!(message.contains(&url) && message.contains("is not trusted"), "{message}");
            }
        }
    }
}

#[test]
fn a_redirect_from_tls_to_plain_http_is_followed_by_no_source() {
    for source in &SOURCES {
        for status in [301, 302, 303, 307, 308] {
            let (machine, _tls) = source.behind(&Chain::default());
            let connections = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&connections);
            let port = serve(move |_| {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
            let fault = Fault::Redirect(status, format!("http://127.0.0.1:{port}/"));
            machine.simulator.inject(source.route, fault, Times::Forever);
            let error = machine.error();
            assert!(error.message().contains("redirects are not followed"), "{}: {error}", source.name);
            assert_eq!(machine.simulator.requests().len(), 1, "{}", source.name);
            assert_eq!(connections.load(Ordering::Relaxed), 0, "{}", source.name);
        }
    }
}

#[test]
fn every_version_cipher_suite_and_key_exchange_is_accepted() {
    let mut accepted = 0;
    for suite in ALL_CIPHER_SUITES {
        // TLS 1.2 has suites of its own for each kind of certificate.
        let key = if format!("{:?}", suite.suite()).contains("_RSA_") { Key::Rsa } else { Key::P256 };
        for exchange in ALL_KX_GROUPS {
            let provider =
                CryptoProvider { cipher_suites: vec![*suite], kx_groups: vec![*exchange], ..default_provider() };
            let chain = Chain { key, ..Chain::default() };
            let (machine, _tls) = SOURCES[0].behind_with(&chain, provider, &[suite.version()]);
            machine.token();
            accepted += 1;
        }
    }
    // AES-128, AES-256 and ChaCha20 for TLS 1.3, and for 1.2 with ECDSA and with RSA; X25519, P-256 and P-384.
    assert_eq!(accepted, 9 * 3);
}

#[test]
fn chains_of_ecdsa_rsa_and_ed25519_certificates_are_accepted_with_and_without_an_intermediate() {
    for authority_key in [Key::P256, Key::P384, Key::Rsa] {
        for key in [Key::P256, Key::P384, Key::Ed25519, Key::Rsa] {
            for by_intermediate in [false, true] {
                let chain = Chain { key, authority_key, by_intermediate, ..Chain::default() };
                for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                    let (machine, tls) = SOURCES[0].behind_with(&chain, default_provider(), &[version]);
                    machine.token();
                    assert_eq!(tls.sessions.load(Ordering::Relaxed), 1);
                }
            }
        }
    }
}

#[test]
fn each_source_accepts_both_versions_with_certificates_of_both_kinds() {
    for source in &SOURCES {
        for (key, version) in [(Key::Rsa, &rustls::version::TLS12), (Key::P256, &rustls::version::TLS13)] {
            let chain = Chain { key, authority_key: key, by_intermediate: true, ..Chain::default() };
            let (machine, _tls) = source.behind_with(&chain, default_provider(), &[version]);
            machine.token();
            assert!(!machine.simulator.requests_for(source.route).is_empty(), "{}", source.name);
        }
    }
}
