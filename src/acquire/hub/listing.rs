//! The files of a commit as the hub lists them: paths, sizes and hashes, before any byte of them.
//!
//! A listing comes from outside: what could not be a file of a repository is refused here, and
//! everything after it can trust its paths and hashes.

use crate::acquire::local::is_inside;
use crate::hash::hex;
use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// More files than any repository of a model has.
pub(super) const MOST_FILES: usize = 100_000;

/// One file of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Listed {
    /// Relative to the repository, with `/`; never leaves it.
    pub(super) path: String,
    /// Its size.
    pub(super) bytes: u64,
    /// What its content hashes to.
    pub(super) hash: ContentHash,
}

/// The hash by which the hub knows a file's content, and the cache names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum ContentHash {
    /// SHA-256 of a large file's content (Git LFS).
    Sha256(String),
    /// Git's blob id of a small file: SHA-1 of `blob`, its size and its content.
    GitBlob(String),
}

impl ContentHash {
    /// The hash that a cache's file is named by, where it is one.
    pub(super) fn named(name: &str) -> Option<ContentHash> {
        let is_hex = name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match name.len() {
            64 if is_hex => Some(ContentHash::Sha256(name.to_owned())),
            40 if is_hex => Some(ContentHash::GitBlob(name.to_owned())),
            _ => None,
        }
    }

    /// The name in the cache: the hash in lower-case hexadecimal.
    pub(super) fn name(&self) -> &str {
        match self {
            ContentHash::Sha256(hash) | ContentHash::GitBlob(hash) => hash,
        }
    }

    /// What kind of hash it is.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            ContentHash::Sha256(_) => "sha256",
            ContentHash::GitBlob(_) => "git blob id",
        }
    }
}

/// An entry of the hub's tree (`GET /api/models/{repo}/tree/{revision}`), as it comes.
#[derive(Debug, Deserialize)]
pub(super) struct TreeEntry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    oid: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Debug, Deserialize)]
struct Lfs {
    oid: Option<String>,
    sha256: Option<String>,
    size: Option<u64>,
}

/// The files among `entries`.
///
/// # Errors
/// An entry that no repository has.
pub(super) fn files(entries: Vec<TreeEntry>) -> Result<Vec<Listed>, String> {
    if entries.len() > MOST_FILES {
        return Err(format!("{} files are listed, expected at most {MOST_FILES}", entries.len()));
    }
    entries.into_iter().filter(|entry| entry.kind == "file").map(file).collect()
}

fn file(entry: TreeEntry) -> Result<Listed, String> {
    if !is_inside(&entry.path) {
        return Err(format!("the path {:?} is none of a file in a repository", entry.path));
    }
    let without = || format!("{} is listed without a hash", entry.path);
    let (bytes, hash) = match &entry.lfs {
        Some(lfs) => {
            let hash = lfs.oid.as_deref().or(lfs.sha256.as_deref()).ok_or_else(without)?;
            (lfs.size.unwrap_or(entry.size), hash)
        }
        None => (entry.size, entry.oid.as_deref().ok_or_else(without)?),
    };
    match ContentHash::named(hash) {
        Some(hash) if matches!(hash, ContentHash::Sha256(_)) == entry.lfs.is_some() => {
            Ok(Listed { path: entry.path, bytes, hash })
        }
        _ => Err(format!("{} is listed with {hash:?}, which is no hash", entry.path)),
    }
}

/// Hashes a content while it goes by.
pub(super) struct Hasher {
    sha256: Sha256,
    /// For a content that is known by its git blob id.
    git: Option<Sha1>,
}

impl Hasher {
    /// For a content of `bytes` that is expected to have `hash`.
    pub(super) fn of(hash: &ContentHash, bytes: u64) -> Hasher {
        let git = matches!(hash, ContentHash::GitBlob(_))
            .then(|| Sha1::new_with_prefix(format!("blob {bytes}\0")));
        Hasher { sha256: Sha256::new(), git }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    /// The hash of the kind that was expected, and the SHA-256.
    pub(super) fn finish(self) -> (String, String) {
        let sha256 = hex(&self.sha256.finalize());
        (self.git.map_or_else(|| sha256.clone(), |git| hex(&git.finalize())), sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(json: &str) -> Result<Vec<Listed>, String> {
        files(serde_json::from_str(json).expect("JSON"))
    }

    #[test]
    fn sizes_and_hashes_are_those_of_the_content_not_of_its_pointer() {
        let git = "a".repeat(40);
        let sha = "b".repeat(64);
        let found = listed(&format!(
            r#"[{{"type":"directory","oid":"{git}","size":0,"path":"original"}},
                {{"type":"file","oid":"{git}","size":7,"path":"config.json"}},
                {{"type":"file","oid":"{git}","size":99,"path":"a/model.safetensors","xetHash":"c",
                  "lfs":{{"oid":"{sha}","size":99,"pointerSize":134}}}}]"#
        ));
        let file = |path: &str, bytes, hash| Listed { path: path.into(), bytes, hash };
        let expected = vec![
            file("config.json", 7, ContentHash::GitBlob(git)),
            file("a/model.safetensors", 99, ContentHash::Sha256(sha)),
        ];
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn what_no_repository_has_is_refused() {
        let git = "a".repeat(40);
        for path in ["../up", "/etc/passwd", "a//b", "a/./b", "a/..", "a\\b", "a\u{0}b", ""] {
            let entry = serde_json::json!([{"type": "file", "path": path, "oid": git, "size": 1}]);
            let error = listed(&entry.to_string()).expect_err(path);
            assert!(error.contains("path"), "{error}");
        }
        for oid in ["", "../../x", &"A".repeat(40), &"a".repeat(64)] {
            let entry = serde_json::json!([{"type": "file", "path": "a", "oid": oid, "size": 1}]);
            assert!(listed(&entry.to_string()).is_err(), "{oid}");
        }
    }

    #[test]
    fn a_git_blob_id_is_what_git_says() {
        // `printf hello | git hash-object --stdin`
        let expected = ContentHash::GitBlob("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".into());
        let mut hasher = Hasher::of(&expected, 5);
        hasher.update(b"hel");
        hasher.update(b"lo");
        let (git, sha256) = hasher.finish();
        assert_eq!(git, expected.name());
        assert_eq!(sha256, crate::hash::sha256_hex(b"hello"));
    }
}
