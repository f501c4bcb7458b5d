//! Connects with a conninfo, its argument, through a statically linked libpq. For the tests of `pgiam exec`.
use std::ffi::{CStr, CString};
fn main() {
    let conninfo = CString::new(std::env::args().nth(1).unwrap_or_default()).unwrap();
    // SAFETY: the connection is used between connect and finish; the strings outlive the calls.
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
