//! The allocator of the C library and the preload library: memory is overwritten when it is freed.
//!
//! The core wipes its own copies of secrets. Others are made by what it calls: the TLS library's records of decrypted
//! text, the headers of requests, vectors that grow. With this allocator none of them is left in the process, to be read
//! in a core dump or through a defect of the program.

use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator, with memory overwritten before it is freed.
pub struct WipingAllocator;

// SAFETY: memory comes from the system's allocator and goes back to it with the same layout. `realloc` is the trait's
// own, which allocates, copies and frees.
unsafe impl GlobalAlloc for WipingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller owns so many bytes and will not use them again. The barrier makes the compiler write what
        // nobody reads.
        unsafe {
            pointer.write_bytes(0, layout.size());
            zeroize::optimization_barrier(&*pointer);
            System.dealloc(pointer, layout);
        }
    }
}
