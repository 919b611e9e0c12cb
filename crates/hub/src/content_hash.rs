//! The hash by which the hub and the cache identify the content of a file, and its computation.

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The hash of the content of a file, in lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ContentHash {
    /// The SHA-256 of the content of a large file (Git LFS).
    Sha256(String),
    /// The git blob id of a small file: the SHA-1 of `blob`, the size and the content.
    GitBlob(String),
}

impl ContentHash {
    /// Parses the name of a content in the cache. `None` if it is not a hash.
    pub(crate) fn parse(name: &str) -> Option<ContentHash> {
        let is_hex = name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match name.len() {
            64 if is_hex => Some(ContentHash::Sha256(name.to_owned())),
            40 if is_hex => Some(ContentHash::GitBlob(name.to_owned())),
            _ => None,
        }
    }

    /// Returns the name of the content in the cache: the hash itself.
    pub(crate) fn name(&self) -> &str {
        match self {
            ContentHash::Sha256(hash) | ContentHash::GitBlob(hash) => hash,
        }
    }

    /// Returns the kind of hash, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            ContentHash::Sha256(_) => "sha256",
            ContentHash::GitBlob(_) => "git blob id",
        }
    }
}

/// Returns whether `revision` is the full hash of a commit.
pub(crate) fn is_commit(revision: &str) -> bool {
    matches!(ContentHash::parse(revision), Some(ContentHash::GitBlob(_)))
}

/// The state of hashing a content that arrives in parts.
pub(crate) struct Hasher {
    sha256: Sha256,
    /// `None` for a content that is identified by its SHA-256.
    git: Option<Sha1>,
}

/// The hashes of a content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ComputedHashes {
    /// The hash of the kind that identifies the content.
    pub(crate) name: String,
    pub(crate) sha256: String,
}

impl Hasher {
    /// Returns a hasher for a content of `bytes` bytes that is identified by a hash of the kind of
    /// `hash`.
    pub(crate) fn new(hash: &ContentHash, bytes: u64) -> Hasher {
        let git = matches!(hash, ContentHash::GitBlob(_))
            .then(|| Sha1::new_with_prefix(format!("blob {bytes}\0")));
        Hasher { sha256: Sha256::new(), git }
    }

    /// Adds the next part of the content.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    /// Returns the hashes of all parts.
    pub(crate) fn finish(self) -> ComputedHashes {
        let sha256 = hex::encode(self.sha256.finalize());
        let git = self.git.map(|git| hex::encode(git.finalize()));
        ComputedHashes { name: git.unwrap_or_else(|| sha256.clone()), sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_git_blob_id_equals_that_of_git() {
        // `printf hello | git hash-object --stdin`
        let expected = ContentHash::GitBlob("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".into());
        let mut hasher = Hasher::new(&expected, 5);
        hasher.update(b"hel");
        hasher.update(b"lo");
        let computed = hasher.finish();
        assert_eq!(computed.name, expected.name());
        assert_eq!(computed.sha256, hex::encode(Sha256::digest(b"hello")));
    }
}
