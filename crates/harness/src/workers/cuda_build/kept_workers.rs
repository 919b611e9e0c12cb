//! Finished workers, each in a folder whose name is the hash of its sources. A worker is either
//! complete or does not exist.

use crate::lock;
use crate::signal::Interrupt;
use crate::workers::built::WORKER_NAME;
use crate::workers::error::{RecordedError, WorkerError};
use modelgate_hub::files::write_atomically;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The maximum number of workers that are kept. More than one is kept, so that a switch between a
/// few states of the sources needs no build.
const MAX_WORKERS: usize = 4;

/// The folder of all builds with one CUDA version for one compute capability.
pub(super) struct KeptWorkers {
    folder: PathBuf,
}

impl KeptWorkers {
    /// Opens `folder`, and creates it if it does not exist.
    ///
    /// # Errors
    /// The folder cannot be created.
    pub(super) fn open(folder: PathBuf) -> io::Result<KeptWorkers> {
        std::fs::create_dir_all(&folder)?;
        Ok(KeptWorkers { folder })
    }

    /// Returns the target folder of cargo.
    pub(super) fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    /// Returns the file with the output of the last build.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("build.log")
    }

    /// Returns the finished worker for the sources with this hash. `None` if there is none.
    pub(super) fn find(&self, sources: &str) -> Option<PathBuf> {
        Some(self.worker_path(sources)).filter(|path| path.is_file())
    }

    /// Copies the worker `built`, which is for the sources with this hash, and returns the path of
    /// the copy. Removes the oldest workers above [`MAX_WORKERS`].
    ///
    /// # Errors
    /// The worker cannot be copied. No incomplete copy remains.
    pub(super) fn keep(&self, built: &Path, sources: &str) -> io::Result<PathBuf> {
        let path = self.worker_path(sources);
        let folder = path.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(folder)?;
        let temporary = tempfile::Builder::new().prefix(".copying-").tempdir_in(&self.folder)?;
        let copy = temporary.path().join(WORKER_NAME);
        // a copy and not a hard link, because cargo overwrites its file
        std::fs::copy(built, &copy)?;
        // after a power failure, the path must not refer to a file without its content
        File::open(&copy)?.sync_all()?;
        std::fs::rename(&copy, &path)?;
        self.remove_old();
        Ok(path)
    }

    /// Records that the sources with this hash could not be built, for processes that wait for this
    /// build.
    pub(super) fn record_failure(&self, sources: &str, error: &WorkerError) {
        if let Ok(text) = serde_json::to_vec(&RecordedError::of(error)) {
            // without the record, the waiting processes build themselves
            let _ = write_atomically(&self.failure_file(sources), &text);
        }
    }

    /// Returns the recorded failure for the sources with this hash. `None` if there is none, or if
    /// it is older than `since`.
    pub(super) fn failure_since(&self, sources: &str, since: SystemTime) -> Option<RecordedError> {
        let path = self.failure_file(sources);
        let recorded = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
        let text = std::fs::read(path).ok().filter(|_| recorded >= since)?;
        serde_json::from_slice(&text).ok()
    }

    /// Locks the folder for a build. If another process builds in it, calls `on_wait` once and
    /// waits.
    ///
    /// # Errors
    /// The lock file cannot be opened, or a signal arrived.
    pub(super) fn lock(&self, interrupt: &Interrupt, on_wait: impl FnOnce()) -> io::Result<File> {
        let path = self.folder.join("build.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let mut on_wait = Some(on_wait);
        lock::wait(&file, || {
            if let Some(on_wait) = on_wait.take() {
                on_wait();
            }
            match interrupt.signal() {
                Some(_) => Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
                None => Ok(()),
            }
        })?;
        Ok(file)
    }

    fn workers_folder(&self) -> PathBuf {
        self.folder.join("workers")
    }

    fn worker_path(&self, sources: &str) -> PathBuf {
        self.workers_folder().join(sources).join(WORKER_NAME)
    }

    fn failure_file(&self, sources: &str) -> PathBuf {
        self.folder.join(format!("{sources}.failed.json"))
    }

    /// Removes all workers but the latest [`MAX_WORKERS`]. A worker has hundreds of megabytes.
    fn remove_old(&self) {
        let Ok(entries) = std::fs::read_dir(self.workers_folder()) else {
            return;
        };
        let mut workers: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        workers.sort();
        for (_, folder) in workers.iter().rev().skip(MAX_WORKERS) {
            // a worker that cannot be removed costs only disk space
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::consts::SIGINT;
    use std::time::Duration;
    use tempfile::TempDir;

    #[test]
    fn a_worker_is_found_only_after_a_complete_copy() {
        let folder = TempDir::new().expect("a folder");
        let kept = KeptWorkers::open(folder.path().join("sm_90")).expect("opened");
        kept.keep(&folder.path().join("missing"), "0123").expect_err("the worker does not exist");
        assert_eq!(kept.find("0123"), None);
        let built = folder.path().join("built");
        std::fs::write(&built, "a program").expect("written");
        let path = kept.keep(&built, "0123").expect("kept");
        assert_eq!(kept.find("0123"), Some(path.clone()));
        assert_eq!(kept.find("4567"), None, "a worker of other sources");
        std::fs::write(&built, "the next program").expect("written");
        assert_eq!(std::fs::read(path).expect("read"), b"a program");
    }

    #[test]
    fn only_the_latest_workers_are_kept() {
        let folder = TempDir::new().expect("a folder");
        let kept = KeptWorkers::open(folder.path().to_owned()).expect("opened");
        let built = folder.path().join("built");
        std::fs::write(&built, "a program").expect("written");
        let hashes: Vec<String> = (0..MAX_WORKERS + 2).map(|n| format!("{n:016x}")).collect();
        for hash in &hashes {
            kept.keep(&built, hash).expect("kept");
            std::thread::sleep(Duration::from_millis(20)); // the resolution of modification times
        }
        let is_kept: Vec<bool> = hashes.iter().map(|hash| kept.find(hash).is_some()).collect();
        assert_eq!(is_kept, [false, false, true, true, true, true]);
    }

    #[test]
    fn a_failure_is_reported_to_processes_that_waited() {
        let folder = TempDir::new().expect("a folder");
        let kept = KeptWorkers::open(folder.path().to_owned()).expect("opened");
        let before = SystemTime::now() - Duration::from_secs(1);
        let error = WorkerError::BuildInterrupted(SIGINT);
        kept.record_failure("0123", &error);
        let after = SystemTime::now() + Duration::from_secs(1);
        assert_eq!(kept.failure_since("0123", before), Some(RecordedError::of(&error)));
        assert_eq!(kept.failure_since("0123", after), None);
        assert_eq!(kept.failure_since("4567", before), None);
    }

    #[test]
    fn a_signal_ends_the_wait_for_another_build() {
        let folder = TempDir::new().expect("a folder");
        let kept = KeptWorkers::open(folder.path().to_owned()).expect("opened");
        let _lock =
            kept.lock(&Interrupt::default(), || panic!("waited for a free lock")).expect("locked");
        let interrupt = Interrupt::default();
        interrupt.raise(SIGINT);
        let mut waits = 0;
        let error = kept.lock(&interrupt, || waits += 1).expect_err("interrupted");
        assert_eq!((error.kind(), waits), (io::ErrorKind::Interrupted, 1));
    }
}
