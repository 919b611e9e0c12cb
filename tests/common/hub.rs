//! A repository of a tiny model, and manifest entries for repositories.

use super::{QUESTION, fixture};
use modelgate_testkit::hub::Repository;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A valid token of the hub.
pub(crate) const TOKEN: &str = "hf_secretsecretsecret";

/// Returns the repository `name` with the tiny model and with other files that real repositories
/// contain.
pub(crate) fn repository(name: &str) -> Repository {
    Repository::new(name)
        .with_folder(&fixture("tiny/llama"))
        .with_file("README.md", b"# tiny".to_vec())
        .with_file("original/consolidated.00.pth", vec![7; 200_000])
        .with_file("pytorch_model.bin", vec![8; 200_000])
}

/// Returns a manifest entry for a repository. `more` contains further lines.
pub(crate) fn entry(id: &str, repo: &str, more: &str) -> String {
    format!(
        "[[model]]\nid = \"{id}\"\nrepo = \"{repo}\"\nquantization = \"q8_0\"\ndevice = \"cpu\"\n\
         {QUESTION}\nexpect.perplexity = {{ max = 3, text = \"{}\" }}\n{more}\n",
        fixture("tiny/perplexity.txt").display()
    )
}

/// Makes `path` and all folders below it writable or read-only.
pub(crate) fn set_writable(path: &Path, writable: bool) {
    let mode = if writable { 0o755 } else { 0o555 };
    let set = || std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    if writable {
        set().expect("permissions");
    }
    for entry in std::fs::read_dir(path).expect("a folder").flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            set_writable(&entry.path(), writable);
        }
    }
    if !writable {
        set().expect("permissions");
    }
}
