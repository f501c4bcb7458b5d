//! The verifier's public interface: published tokens are accepted, and every check refuses its own error only.
//!
//! The signer in this file is an independent implementation of the same rules of the IAM User Guide. It signs any
//! input, valid or not.

use hmac::{Hmac, KeyInit, Mac};
use pam_rds_iam::{Accepted, Check, Checks, Credential, Refused, Server, Service, verify};
use sha2::{Digest, Sha256};

/// Unix seconds of `TIME`.
const NOW: i64 = 1_724_709_600;
const TIME: &str = "20240826T220000Z";
const HOST: &str = "db.abc123.eu-central-1.rds.amazonaws.com";
const SESSION_TOKEN: &str = "IQoJb3JpZ2luX2VjE/+=";

/// The parts of a token; a test sets one to a wrong value before signing.
#[derive(Clone)]
struct Recipe {
    /// The host and port in the token.
    authority: String,
    /// The signed host header.
    signed_authority: String,
    access_key_id: String,
    secret_access_key: String,
    scope: [String; 4],
    /// Names and escaped values, sorted, without credential and signature.
    parameters: Vec<(&'static str, String)>,
}

impl Recipe {
    fn new() -> Self {
        let strings = |texts: [&str; 4]| texts.map(str::to_owned);
        Self {
            authority: format!("{HOST}:5432"),
            signed_authority: format!("{HOST}:5432"),
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: "secret".into(),
            scope: strings(["20240826", "eu-central-1", "rds-db", "aws4_request"]),
            parameters: [
                ("Action", "connect"),
                ("DBUser", "app_user"),
                ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
                ("X-Amz-Date", TIME),
                ("X-Amz-Expires", "900"),
                ("X-Amz-Security-Token", "IQoJb3JpZ2luX2VjE%2F%2B%3D"),
                ("X-Amz-SignedHeaders", "host"),
            ]
            .map(|(name, value)| (name, value.to_owned()))
            .into(),
        }
    }

    fn dsql() -> Self {
        let mut recipe = Self::new().authority(HOST).without("DBUser");
        recipe.scope[2] = "dsql".into();
        recipe.with("Action", "DbConnect")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        for parameter in &mut self.parameters {
            if parameter.0 == name {
                parameter.1 = value.to_owned();
            }
        }
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.parameters.retain(|parameter| parameter.0 != name);
        self
    }

    fn authority(mut self, authority: &str) -> Self {
        self.authority = authority.into();
        self.signed_authority = authority.into();
        self
    }

    fn scope(mut self, part: usize, value: &str) -> Self {
        self.scope[part] = value.into();
        self
    }

    fn at(self, seconds: i64) -> Self {
        let (days, time) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let day = 26 + days - NOW / 86_400;
        let date = format!("202408{day:02}");
        let time = format!("{:02}{:02}{:02}", time / 3600, time / 60 % 60, time % 60);
        self.scope(0, &date).with("X-Amz-Date", &format!("{date}T{time}Z"))
    }

    fn parameter(&self, name: &str) -> &str {
        let mut found = self.parameters.iter().filter(|parameter| parameter.0 == name);
        found.next().map_or("", |parameter| &parameter.1)
    }

    /// The parameters and the signature that is computed over them.
    fn signed(&self) -> Vec<(&'static str, String)> {
        let scope = self.scope.join("/");
        let credential = format!("{}/{scope}", self.access_key_id).replace('/', "%2F");
        let mut parameters = self.parameters.clone();
        parameters.push(("X-Amz-Credential", credential));
        parameters.sort();
        let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let headers = self.parameter("X-Amz-SignedHeaders").replace("%3B", ";");
        let header_lines: String = headers
            .split(';')
            .map(|header| match header {
                "host" => format!("host:{}\n", self.signed_authority),
                other => format!("{other}:\n"),
            })
            .collect();
        let request = format!(
            "GET\n/\n{}\n{header_lines}\n{headers}\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            query.join("&"),
        );
        let to_sign = format!(
            "{}\n{}\n{scope}\n{}",
            self.parameter("X-Amz-Algorithm"),
            self.parameter("X-Amz-Date"),
            hex(&Sha256::digest(request)),
        );
        let mut key = format!("AWS4{}", self.secret_access_key).into_bytes();
        for part in self.scope.iter().chain([&to_sign]) {
            let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
            mac.update(part.as_bytes());
            key = mac.finalize().into_bytes().to_vec();
        }
        parameters.push(("X-Amz-Signature", hex(&key)));
        parameters
    }

