#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| pgiam_fuzz::profile_files::run(data));
