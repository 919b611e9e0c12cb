//! What a fetch shows to the user and asks of the run.

use crate::progress::{self, TransferProgress};
use crate::signal::{self, Interrupt};
use modelgate_hub::{Observer, Transfer, Work};

/// Shows the progress of one model on standard error, and passes signals on.
pub(super) struct RunObserver {
    /// The model's name for people.
    pub(super) title: String,
    /// Signals to this process.
    pub(super) interrupt: Interrupt,
}

impl Observer for RunObserver {
    fn interrupted(&self) -> Option<String> {
        self.interrupt.signal().map(signal::name)
    }

    fn note(&self, text: &str) {
        progress::note(&self.title, text);
    }

    fn transfer(&self, work: Work, total: u64) -> Box<dyn Transfer> {
        Box::new(TransferProgress::new(&self.title, work.name(), total))
    }
}
