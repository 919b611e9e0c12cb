//! The state of a listed file in the cache: right, wrong, or missing.

use crate::cache::RepositoryCache;
use crate::content_hash::{ComputedHashes, Hasher};
use crate::file_record::{Verification, Verified};
use crate::identity::Identity;
use crate::listing::ListedFile;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The maximum size of contents that are hashed without `hash_all`, if no earlier run verified
/// them. Hashing them takes little time.
const SMALL_BYTES: u64 = 64 << 20;
/// The size of the read buffer.
const BUFFER_BYTES: usize = 1 << 20;

/// The state of a file in the cache.
#[derive(Debug)]
pub(crate) enum FileState {
    /// The content passed `verification`. `linked` is whether the folder of the commit contains it.
    Right { verification: Verification, linked: bool },
    /// The file exists with another content.
    Wrong { reason: String, content: Identity },
    /// The content does not exist.
    Missing,
}

/// A function that receives the number of newly hashed bytes, and returns whether to continue.
pub(crate) type HashProgress<'a> = dyn FnMut(u64) -> bool + 'a;

/// Returns the state of `file` of `commit`. Unless `hash_all` is set, only the size is compared for
/// a large content that was not verified before. `progress` is called while a content is hashed.
///
/// # Errors
/// The content cannot be read, or `progress` returned false ([`io::ErrorKind::Interrupted`]).
pub(crate) fn file_state(
    cache: &RepositoryCache,
    file: &ListedFile,
    commit: &str,
    hash_all: bool,
    progress: &mut HashProgress<'_>,
) -> io::Result<FileState> {
    let pointer = cache.snapshot(commit).join(&file.path);
    let blob = cache.blob(&file.hash);
    // a symlink to another content does not count; file systems without symlinks contain copies
    let is_linked = match std::fs::read_link(&pointer) {
        Ok(target) => target.file_name() == blob.file_name(),
        Err(_) => pointer.is_file(),
    };
    let linked = is_linked && pointer.exists();
    let path = if linked { &pointer } else { &blob };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if is_absent(&error) => return Ok(FileState::Missing),
        Err(error) => return Err(error),
    };
    let content = Identity::of(&metadata);
    if metadata.len() != file.bytes {
        let reason = format!("{} bytes, expected {}", metadata.len(), file.bytes);
        return Ok(FileState::Wrong { reason, content });
    }
    let right = |verified, sha256| {
        let verification = Verification { verified, sha256 };
        Ok(FileState::Right { verification, linked })
    };
    if !hash_all {
        if let Some(sha256) = cache.verified_sha256(&file.hash, content) {
            return right(Verified::HashedEarlier, Some(sha256));
        }
        if file.bytes > SMALL_BYTES {
            return right(Verified::SizeCompared, None);
        }
    }
    let ComputedHashes { name, sha256 } = hash(path, file, progress)?;
    if name != file.hash.name() {
        let (kind, expected) = (file.hash.kind(), file.hash.name());
        let reason = format!("{kind} {name}, expected {expected}");
        return Ok(FileState::Wrong { reason, content });
    }
    cache.set_verified(&file.hash, content, &sha256);
    right(Verified::HashedNow, Some(sha256))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns the hashes of the content at `path`.
fn hash(
    path: &Path,
    file: &ListedFile,
    progress: &mut HashProgress<'_>,
) -> io::Result<ComputedHashes> {
    let mut content = File::open(path)?;
    let mut hasher = Hasher::new(&file.hash, file.bytes);
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = content.read(&mut buffer)?;
        match read {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
        if !progress(read as u64) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::LinkOptions;
    use crate::content_hash::ContentHash;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_content_is_hashed_once_unless_hash_all_is_set() {
        let root = tempfile::tempdir().expect("a folder");
        let cache = RepositoryCache::new(root.path(), "owner/Name");
        cache.create_folders().expect("folders");
        // `printf hello | git hash-object --stdin`
        let hash = ContentHash::GitBlob("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".into());
        let file = ListedFile { path: "config.json".into(), bytes: 5, hash };
        let state = |hash_all| {
            let mut hashed = 0;
            let mut progress = |bytes| {
                hashed += bytes;
                true
            };
            let state = file_state(&cache, &file, COMMIT, hash_all, &mut progress);
            (state.expect("a state"), hashed)
        };
        assert!(matches!(state(false), (FileState::Missing, 0)));
        std::fs::write(cache.blob(&file.hash), "hello").expect("written");
        let verified = |(state, hashed)| match state {
            FileState::Right { verification, linked } => (verification.verified, linked, hashed),
            other => panic!("{other:?}"),
        };
        assert_eq!(verified(state(false)), (Verified::HashedNow, false, 5));
        let options = LinkOptions { symlinks: true, may_move: false };
        cache.link(&file, COMMIT, options).expect("linked");
        assert_eq!(verified(state(false)), (Verified::HashedEarlier, true, 0));
        assert_eq!(verified(state(true)), (Verified::HashedNow, true, 5));
        let mut end = |_| false;
        let error = file_state(&cache, &file, COMMIT, true, &mut end).expect_err("interrupted");
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        for (content, reason) in [("hallo", "git blob id "), ("hell", "4 bytes, expected 5")] {
            std::fs::write(cache.blob(&file.hash), content).expect("written");
            match state(true).0 {
                FileState::Wrong { reason: found, .. } => {
                    assert!(found.contains(reason), "{found}")
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
