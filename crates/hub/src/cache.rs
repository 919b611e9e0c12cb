//! One repository in the cache that the Hugging Face tools share: contents in `blobs` with their
//! hash as the name, commits in `snapshots` as symlinks to them, branches in `refs`
//! (<https://huggingface.co/docs/huggingface_hub/guides/manage-cache>).
//!
//! The folder `.modelgate` of the repository belongs to this crate; other tools do not use it. It
//! contains partial files, records of verified contents, and listings of commits.

use crate::content_hash::{ContentHash, is_commit};
use crate::disk_error::{DiskError, failed};
use crate::files::{copy_file, create_folder, is_older, is_unsupported, move_file, replace, sync};
use crate::identity::Identity;
use crate::listing::ListedFile;
use serde::{Deserialize, Serialize};
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The name of the folder of this crate in the folder of a repository.
const OWN_FOLDER: &str = ".modelgate";
/// The name of the operation that some file systems do not have.
const SYMLINK: &str = "symlink";
/// The maximum age of partial files. Older ones are removed.
const MAX_PARTIAL_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// The maximum size of a stored listing. A larger file was not written by this crate.
const MAX_LISTING_BYTES: u64 = 64 << 20;

/// One repository in the cache.
#[derive(Debug, Clone)]
pub(crate) struct RepositoryCache {
    cache: hf_hub::Cache,
    repo: hf_hub::Repo,
}

/// How a file is added to the folder of a commit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinkOptions {
    /// Whether symlinks may be used, if the file system has them.
    pub(crate) symlinks: bool,
    /// Whether the content may be moved if symlinks cannot be used. Otherwise it is copied, because
    /// other commits may need it.
    pub(crate) may_move: bool,
}

/// The record of a verified content.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct VerifiedContent {
    content: Identity,
    sha256: String,
}

impl RepositoryCache {
    /// Returns the repository `repo` (`owner/name`) of the cache in `root`.
    pub(crate) fn new(root: &Path, repo: &str) -> RepositoryCache {
        RepositoryCache {
            cache: hf_hub::Cache::new(root.to_owned()),
            repo: hf_hub::Repo::model(repo.to_owned()),
        }
    }

    /// Returns the folder of the complete cache.
    pub(crate) fn root(&self) -> &Path {
        self.cache.path()
    }

    fn folder(&self) -> PathBuf {
        self.root().join(self.repo.folder_name())
    }

    fn blobs(&self) -> PathBuf {
        self.folder().join("blobs")
    }

    fn refs(&self) -> PathBuf {
        self.folder().join("refs")
    }

    fn locks(&self) -> PathBuf {
        self.root().join(".locks").join(self.repo.folder_name())
    }

    fn own_folder(&self) -> PathBuf {
        self.folder().join(OWN_FOLDER)
    }

