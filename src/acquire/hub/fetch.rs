//! Brings one file of a commit into the cache: ranges into a partial file, hashed as they come, and
//! published when all of it is right.
//!
//! Another run, or another tool, may be fetching the same: one of them holds the content's lock, and
//! the others wait and find it done. What a fetch leaves behind when it ends early is a beginning,
//! from which the next one goes on; nobody takes it for the file. Knows no commit's other files.

use super::cache::{Cache, Identity};
use super::client::{Bytes, Hub, Patience};
use super::disk;
use super::fault::{Asked, Fault};
use super::listing::{Hasher, Listed};
use super::settings::Settings;
use crate::env;
use crate::manifest::format_duration;
use modelgate_protocol::{Failure, FailureKind};
use rustix::io::Errno;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use tokio::task::block_in_place;

/// Bytes that are asked for at once, for [`Fetch::range`].
pub(super) const RANGE: u64 = 1 << 30;
/// How often a lock that another holds is asked for again.
const POLL: Duration = Duration::from_millis(50);
/// A try that brought so much, or the rest, was not in vain.
const PROGRESS: u64 = 1 << 20;
/// A connection slower than this for the model's `stall` time has stalled.
const LEAST_BYTES_PER_S: u64 = 4096;
/// Bytes of a partial file that are read at once.
const READ_AT_ONCE: usize = 1 << 20;
/// While a partial file is read, its lock is touched every so many bytes.
const TOUCHED_EVERY: u64 = 256 << 20;

/// What one fetch of several files shares.
pub(super) struct Fetch {
    pub(super) hub: Hub,
    pub(super) settings: Arc<Settings>,
    pub(super) cache: Cache,
    pub(super) repo: String,
    pub(super) commit: String,
    pub(super) stall: Duration,
    /// Bytes that are asked for at once.
    pub(super) range: u64,
    /// Bytes that are there of all files that are fetched.
    pub(super) done: AtomicU64,
    /// Bytes that came over the network.
    pub(super) downloaded: AtomicU64,
}

/// A file that is being put together.
struct Partial {
    content: File,
    hasher: Hasher,
    bytes: u64,
}

impl Fetch {
    /// Brings `file` into the cache, unless it is there when its lock is had, and is another content
    /// than `wrong`. Gives its SHA-256, where it was fetched here.
    ///
    /// # Errors
    /// It cannot be had, is not what is listed, or cannot be written.
    pub(super) async fn fetch(
        &self,
        file: &Listed,
        wrong: Option<Identity>,
    ) -> Result<Option<String>, Failure> {
        let asked = self.asked(file);
        let lock = self.lock(file, &asked).await?;
        if self.cache.is_there(file, wrong) {
            self.done.fetch_add(file.bytes, Ordering::Relaxed);
            return Ok(None);
        }
        let mut again = true;
        loop {
            let sha256 = self.complete(file, &asked, &lock).await?;
            let partial = self.cache.partial(&file.hash);
            match sha256 {
                Ok(sha256) => {
                    let published = block_in_place(|| self.cache.publish(file, &sha256));
                    published.map_err(|error| disk::failure(&asked, &partial, &error))?;
                    return Ok(Some(sha256));
                }
                Err(found) => {
                    // a beginning that others left, or a proxy, may have been wrong: once more from
                    // nothing
                    let removed = std::fs::remove_file(&partial);
                    removed.map_err(|error| disk::failure(&asked, &partial, &error))?;
                    self.done.fetch_sub(file.bytes, Ordering::Relaxed);
                    if !again {
                        return Err(corrupt(file, &found, &asked));
                    }
                    again = false;
                }
            }
        }
    }

    fn asked<'b>(&'b self, file: &'b Listed) -> Asked<'b> {
        Asked {
            repo: &self.repo,
            revision: &self.commit,
            file: Some(&file.path),
            settings: &self.settings,
        }
    }

