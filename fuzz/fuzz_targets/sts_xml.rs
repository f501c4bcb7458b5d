#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| pgiam_fuzz::sts_xml::run(data));
