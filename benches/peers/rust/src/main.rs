//! A token as a program in Rust makes one with the AWS SDK.
//!
//!   rust-sdk-peer token HOST PORT REGION USER   one token, credentials from the SDK's default chain
//!   rust-sdk-peer warm HOST PORT REGION USER    static credentials from the environment; prints the nanoseconds per
//!                                               token of each of 30 batches, one number a line

use std::error::Error;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_rds::auth_token::{AuthTokenGenerator, Config};

const BATCHES: u32 = 30;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, host, port, region, user] = &arguments[..] else {
        return Err("usage: rust-sdk-peer token|warm HOST PORT REGION USER".into());
    };
    let generator = AuthTokenGenerator::new(
        Config::builder()
            .hostname(host)
            .port(port.parse()?)
            .username(user)
            .region(Region::new(region.clone()))
            .build()?,
    );
    if mode == "token" {
        let config = aws_config::defaults(BehaviorVersion::latest()).region(Region::new(region.clone())).load().await;
        println!("{}", generator.auth_token(&config).await?);
        return Ok(());
    }

    let credentials = Credentials::new(
        std::env::var("AWS_ACCESS_KEY_ID")?,
        std::env::var("AWS_SECRET_ACCESS_KEY")?,
        std::env::var("AWS_SESSION_TOKEN").ok(),
        None,
        "static",
    );
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(region.clone()))
        .credentials_provider(credentials)
        .load()
        .await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(200) {
        generator.auth_token(&config).await?;
    }
    for _ in 0..BATCHES {
        let (mut tokens, began) = (0_u32, Instant::now());
        while began.elapsed() < Duration::from_millis(10) {
            for _ in 0..50 {
                std::hint::black_box(generator.auth_token(&config).await?);
            }
            tokens += 50;
        }
        println!("{}", began.elapsed().as_nanos() as f64 / f64::from(tokens));
    }
    Ok(())
}
