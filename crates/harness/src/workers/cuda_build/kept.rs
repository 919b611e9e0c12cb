//! Finished workers: each in a folder named by what it was built from, and there whole or not at
//! all.

use crate::lock;
use crate::signal::Interrupt;
use crate::workers::built::WORKER_NAME;
use crate::workers::error::{NotedError, WorkerError};
use modelgate_hub::files::write_atomically;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Workers that are kept, so that going back and forth between a few states of the sources costs
/// nothing.
const MAX_WORKERS: usize = 4;

/// Where builds by one toolchain for one compute capability are.
pub(super) struct Kept {
    folder: PathBuf,
}

impl Kept {
    /// In `folder`, which is made where it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn open(folder: PathBuf) -> io::Result<Kept> {
        std::fs::create_dir_all(&folder)?;
        Ok(Kept { folder })
    }

    /// Cargo's target folder.
    pub(super) fn target(&self) -> PathBuf {
        self.folder.join("target")
    }

    /// What the last build printed.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("build.log")
    }

    /// The finished worker of the sources with this hash, where there is one.
    pub(super) fn find(&self, sources: &str) -> Option<PathBuf> {
        Some(self.place(sources)).filter(|place| place.is_file())
    }

    /// Keeps the worker `built` of the sources with this hash.
    ///
    /// # Errors
    /// It cannot be copied; then nothing is kept.
    pub(super) fn keep(&self, built: &Path, sources: &str) -> io::Result<PathBuf> {
        let place = self.place(sources);
        let folder = place.parent().unwrap_or(&self.folder);
        std::fs::create_dir_all(folder)?;
        let fresh = tempfile::Builder::new().prefix(".copying-").tempdir_in(&self.folder)?;
        let copy = fresh.path().join(WORKER_NAME);
        // not a link: cargo goes on to write its own file
        std::fs::copy(built, &copy)?;
        // after a power cut the name must not stand for a file that was never written
        File::open(&copy)?.sync_all()?;
        std::fs::rename(&copy, &place)?;
        self.remove_old();
        Ok(place)
    }

    /// Notes that the sources with this hash could not be built, for those who wait to build them.
    pub(super) fn note_failure(&self, sources: &str, error: &WorkerError) {
        if let Ok(text) = serde_json::to_vec(&NotedError::of(error)) {
            // without the note those who wait try it themselves
            let _ = write_atomically(&self.failure_file(sources), &text);
        }
    }

    /// The failure to build the sources with this hash that was noted after `since`.
    pub(super) fn failure_since(&self, sources: &str, since: SystemTime) -> Option<NotedError> {
        let path = self.failure_file(sources);
        let noted = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
        let text = std::fs::read(path).ok().filter(|_| noted >= since)?;
        serde_json::from_slice(&text).ok()
    }

    /// Waits until no other process builds here; calls `wait` once if one does.
    ///
    /// # Errors
    /// The lock's file cannot be opened, or a signal came meanwhile.
    pub(super) fn lock(&self, interrupt: &Interrupt, wait: impl FnOnce()) -> io::Result<File> {
        let path = self.folder.join("build.lock");
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        let mut wait = Some(wait);
        lock::wait(&file, || {
            if let Some(wait) = wait.take() {
                wait();
            }
            match interrupt.signal() {
                Some(_) => Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
                None => Ok(()),
            }
        })?;
        Ok(file)
    }

    fn workers(&self) -> PathBuf {
        self.folder.join("workers")
    }

    fn place(&self, sources: &str) -> PathBuf {
        self.workers().join(sources).join(WORKER_NAME)
    }

    fn failure_file(&self, sources: &str) -> PathBuf {
        self.folder.join(format!("{sources}.failed.json"))
    }

    /// Removes all workers but the latest: one has hundreds of megabytes.
    fn remove_old(&self) {
        let Ok(entries) = std::fs::read_dir(self.workers()) else {
            return;
        };
        let mut workers: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        workers.sort();
        for (_, folder) in workers.iter().rev().skip(MAX_WORKERS) {
            // one that stays costs room and nothing else
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
    fn what_was_not_kept_to_the_end_is_not_found() {
        let folder = TempDir::new().expect("a folder");
        let kept = Kept::open(folder.path().join("sm_90")).expect("opened");
        kept.keep(&folder.path().join("missing"), "0123").expect_err("nothing to keep");
        assert_eq!(kept.find("0123"), None);
        let built = folder.path().join("built");
        std::fs::write(&built, "a program").expect("written");
        let place = kept.keep(&built, "0123").expect("kept");
        assert_eq!(kept.find("0123"), Some(place.clone()));
        assert_eq!(kept.find("4567"), None, "of other sources");
        std::fs::write(&built, "the next program").expect("written");
        assert_eq!(std::fs::read(place).expect("read"), b"a program");
    }

    #[test]
    fn the_latest_workers_stay() {
        let folder = TempDir::new().expect("a folder");
        let kept = Kept::open(folder.path().to_owned()).expect("opened");
        let built = folder.path().join("built");
        std::fs::write(&built, "a program").expect("written");
        let hashes: Vec<String> = (0..MAX_WORKERS + 2).map(|n| format!("{n:016x}")).collect();
        for hash in &hashes {
            kept.keep(&built, hash).expect("kept");
            std::thread::sleep(Duration::from_millis(20)); // the resolution of files' times
        }
        let there: Vec<bool> = hashes.iter().map(|hash| kept.find(hash).is_some()).collect();
        assert_eq!(there, [false, false, true, true, true, true]);
    }

    #[test]
    fn a_failure_is_for_those_who_waited_for_it() {
        let folder = TempDir::new().expect("a folder");
        let kept = Kept::open(folder.path().to_owned()).expect("opened");
        let before = SystemTime::now() - Duration::from_secs(1);
        let error = WorkerError::BuildInterrupted(SIGINT);
        kept.note_failure("0123", &error);
        let after = SystemTime::now() + Duration::from_secs(1);
        assert_eq!(kept.failure_since("0123", before), Some(NotedError::of(&error)));
        assert_eq!(kept.failure_since("0123", after), None);
        assert_eq!(kept.failure_since("4567", before), None);
    }

    #[test]
    fn a_signal_ends_the_wait_for_another_build() {
        let folder = TempDir::new().expect("a folder");
        let kept = Kept::open(folder.path().to_owned()).expect("opened");
        let _held = kept.lock(&Interrupt::default(), || panic!("free")).expect("locked");
        let interrupt = Interrupt::default();
        interrupt.ask(SIGINT);
        let mut waits = 0;
        let error = kept.lock(&interrupt, || waits += 1).expect_err("interrupted");
        assert_eq!((error.kind(), waits), (io::ErrorKind::Interrupted, 1));
    }
}
