//! Tests with a repository that is already in the Hugging Face cache, in the layout of the Hugging
//! Face tools: blobs, and a snapshot of symlinks to them. The golden data
//! (`scripts/golden/hub_cache.py`) contain the cache that these tools write; the script also tests
//! that the tools find the files of modelgate.

use crate::common::hub::{repository, set_writable};
use crate::common::{QUESTION, Run, fixture};
use crate::hub_transfer::prefetch;
use modelgate_harness::check::{Check, Status};
use modelgate_hub::Verified;
use modelgate_protocol::FailureKind;
use modelgate_testkit::hub::Hub;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Writes the tiny model to the cache in `home` as the branch `main` of `owner/Tiny`.
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
fn a_cached_commit_is_found_by_branch_and_by_commit() {
    for revision in ["main", COMMIT] {
        let run = Run::manifest(&entry(revision)).arg("--include-ignored");
        fill(&run.folder.path().join("hf"));
        let ended = run.run();
        assert_eq!(ended.code, Some(0), "{}", ended.output());
        ended.assert_passes("tiny");
        assert_eq!(ended.model("tiny").measurement.commit.as_deref(), Some(COMMIT));
        assert_eq!(ended.model("tiny").measurement.downloaded_bytes, 0);
    }
}

#[test]
fn a_read_only_cache_is_sufficient() {
    let run = Run::manifest(&entry("main")).arg("--include-ignored");
    let home = run.folder.path().join("hf");
    fill(&home);
    set_writable(&home, false);
    let ended = run.enforce_permissions().run();
    set_writable(&home, true);
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("tiny");
}

#[test]
fn an_uncached_revision_and_a_missing_shard_are_reported() {
    let run = Run::manifest(&entry("v2")).arg("--include-ignored");
    fill(&run.folder.path().join("hf"));
    let ended = run.run();
    let message = ended.assert_only_fails("tiny", Check::Load, Status::Blocked);
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
    let message = ended.assert_only_fails("tiny", Check::Load, Status::Blocked);
    assert!(message.contains(shard), "{message}");
}

#[test]
fn without_home_the_cache_is_in_the_home_folder_of_the_user_database() {
    let user = rustix::process::getuid().as_raw().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let home = users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.len() > 5 && fields[2] == user).then(|| fields[5].to_owned())
    });
    // the user may be in another database, for example LDAP
    let Some(home) = home else { return };
    let entry = crate::common::hub::entry("tiny", "owner/In-no-cache", "");
    let run = Run::manifest(&entry).arg("--include-ignored");
    let ended = run.env_remove("HOME").env_remove("XDG_CACHE_HOME").env_remove("HF_HOME").run();
    let message = ended.assert_only_fails("tiny", Check::Load, Status::Blocked);
    let cache = Path::new(&home).join(".cache/huggingface/hub");
    let expected = format!("the cache is {}, and HF_HUB_OFFLINE forbids", cache.display());
    assert!(message.contains(&expected), "{message}");
}

/// The entries of a cache by path: the target of a symlink, a short content, or the hash of a
/// content.
type Tree = BTreeMap<String, BTreeMap<String, String>>;

/// Returns the cache that the Hugging Face tools write, by repository.
fn golden() -> BTreeMap<String, Tree> {
    let text = std::fs::read(fixture("golden/hub_cache.json")).expect("golden data");
    let golden: serde_json::Value = serde_json::from_slice(&text).expect("golden data");
    serde_json::from_value(golden["caches"].clone()).expect("golden data")
}

/// Adds the files below `folder` to `tree`, without locks and files that only modelgate writes.
fn tree(folder: &Path, cache: &Path, tree: &mut Tree) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().expect("a kind");
        if name == ".locks" || name == ".modelgate" {
        } else if kind.is_dir() {
            self::tree(&path, cache, tree);
        } else {
            let content = std::fs::read(&path).expect("a content");
            let (property, value) = if kind.is_symlink() {
                ("link", std::fs::read_link(&path).expect("a link").display().to_string())
            } else if content.len() < 100 {
                ("text", String::from_utf8(content).expect("a text"))
            } else {
                ("sha256", hex::encode(Sha256::digest(&content)))
            };
            let name = path.strip_prefix(cache).expect("inside").display().to_string();
            tree.insert(name, BTreeMap::from([(property.to_owned(), value)]));
        }
    }
}

#[test]
fn downloads_have_the_cache_layout_of_the_hugging_face_tools() {
    let golden = golden();
    assert_eq!(golden.len(), 2);
    for (name, expected) in golden {
        let mut repository =
            modelgate_testkit::hub::Repository::new(&name).with_folder(&fixture("tiny/llama"));
        if name == "owner/Gated" {
            repository = repository.gated().xet();
        }
        let hub = Hub::start(vec![repository]);
        hub.allow("hf_known", &[&name]);
        let folder = TempDir::new().expect("a folder");
        let model =
            format!("[[model]]\nid = \"tiny\"\nrepo = \"{name}\"\nquantization = \"q8_0\"\n");
        let mut command = prefetch(&model, &hub.endpoint(), folder.path(), &[]);
        let output = command.env("HF_TOKEN", "hf_known").output().expect("the program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut found = Tree::new();
        let cache = folder.path().join("hf/hub");
        tree(&cache, &cache, &mut found);
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn downloads_of_the_hugging_face_tools_are_found_and_verified() {
    let expected = golden().remove("owner/Tiny").expect("golden data");
    let run = Run::manifest(&entry("main")).arg("--include-ignored");
    let cache = run.folder.path().join("hf/hub");
    let repository = repository("owner/Tiny");
    let contents: BTreeMap<String, Vec<u8>> = repository
        .paths()
        .iter()
        .map(|path| (repository.etag(path).to_owned(), repository.content(path).to_vec()))
        .collect();
    for (path, entry) in &expected {
        let path = cache.join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        match (entry.get("link"), entry.get("text")) {
            (Some(target), _) => symlink(target, &path).expect("a link"),
            (None, Some(text)) => std::fs::write(&path, text).expect("written"),
            (None, None) => {
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                std::fs::write(&path, &contents[&name]).expect("written");
            }
        }
    }
    let ended = run.run();
    assert_eq!(ended.code, Some(0), "{}", ended.output());
    ended.assert_passes("tiny");
    for file in &ended.model("tiny").measurement.files {
        assert_eq!(file.verified, Verified::HashedNow, "{}", file.name);
    }
}
