//! The region in which a service that issues credentials is asked, when nothing more specific names one.

use crate::config::profile_files::Profile;
use crate::credentials::Context;

/// A region, and what it was taken from.
pub(crate) struct ServiceRegion {
    pub(crate) name: String,
    pub(crate) origin: String,
}

impl ServiceRegion {
    /// The region that is configured, in the AWS CLI's order; else that of the profile with the service's settings; else
    /// the region of the token.
    pub(crate) fn configured(context: &Context<'_>, profile: Option<&Profile>) -> Option<Self> {
        let config = context.config;
        fn of_profile(profile: &Profile) -> Option<(&str, String)> {
            Some((profile.get("region")?, format!("region of profile {:?}", profile.name())))
        }
        let variable = |name: &'static str| config.environment.get(name).map(|region| (region, name.to_owned()));
        let (name, origin) = config
            .settings
            .region()
            .map(|region| (region, "the region setting".to_owned()))
            .or_else(|| variable("AWS_REGION"))
            .or_else(|| variable("AWS_DEFAULT_REGION"))
            .or_else(|| config.profile().ok().flatten().and_then(of_profile))
            .or_else(|| profile.and_then(of_profile))
            .or_else(|| context.token_region.map(|region| (region, "the region of the token".to_owned())))?;
        Some(Self { name: name.to_ascii_lowercase(), origin })
    }
}
