//! `cargo +nightly fuzz run jaas`: files of SASL credentials.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../authenticate_anyone.rs"]
#[allow(dead_code, reason = "the other target's half")]
mod authenticate_anyone;

fuzz_target!(|data: &[u8]| authenticate_anyone::read_credentials(data));
