//! Who calls: the first frame on the stack that is not in this library.
//!
//! The unwinder of the Rust runtime finds it on every processor.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

/// An object that is loaded into the process: the program itself or a shared library.
pub(crate) struct Object {
    /// Where it is mapped.
    pub(crate) base: *mut c_void,
    /// Its file, as the loader knows it.
    pub(crate) file: CString,
}

/// The object that an address belongs to.
pub(crate) fn object_of(address: *const c_void) -> Option<Object> {
    let mut info = MaybeUninit::<libc::Dl_info>::uninit();
    // SAFETY: dladdr takes any address and writes `info` if it finds its object.
    if unsafe { libc::dladdr(address, info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: the call succeeded.
    let info = unsafe { info.assume_init() };
    let name: *const c_char = info.dli_fname;
    let file = if name.is_null() {
        CString::default()
    } else {
        // SAFETY: the loader's own name of a loaded object, NUL-terminated.
        unsafe { CStr::from_ptr(name) }.to_owned()
    };
    Some(Object { base: info.dli_fbase, file })
}

/// Where this library is mapped, by an address in it.
fn own_base() -> *mut c_void {
    object_of(own_base as *const c_void).map_or(null_mut(), |object| object.base)
}

/// Whether an address is in this library.
pub(crate) fn is_own(address: *const c_void) -> bool {
    object_of(address).is_some_and(|object| object.base == own_base())
}

#[repr(C)]
struct UnwindContext {
    _opaque: [u8; 0],
}

unsafe extern "C" {
    // The unwinder of the Itanium C++ ABI, in libgcc_s or libunwind, which std uses.
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut UnwindContext, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut UnwindContext) -> usize;
}

const GO_ON: c_int = 0;
const STOP: c_int = 5;

struct Search {
    own: *mut c_void,
    found: *const c_void,
}

extern "C" fn visit(context: *mut UnwindContext, argument: *mut c_void) -> c_int {
    // SAFETY: `argument` is the `Search` of `calling_object`, which lives for the walk and is used by nothing else.
    let search = unsafe { &mut *argument.cast::<Search>() };
    // SAFETY: the context is the unwinder's own, valid within this call.
    let address = unsafe { _Unwind_GetIP(context) } as *const c_void;
    // A return address may be the first one after its function.
    match object_of(address.cast::<u8>().wrapping_sub(1).cast()) {
        Some(object) if object.base == search.own => GO_ON,
        _ => {
            search.found = address;
            STOP
        }
    }
}

/// The object whose code called into this library.
pub(crate) fn calling_object() -> Option<Object> {
    let mut search = Search { own: own_base(), found: null() };
    // SAFETY: `visit` follows the unwinder's protocol; `search` outlives the walk.
    unsafe { _Unwind_Backtrace(visit, (&raw mut search).cast()) };
    if search.found.is_null() { None } else { object_of(search.found.cast::<u8>().wrapping_sub(1).cast()) }
}