    /// Returns the folder of the files of a commit.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.cache.repo(self.repo.clone()).pointer_path(commit)
    }

    /// Returns the path of a content.
    pub(crate) fn blob(&self, hash: &ContentHash) -> PathBuf {
        self.blobs().join(hash.name())
    }

    /// Returns the path of the partial file of a content.
    pub(crate) fn partial(&self, hash: &ContentHash) -> PathBuf {
        self.own_folder().join(format!("{}.partial", hash.name()))
    }

    /// Returns the path of the lock that each tool takes before it downloads a content.
    pub(crate) fn lock(&self, hash: &ContentHash) -> PathBuf {
        self.locks().join(format!("{}.lock", hash.name()))
    }

    fn verified_file(&self, hash: &ContentHash) -> PathBuf {
        self.own_folder().join(format!("{}.json", hash.name()))
    }

    fn listing_file(&self, commit: &str) -> PathBuf {
        self.own_folder().join(format!("{commit}.listing.json"))
    }

    /// Returns the size of the partial file of a content, 0 if it does not exist.
    pub(crate) fn partial_bytes(&self, hash: &ContentHash) -> u64 {
        file_bytes(&self.partial(hash))
    }

    /// Returns the total size of all partial files of a content: that of this crate, and those of
    /// huggingface_hub, which are `blobs/HASH.incomplete` or, in later versions,
    /// `blobs/HASH.RANDOM.incomplete`.
    pub(crate) fn partial_bytes_of_all_tools(&self, hash: &ContentHash) -> u64 {
        let entries = std::fs::read_dir(self.blobs());
        let others = entries.into_iter().flatten().flatten().filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with(hash.name()) && name.ends_with(".incomplete")
        });
        others.map(|entry| file_bytes(&entry.path())).sum::<u64>() + self.partial_bytes(hash)
    }

    /// Creates the folders that downloads need.
    ///
    /// # Errors
    /// A folder cannot be created or written.
    pub(crate) fn create_folders(&self) -> Result<(), DiskError> {
        let snapshots = self.folder().join("snapshots");
        for path in [self.blobs(), snapshots, self.refs(), self.own_folder(), self.locks()] {
            create_folder(&path)?;
            // a folder that exists may be read-only
            tempfile::tempfile_in(&path).map_err(failed("create", &path))?;
        }
        Ok(())
    }

    /// Returns the commit to which `revision` was last resolved. `None` if it is not recorded.
    pub(crate) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = std::fs::read_to_string(self.refs().join(revision)).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Records the commit to which `revision` was resolved.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub(crate) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), DiskError> {
        if self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.refs().join(revision);
        create_folder(path.parent().unwrap_or(&path))?;
        replace(&path, commit.as_bytes())
    }

    /// Returns the listing of a commit that an earlier run stored. `None` if there is no valid one.
    pub(crate) fn listing(&self, commit: &str) -> Option<Vec<ListedFile>> {
        let path = self.listing_file(commit);
        let is_small = std::fs::metadata(&path).ok()?.len() <= MAX_LISTING_BYTES;
        let text = is_small.then(|| std::fs::read(&path).ok()).flatten()?;
        let listing: Vec<ListedFile> = serde_json::from_slice(&text).ok()?;
        // other users may be able to write to the cache
        listing.iter().all(ListedFile::is_valid).then_some(listing)
    }

    /// Stores the listing of a commit. Does nothing if the cache cannot be written.
    pub(crate) fn store_listing(&self, commit: &str, listing: &[ListedFile]) {
        let path = self.listing_file(commit);
        if !path.is_file()
            && let Ok(text) = serde_json::to_vec(listing)
        {
            let _ = replace(&path, &text);
        }
    }

    /// Returns whether the content of `file` exists with the listed size, and is not the content
    /// `wrong`. Without symlinks, the content may be in the folder of `commit`.
    pub(crate) fn has_content(
        &self,
        file: &ListedFile,
        commit: &str,
        wrong: Option<Identity>,
    ) -> bool {
        let blob = std::fs::metadata(self.blob(&file.hash));
        // a symlink may name another content
        let placed = std::fs::symlink_metadata(self.snapshot(commit).join(&file.path));
        let is_content = |metadata: &Metadata| {
            metadata.is_file()
                && metadata.len() == file.bytes
                && wrong != Some(Identity::of(metadata))
        };
        [blob, placed].into_iter().flatten().any(|metadata| is_content(&metadata))
    }

    /// Returns the SHA-256 of the content. `None` if no run has verified it, or if it has changed
    /// since.
    pub(crate) fn verified_sha256(&self, hash: &ContentHash, content: Identity) -> Option<String> {
        let record = std::fs::read(self.verified_file(hash)).ok()?;
        let record: VerifiedContent = serde_json::from_slice(&record).ok()?;
        (record.content == content).then_some(record.sha256)
    }

    /// Records that a content was verified. Does nothing if the cache cannot be written.
    pub(crate) fn set_verified(&self, hash: &ContentHash, content: Identity, sha256: &str) {
        if let Ok(text) =
            serde_json::to_vec(&VerifiedContent { content, sha256: sha256.to_owned() })
            && self.folder().is_dir()
            && create_folder(&self.own_folder()).is_ok()
        {
            let _ = replace(&self.verified_file(hash), &text);
        }
    }

    /// Publishes the partial file, which must be complete and verified, as the content.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub(crate) fn publish(&self, file: &ListedFile, sha256: &str) -> Result<(), DiskError> {
        let (partial, blob) = (self.partial(&file.hash), self.blob(&file.hash));
        // the record of a verified content must also be true after a power failure
        let content = File::open(&partial).map_err(failed("open", &partial))?;
        sync(&content).map_err(failed("fsync", &partial))?;
        move_file(&partial, &blob)?;
        let metadata = std::fs::metadata(&blob).map_err(failed("stat", &blob))?;
        self.set_verified(&file.hash, Identity::of(&metadata), sha256);
        Ok(())
    }

    /// Adds `file` to the folder of `commit`: as a symlink to its content, which must exist. Without
    /// symlinks the content itself is added, as by the Hugging Face tools.
    ///
    /// # Errors
    /// The cache cannot be written.
    pub(crate) fn link(
        &self,
        file: &ListedFile,
        commit: &str,
        options: LinkOptions,
    ) -> Result<(), DiskError> {
        let pointer = self.snapshot(commit).join(&file.path);
        create_folder(pointer.parent().unwrap_or(&pointer))?;
        if options.symlinks {
            match self.create_symlink(file, &pointer) {
                Err(error) if error.operation == SYMLINK && has_no_symlinks(&error.source) => {}
                result => return result,
            }
        }
        let blob = self.blob(&file.hash);
        let placed =
            if options.may_move { move_file(&blob, &pointer) } else { copy_file(&blob, &pointer) };
        match placed {
            // another process has moved the content to this place
            Err(error)
                if error.source.kind() == io::ErrorKind::NotFound
                    && std::fs::metadata(&pointer).is_ok_and(|m| m.len() == file.bytes) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Creates the symlink at `pointer` to the content of `file`.
    fn create_symlink(&self, file: &ListedFile, pointer: &Path) -> Result<(), DiskError> {
        let up = "../".repeat(2 + file.path.matches('/').count());
        let target = PathBuf::from(up).join("blobs").join(file.hash.name());
        // created in another folder and renamed, so that the pointer exists at any time
        let create_in = |folder: &Path| {
            let temporary = tempfile::Builder::new().prefix(".linking-").tempdir_in(folder);
            let temporary = temporary.map_err(failed("mkdir", folder))?;
            let link = temporary.path().join("link");
            std::os::unix::fs::symlink(&target, &link).map_err(failed(SYMLINK, pointer))?;
            std::fs::rename(&link, pointer).map_err(failed("rename", pointer))
        };
        match create_in(&self.own_folder()) {
            Err(error) if error.source.kind() == io::ErrorKind::CrossesDevices => {
                create_in(pointer.parent().unwrap_or(pointer))
            }
            result => result,
        }
    }

    /// Removes partial files that no run has continued for [`MAX_PARTIAL_AGE`].
    pub(crate) fn remove_old_partials(&self) {
        let Ok(entries) = std::fs::read_dir(self.own_folder()) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let is_partial = path.extension().is_some_and(|extension| extension == "partial");
            if is_partial && is_older(&entry, MAX_PARTIAL_AGE) {
                // another run may remove it at the same time
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Returns whether `error` means that the file system does not have symlinks, or does not allow
/// them.
fn has_no_symlinks(error: &io::Error) -> bool {
    is_unsupported(error) || error.kind() == io::ErrorKind::PermissionDenied
}

/// Returns the size of a file, 0 if it does not exist.
fn file_bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::FileTimes;
    use std::time::SystemTime;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
    const LINK: LinkOptions = LinkOptions { symlinks: true, may_move: true };

    fn file() -> ListedFile {
        let hash = ContentHash::Sha256("a".repeat(64));
        ListedFile { path: "q8/model.gguf".into(), bytes: 3, hash }
    }

    /// Returns a cache with all its folders.
    fn cache() -> (tempfile::TempDir, RepositoryCache) {
        let root = tempfile::tempdir().expect("a folder");
        let cache = RepositoryCache::new(root.path(), "owner/Name");
        cache.create_folders().expect("folders");
        (root, cache)
    }

    #[test]
    fn paths_are_those_of_the_hugging_face_tools() {
        let cache = RepositoryCache::new(Path::new("/c"), "owner/Name");
        let folder = Path::new("/c/models--owner--Name");
        assert_eq!(cache.snapshot(COMMIT), folder.join("snapshots").join(COMMIT));
        assert_eq!(cache.blob(&file().hash), folder.join("blobs").join("a".repeat(64)));
        let lock =
            Path::new("/c/.locks/models--owner--Name").join(format!("{}.lock", "a".repeat(64)));
        assert_eq!(cache.lock(&file().hash), lock);
    }

    #[test]
    fn a_published_content_is_linked_and_recorded_as_verified() {
        let (_root, cache) = cache();
        let file = file();
        std::fs::write(cache.partial(&file.hash), "abc").expect("written");
        assert!(!cache.has_content(&file, COMMIT, None));
        cache.publish(&file, "sha").expect("published");
        assert!(cache.has_content(&file, COMMIT, None));
        let blob = cache.blob(&file.hash);
        let content = Identity::of(&std::fs::metadata(&blob).expect("metadata"));
        assert!(!cache.has_content(&file, COMMIT, Some(content)));
        assert_eq!(cache.verified_sha256(&file.hash, content).as_deref(), Some("sha"));
        cache.link(&file, COMMIT, LINK).expect("linked");
        let pointer = cache.snapshot(COMMIT).join(&file.path);
        assert_eq!(std::fs::read(&pointer).expect("the content"), b"abc");
        let changed = SystemTime::now() - Duration::from_secs(10);
        let blob = File::options().write(true).open(blob).expect("the content");
        blob.set_times(FileTimes::new().set_modified(changed)).expect("another time");
        let content = Identity::of(&blob.metadata().expect("metadata"));
        assert_eq!(cache.verified_sha256(&file.hash, content), None);
    }

    #[test]
    fn without_symlinks_the_content_is_moved_or_copied() {
        // vfat, other file systems, and security modules
        for errno in [rustix::io::Errno::PERM, rustix::io::Errno::NOSYS, rustix::io::Errno::ACCESS]
        {
            assert!(has_no_symlinks(&errno.into()), "{errno}");
        }
        assert!(!has_no_symlinks(&rustix::io::Errno::NOSPC.into()));
        for may_move in [false, true] {
            let (_root, cache) = cache();
            let file = file();
            std::fs::write(cache.partial(&file.hash), "abc").expect("written");
            cache.publish(&file, "sha").expect("published");
            // the symlink of an earlier run is replaced, and its target is not
            cache.link(&file, COMMIT, LINK).expect("linked");
            let options = LinkOptions { symlinks: false, may_move };
            cache.link(&file, COMMIT, options).expect("placed");
            let pointer = cache.snapshot(COMMIT).join(&file.path);
            let metadata = std::fs::symlink_metadata(&pointer).expect("metadata");
            assert!(metadata.is_file());
            assert_eq!(std::fs::read(&pointer).expect("the content"), b"abc");
            assert_eq!(cache.blob(&file.hash).exists(), !may_move);
            assert!(cache.has_content(&file, COMMIT, None), "another process need not download it");
            let verified = cache.verified_sha256(&file.hash, Identity::of(&metadata));
            assert_eq!(verified.is_some(), may_move, "a moved content stays verified");
            // another process has moved the content to this place
            let _ = std::fs::remove_file(cache.blob(&file.hash));
            cache.link(&file, COMMIT, options).expect("present");
            std::fs::remove_file(&pointer).expect("removed");
            let error = cache.link(&file, COMMIT, options).expect_err("no content");
            let operation = if may_move { "rename" } else { "open" };
            assert_eq!(error.operation, operation, "{error}");
        }
    }

    #[test]
    fn a_cache_may_be_spread_over_file_systems() {
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
        let (_root, cache) = cache();
        for folder in [cache.blobs(), cache.folder().join("snapshots")] {
            let target = other.path().join(folder.file_name().expect("a name"));
            std::fs::create_dir(&target).expect("created");
            std::fs::remove_dir(&folder).expect("removed");
            std::os::unix::fs::symlink(&target, &folder).expect("linked");
        }
        let file = file();
        std::fs::write(cache.partial(&file.hash), "abc").expect("written");
        cache.publish(&file, "sha").expect("published");
        assert!(!cache.partial(&file.hash).exists());
        let content = std::fs::metadata(cache.blob(&file.hash)).expect("metadata");
        let verified = cache.verified_sha256(&file.hash, Identity::of(&content));
        assert_eq!(verified.as_deref(), Some("sha"));
        cache.link(&file, COMMIT, LINK).expect("linked");
        let pointer = cache.snapshot(COMMIT).join(&file.path);
        assert!(std::fs::read_link(&pointer).is_ok_and(|target| target.ends_with("a".repeat(64))));
    }

    #[test]
    fn a_stored_listing_with_a_path_outside_the_repository_is_ignored() {
        let (_root, cache) = cache();
        cache.store_listing(COMMIT, &[file()]);
        assert_eq!(cache.listing(COMMIT), Some(vec![file()]));
        let outside = ListedFile { path: "../../secret".into(), ..file() };
        let text = serde_json::to_vec(&[outside]).expect("JSON");
        std::fs::write(cache.listing_file(COMMIT), text).expect("written");
        assert_eq!(cache.listing(COMMIT), None);
    }

    #[test]
    fn a_revision_resolves_to_itself_or_to_the_recorded_commit() {
        let (_root, cache) = cache();
        assert_eq!(cache.commit(COMMIT).as_deref(), Some(COMMIT));
        assert_eq!(cache.commit("refs/pr/1"), None);
        cache.set_commit("refs/pr/1", COMMIT).expect("recorded");
        assert_eq!(cache.commit("refs/pr/1").as_deref(), Some(COMMIT));
        std::fs::write(cache.refs().join("main"), "not a commit").expect("written");
        assert_eq!(cache.commit("main"), None);
    }

    #[test]
    fn old_partial_files_are_removed() {
        let (_root, cache) = cache();
        let (old, new) = (file(), ContentHash::GitBlob("b".repeat(40)));
        let old = File::create(cache.partial(&old.hash)).expect("created");
        let age = MAX_PARTIAL_AGE + Duration::from_secs(60);
        old.set_modified(SystemTime::now() - age).expect("another time");
        File::create(cache.partial(&new)).expect("created");
        cache.remove_old_partials();
        assert!(!cache.partial(&file().hash).exists());
        assert!(cache.partial(&new).exists());
    }
}
