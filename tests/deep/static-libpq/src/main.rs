//! Connects as its argument, a conninfo, says, by a libpq that is inside the program. For the tests of `pgiam exec`.
use std::ffi::{CStr, CString};
fn main() {
    let conninfo = CString::new(std::env::args().nth(1).unwrap_or_default()).unwrap();
    // SAFETY: libpq's own order: connect, ask, finish; the strings live until then.
    unsafe {
        let connection = pq_sys::PQconnectdb(conninfo.as_ptr());
        if pq_sys::PQstatus(connection) == pq_sys::ConnStatusType::CONNECTION_OK {
            println!("{}", CStr::from_ptr(pq_sys::PQuser(connection)).to_string_lossy());
        } else {
            print!("{}", CStr::from_ptr(pq_sys::PQerrorMessage(connection)).to_string_lossy());
        }
        pq_sys::PQfinish(connection);
    }
}