    /// Waits for the content's lock while somebody else fetches it.
    async fn lock(&self, file: &Listed, asked: &Asked<'_>) -> Result<Lock, Failure> {
        let path = self.cache.lock(&file.hash);
        let grown = || (self.cache.begun(&file.hash), touched(&path));
        let (mut seen, mut since) = (grown(), Instant::now());
        loop {
            match Lock::take(&path) {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) => {}
                Err(error) => return Err(disk::failure(asked, &path, &error)),
            }
            tokio::time::sleep(POLL).await;
            if grown() != seen {
                (seen, since) = (grown(), Instant::now());
            }
            if since.elapsed() > self.stall {
                let what = format!(
                    "somebody else holds its lock {} and has fetched nothing for {}",
                    path.display(),
                    format_duration(self.stall)
                );
                let hint = "end that process (`fuser` on the lock names it), or allow more with \
                            `stall` in the manifest";
                return Err(asked.failure(FailureKind::Stalled, &what, hint));
            }
        }
    }

    /// Fetches what is missing of the partial file. Gives the SHA-256 of the whole, or the hash that
    /// it has where that is another one than it should have.
    async fn complete(
        &self,
        file: &Listed,
        asked: &Asked<'_>,
        lock: &Lock,
    ) -> Result<Result<String, String>, Failure> {
        let path = self.cache.partial(&file.hash);
        let mut partial = block_in_place(|| Partial::open(&path, file, lock))
            .map_err(|error| disk::failure(asked, &path, &error))?;
        self.done.fetch_add(partial.bytes, Ordering::Relaxed);
        let mut patience = Patience::new(&self.settings);
        while partial.bytes < file.bytes {
            let before = partial.bytes;
            let got = self.range(file, &mut partial, asked).await;
            let gained = partial.bytes.saturating_sub(before);
            if gained >= PROGRESS.min(file.bytes - before) {
                patience.restore();
            }
            match got {
                Ok(()) => {}
                Err(Broken::Fault(mut fault)) => {
                    let (bytes, all) = (partial.bytes, file.bytes);
                    fault.failure.message += &format!(" ({bytes} of {all} bytes are there)");
                    patience.wait(fault).await?;
                }
                Err(Broken::Disk(error)) => return Err(disk::failure(asked, &path, &error)),
            }
        }
        let (found, sha256) = partial.hasher.finish();
        Ok(if found == file.hash.name() { Ok(sha256) } else { Err(found) })
    }

    /// Fetches the next range.
    async fn range(
        &self,
        file: &Listed,
        partial: &mut Partial,
        asked: &Asked<'_>,
    ) -> Result<(), Broken> {
        let mut end = file.bytes.min(partial.bytes.saturating_add(self.range));
        let mut bytes = self.hub.bytes(asked, partial.bytes..end, file.bytes).await?;
        if bytes.is_whole {
            self.done.fetch_sub(partial.bytes, Ordering::Relaxed);
            partial.restart(file).map_err(Broken::Disk)?;
            end = file.bytes;
        }
        self.take(end, partial, &mut bytes, asked).await?;
        if partial.bytes < end {
            let failure = asked.failure(
                FailureKind::Connect,
                "the connection ended before the file did",
                "start again: what was fetched is kept, and goes on from there",
            );
            return Err(Fault { failure, again: Some(Duration::ZERO) }.into());
        }
        Ok(())
    }

    /// Takes bytes in up to `end`.
    async fn take(
        &self,
        end: u64,
        partial: &mut Partial,
        bytes: &mut Bytes,
        asked: &Asked<'_>,
    ) -> Result<(), Broken> {
        let (mut since, mut at) = (Instant::now(), partial.bytes);
        while let Some(chunk) = bytes.next(asked).await? {
            if chunk.len() as u64 > end - partial.bytes {
                let what = format!("more bytes than the {end} that the file has here");
                return Err(Fault::never(asked.bad_answer(&what)).into());
            }
            partial.append(&chunk).map_err(Broken::Disk)?;
            self.done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            self.downloaded.fetch_add(chunk.len() as u64, Ordering::Relaxed);
            if since.elapsed() > self.stall {
                if (partial.bytes - at) < LEAST_BYTES_PER_S * self.stall.as_secs().max(1) {
                    return Err(self.stalled(partial.bytes - at, asked).into());
                }
                (since, at) = (Instant::now(), partial.bytes);
            }
        }
        Ok(())
    }

    fn stalled(&self, bytes: u64, asked: &Asked<'_>) -> Fault {
        let stall = format_duration(self.stall);
        let what = format!("only {bytes} bytes came in {stall}");
        let hint = format!(
            "check the network and the proxy; {} names another hub; what was fetched is kept",
            env::HF_ENDPOINT
        );
        Fault::never(asked.failure(FailureKind::Timeout, &what, hint))
    }
}

