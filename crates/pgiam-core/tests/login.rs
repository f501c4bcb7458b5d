//! `aws login`: the cached credentials, their refresh with a proof, and the error when the session has ended.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use aws_simulator::{Fault, KeyFormat, Route, Times};
use pgiam_core::{ErrorKind, Token};
use serde_json::Value;
use support::{Hands, Machine, REGION, access_key_id, request, rfc3339};

/// `aws login` writes the ARN of a user, or of a role's session with the name of a person.
const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Developer_0123/jane.doe@corp.com";
const PROFILE: &str = "[profile app]\nlogin_session = arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Developer_0123/jane.doe@corp.com\n";
const MINUTE: i64 = 60;

/// A machine on which somebody has logged in; the cached credentials expire in so many seconds.
struct LoggedIn {
    machine: Machine,
    path: PathBuf,
    document: Value,
}

fn logged_in(ends_in: i64) -> LoggedIn {
    logged_in_with(ends_in, KeyFormat::Sec1)
}

fn logged_in_with(ends_in: i64, key: KeyFormat) -> LoggedIn {
    let mut machine = Machine::new();
    machine.profile_app(PROFILE);
    // An instance role, which must not be used instead.
    machine.become_instance();
    let mut document = machine.simulator.log_in(SESSION, key);
    document["accessToken"]["expiresAt"] = rfc3339(Hands::of(&machine.simulator).now() + ends_in).into();
    let path = machine.login_cache(SESSION, &document);
    LoggedIn { machine, path, document }
}

impl LoggedIn {
    fn refreshes(&self) -> usize {
        self.machine.simulator.requests_for(Route::SignInToken).len()
    }

    fn change(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.document);
        self.machine.login_cache(SESSION, &self.document);
    }

    fn cached(&self) -> Value {
        serde_json::from_str(&fs::read_to_string(&self.path).unwrap()).unwrap()
    }

    fn refuses_refreshes(&self, status: u16, body: &str) {
        let fault = Fault::StatusWithBody(status, body.into());
        self.machine.simulator.inject(Route::SignInToken, fault, Times::Forever);
    }

    fn is_signed_by_cached(&self, token: &Token) -> bool {
        self.document["accessToken"]["accessKeyId"] == access_key_id(token)
    }

    fn error(&self) -> pgiam_core::Error {
        let error = self.machine.error();
        for secret in ["PLANTED", "BEGIN EC", "eyJ"] {
            assert!(!format!("{error:?}").contains(secret), "{error:?}");
        }
        let asked_for_role = self.machine.simulator.requests_for(Route::ImdsToken);
        assert!(asked_for_role.is_empty(), "the role of the instance must not be used");
        error
    }
}

#[test]
fn fresh_credentials_of_the_cache_sign_without_any_request() {
    let app = logged_in(6 * MINUTE);
    assert!(app.is_signed_by_cached(&app.machine.token()));
    assert!(app.machine.simulator.requests().is_empty());
    let found = app.machine.client().explain().outcome.unwrap();
    assert_eq!(found.identity.as_deref(), Some(SESSION));
    assert_eq!(found.by, "login session of profile \"app\"");
}

