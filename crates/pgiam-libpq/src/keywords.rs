//! The keywords of connection strings: libpq's and pgiam's own.

use std::ffi::CStr;

/// Every keyword of libpq up to version 18, separated by spaces: smaller than an array.
const LIBPQ: &str = "\
    application_name channel_binding client_encoding connect_timeout dbname fallback_application_name \
    gssdelegation gssencmode gsslib host hostaddr keepalives keepalives_count keepalives_idle \
    keepalives_interval krbsrvname load_balance_hosts max_protocol_version min_protocol_version \
    oauth_client_id oauth_client_secret oauth_issuer oauth_scope options passfile password port replication \
    require_auth requirepeer scram_client_key scram_server_key service ssl_max_protocol_version \
    ssl_min_protocol_version sslcert sslcertmode sslcompression sslcrl sslcrldir sslkey sslkeylogfile \
    sslmode sslnegotiation sslpassword sslrootcert sslsni target_session_attrs tcp_user_timeout user";

macro_rules! own {
    ($(($keyword:literal, $variable:literal),)*) => {
        /// pgiam's own keywords, each with its environment variable ([`crate::rules::OwnSettings`] has their meaning).
        pub const OWN: [(&str, &str); 6] = [$(($keyword, $variable),)*];

        /// The keywords of [`OWN`] as C strings.
        pub const OWN_C: [&CStr; OWN.len()] = [$(c_string(concat!($keyword, "\0"))),*];
    };
}

own![
    ("iam", "PGIAM"),
    ("iam_host", "PGIAM_HOST"),
    ("iam_port", "PGIAM_PORT"),
    ("iam_region", "PGIAM_REGION"),
    ("iam_profile", "PGIAM_PROFILE"),
    ("iam_hosts", "PGIAM_HOSTS"),
];

const fn c_string(with_nul: &'static str) -> &'static CStr {
    match CStr::from_bytes_with_nul(with_nul.as_bytes()) {
        Ok(text) => text,
        Err(_) => c"",
    }
}

/// The known keyword of this name: libpq's or pgiam's own.
#[must_use]
pub fn find(name: &str) -> Option<&'static str> {
    LIBPQ.split(' ').find(|known| *known == name).or_else(|| find_own(name))
}

/// pgiam's own keyword of this name.
#[must_use]
pub fn find_own(name: &str) -> Option<&'static str> {
    OWN.into_iter().map(|(known, _)| known).find(|known| *known == name)
}
