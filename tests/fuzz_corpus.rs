//! The committed fuzz corpus, through the fuzz target's own entry; so what fuzzing once found stays
//! found, without a fuzzer.

use std::fs;
use std::path::Path;

#[path = "../fuzz/decode_everything.rs"]
mod decode_everything;

#[test]
fn no_decoder_panics_on_the_fuzz_corpus() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/decoders");
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).expect("the corpus is in the repository") {
        let path = entry.expect("an entry").path();
        println!("{}", path.display());
        decode_everything::decode_everything(&fs::read(&path).expect("readable"));
        inputs += 1;
    }
    assert!(inputs >= 50, "only {inputs} inputs in {}", folder.display());
}
