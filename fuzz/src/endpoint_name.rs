//! Host names: a name.
//!
//! A second reader of the documented forms, which compares a name with patterns from left to right, agrees with the
//! library's, which reads from right to left. Normalising a name twice is normalising it once.

use std::sync::LazyLock;

use pgiam_core::fuzz_hooks::address;
use pgiam_core::token::endpoint::{self, EndpointKind};

use crate::assert_one_line;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let name = match endpoint::normalize(text) {
        Ok(name) => name,
        Err(error) => {
            assert_one_line(error.message());
            assert!(error.message().len() < 4000);
            assert!(!endpoint::is_recognized(text));
            return;
        }
    };
    assert!(name.len() <= 253 && name.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase()));
    assert_eq!(endpoint::normalize(&name).expect("normalized"), name);
    assert_eq!(endpoint::normalize(&format!("{}.", name.to_ascii_uppercase())).expect("the same name"), name);
    let kind = endpoint::classify(&name);
    assert_eq!(kind, expected(&name), "{name}");
    assert_eq!(endpoint::is_recognized(text), kind != EndpointKind::Unknown);
    assert_eq!(endpoint::is_custom_cluster_endpoint(text), matches!(kind, EndpointKind::CustomCluster { .. }));
    assert_eq!(endpoint::is_global_endpoint(text), kind == EndpointKind::RdsGlobal);
    assert_eq!(address(&name).is_some(), is_address(&name), "{name}");
    if let Some(region) = kind.region() {
        assert!(region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
    }
}

fn is_address(name: &str) -> bool {
    let labels: Vec<&str> = name.split('.').collect();
    let is_number = |label: &&str| label.bytes().all(|byte| byte.is_ascii_digit());
    labels.iter().all(is_number) || labels.last() == Some(&"localhost")
}

type Make = fn(&str) -> EndpointKind<'_>;

const PREFIXES: [&str; 6] = ["", "cluster-", "cluster-ro-", "cluster-custom-", "proxy-", "shardgrp-"];

/// The forms in the order in which they count: `*` is one label or more, `A` letters and digits, `R` a region, `I` letters,
/// digits and hyphens within.
fn forms() -> Vec<(String, Make)> {
    let mut forms: Vec<(String, Make)> = Vec::new();
    let rds: Make = |region| EndpointKind::Rds { region };
    let custom: Make = |region| EndpointKind::CustomCluster { region };
    let dsql: Make = |region| EndpointKind::Dsql { region };
    let kind = |prefix: &str| if prefix == "cluster-custom-" { custom } else { rds };
    for service in ["rds", "rds-fips"] {
        for domain in ["amazonaws.com", "amazonaws.com.cn", "amazonaws.au", "amazonaws.eu", "amazonaws.uk"] {
            forms.push((format!("*.global-I.global.{service}.{domain}"), |_| EndpointKind::RdsGlobal));
            for prefix in PREFIXES {
                forms.push((format!("*.{prefix}A.R.{service}.{domain}"), kind(prefix)));
            }
        }
    }
    for service in ["rds", "rds-fips"] {
        for domain in ["amazonaws.com", "amazonaws.com.cn", "c2s.ic.gov", "sc2s.sgov.gov"] {
            for prefix in PREFIXES {
                forms.push((format!("*.{prefix}A.{service}.R.{domain}"), kind(prefix)));
            }
        }
    }
    forms.push(("A.dsql.R.on.aws".into(), dsql));
    forms.push(("A.dsql-I.R.on.aws".into(), dsql));
    forms
}

fn expected(name: &str) -> EndpointKind<'_> {
    let labels: Vec<&str> = name.split('.').collect();
    static FORMS: LazyLock<Vec<(String, Make)>> = LazyLock::new(forms);
    for (form, make) in FORMS.iter() {
        if let Some(region) = matched(form, &labels) {
            return make(region);
        }
    }
    EndpointKind::Unknown
}

/// The region of a name that has this form; empty if the form has none.
fn matched<'a>(form: &str, labels: &[&'a str]) -> Option<&'a str> {
    let wanted: Vec<&str> = form.split('.').collect();
    let labels = match wanted.strip_prefix(&["*"]) {
        Some(rest) => labels.get(labels.len().checked_sub(rest.len()).filter(|skipped| *skipped > 0)?..)?,
        None => labels,
    };
    let wanted = wanted.strip_prefix(&["*"]).unwrap_or(&wanted);
    let mut region = "";
    if wanted.len() != labels.len() {
        return None;
    }
    for (wanted, label) in wanted.iter().zip(labels) {
        let (prefix, rule) = match wanted.char_indices().last() {
            Some((at, rule @ ('A' | 'R' | 'I'))) => (&wanted[..at], Some(rule)),
            _ => (*wanted, None),
        };
        let rest = label.strip_prefix(prefix)?;
        let inside = rest.strip_prefix('-').is_none() && rest.strip_suffix('-').is_none();
        let fits = match rule {
            None => rest.is_empty(),
            Some('A') => !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()),
            // `global` is no region.
            Some('R') if rest == "global" => false,
            Some(_) => {
                !rest.is_empty()
                    && inside
                    && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            }
        };
        if !fits {
            return None;
        }
        if rule == Some('R') {
            region = label;
        }
    }
    Some(region)
}
