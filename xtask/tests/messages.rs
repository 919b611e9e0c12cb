//! Snapshots of the texts of the programs, so that every message and hint is reviewed in one folder.
//! `INSTA_UPDATE=always cargo test -p xtask --test messages` accepts a change.

use std::path::Path;
use xtask::{Repository, texts};

#[test]
fn messages_and_hints_match_the_reviewed_snapshots() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let repository = Repository::read(&root).expect("the repository is readable");
    for name in ["protocol", "model", "hub", "harness", "engine"] {
        let texts = texts(&repository.sources, &format!("crates/{name}/src"));
        assert!(!texts.is_empty(), "{name} has messages");
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("messages_of_{name}"), texts);
        });
    }
}
