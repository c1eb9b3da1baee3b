//! `cargo +nightly fuzz run decoders`: every decoder of `jute`, on whatever libFuzzer thinks of.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../decode_everything.rs"]
mod decode_everything;

fuzz_target!(|data: &[u8]| decode_everything::decode_everything(data));
