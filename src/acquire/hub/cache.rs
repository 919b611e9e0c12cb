//! The cache that the Hugging Face tools share, as far as one repository goes: contents in `blobs`
//! by their hashes, commits in `snapshots` as links to them, branches in `refs`
//! (<https://huggingface.co/docs/huggingface_hub/guides/manage-cache>).
//!
//! Beside these a folder of our own, which the other tools leave alone: contents that are being
//! fetched, what was found right before, and listings of commits. Knows no network.

use super::listing::{ContentHash, Hasher, Listed};
use crate::acquire::local::is_inside;
use crate::store::{is_older, write_atomically};
use modelgate_protocol::Verified;
use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Our own folder in a repository's.
const OWN: &str = ".modelgate";
/// Contents up to this size are hashed in every run, unless they were before: it takes no time.
const SMALL: u64 = 64 << 20;
/// What was not fetched to its end is kept for so long.
const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes that are hashed at once.
const HASHED_AT_ONCE: usize = 1 << 20;
/// Larger listings are none of ours.
const LARGEST_LISTING: u64 = 64 << 20;

/// One repository's part of the cache.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    /// The whole cache's folder.
    root: PathBuf,
    /// `models--owner--name`.
    name: String,
}

/// How a file of a commit lies in the cache.
#[derive(Debug)]
pub(super) enum Held {
    /// Its content is right, as far as `verified` says; `linked` where the commit has it too.
    Right { verified: Verified, sha256: Option<String>, linked: bool },
    /// Something else is in its place.
    Wrong { what: String, content: Identity },
    /// It is not there.
    Missing,
}

/// By what a content is known to be the same still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    bytes: u64,
    /// Since 1970: whole seconds and the rest.
    modified_s: i64,
    modified_ns: i64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        Identity {
            bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            inode: metadata.ino(),
        }
    }
}

/// A content that was found right.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    content: Identity,
    sha256: String,
}

/// Is told the bytes that were hashed, and says whether to go on.
pub(super) type Watch<'a> = dyn FnMut(u64) -> bool + 'a;

impl Cache {
    pub(super) fn of(root: &Path, repo: &str) -> Cache {
        Cache { root: root.to_owned(), name: format!("models--{}", repo.replace('/', "--")) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn folder(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    fn own(&self) -> PathBuf {
        self.folder().join(OWN)
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, hash: &ContentHash) -> PathBuf {
        self.folder().join("blobs").join(hash.name())
    }

    /// What of a content has been fetched so far.
    pub(super) fn partial(&self, hash: &ContentHash) -> PathBuf {
        self.own().join(format!("{}.partial", hash.name()))
    }

    /// Bytes of a content that are here of it without being it: in our partial file, and in those of
    /// huggingface_hub, `blobs/HASH.incomplete` or, in later versions, `blobs/HASH.RANDOM.incomplete`.
    pub(super) fn begun(&self, hash: &ContentHash) -> u64 {
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let entries = std::fs::read_dir(self.folder().join("blobs"));
        let others = entries.into_iter().flatten().flatten().filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(hash.name()) && name.ends_with(".incomplete")
        });
        others.map(|entry| bytes(&entry.path())).sum::<u64>() + bytes(&self.partial(hash))
    }

    /// The lock that every tool takes that fetches a content.
    pub(super) fn lock(&self, hash: &ContentHash) -> PathBuf {
        self.root.join(".locks").join(&self.name).join(format!("{}.lock", hash.name()))
    }

    fn seen_file(&self, hash: &ContentHash) -> PathBuf {
        self.own().join(format!("{}.json", hash.name()))
    }

    fn listing_file(&self, commit: &str) -> PathBuf {
        self.own().join(format!("{commit}.listing.json"))
    }

    /// Makes the folders that fetching needs.
    ///
    /// # Errors
    /// One of them cannot be made or written; the path says which.
    pub(super) fn make_writable(&self) -> Result<(), (PathBuf, io::Error)> {
        let folder = self.folder();
        let locks = self.root.join(".locks").join(&self.name);
        for path in
            [folder.join("blobs"), folder.join("snapshots"), folder.join("refs"), self.own(), locks]
        {
            std::fs::create_dir_all(&path).map_err(|error| (path.clone(), error))?;
            // a folder that exists need not be one that can be written
            tempfile::tempfile_in(&path).map_err(|error| (path, error))?;
        }
        Ok(())
    }

    /// The commit that `revision` was when it was last asked for.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = std::fs::read_to_string(self.folder().join("refs").join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Notes the commit that `revision` is.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> io::Result<()> {
        if self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder().join("refs").join(revision);
        std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
        write_atomically(&path, commit.as_bytes())
    }

    /// The listing of a commit that was fetched before.
    pub(super) fn listing(&self, commit: &str) -> Option<Vec<Listed>> {
        let path = self.listing_file(commit);
        let is_small = std::fs::metadata(&path).ok()?.len() <= LARGEST_LISTING;
        let text = is_small.then(|| std::fs::read(&path).ok()).flatten()?;
        let listing: Vec<Listed> = serde_json::from_slice(&text).ok()?;
        // the cache may be one that others write to
        let is_sound = |file: &Listed| {
            is_inside(&file.path)
                && ContentHash::named(file.hash.name()).as_ref() == Some(&file.hash)
        };
        listing.iter().all(is_sound).then_some(listing)
    }

    /// Keeps the listing of a commit. A cache that cannot be written goes without.
    pub(super) fn keep_listing(&self, commit: &str, listing: &[Listed]) {
        let path = self.listing_file(commit);
        if !path.is_file()
            && let Ok(text) = serde_json::to_vec(listing)
        {
            let _ = write_atomically(&path, &text);
        }
    }