    fn token(&self) -> String {
        assemble(&self.authority, &self.signed())
    }
}

fn assemble(authority: &str, parameters: &[(&str, String)]) -> String {
    let query: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{authority}/?{}", query.join("&"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn server() -> Server {
    Server {
        host: HOST.into(),
        port: 5432,
        region: "eu-central-1".into(),
        service: Service::RdsDb,
        max_token_age_seconds: None,
    }
}

fn credential() -> Credential {
    Credential {
        access_key_id: "ASIAEXAMPLE".into(),
        secret_access_key: "secret".into(),
        session_token: Some(SESSION_TOKEN.into()),
        expiration: Some(NOW + 3600),
        principal: "arn:aws:sts::123456789012:assumed-role/app/session".into(),
        allowed_users: None,
    }
}

/// A login, valid until something is changed.
struct Login {
    token: String,
    user: &'static str,
    server: Server,
    credential: Credential,
}

impl Login {
    fn with(recipe: Recipe) -> Self {
        Self::with_token(recipe.token())
    }

    fn with_token(token: String) -> Self {
        Self { token, user: "app_user", server: server(), credential: credential() }
    }

    fn try_with(&self, checks: &Checks) -> Result<Accepted, Refused> {
        let known = std::slice::from_ref(&self.credential);
        verify(&self.token, self.user, &self.server, &known, NOW, checks)
    }

    fn assert_accepted(&self, why: &str) {
        if let Err(refused) = self.try_with(&Checks::all()) {
            panic!("{why}: {refused}\n{}", self.token);
        }
    }

    fn assert_refused(&self, by: Check) {
        match self.try_with(&Checks::all()) {
            Ok(_) => panic!("{by} did not refuse {}", self.token),
            Err(refused) => assert_eq!(refused.check, by, "{refused}"),
        }
    }

