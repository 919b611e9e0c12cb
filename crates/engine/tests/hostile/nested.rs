//! A nesting depth of 100,000 in each recursive format: a failure without a stack overflow.

use crate::outcomes::{alone, bounded};
use crate::{files, load};
use modelgate_testkit::smallest::{self, Kind};
use std::fs;

const DEPTH: usize = 100_000;

#[test]
fn deep_nesting_in_every_json_file_is_refused() {
    let _alone = alone();
    for name in
        ["config.json", "generation_config.json", "tokenizer.json", "model.safetensors.index.json"]
    {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let dir = tempfile::tempdir().unwrap();
            smallest::write(dir.path(), Kind::ByteLevel);
            let text = format!("{}0{}", open.repeat(DEPTH), close.repeat(DEPTH));
            fs::write(dir.path().join(name), text).unwrap();
            let failure = bounded(name, || load(&files(dir.path())).map(drop)).expect_err(name);
            assert!(failure.message.contains(name), "{name}: {failure}");
        }
    }
}