/// Why a range did not come whole.
enum Broken {
    Fault(Fault),
    Disk(std::io::Error),
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Broken {
        Broken::Fault(fault)
    }
}

impl Partial {
    /// Opens what there is, and hashes it, which whoever waits for the lock is shown.
    fn open(path: &Path, file: &Listed, lock: &Lock) -> std::io::Result<Partial> {
        let content =
            OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        let mut partial = Partial { content, hasher: Hasher::of(&file.hash, file.bytes), bytes: 0 };
        if partial.content.metadata()?.len() > file.bytes {
            partial.restart(file)?;
        }
        let mut buffer = vec![0; READ_AT_ONCE];
        loop {
            match partial.content.read(&mut buffer)? {
                0 => return Ok(partial),
                read => {
                    partial.hasher.update(&buffer[..read]);
                    partial.bytes += read as u64;
                    if partial.bytes.is_multiple_of(TOUCHED_EVERY) {
                        lock.touch();
                    }
                }
            }
        }
    }

    /// Drops what there is.
    fn restart(&mut self, file: &Listed) -> std::io::Result<()> {
        self.content.set_len(0)?;
        self.content.seek(SeekFrom::Start(0))?;
        (self.hasher, self.bytes) = (Hasher::of(&file.hash, file.bytes), 0);
        Ok(())
    }

    fn append(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        if let Err(error) = self.content.write_all(chunk) {
            // so that the file is what was hashed, whatever part of the chunk was written
            let _ = self.content.set_len(self.bytes);
            return Err(error);
        }
        self.hasher.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }
}

/// A content's lock. The file goes when the lock does.
struct Lock {
    path: PathBuf,
    file: File,
}

impl Lock {
    /// The lock at `path`; none where somebody else has it.
    fn take(path: &Path) -> std::io::Result<Option<Lock>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // whoever had it may have removed the file in between: then it is nobody's lock
        let is_same = std::fs::metadata(path).is_ok_and(|there| {
            file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (there.dev(), there.ino()))
        });
        if !is_same {
            return Ok(None);
        }
        // some file systems give every lock to everybody
        let again = OpenOptions::new().write(true).open(path)?;
        if again.try_lock().is_ok() {
            return Err(Errno::NOLCK.into());
        }
        Ok(Some(Lock { path: path.to_owned(), file }))
    }

    /// Shows whoever waits for it that work goes on.
    fn touch(&self) {
        // a wait that ends too early is told as such
        let _ = self.file.set_modified(SystemTime::now());
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // one that stays does no harm
        let _ = std::fs::remove_file(&self.path);
    }
}

/// When a file was last changed; none where it is not there.
fn touched(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|file| file.modified()).ok()
}