    /// This check refuses the token, and no other one does.
    fn assert_only_refused(&self, by: Check) {
        self.assert_refused(by);
        if let Err(refused) = self.try_with(&Checks::all().without(by)) {
            panic!("without {by}: {refused}");
        }
    }
}

/// For every check, a login that differs from a valid one only in the field of this check.
fn login_refused_by(check: Check) -> Login {
    let valid = Recipe::new;
    match check {
        Check::Format => {
            let mut recipe = valid();
            recipe.parameters.push(("Action", "connect".into()));
            Login::with(recipe)
        }
        Check::Algorithm => Login::with(valid().with("X-Amz-Algorithm", "AWS4-HMAC-SHA512")),
        Check::CredentialDate => Login::with(valid().scope(0, "20240825")),
        Check::Region => Login::with(valid().scope(1, "eu-west-1")),
        Check::Service => Login::with(valid().scope(2, "rds")),
        Check::Terminator => Login::with(valid().scope(3, "aws5_request")),
        Check::Host => Login::with(valid().authority("other.abc123.eu-central-1.rds.amazonaws.com:5432")),
        Check::Port => Login::with(valid().authority(&format!("{HOST}:5433"))),
        Check::Action => Login::with(valid().with("Action", "DbConnect")),
        Check::User => Login::with(valid().with("DBUser", "other_user")),
        Check::SignedHeaders => Login::with(valid().with("X-Amz-SignedHeaders", "host%3Bx-amz-date")),
        Check::ExpiresLimit => Login::with(valid().with("X-Amz-Expires", "901")),
        Check::NotYetValid => Login::with(valid().at(NOW + 301)),
        Check::Expired => Login::with(valid().at(NOW - 901)),
        Check::TokenAge => {
            let mut login = Login::with(valid().at(NOW - 61));
            login.server.max_token_age_seconds = Some(60);
            login
        }
        Check::AccessKey => {
            let mut login = Login::with(valid());
            login.credential.access_key_id = "ASIAANOTHER".into();
            login
        }
        Check::SessionToken => Login::with(valid().with("X-Amz-Security-Token", "another")),
        Check::CredentialsExpired => {
            let mut login = Login::with(valid());
            login.credential.expiration = Some(NOW);
            login
        }
        Check::Policy => {
            let mut login = Login::with(valid());
            login.credential.allowed_users = Some(vec!["other_user".into()]);
            login
        }
        Check::Signature => {
            let mut login = Login::with(valid());
            login.credential.secret_access_key = "another secret".into();
            login
        }
    }
}

#[test]
fn every_check_refuses_a_wrong_value_of_its_field_and_no_other_check_does() {
    for check in Check::ALL {
        login_refused_by(*check).assert_only_refused(*check);
    }
}

#[test]
fn the_names_of_the_checks_do_not_change() {
    let names: Vec<&str> = Check::ALL.iter().map(|check| check.name()).collect();
    assert_eq!(
        names.join(" "),
        "format algorithm credential_date region service terminator host port action user signed_headers \
         expires_limit not_yet_valid expired token_age access_key session_token credentials_expired policy signature"
    );
}

#[test]
fn a_valid_token_is_accepted() {
    let login = Login::with(Recipe::new());
    let accepted = login.try_with(&Checks::all()).unwrap();
    assert_eq!(accepted.access_key_id, "ASIAEXAMPLE");
    assert_eq!(accepted.principal, Some(credential().principal));
}

#[test]
fn times_are_valid_up_to_their_last_second() {
    Login::with(Recipe::new().at(NOW - 900)).assert_accepted("900 s old");
    Login::with(Recipe::new().at(NOW + 300)).assert_accepted("300 s ahead");
    Login::with(Recipe::new().with("X-Amz-Expires", "1")).assert_accepted("valid for 1 s");
    Login::with(Recipe::new().at(NOW - 2).with("X-Amz-Expires", "1")).assert_refused(Check::Expired);
    let mut login = Login::with(Recipe::new().at(NOW - 60));
    login.server.max_token_age_seconds = Some(60);
    login.assert_accepted("as old as allowed");
    login.credential.expiration = Some(NOW + 1);
    login.assert_accepted("the credentials' last second");
}

#[test]
fn expires_is_between_one_second_and_fifteen_minutes() {
    for expires in ["0", "-1", "901", "9223372036854775807"] {
        Login::with(Recipe::new().with("X-Amz-Expires", expires)).assert_refused(Check::ExpiresLimit);
    }
}

#[test]
fn any_order_of_parameters_is_accepted() {
    let parameters = Recipe::new().signed();
    for first in 0..parameters.len() {
        let mut turned = parameters.clone();
        turned.rotate_left(first);
        let authority = format!("{HOST}:5432");
        Login::with_token(assemble(&authority, &turned)).assert_accepted("turned");
        turned.reverse();
        Login::with_token(assemble(&authority, &turned)).assert_accepted("turned and reversed");
    }
}

#[test]
fn lower_case_and_unnecessary_escapes_are_accepted() {
    let token = Recipe::new().token();
    Login::with_token(token.replace("%2F", "%2f")).assert_accepted("lower-case escape");
    Login::with_token(token.replace("app_user", "%61pp_user")).assert_accepted("unnecessary escape");
    Login::with_token(token.replace("%2F", "/")).assert_accepted("unescaped slashes");
}

#[test]
fn every_required_parameter_must_be_present() {
    for name in ["Action", "DBUser", "X-Amz-Algorithm", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"] {
        Login::with(Recipe::new().without(name)).assert_refused(Check::Format);
    }
    for name in ["X-Amz-Credential", "X-Amz-Signature"] {
        let mut parameters = Recipe::new().signed();
        parameters.retain(|parameter| parameter.0 != name);
        let token = assemble(&format!("{HOST}:5432"), &parameters);
        Login::with_token(token).assert_refused(Check::Format);
    }
}

#[test]
fn a_repeated_parameter_is_refused() {
    for (name, value) in Recipe::new().signed() {
        let token = format!("{}&{name}={value}", Recipe::new().token());
        Login::with_token(token).assert_refused(Check::Format);
    }
}

#[test]
fn a_text_that_is_not_a_token_is_refused_by_the_format_check() {
    let token = Recipe::new().token();
    for text in [
        String::new(),
        "a password".into(),
        format!("https://{token}"),
        token.replace("/?", "?"),
        token.replace("/?", "/path?"),
        token.replace("app_user", "app user"),
        token.replace("app_user", "app%user"),
        token.replace("app_user", "app%FFuser"),
        token.replace("app_user", "äpp_user"),
        token.replace("DBUser=", "DBUser"),
        token.replace("%2Faws4_request", ""),
        token.replace("aws4_request", "aws4_request%2F"),
        token.replace(TIME, "20240826T220000"),
        token.replace("Expires=900", "Expires=15m"),
        format!("{token}\n"),
        format!("{token}&"),
    ] {
        Login::with_token(text).assert_refused(Check::Format);
    }
}

#[test]
fn an_empty_session_token_differs_from_an_absent_one() {
    let mut login = Login::with(Recipe::new().with("X-Amz-Security-Token", ""));
    login.assert_only_refused(Check::SessionToken);
    login.credential.session_token = None;
    login.assert_only_refused(Check::SessionToken);
    login.credential.session_token = Some(String::new());
    login.assert_accepted("a key issued with an empty one, which AWS does not do");
}

#[test]
fn a_session_token_is_present_if_and_only_if_it_was_issued() {
    let mut login = Login::with(Recipe::new().without("X-Amz-Security-Token"));
    login.assert_only_refused(Check::SessionToken);
    login.credential.session_token = None;
    login.assert_accepted("long-lived key");
    let mut login = Login::with(Recipe::new());
    login.credential.session_token = None;
    login.assert_only_refused(Check::SessionToken);
}

#[test]
fn a_change_to_any_signed_field_breaks_the_signature() {
    let token = Recipe::new().token();
    for (found, changed, check) in [
        ("DBUser=app_user", "DBUser=other_user", Check::User),
        ("Expires=900", "Expires=901", Check::ExpiresLimit),
        (":5432/", ":5433/", Check::Port),
        ("db.abc123", "db.xyz", Check::Host),
    ] {
        let login = Login::with_token(token.replace(found, changed));
        let refused = login.try_with(&Checks::all().without(check)).unwrap_err();
        assert_eq!(refused.check, Check::Signature, "{changed}");
    }
    let upper_case = token.split_once("Signature=").unwrap().1.to_uppercase();
    let (rest, _) = token.split_once("Signature=").unwrap();
    Login::with_token(format!("{rest}Signature={upper_case}")).assert_refused(Check::Signature);
    Login::with_token(format!("{rest}Signature=")).assert_refused(Check::Signature);
}

#[test]
fn port_443_is_in_the_text_and_not_in_the_signature() {
    let mut login =
        Login::with(Recipe { authority: format!("{HOST}:443"), signed_authority: HOST.into(), ..Recipe::new() });
    login.server.port = 443;
    login.assert_accepted("left out");
    login.token = Recipe::new().authority(&format!("{HOST}:443")).token();
    login.assert_refused(Check::Signature);
}

#[test]
fn a_port_is_compared_as_text() {
    for authority in [HOST.to_owned(), format!("{HOST}:"), format!("{HOST}:05432"), format!("{HOST}:70968")] {
        Login::with(Recipe::new().authority(&authority)).assert_only_refused(Check::Port);
    }
}

#[test]
fn a_host_is_compared_with_case() {
    for host in [HOST.to_uppercase(), format!("{HOST}."), String::new()] {
        Login::with(Recipe::new().authority(&format!("{host}:5432"))).assert_only_refused(Check::Host);
    }
}

#[test]
fn user_names_are_unescaped() {
    let mut login = Login::with(Recipe::new().with("DBUser", "jane%2Bx%20y%2A%40corp.com"));
    login.user = "jane+x y*@corp.com";
    login.assert_accepted("escaped name");
}

#[test]
fn a_policy_lists_the_users_it_allows() {
    let mut login = Login::with(Recipe::new());
    login.credential.allowed_users = Some(vec!["other_user".into(), "app_user".into()]);
    login.assert_accepted("listed");
    login.credential.allowed_users = Some(Vec::new());
    login.assert_only_refused(Check::Policy);
}

#[test]
fn a_token_of_sixty_kilobytes_is_accepted() {
    let long = "x".repeat(65_000);
    let mut login = Login::with(Recipe::new().with("X-Amz-Security-Token", &long));
    assert!(login.token.len() < 65_530);
    login.credential.session_token = Some(long);
    login.assert_accepted("long");
    login.token = login.token.replacen("xx&", "xy&", 1);
    login.assert_refused(Check::SessionToken);
}

#[test]
fn the_reason_of_a_refusal_is_short_and_has_no_secrets() {
    let long = "u".repeat(10_000);
    let user = Login::with(Recipe::new().with("DBUser", &long));
    assert!(user.try_with(&Checks::all()).unwrap_err().detail.len() < 300);
    for check in Check::ALL {
        let login = login_refused_by(*check);
        let refused = login.try_with(&Checks::all()).unwrap_err();
        let signature = login.token.split_once("Signature=").unwrap().1;
        for secret in ["IQoJ", signature] {
            assert!(!refused.detail.contains(secret), "{refused}");
        }
        assert_eq!(refused.access_key_id.as_deref(), Some("ASIAEXAMPLE"));
    }
}

#[test]
fn dsql_tokens_have_neither_port_nor_user() {
    let dsql = |recipe: Recipe, user| {
        let mut login = Login::with(recipe);
        login.server.service = Service::Dsql;
        login.user = user;
        login
    };
    let admin = || Recipe::dsql().with("Action", "DbConnectAdmin");
    dsql(Recipe::dsql(), "app_user").assert_accepted("user");
    dsql(admin(), "admin").assert_accepted("admin");
    dsql(admin(), "app_user").assert_only_refused(Check::Action);
    dsql(Recipe::dsql(), "admin").assert_only_refused(Check::Action);
    dsql(Recipe::dsql().authority(&format!("{HOST}:5432")), "app_user").assert_only_refused(Check::Port);
    dsql(Recipe::dsql().scope(2, "rds-db"), "app_user").assert_only_refused(Check::Service);
    let mut named = Recipe::dsql();
    named.parameters.push(("DBUser", "app_user".into()));
    dsql(named, "app_user").assert_only_refused(Check::User);
}

/// Tokens from the test suites of the AWS SDKs and others, not made by a signer of this repository.
#[test]
fn published_tokens_are_accepted() {
    struct Published {
        source: &'static str,
        keys: (&'static str, &'static str, Option<&'static str>),
        user: &'static str,
        region: &'static str,
        now: i64,
        token: &'static str,
    }
    let published = [
        Published {
            source: "smithy-rs, aws-sdk-rds",
            keys: ("akid", "secret", None),
            user: "peccy",
            region: "us-east-1",
            now: 1_724_709_600,
            token: "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect&DBUser=peccy&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=akid%2F20240826%2Fus-east-1%2Frds-db%2Faws4_request&X-Amz-Date=20240826T220000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89",
        },
        Published {
            source: "aws-sdk-java-v2",
            keys: ("access_key", "secret_key", None),
            user: "mySQLUser",
            region: "us-east-1",
            now: 1_478_540_373,
            token: "host.us-east-1.amazonaws.com:3306/?DBUser=mySQLUser&Action=connect&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20161107T173933Z&X-Amz-SignedHeaders=host&X-Amz-Expires=900&X-Amz-Credential=access_key%2F20161107%2Fus-east-1%2Frds-db%2Faws4_request&X-Amz-Signature=87ab58107ef49f1c311a412f98b7f976b0b5152ffb559f0d36c6c9a0c5e0e362",
        },
        Published {
            source: "botocore",
            keys: ("akid", "skid", None),
            user: "someusername",
            region: "us-east-1",
            now: 1_478_540_373,
            token: "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect&DBUser=someusername&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20161107T173933Z&X-Amz-SignedHeaders=host&X-Amz-Expires=900&X-Amz-Credential=akid%2F20161107%2Fus-east-1%2Frds-db%2Faws4_request&X-Amz-Signature=d1138cdbc0ca63eec012ec0fc6c2267e03642168f5884a7795320d4c18374c61",
        },
        Published {
            source: "carepay, with a session token",
            keys: ("IAMKEYINSTANCE", "asdfqwertypolly", Some("mytoken")),
            user: "iam_user",
            region: "eu-west-1",
            now: 1_537_372_962,
            token: "dbhost.xyz.eu-west-1.amazonaws.com:3306/?Action=connect&DBUser=iam_user&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=IAMKEYINSTANCE%2F20180919%2Feu-west-1%2Frds-db%2Faws4_request&X-Amz-Date=20180919T160242Z&X-Amz-Expires=900&X-Amz-Security-Token=mytoken&X-Amz-SignedHeaders=host&X-Amz-Signature=8966604a85aa991ef9bed5135aa8565e0e22ae375d2b85892a16e1a642ae0bd1",
        },
        Published {
            source: "smithy-rs, aws-sdk-dsql",
            keys: ("akid", "secret", None),
            user: "peccy",
            region: "us-east-1",
            now: 1_724_716_800,
            token: "peccy.dsql.us-east-1.on.aws/?Action=DbConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=akid%2F20240827%2Fus-east-1%2Fdsql%2Faws4_request&X-Amz-Date=20240827T000000Z&X-Amz-Expires=450&X-Amz-SignedHeaders=host&X-Amz-Signature=f5f2ad764ca5df44045d4ab6ccecba0eef941b0007e5765885a0b6ed3702a3f8",
        },
        Published {
            source: "botocore, DSQL",
            keys: ("ACCESS_KEY", "SECRET_KEY", Some("SESSION_TOKEN")),
            user: "admin",
            region: "us-east-1",
            now: 1_731_001_173,
            token: "test.dsql.us-east-1.on.aws/?Action=DbConnectAdmin&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=ACCESS_KEY%2F20241107%2Fus-east-1%2Fdsql%2Faws4_request&X-Amz-Date=20241107T173933Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token=SESSION_TOKEN&X-Amz-Signature=5ac084bc7cabccc19a52a5d1b5c24b50d3ce143f43b659bd484c91aaf555e190",
        },
    ];
    for published in published {
        let authority = published.token.split_once('/').unwrap().0;
        let (host, port, service) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().unwrap(), Service::RdsDb),
            None => (authority, 5432, Service::Dsql),
        };
        let server =
            Server { host: host.into(), port, region: published.region.into(), service, max_token_age_seconds: None };
        let (access_key_id, secret_access_key, session_token) = published.keys;
        let known: &[Credential] = &[Credential {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: session_token.map(str::to_owned),
            expiration: None,
            ..credential()
        }];
        let verdict = verify(published.token, published.user, &server, &known, published.now, &Checks::all());
        if let Err(refused) = verdict {
            panic!("{}: {refused}", published.source);
        }
    }
}

/// An internally consistent token for the service `rds`, which is not `rds-db`.
#[test]
fn a_published_token_for_the_wrong_service_is_refused() {
    let token = "db.example.com:5432/?Action=connect&DBUser=app&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20260910%2Feu-central-1%2Frds%2Faws4_request&X-Amz-Date=20260910T120000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=e4943e0b870c23b37ece1bf6e52ad3e0ede0f941fd45b59dab24ad3a9535f63c";
    let server = Server { host: "db.example.com".into(), ..server() };
    let known: &[Credential] = &[Credential {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
        session_token: None,
        expiration: None,
        ..credential()
    }];
    let verdict = |checks| verify(token, "app", &server, &known, 1_789_041_600, &checks);
    assert_eq!(verdict(Checks::all()).unwrap_err().check, Check::Service);
    assert!(verdict(Checks::all().without(Check::Service)).is_ok());
}
