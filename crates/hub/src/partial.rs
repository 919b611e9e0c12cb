//! A partly downloaded file, which is hashed as it grows and continued by later runs.

use crate::content_hash::{ComputedHashes, Hasher};
use crate::disk_error::{DiskError, failed};
use crate::files::share_with_group;
use crate::listing::ListedFile;
use crate::lock::ContentLock;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The size of the read buffer.
const BUFFER_BYTES: usize = 1 << 20;
/// The interval at which the lock is touched while a file is hashed, much shorter than the time after
/// which a waiting process gives up.
const TOUCH_INTERVAL: Duration = Duration::from_secs(1);

/// The partial file of a content.
pub(crate) struct PartialFile {
    path: PathBuf,
    content: File,
    hasher: Hasher,
    bytes: u64,
}

impl PartialFile {
    /// Opens or creates the partial file at `path`, and hashes its content. Touches `lock` every
    /// [`TOUCH_INTERVAL`]. A file that is longer than `file` is emptied.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) fn open(
        path: &Path,
        file: &ListedFile,
        lock: &ContentLock,
    ) -> Result<PartialFile, DiskError> {
        let open =
            || OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let content = match open() {
            // a file of another user, in a folder that this user can write
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && path.is_file() => {
                std::fs::remove_file(path).map_err(failed("remove", path))?;
                open()
            }
            opened => opened,
        };
        let content = content.map_err(failed("open", path))?;
        share_with_group(path);
        let hasher = Hasher::new(&file.hash, file.bytes);
        let mut partial = PartialFile { path: path.to_owned(), content, hasher, bytes: 0 };
        let metadata = partial.content.metadata().map_err(failed("stat", path))?;
        if metadata.len() > file.bytes {
            partial.restart(file)?;
        }
        let PartialFile { content, hasher, .. } = &mut partial;
        let bytes = hash(content, hasher, TOUCH_INTERVAL, || lock.touch());
        partial.bytes = bytes.map_err(failed("read", path))?;
        Ok(partial)
    }

    /// Returns the size of the partial file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Empties the partial file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn restart(&mut self, file: &ListedFile) -> Result<(), DiskError> {
        self.content.set_len(0).map_err(failed("truncate", &self.path))?;
        self.content.seek(SeekFrom::Start(0)).map_err(failed("seek", &self.path))?;
        (self.hasher, self.bytes) = (Hasher::new(&file.hash, file.bytes), 0);
        Ok(())
    }

    /// Appends `chunk` to the file and to the hash.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn append(&mut self, chunk: &[u8]) -> Result<(), DiskError> {
        if let Err(error) = self.content.write_all(chunk) {
            // a part of the chunk may be written, but the file must equal the hashed bytes
            let _ = self.content.set_len(self.bytes);
            return Err(failed("write", &self.path)(error));
        }
        self.hasher.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Returns the hashes of the content.
    pub(crate) fn finish(self) -> ComputedHashes {
        self.hasher.finish()
    }
}

/// Adds all bytes of `content` to `hasher`, and returns their number. Calls `touch` after each
/// `interval`, however few bytes a slow disk or network returns at a time.
fn hash(
    content: &mut impl Read,
    hasher: &mut Hasher,
    interval: Duration,
    touch: impl Fn(),
) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut bytes, mut touched) = (0, Instant::now());
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(bytes),
            read => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
        if touched.elapsed() >= interval {
            touch();
            touched = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content_hash::ContentHash;
    use std::cell::Cell;

    #[test]
    fn the_lock_is_touched_by_time_even_if_reads_are_short() {
        let hash_of = |interval| {
            // `printf hello | git hash-object --stdin`
            let name = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
            let mut hasher = Hasher::new(&ContentHash::GitBlob(name.into()), 5);
            let touched = Cell::new(0);
            // two reads, of one byte and of four bytes
            let mut content = b"h".chain(&b"ello"[..]);
            let touch = || touched.set(touched.get() + 1);
            let bytes = hash(&mut content, &mut hasher, interval, touch).expect("read");
            assert_eq!((bytes, hasher.finish().name.as_str()), (5, name));
            touched.get()
        };
        assert_eq!(hash_of(Duration::ZERO), 2);
        assert_eq!(hash_of(Duration::from_secs(3600)), 0);
    }

    #[test]
    fn a_partial_file_is_continued_and_hashed_completely() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.partial");
        let lock = ContentLock::try_take(&folder.path().join("lock")).expect("locks");
        let lock = lock.expect("the lock is free");
        // `printf hello | git hash-object --stdin`
        let hash = ContentHash::GitBlob("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0".into());
        let file = ListedFile { path: "file".into(), bytes: 5, hash };
        let open = || PartialFile::open(&path, &file, &lock).expect("opened");
        open().append(b"hel").expect("appended");
        let mut partial = open();
        assert_eq!(partial.bytes(), 3);
        partial.append(b"lo").expect("appended");
        assert_eq!(partial.finish().name, file.hash.name());
        // a file that is too long is emptied
        std::fs::write(&path, "hello!").expect("written");
        assert_eq!(open().bytes(), 0);
        assert_eq!(std::fs::metadata(&path).expect("metadata").len(), 0);
    }
}