fn corrupt(file: &Listed, found: &str, asked: &Asked<'_>) -> Failure {
    let kind = file.hash.kind();
    let what = format!(
        "what the hub sends is not what it lists: {kind} {found}, expected {}; fetched twice",
        file.hash.name()
    );
    let hint = "a proxy or a mirror may change files, or the repository is damaged: try another \
                network, or another revision; nothing of it was kept";
    asked.failure(FailureKind::Corrupt, &what, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acquire::hub::listing::ContentHash;
    use crate::env::Variables;
    use modelgate_testkit::hub::{self, Action, Fault as AtHub, Repository};

    const FILE: &str = "weights";
    const BYTES: usize = 2_500_000;

    /// Fetches a file of [`BYTES`] in ranges of a million, with `faults` on the way.
    fn fetched(faults: Vec<AtHub>) -> (Result<Option<String>, Failure>, hub::Hub) {
        let content: Vec<u8> = (0..BYTES).map(|at| (at / 7) as u8).collect();
        let repository = Repository::new("owner/Name").with_file(FILE, content);
        let sha256 = repository.etag(FILE).to_owned();
        let commit = repository.commit.clone();
        let server = hub::Hub::start(vec![repository]);
        faults.into_iter().for_each(|fault| server.fault(fault));
        let home = tempfile::tempdir().expect("a folder");
        let mut variables = Variables::default();
        variables.set("HF_ENDPOINT", server.endpoint());
        variables.set("HF_HOME", home.path());
        variables.set("NO_PROXY", "*");
        let settings = Arc::new(Settings::of(&variables).expect("settings"));
        let cache = Cache::of(&settings.cache, "owner/Name");
        cache.make_writable().expect("a cache");
        let fetch = Fetch {
            hub: Hub::new(Arc::clone(&settings)).expect("a client"),
            settings,
            cache,
            repo: "owner/Name".into(),
            commit,
            stall: Duration::from_secs(60),
            range: 1_000_000,
            done: AtomicU64::new(0),
            downloaded: AtomicU64::new(0),
        };
        let hash = ContentHash::Sha256(sha256.clone());
        let file = Listed { path: FILE.into(), bytes: BYTES as u64, hash };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        // what takes a thread's place needs one of the runtime's
        let (fetch, file) = (Arc::new(fetch), Arc::new(file));
        let (other, wanted) = (Arc::clone(&fetch), Arc::clone(&file));
        let result = runtime
            .block_on(runtime.spawn(async move { other.fetch(&wanted, None).await }))
            .expect("it ends");
        if let Ok(found) = &result {
            assert_eq!(found.as_deref(), Some(sha256.as_str()));
            assert_eq!(fetch.done.load(Ordering::Relaxed), BYTES as u64);
            assert!(fetch.cache.is_there(&file, None));
        }
        (result, server)
    }

    fn ranges(server: &hub::Hub) -> Vec<String> {
        let log = server.log().into_iter().filter(|logged| logged.target.contains("signature"));
        log.filter_map(|logged| logged.range).collect()
    }

    #[test]
    fn a_file_comes_in_ranges() {
        let (result, server) = fetched(Vec::new());
        result.expect("fetched");
        let expected = ["bytes=0-999999", "bytes=1000000-1999999", "bytes=2000000-2499999"];
        assert_eq!(ranges(&server), expected);
    }

    #[test]
    fn a_server_without_ranges_sends_it_whole() {
        let (result, server) = fetched(vec![AtHub::of("signature", Action::IgnoreRange)]);
        result.expect("fetched");
        assert_eq!(ranges(&server), ["bytes=0-999999"]);
    }

    #[test]
    fn a_page_of_unknown_length_costs_nothing_of_what_was_fetched() {
        let page = Action::Unsized("<html>Welcome to our network</html>".into());
        let at_second = AtHub::of("signature", Action::CutAt(1_200_000)).times(2);
        // the first range comes, the second is cut, and then a page stands in the way
        let (result, server) = fetched(vec![at_second, AtHub::of("signature", page)]);
        let failure = result.expect_err("a page is no file");
        assert_eq!(failure.kind, FailureKind::BadAnswer, "{failure}");
        assert!(failure.message.contains("an unknown number of bytes"), "{failure}");
        assert_eq!(ranges(&server).last().map(String::as_str), Some("bytes=1200000-2199999"));
    }
}
