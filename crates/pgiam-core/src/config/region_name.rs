//! The syntax of a region's name. It becomes part of host names, so everything else is refused.

/// Checks that a text can be a region: letters, digits and hyphens. The error says what is wrong.
pub(crate) fn check(region: &str) -> Result<(), String> {
    if region.is_empty() {
        return Err("the region is empty".into());
    }
    match region.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-')) {
        Some(bad) => Err(format!(
            "{region:?} has the character {bad:?}; a region has letters, digits and '-' only, as in eu-central-1"
        )),
        None if region.len() > 63 || region.starts_with('-') || region.ends_with('-') => {
            Err(format!("{region:?} is not a region; one looks like eu-central-1"))
        }
        None => Ok(()),
    }
}
