//! Connects a download to the progress display and the signals of the run.

use crate::progress::{self, TransferProgress};
use crate::signal::{self, Interrupt};
use modelgate_hub::{Observer, Transfer, TransferKind};

/// The observer of the downloads of one model: shows the progress on standard error, and forwards
/// signals.
pub(super) struct RunObserver {
    /// The title of the model in the progress display.
    pub(super) title: String,
    /// The signals to this process.
    pub(super) interrupt: Interrupt,
}

impl Observer for RunObserver {
    fn interrupted(&self) -> Option<String> {
        self.interrupt.signal().map(signal::name)
    }

    fn note(&self, text: &str) {
        progress::note(&self.title, text);
    }

    fn transfer(&self, work: TransferKind, total: u64) -> Box<dyn Transfer> {
        Box::new(TransferProgress::new(&self.title, work.name(), total))
    }
}
