//! libFuzzer on the body `sessions`; see `quorate_fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| quorate_fuzz::run("sessions", bytes));
