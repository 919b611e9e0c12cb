//! The repository of a tiny model, and runs that fetch it.

use super::{QUESTION, fixture};
use modelgate_testkit::hub::Repository;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A token that the hub knows.
pub(crate) const TOKEN: &str = "hf_secretsecretsecret";

/// The tiny model and what else repositories hold, as `name`.
pub(crate) fn repository(name: &str) -> Repository {
    Repository::new(name)
        .with_folder(&fixture("tiny/llama"))
        .with_file("README.md", b"# tiny".to_vec())
        .with_file("original/consolidated.00.pth", vec![7; 200_000])
        .with_file("pytorch_model.bin", vec![8; 200_000])
}

/// An entry of the manifest for a repository.
pub(crate) fn entry(id: &str, repo: &str, more: &str) -> String {
    format!(
        "[[model]]\nid = \"{id}\"\nrepo = \"{repo}\"\nquantization = \"q8_0\"\ndevice = \"cpu\"\n\
         {QUESTION}\nexpect.perplexity = {{ max = 3, text = \"{}\" }}\n{more}\n",
        fixture("tiny/perplexity.txt").display()
    )
}

/// Makes every folder below `path` one that cannot be written, or can.
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