    /// Whether the content is there, with its size, and is another one than `wrong`.
    pub(super) fn is_there(&self, file: &Listed, wrong: Option<Identity>) -> bool {
        std::fs::metadata(self.blob(&file.hash)).is_ok_and(|metadata| {
            metadata.len() == file.bytes && wrong != Some(Identity::of(&metadata))
        })
    }

    /// How `file` of `commit` lies here. Contents that are not small, and were not seen before, are
    /// judged by their size, unless all are to be hashed, which `watch` is told of.
    ///
    /// # Errors
    /// What is there cannot be read, or `watch` did not want to go on.
    pub(super) fn held(
        &self,
        file: &Listed,
        commit: &str,
        hash_all: bool,
        watch: &mut Watch<'_>,
    ) -> io::Result<Held> {
        let pointer = self.snapshot(commit).join(&file.path);
        let blob = self.blob(&file.hash);
        // a link to another content is none to this one; where links cannot be made there are copies
        let points = match std::fs::read_link(&pointer) {
            Ok(target) => target.file_name() == blob.file_name(),
            Err(_) => pointer.is_file(),
        };
        let path = if points && pointer.exists() { &pointer } else { &blob };
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if is_nothing(&error) => return Ok(Held::Missing),
            Err(error) => return Err(error),
        };
        let content = Identity::of(&metadata);
        if metadata.len() != file.bytes {
            let what = format!("it has {} bytes, expected {}", metadata.len(), file.bytes);
            return Ok(Held::Wrong { what, content });
        }
        let linked = path == &pointer;
        if !hash_all && let Some(seen) = self.seen(&file.hash, content) {
            let (verified, sha256) = (Verified::Earlier, Some(seen.sha256));
            return Ok(Held::Right { verified, sha256, linked });
        }
        if !hash_all && file.bytes > SMALL {
            return Ok(Held::Right { verified: Verified::Size, sha256: None, linked });
        }
        let (found, sha256) = hash(path, file, watch)?;
        if found != file.hash.name() {
            let (kind, expected) = (file.hash.kind(), file.hash.name());
            let what = format!("its {kind} is {found}, expected {expected}");
            return Ok(Held::Wrong { what, content });
        }
        self.remember(&file.hash, content, &sha256);
        Ok(Held::Right { verified: Verified::Now, sha256: Some(sha256), linked })
    }

    fn seen(&self, hash: &ContentHash, content: Identity) -> Option<Seen> {
        let seen: Seen = serde_json::from_slice(&std::fs::read(self.seen_file(hash)).ok()?).ok()?;
        (seen.content == content).then_some(seen)
    }

    /// Remembers that a content was found right. A cache that cannot be written goes without.
    fn remember(&self, hash: &ContentHash, content: Identity, sha256: &str) {
        if let Ok(text) = serde_json::to_vec(&Seen { content, sha256: sha256.to_owned() })
            && self.folder().is_dir()
            && std::fs::create_dir_all(self.own()).is_ok()
        {
            let _ = write_atomically(&self.seen_file(hash), &text);
        }
    }

    /// Puts the content that was fetched to its end, and found right, in its place.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub(super) fn publish(&self, file: &Listed, sha256: &str) -> io::Result<()> {
        let (partial, blob) = (self.partial(&file.hash), self.blob(&file.hash));
        // what is remembered as right must be so after a power failure too
        let content = File::open(&partial)?;
        content.sync_data()?;
        std::fs::rename(&partial, &blob)?;
        self.remember(&file.hash, Identity::of(&content.metadata()?), sha256);
        Ok(())
    }

    /// Makes `commit` have `file`, whose content is there.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub(super) fn link(&self, file: &Listed, commit: &str) -> io::Result<()> {
        let pointer = self.snapshot(commit).join(&file.path);
        let folder = pointer.parent().unwrap_or(&pointer);
        std::fs::create_dir_all(folder)?;
        let up = "../".repeat(2 + file.path.matches('/').count());
        let target = PathBuf::from(up).join("blobs").join(file.hash.name());
        // made aside and renamed, so that there is always one or the other
        let aside = tempfile::Builder::new().prefix(".linking-").tempdir_in(self.own())?;
        let link = aside.path().join("link");
        std::os::unix::fs::symlink(target, &link)?;
        std::fs::rename(&link, &pointer)
    }

    /// Removes what was begun long ago and never fetched to its end.
    pub(super) fn remove_old_partials(&self) {
        let Ok(entries) = std::fs::read_dir(self.own()) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let is_partial = path.extension().is_some_and(|extension| extension == "partial");
            if is_partial && is_older(&entry, KEPT) {
                // another run may be removing it too
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether `revision` is the full name of a commit.
pub(super) fn is_commit(revision: &str) -> bool {
    matches!(ContentHash::named(revision), Some(ContentHash::GitBlob(_)))
}

/// The hash of the content at `path`, of the kind that `file` has, and its SHA-256.
fn hash(path: &Path, file: &Listed, watch: &mut Watch<'_>) -> io::Result<(String, String)> {
    let mut content = File::open(path)?;
    let mut hasher = Hasher::of(&file.hash, file.bytes);
    let mut buffer = vec![0; HASHED_AT_ONCE];
    loop {
        let read = content.read(&mut buffer)?;
        match read {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
        if !watch(read as u64) {
            return Err(io::ErrorKind::Interrupted.into());
        }
    }
}
