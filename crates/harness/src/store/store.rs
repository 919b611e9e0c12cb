//! The folder of a run: one file per model, written under a lock.
//!
//! The mechanism is the same within one process and across the processes of a nextest run, so that
//! the checks of a model share one load, and a load that was killed is not repeated for each check.
//! This module does not know how a measurement is made.

use super::record::RunRecord;
use crate::lock;
use crate::measurement::{Measurement, Outcome, Unmeasured};
use crate::signal::Interrupt;
use modelgate_hub::files::{is_older, write_atomically};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The age after which folders of earlier runs are removed.
const MAX_RUN_AGE: Duration = Duration::from_secs(7 * 24 * 3600);

/// The folder of one run.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Measurements that could not be written (for example on a full disk) with the reason.
    /// Verdicts are more important than files.
    unwritten: Mutex<HashMap<String, (Measurement, String)>>,
}

/// The content of the file of a model in the folder.
#[derive(Debug, Serialize, Deserialize)]
struct ModelState {
    /// The number of the attempt of the test runner that wrote the file; 1 for the first.
    attempt: u32,
    /// The measurement. `None` while the model is being measured.
    measurement: Option<Measurement>,
}

impl Store {
    /// Opens the folder of run `id` below `scratch`, or creates it. Old folders of other runs are
    /// removed.
    ///
    /// # Errors
    /// The folder cannot be written; the error names it.
    pub fn open(scratch: &Path, id: &str) -> io::Result<Store> {
        let runs = scratch.join("runs");
        let folder = runs.join(id);
        std::fs::create_dir_all(folder.join("selected"))
            .map_err(|error| with_path(&folder, &error))?;
        remove_old(&runs, &folder);
        Ok(Store { folder, unwritten: Mutex::default() })
    }

    /// Removes the folder of the run.
    pub fn remove(&self) {
        // a later run removes the files that remain
        let _ = std::fs::remove_dir_all(&self.folder);
    }

    /// Changes the record of the run under its lock. The first call starts with `new_record`.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn with_run<T>(
        &self,
        new_record: impl FnOnce() -> RunRecord,
        change: impl FnOnce(&mut RunRecord) -> T,
    ) -> io::Result<T> {
        let path = self.folder.join("run.json");
        let lock = self.lock_file("run")?;
        lock.lock()?;
        let mut record = read(&path)?.unwrap_or_else(new_record);
        let result = change(&mut record);
        write_atomically(&path, &serde_json::to_vec(&record)?)?;
        Ok(result)
    }

    /// Records that the case `name` is selected in this run.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn select(&self, name: &str) -> io::Result<()> {
        let path = self.folder.join("selected").join(name);
        File::create(&path).map(drop).map_err(|error| with_path(&path, &error))
    }

    /// Returns whether this process or another one selected the case `name` in this run.
    pub fn is_selected(&self, name: &str) -> bool {
        self.folder.join("selected").join(name).is_file()
    }

    /// Returns the measurement of `model`. `None` if this run has none yet.
    pub fn measurement(&self, model: &str) -> Option<Measurement> {
        if let Some((measurement, _)) = self.unwritten().get(model) {
            return Some(measurement.clone());
        }
        let record: ModelState = read(&self.model_file(model)).ok()??;
        record.measurement
    }

    /// Returns why a measurement could not be written. `None` if all were written.
    pub fn write_error(&self) -> Option<String> {
        self.unwritten().values().map(|(_, error)| error.clone()).next()
    }

    /// Returns whether a signal ended the run.
    pub fn is_interrupted(&self) -> bool {
        self.folder.join("interrupted").is_file()
    }

    /// Records that a signal ended the run.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn set_interrupted(&self) -> io::Result<()> {
        File::create(self.folder.join("interrupted")).map(drop)
    }

    /// Returns the measurement of `model`: the existing one of this run, otherwise the result of
    /// `measure`, during which all other measurements of the run wait.
    ///
    /// A later `attempt` of the test runner measures again if an earlier attempt did not complete.
    /// A measurement that another process started and did not finish counts as a crash. A
    /// measurement that cannot be written stays in this process, see [`Store::write_error`].
    ///
    /// # Errors
    /// The folder cannot be read, or a signal arrived during the wait.
    pub fn measure(
        &self,
        model: &str,
        attempt: u32,
        interrupt: &Interrupt,
        measure: impl FnOnce() -> Measurement,
    ) -> io::Result<Measurement> {
        let _model = self.lock(&format!("{model}.model"), interrupt)?;
        if let Some((measurement, _)) = self.unwritten().get(model) {
            return Ok(measurement.clone());
        }
        let path = self.model_file(model);
        if let Some(record) = read::<ModelState>(&path)? {
            let measured =
                record.measurement.as_ref().is_some_and(|m| m.outcome == Outcome::Measured);
            match record.measurement {
                Some(measurement) if measured || record.attempt >= attempt => {
                    return Ok(measurement);
                }
                None if record.attempt >= attempt => {
                    // the process that wrote the file has ended, because it does not hold the lock
                    let measurement = Unmeasured::Abandoned.measurement();
                    let record = ModelState {
                        attempt: record.attempt,
                        measurement: Some(measurement.clone()),
                    };
                    write_atomically(&path, &serde_json::to_vec(&record)?)?;
                    return Ok(measurement);
                }
                _ => {}
            }
        }
        let _one_at_a_time = self.lock("measuring", interrupt)?;
        let write = |measurement: Option<&Measurement>| {
            let record = ModelState { attempt, measurement: measurement.cloned() };
            write_atomically(&path, &serde_json::to_vec(&record)?)
        };
        let started = write(None);
        let measurement = measure();
        if let Err(error) = write(Some(&measurement)).and(started) {
            let unwritten = (measurement.clone(), error.to_string());
            self.unwritten().insert(model.to_owned(), unwritten);
        }
        Ok(measurement)
    }

    fn unwritten(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Measurement, String)>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `write` under the lock of the report, so that no other process of the run writes the
    /// report at the same time.
    ///
    /// # Errors
    /// The folder cannot be written, or the error of `write`.
    pub fn with_report_lock<T>(&self, write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let lock = self.lock_file("report")?;
        lock.lock()?;
        write()
    }

    fn model_file(&self, model: &str) -> PathBuf {
        self.folder.join(format!("{model}.model.json"))
    }

    fn lock_file(&self, name: &str) -> io::Result<File> {
        let path = self.folder.join(format!("{name}.lock"));
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| with_path(&path, &error))
    }

    /// Waits for a lock until a signal arrives.
    fn lock(&self, name: &str, interrupt: &Interrupt) -> io::Result<File> {
        let file = self.lock_file(name)?;
        lock::wait(&file, || match interrupt.signal() {
            Some(_) => Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted")),
            None => Ok(()),
        })?;
        Ok(file)
    }
}

/// Reads a JSON file. `None` if it does not exist.
fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(
            serde_json::from_slice(&bytes).map_err(|error| with_path(path, &error.into()))?,
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(with_path(path, &error)),
    }
}

/// Returns `error` with the path in its message.
fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Removes the folders in `runs` that are older than [`MAX_RUN_AGE`], except `current`.
fn remove_old(runs: &Path, current: &Path) {
    let Ok(entries) = std::fs::read_dir(runs) else {
        return;
    };
    for entry in entries.flatten() {
        if is_older(&entry, MAX_RUN_AGE) && entry.path() != current {
            // another run may remove it at the same time
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
