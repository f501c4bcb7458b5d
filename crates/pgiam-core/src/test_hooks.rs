//! What tests see of the core from within: the moments at which a lock is held, and every message made.
//!
//! Only with the feature `test-hooks`, which the core's own tests turn on and no product does; without it the calls are
//! empty.

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

    /// The moments, in the order of the code in `single_flight`.
    pub const MOMENTS: [&str; 8] = [
        "wait: locked",
        "wait: boarded",
        "anew: locked",
        "poll: locked",
        "beside: locked",
        "beside: taking the work",
        "in the air",
        "landing: locked",
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

    pub(crate) fn passing(moment: &'static str) {
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
            // A test run without its record fails for lack of messages.
            file.write_all(format!("{text}\n").as_bytes()).ok();
        }
    }
}

#[cfg(not(feature = "test-hooks"))]
mod without {
    #[inline(always)]
    pub(crate) fn passing(_moment: &'static str) {}

    #[inline(always)]
    pub(crate) fn message(_text: &str) {}
}
