//! Hooks for tests: they can stop the core while it has a lock, and read every error message.
//!
//! Only with the feature `test-hooks`, which the core's own tests turn on and no product does; without it the calls do
//! nothing.

#[cfg(feature = "test-hooks")]
pub use with_hooks::*;
#[cfg(not(feature = "test-hooks"))]
pub(crate) use without::*;

#[cfg(feature = "test-hooks")]
mod with_hooks {
    use std::cell::RefCell;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::sync::Arc;

    /// Called with the name of the moment.
    pub type Hook = Arc<dyn Fn(&'static str) + Send + Sync>;

    /// The moments, in the order of the code in `single_flight`, then those of the client.
    pub const MOMENTS: [&str; 7] = [
        "run: locked",
        "run: waiting",
        "poll: locked",
        "spawn: locked",
        "fetching",
        "finish: locked",
        "checking files",
    ];

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = const { RefCell::new(None) };
    }

    /// Sets this thread's hook. Threads that the core starts from it inherit it.
    pub fn set_hook(hook: Option<Hook>) {
        HOOK.with(|place| *place.borrow_mut() = hook);
    }

    pub(crate) fn hook() -> Option<Hook> {
        HOOK.with(|place| place.borrow().clone())
    }

    pub(crate) fn reached(moment: &'static str) {
        debug_assert!(MOMENTS.contains(&moment), "{moment}");
        if let Some(hook) = hook() {
            hook(moment);
        }
    }

    /// Adds a message to the file that `PGIAM_TEST_MESSAGES` names: the test run looks for secrets in it.
    pub(crate) fn message(text: &str) {
        if let Some(path) = std::env::var_os("PGIAM_TEST_MESSAGES")
            && let Ok(mut file) = OpenOptions::new().append(true).create(true).open(path)
        {
            // The check of the test run fails where no message was recorded.
            file.write_all(format!("{text}\n").as_bytes()).ok();
        }
    }
}

#[cfg(not(feature = "test-hooks"))]
mod without {
    pub(crate) fn reached(_moment: &'static str) {}

    pub(crate) fn message(_text: &str) {}
}
