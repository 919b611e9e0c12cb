//! Consecutive runs with random faults in one folder, so that leftovers of each run are found.

use crate::common::hub::set_writable;
use crate::common::{StartedRun, faults, json_reports};
use modelgate_testkit::random::Random;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One of this many runs is interrupted by a signal.
const INTERRUPTED_ONE_IN: u64 = 4;
/// The maximum time until a run creates its report.
const MAX_START_TIME: Duration = Duration::from_secs(10);
/// The maximum time between the start of the report and the signal, in milliseconds.
const MAX_WAIT_MS: u64 = 800;

/// A sequence of runs in the same folder.
pub(crate) struct RunSequence {
    folder: PathBuf,
}

impl RunSequence {
    /// Creates the folders for reports and temporary files in `folder`.
    pub(crate) fn in_folder(folder: &Path) -> RunSequence {
        let sequence = RunSequence { folder: folder.to_owned() };
        for path in [sequence.temporary(), sequence.reports()] {
            std::fs::create_dir_all(path).expect("a folder");
        }
        sequence
    }

    /// Returns the folder of all reports.
    pub(crate) fn reports(&self) -> PathBuf {
        self.folder.join("reports")
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// Executes a run with a random fault, or a run after the fault was fixed. Returns the name of the fault and the
    /// exit code.
    pub(crate) fn run(&self, random: &mut Random) -> (&'static str, i32) {
        let cases = faults::cases();
        let case = &cases[random.bits() as usize % cases.len()];
        let setup = case.prepare_in(&self.folder);
        let is_faulty = !random.bits().is_multiple_of(3);
        let run = if is_faulty { case.faulty_run(&setup) } else { case.fixed_run(&setup) };
        let run = run.env("TMPDIR", self.temporary()).env("MODELGATE_REPORT_DIR", self.reports());
        let before = json_reports(&self.reports()).len();
        let running = run.spawn();
        if random.bits().is_multiple_of(INTERRUPTED_ONE_IN) {
            // a run that has created its report handles signals
            let until = Instant::now() + MAX_START_TIME;
            while json_reports(&self.reports()).len() == before && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(random.bits() % MAX_WAIT_MS));
            interrupt(&running);
        }
        let ended = running.wait();
        let code = ended.code.unwrap_or_else(|| panic!("{}: {}", case.name, ended.output()));
        set_writable(setup.home.path(), true);
        (case.name, code)
    }
}

/// Sends SIGINT to a run, unless it has ended or a shell started it.
fn interrupt(running: &StartedRun) {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", running.child.id()));
    if name.is_ok_and(|name| name.starts_with("modelgate")) {
        running.signal(rustix::process::Signal::INT);
    }
}
