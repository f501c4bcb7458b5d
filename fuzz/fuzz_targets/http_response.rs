#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| pgiam_fuzz::http_response::run(data));