#[test]
fn credentials_near_their_end_are_refreshed_with_a_proof_and_the_file_replaced_whole_with_mode_0600() {
    for key in [KeyFormat::Sec1, KeyFormat::Pkcs8] {
        let mut app = logged_in_with(4 * MINUTE, key);
        app.change(|document| document["ofALaterVersion"] = "stays".into());
        fs::set_permissions(&app.path, fs::Permissions::from_mode(0o644)).unwrap();
        let token = app.machine.token();
        assert_eq!(app.refreshes(), 1);
        let principal = app.machine.simulator.find_credentials(&access_key_id(&token)).unwrap().principal;
        assert_eq!((app.is_signed_by_cached(&token), principal.as_str()), (false, SESSION));

        let (before, after) = (&app.document, app.cached());
        assert_eq!(after["accessToken"]["accessKeyId"], access_key_id(&token));
        assert_eq!(after["accessToken"]["accountId"], "123456789012", "the AWS CLI cannot read a file without it");
        assert_ne!(after["accessToken"]["expiresAt"], before["accessToken"]["expiresAt"]);
        assert_ne!(after["refreshToken"], before["refreshToken"], "a refresh token is good for one use");
        for member in ["clientId", "dpopKey", "idToken", "tokenType", "ofALaterVersion"] {
            assert_eq!(after[member], before[member], "{member}");
        }
        assert_eq!(fs::metadata(&app.path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(app.path.parent().unwrap()).unwrap().count(), 1, "no other file stays behind");

        // The next program finds the new credentials and does not ask.
        assert_eq!(access_key_id(&app.machine.token()), access_key_id(&token));
        assert_eq!(app.refreshes(), 1);
    }
}

#[test]
fn a_refresh_can_be_followed_by_the_next_one() {
    let mut app = logged_in(-MINUTE);
    for round in 1..4 {
        app.machine.token();
        assert_eq!(app.refreshes(), round);
        app.document = app.cached();
        app.change(|document| document["accessToken"]["expiresAt"] = "2020-01-01T00:00:00Z".into());
    }
}

#[test]
fn a_refresh_is_asked_of_the_region_of_the_login_else_of_the_configured_one() {
    let asks = |sign_in: Option<&str>, variable: Option<&str>, expected: &str| {
        let mut app = logged_in(-MINUTE);
        app.machine.unset("AWS_ENDPOINT_URL_SIGNIN");
        app.machine.unset("AWS_REGION");
        app.machine.set("HTTPS_PROXY", &aws_simulator::refused_port().unwrap().url());
        if let Some(region) = variable {
            app.machine.set("AWS_REGION", region);
        }
        app.change(|document| document["signInRegion"] = sign_in.into());
        let error = app.error();
        assert!(error.message().contains(expected), "{error}");
    };
    let (frankfurt, virginia) = ("eu-central-1.signin.aws.amazon.com", "us-east-1.signin.aws.amazon.com");
    asks(
        Some("us-east-1"),
        Some(REGION),
        &format!("signInRegion us-east-1: the sign-in service at https://{virginia}"),
    );
    asks(None, Some(REGION), &format!("AWS_REGION eu-central-1: the sign-in service at https://{frankfurt}"));
    asks(None, None, &format!("the region of the token eu-central-1: the sign-in service at https://{frankfurt}"));
    asks(Some("cn-north-1"), None, "https://cn-north-1.signin.amazonaws.cn");
    asks(Some("x@attacker.com:443/#"), None, "region for the sign-in service");
}

#[test]
fn the_error_of_an_ended_session_says_how_to_log_in_again() {
    let over = |mut app: LoggedIn, words: &str| {
        let error = app.error();
        assert_eq!(error.kind(), ErrorKind::CredentialsExpired, "{error}");
        assert!(error.message().contains("the login session of profile \"app\" has ended: "), "{error}");
        assert!(error.message().ends_with("; run: aws login --profile app"), "{error}");
        assert!(error.message().contains(words), "{error}");
        app.machine.config(&PROFILE.replace("[profile app]", "[profile \"Acme Corp\"]"));
        app.machine.set("AWS_PROFILE", "Acme Corp");
        assert!(app.error().message().ends_with("run: aws login --profile 'Acme Corp'"), "{error}");
    };
    let prepared = |prepare: &dyn Fn(&mut LoggedIn)| {
        let mut app = logged_in(-MINUTE);
        prepare(&mut app);
        app
    };
    over(prepared(&|app| fs::remove_file(&app.path).unwrap()), "there is no /");
    over(prepared(&|app| app.change(|document| document["refreshToken"] = "used".into())), "TOKEN_EXPIRED");
    let changed = r#"{"error": "USER_CREDENTIALS_CHANGED", "message": "The password was changed"}"#;
    over(prepared(&|app| app.refuses_refreshes(400, changed)), "USER_CREDENTIALS_CHANGED");
    over(prepared(&|app| app.refuses_refreshes(403, changed)), "The password was changed");
    for member in ["refreshToken", "clientId", "dpopKey"] {
        over(prepared(&|app| app.change(|document| document[member] = Value::Null)), &format!("has no {member}"));
    }
    over(
        prepared(&|app| app.change(|document| document["dpopKey"] = "PLANTED".into())),
        "is not a private key of P-256",
    );
    for text in ["", "not json", "[]", "{\"accessToken\": "] {
        over(prepared(&|app| fs::write(&app.path, text).unwrap()), "contains no JSON object");
    }
}

#[test]
fn a_missing_permission_is_named_with_the_policy_that_has_it() {
    let app = logged_in(-MINUTE);
    app.refuses_refreshes(400, r#"{"error": "INSUFFICIENT_PERMISSIONS", "message": "Not authorized"}"#);
    let error = app.error();
    assert_eq!(error.kind(), ErrorKind::Provider, "{error}");
    for words in
        ["INSUFFICIENT_PERMISSIONS: Not authorized", "signin:CreateOAuth2Token", "SignInLocalDevelopmentAccess"]
    {
        assert!(error.message().contains(words), "{error}");
    }
}

#[test]
fn a_request_that_is_refused_shows_the_words_of_the_service_and_what_to_check() {
    let mut app = logged_in(-MINUTE);
    let hands = Hands::at(Hands::of(&app.machine.simulator).now() + 3600);
    app.machine.clock(&hands);
    let error = app.error();
    assert_eq!(error.kind(), ErrorKind::Provider, "{error}");
    for words in ["INVALID_REQUEST: DPoP proof: iat is more than five minutes off", "clock", "aws login --profile app"]
    {
        assert!(error.message().contains(words), "{error}");
    }
    assert_eq!(app.cached(), app.document);
}

#[test]
fn credentials_that_have_not_expired_are_used_when_their_refresh_fails_or_hangs() {
    for fault in [Fault::Status(400), Fault::Status(503), Fault::NonJson, Fault::HangBeforeAnswer] {
        let mut app = logged_in(4 * MINUTE);
        app.machine.setting("timeout_ms", "1500");
        app.machine.simulator.inject(Route::SignInToken, fault, Times::Forever);
        assert!(app.is_signed_by_cached(&app.machine.token()));
        assert_eq!(app.cached(), app.document);
        assert_eq!(fs::read_dir(app.path.parent().unwrap()).unwrap().count(), 1, "no temporary file stays behind");
    }
}

#[test]
fn an_outage_of_the_sign_in_service_is_not_an_ended_session() {
    let app = logged_in(-MINUTE);
    app.machine.simulator.inject(Route::SignInToken, Fault::Status(503), 2);
    app.machine.token();
    assert_eq!(app.refreshes(), 3, "asked again after an outage");
    for fault in [Fault::Status(500), Fault::Throttling, Fault::NonJson] {
        let app = logged_in(-MINUTE);
        app.machine.simulator.inject(Route::SignInToken, fault, Times::Forever);
        let error = app.error();
        assert_eq!(error.kind(), ErrorKind::Provider, "{error}");
        assert!(!error.message().contains("has ended"), "{error}");
    }
}

#[test]
fn a_response_without_what_is_needed_is_an_error_that_names_it_and_leaves_the_cache() {
    let keys = r#""accessKeyId": "ASIAIOSFODNN7EXAMPLE", "secretAccessKey": "s""#;
    for (body, missing) in [
        (r#"{"expiresIn": 900}"#.to_owned(), "accessToken"),
        (format!(r#"{{"accessToken": {{{keys}, "sessionToken": "t"}}}}"#), "expiresIn"),
        (format!(r#"{{"accessToken": {{{keys}}}, "expiresIn": 900}}"#), "sessionToken"),
    ] {
        let app = logged_in(-MINUTE);
        app.refuses_refreshes(200, &body);
        let error = app.error();
        assert!(error.message().ends_with(&format!("the response is missing {missing}")), "{error}");
        assert_eq!(app.cached(), app.document);
    }
}

#[test]
fn credentials_that_are_missing_or_damaged_in_the_cache_are_refreshed() {
    type Change = fn(&mut Value);
    let changes: [Change; 5] = [
        |document| document["accessToken"] = Value::Null,
        |document| document["accessToken"]["secretAccessKey"] = 1.into(),
        |document| document["accessToken"]["sessionToken"] = Value::Null,
        |document| document["accessToken"]["expiresAt"] = "soon".into(),
        |document| document["accessToken"]["expiresAt"] = 4_102_444_800_i64.into(),
    ];
    for change in changes {
        let mut app = logged_in(10 * MINUTE);
        app.change(change);
        app.machine.token();
        assert_eq!(app.refreshes(), 1);
    }
}

#[test]
fn a_cache_file_that_cannot_be_replaced_is_not_refreshed_because_that_would_end_the_session() {
    for (ends_in, is_usable) in [(-MINUTE, false), (4 * MINUTE, true)] {
        let mut app = logged_in(ends_in);
        // Root may write everywhere. With this path, the name of a temporary file is too long.
        let directory = app.path.parent().unwrap().to_str().unwrap();
        let long = format!("{directory}{}", "/.".repeat((4020 - directory.len()) / 2));
        app.machine.set("AWS_LOGIN_CACHE_DIRECTORY", &long);
        if is_usable {
            assert!(app.is_signed_by_cached(&app.machine.token()));
        } else {
            let error = app.error();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
            assert!(error.message().contains("the file cannot be replaced"), "{error}");
        }
        assert_eq!((app.refreshes(), app.cached()), (0, app.document));
    }
}

#[test]
fn the_directory_of_the_cache_is_expanded_as_by_the_aws_cli() {
    for directory in ["~/logins", "$HOME/logins", "${HOME}/logins"] {
        let mut app = logged_in(10 * MINUTE);
        fs::create_dir_all(app.machine.path("logins")).unwrap();
        fs::rename(&app.path, app.machine.path("logins").join(app.path.file_name().unwrap())).unwrap();
        assert!(app.error().message().contains("there is no"));
        app.machine.set("AWS_LOGIN_CACHE_DIRECTORY", directory);
        assert!(app.is_signed_by_cached(&app.machine.token()), "{directory}");
    }
}

#[test]
fn a_refresh_of_the_aws_cli_meanwhile_is_read_from_the_cache() {
    let app = logged_in(-MINUTE);
    let simulator = &app.machine.simulator;
    let refused = r#"{"error": "TOKEN_EXPIRED", "message": "used"}"#;
    simulator.set_body(Route::SignInToken, Some(refused));
    simulator.inject(Route::SignInToken, Fault::Hold, 1);
    let client = app.machine.client();
    std::thread::scope(|scope| {
        let ours = scope.spawn(|| client.generate_token(&request()));
        assert!(simulator.wait_for_held(1, Duration::from_secs(10)));
        let theirs = simulator.log_in(SESSION, KeyFormat::Sec1);
        app.machine.login_cache(SESSION, &theirs);
        simulator.release();
        let token = ours.join().unwrap().unwrap();
        assert_eq!(theirs["accessToken"]["accessKeyId"], access_key_id(&token));
    });
}

#[test]
fn processes_that_refresh_at_the_same_time_use_the_refresh_token_once() {
    let app = logged_in(-MINUTE);
    // Each client opens the lock itself, as another process would.
    let clients: Vec<_> = (0..8).map(|_| app.machine.client()).collect();
    let signers: Vec<String> = std::thread::scope(|scope| {
        let running: Vec<_> =
            clients.iter().map(|client| scope.spawn(|| client.generate_token(&request()).unwrap())).collect();
        running.into_iter().map(|token| access_key_id(&token.join().unwrap())).collect()
    });
    assert_eq!(app.refreshes(), 1);
    assert!(signers.iter().all(|signer| *signer == signers[0]), "{signers:?}");
}

#[test]
fn a_login_session_is_the_source_of_a_role() {
    let mut app = logged_in(-MINUTE);
    app.machine.config(&format!(
        "[profile role]\nrole_arn = {}\nsource_profile = app\n{PROFILE}credential_process = /bin/false\n",
        support::ROLE
    ));
    app.machine.set("AWS_PROFILE", "role");
    let token = app.machine.token();
    let principal = app.machine.simulator.find_credentials(&access_key_id(&token)).unwrap().principal;
    assert!(principal.contains(":assumed-role/app/"), "{principal}");
    assert_eq!((app.refreshes(), app.machine.simulator.requests_for(Route::StsAssumeRole).len()), (1, 1));
    app.change(|document| document["refreshToken"] = "used".into());
    assert!(app.error().message().ends_with("run: aws login --profile app"), "the profile with the session");
}

#[test]
fn logging_in_again_is_enough_for_a_running_program() {
    let app = logged_in(-MINUTE);
    fs::remove_file(&app.path).unwrap();
    let client = app.machine.client();
    assert_eq!(client.generate_token(&request()).unwrap_err().kind(), ErrorKind::CredentialsExpired);
    app.machine.login_cache(SESSION, &app.machine.simulator.log_in(SESSION, KeyFormat::Sec1));
    client.generate_token(&request()).unwrap();
}

#[test]
fn a_running_program_refreshes_in_the_background_before_the_credentials_expire() {
    let mut app = logged_in(15 * MINUTE);
    let hands = Hands::of(&app.machine.simulator);
    app.machine.clock(&hands);
    let client = app.machine.client();
    assert!(app.is_signed_by_cached(&client.generate_token(&request()).unwrap()));
    hands.forward(12 * MINUTE);
    app.machine.simulator.set_clock_offset(12 * MINUTE);
    assert!(app.is_signed_by_cached(&client.generate_token(&request()).unwrap()), "at once, with the cached ones");
    assert!(app.machine.simulator.wait_for_requests(1, Duration::from_secs(10)));
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while app.is_signed_by_cached(&client.generate_token(&request()).unwrap()) {
        assert!(std::time::Instant::now() < deadline, "the refreshed credentials are not used");
        std::thread::yield_now();
    }
    assert_eq!(app.refreshes(), 1);
}
