//! The committed fuzz corpora, through the fuzz targets' own entries; so what fuzzing once found
//! stays found, without a fuzzer.

use std::fs;
use std::path::Path;

#[path = "../fuzz/authenticate_anyone.rs"]
mod authenticate_anyone;
#[path = "../fuzz/decode_everything.rs"]
mod decode_everything;

/// Gives every input of the corpus `name` to `take`; there must be so many of them.
fn run_through(name: &str, inputs_min: usize, take: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is in the repository") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        take(&fs::read(&path).expect("readable"));
        inputs += 1;
    }
    assert!(inputs >= inputs_min, "only {inputs} inputs in {}", folder.display());
}

#[test]
fn no_decoder_panics_on_the_fuzz_corpus() {
    run_through("decoders", 50, decode_everything::decode_everything);
}

#[test]
fn no_sasl_response_and_no_jaas_file_of_the_fuzz_corpus_harms() {
    run_through("sasl", 20, authenticate_anyone::respond);
    run_through("jaas", 20, authenticate_anyone::read_credentials);
}
