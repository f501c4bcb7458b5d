//! Deliberate faults in Rust code, each of a kind that one tool of `tests/deep/sanitizers.rs` must report. That test
//! builds this library exactly as it builds the products; no product contains it. `tests/c/rust_faults.c` calls its functions.

use std::cell::UnsafeCell;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

// As in the products: memory is written to before it is freed.
#[global_allocator]
static ALLOCATOR: pgiam_boundary::WipingAllocator = pgiam_boundary::WipingAllocator;

/// For AddressSanitizer: reads memory after it was freed.
#[unsafe(no_mangle)]
pub extern "C" fn fault_use_after_free() -> u32 {
    let place = black_box(Box::into_raw(Box::new(7_u32)));
    // SAFETY: none; this is the fault.
    unsafe {
        drop(Box::from_raw(place));
        black_box(place).read()
    }
}

/// For AddressSanitizer: reads beyond an array on the stack.
#[unsafe(no_mangle)]
pub extern "C" fn fault_stack_overrun() -> u32 {
    let numbers = black_box([1_u32; 8]);
    // SAFETY: none; this is the fault.
    unsafe { black_box(numbers.as_ptr()).add(black_box(numbers.len())).read() }
}

/// For LeakSanitizer: loses memory, several times, because the last address may still be in a register when the search
/// begins.
#[unsafe(no_mangle)]
pub extern "C" fn fault_leak() {
    for size in 100..108 {
        black_box(Box::into_raw(vec![7_u8; black_box(size)].into_boxed_slice()));
    }
}

struct Shared<T>(UnsafeCell<T>);

// SAFETY: none; this is the fault.
unsafe impl<T> Sync for Shared<T> {}

/// For ThreadSanitizer: publishes a value with an atomic variable, but with the wrong ordering. On x86-64 it works always.
#[unsafe(no_mangle)]
pub extern "C" fn fault_race() -> u32 {
    static VALUE: Shared<u32> = Shared(UnsafeCell::new(0));
    static IS_READY: AtomicBool = AtomicBool::new(false);
    let reader = thread::spawn(|| {
        while !IS_READY.load(Ordering::Relaxed) {
            spin_loop();
        }
        // SAFETY: none; this is the fault.
        unsafe { VALUE.0.get().read() }
    });
    // SAFETY: none; this is the fault.
    unsafe { VALUE.0.get().write(7) };
    IS_READY.store(true, Ordering::Relaxed);
    reader.join().unwrap_or(0)
}

/// For ThreadSanitizer: code of the standard library, which is compiled with it and not with this library, reads a text
/// while another thread writes to it.
#[unsafe(no_mangle)]
pub extern "C" fn fault_race_in_the_standard_library() -> bool {
    static TEXT: Shared<[u8; 64]> = Shared(UnsafeCell::new([b'a'; 64]));
    // SAFETY: none; this is the fault.
    let reader = thread::spawn(|| unsafe { std::str::from_utf8(black_box(&*TEXT.0.get())).is_ok() });
    // SAFETY: none; this is the fault.
    unsafe { TEXT.0.get().cast::<u8>().add(20).write(b'b') };
    reader.join().unwrap_or(false)
}
