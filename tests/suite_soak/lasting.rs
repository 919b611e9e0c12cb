//! Run after run with faults at random, in one folder, so that what any of them leaves behind is seen.

use crate::common::hub::set_writable;
use crate::common::{Running, faults, json_reports};
use modelgate_testkit::random::Random;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// One run in so many is interrupted, too.
const INTERRUPTED: u64 = 4;
/// How long a run may take to begin.
const BEGINNING: Duration = Duration::from_secs(10);
/// The longest wait before it is, in milliseconds.
const MAX_WAIT: u64 = 800;

/// A folder in which runs follow each other.
pub(crate) struct Lasting {
    folder: PathBuf,
}

impl Lasting {
    /// In `folder`.
    pub(crate) fn in_folder(folder: &Path) -> Lasting {
        let lasting = Lasting { folder: folder.to_owned() };
        for path in [lasting.temporary(), lasting.reports()] {
            std::fs::create_dir_all(path).expect("a folder");
        }
        lasting
    }

    /// Where all runs report.
    pub(crate) fn reports(&self) -> PathBuf {
        self.folder.join("reports")
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join("tmp")
    }

    /// One run, with a fault or fixed: its name and the exit code.
    pub(crate) fn run(&self, random: &mut Random) -> (&'static str, i32) {
        let rows = faults::rows();
        let row = &rows[random.bits() as usize % rows.len()];
        let world = row.world_in(&self.folder);
        let faulted = !random.bits().is_multiple_of(3);
        let run = if faulted { row.faulted(&world) } else { row.fixed(&world) };
        let run = run.env("TMPDIR", self.temporary()).env("MODELGATE_REPORT_DIR", self.reports());
        let before = json_reports(&self.reports()).len();
        let running = run.spawn();
        if random.bits().is_multiple_of(INTERRUPTED) {
            // a run that has begun to report has taken signals over
            let until = Instant::now() + BEGINNING;
            while json_reports(&self.reports()).len() == before && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            std::thread::sleep(Duration::from_millis(random.bits() % MAX_WAIT));
            interrupt(&running);
        }
        let ended = running.wait();
        let code = ended.code.unwrap_or_else(|| panic!("{}: {}", row.name, ended.all()));
        set_writable(world.home.path(), true);
        (row.name, code)
    }
}

/// Interrupts a run that is still there. A shell that runs it is left alone.
fn interrupt(running: &Running) {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", running.child.id()));
    if name.is_ok_and(|name| name.starts_with("modelgate")) {
        running.signal(rustix::process::Signal::INT);
    }
}
