//! Asking a person, at the terminal, during a fetch of credentials: which fetches may, and the code of an MFA device.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::error::{Error, invalid_configuration, reason};
use crate::secret::Secret;

thread_local! {
    static MAY_ASK: Cell<bool> = const { Cell::new(true) };
}

/// Runs `work`, a background refresh, in which nobody may be asked.
pub(crate) fn without_asking<T>(work: impl FnOnce() -> T) -> T {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            MAY_ASK.set(self.0);
        }
    }
    let _restore = Restore(MAY_ASK.replace(false));
    work()
}

/// Whether this fetch may ask a person.
pub(crate) fn may_ask() -> bool {
    MAY_ASK.get()
}

/// Asks a person for the code that an MFA device shows now; it gets the device's ARN or serial number.
#[derive(Clone)]
pub(crate) struct MfaPrompt(pub(crate) Arc<AskForCode>);

type AskForCode = dyn Fn(&str) -> io::Result<String> + Send + Sync;

impl fmt::Debug for MfaPrompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MfaPrompt")
    }
}

impl MfaPrompt {
    /// Asks for the code of a device.
    pub(crate) fn code(&self, device: &str) -> Result<Secret, Error> {
        let answer = Secret::new(self.0(device).map_err(|error| invalid_configuration(reason(&error)))?);
        let code = answer.expose().trim();
        if code.len() != 6 || !code.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid_configuration("the MFA code that was entered is not six digits"));
        }
        Ok(Secret::new(code.to_owned()))
    }
}
