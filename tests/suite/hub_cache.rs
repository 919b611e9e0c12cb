//! A repository that is already in the Hugging Face cache, laid out as the Hugging Face tools lay
//! it out: blobs, and a snapshot of links to them.

use crate::support::{QUESTION, Run, fixture};
use modelgate::check::{Check, Status};
use modelgate_protocol::FailureKind;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Puts the tiny model into the cache of `home` as `owner/Tiny`, branch main.
fn fill(home: &Path) {
    let repo = home.join("hub/models--owner--Tiny");
    let snapshot = repo.join("snapshots").join(COMMIT);
    for folder in ["refs", "blobs"] {
        std::fs::create_dir_all(repo.join(folder)).expect("a folder");
    }
    std::fs::create_dir_all(&snapshot).expect("a folder");
    std::fs::write(repo.join("refs/main"), COMMIT).expect("a ref");
    for entry in std::fs::read_dir(fixture("tiny/llama")).expect("the tiny model").flatten() {
        let blob = format!("blob-of-{}", entry.file_name().display());
        std::fs::copy(entry.path(), repo.join("blobs").join(&blob)).expect("copied");
        symlink(Path::new("../../blobs").join(&blob), snapshot.join(entry.file_name()))
            .expect("a link");
    }
}

fn entry(revision: &str) -> String {
    format!(
        "[[model]]\nid = \"tiny\"\nrepo = \"owner/Tiny\"\nrevision = \"{revision}\"\n\
         quantization = \"q8_0\"\ndevice = \"cpu\"\n{QUESTION}\nexpect.perplexity = {{ max = 3, \
         text = \"{}\" }}\n",
        fixture("tiny/perplexity.txt").display()
    )
}

#[test]
fn it_is_found_by_branch_and_by_commit_and_named_by_its_commit() {
    for revision in ["main", COMMIT] {
        let run = Run::manifest(&entry(revision)).arg("--include-ignored");
        fill(&run.folder.path().join("hf"));
        let ended = run.run();
        assert_eq!(ended.code, Some(0), "{}", ended.all());
        ended.passes("tiny");
        assert_eq!(ended.model("tiny").measurement.commit.as_deref(), Some(COMMIT));
        assert_eq!(ended.model("tiny").measurement.downloaded_bytes, 0);
    }
}

#[test]
fn a_read_only_cache_is_as_good() {
    let run = Run::manifest(&entry("main")).arg("--include-ignored");
    let home = run.folder.path().join("hf");
    fill(&home);
    let set = |mode: u32| {
        for folder in ["", "hub", "hub/models--owner--Tiny", "hub/models--owner--Tiny/refs"] {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(home.join(folder), mode).expect("permissions");
        }
    };
    set(0o555);
    let ended = run.run();
    set(0o755);
    assert_eq!(ended.code, Some(0), "{}", ended.all());
    ended.passes("tiny");
}

#[test]
fn another_revision_and_a_shard_that_was_never_fetched_fail() {
    let run = Run::manifest(&entry("v2")).arg("--include-ignored");
    fill(&run.folder.path().join("hf"));
    let ended = run.run();
    let message = ended.fails_only("tiny", Check::Load, Status::Blocked);
    assert!(message.contains("owner/Tiny (revision v2)"), "{message}");
    let failure = ended.model("tiny").measurement.failure.as_ref().expect("a failure");
    assert_eq!(failure.kind, FailureKind::Offline);

    let run = Run::manifest(&entry("main")).arg("--include-ignored");
    let home = run.folder.path().join("hf");
    fill(&home);
    let shard = "model-00002-of-00002.safetensors";
    let snapshot = home.join("hub/models--owner--Tiny/snapshots").join(COMMIT);
    std::fs::remove_file(snapshot.join(shard)).expect("removed");
    let ended = run.run();
    let message = ended.fails_only("tiny", Check::Load, Status::Blocked);
    assert!(message.contains(shard), "{message}");
}
