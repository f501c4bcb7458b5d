//! What a token costs once everything is cached: no fetch, no lock, and the allocation of its own text.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use support::{client, request};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: all is left to the system's allocator; the count is a number of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller's promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_token_takes_one_allocation() {
    for session in ["", &"IQoJb3JpZ2luX2VjEJr//////////wEa".repeat(40)] {
        let client = client(&[
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "s"),
            ("AWS_SESSION_TOKEN", session),
        ]);
        client.generate_token(&request()).unwrap();
        let before = COUNT.get();
        let token = client.generate_token(&request()).unwrap();
        assert_eq!(COUNT.get() - before, 1);
        assert!(token.as_str().len() > 300);
    }
}
