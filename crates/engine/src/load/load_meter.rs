//! Measures a load: how busy it is with reading, quantizing and copying, and how far it is.

use crate::events::Events;
use crate::meter::{BusyClock, ProgressReporter};
use modelgate_protocol::{ActivityName, Event, ProgressUnit};

/// Measures one load.
pub(super) struct LoadMeter<'a> {
    /// Reading weight files.
    pub(super) read: BusyClock,
    /// Quantizing what was read.
    pub(super) quantize: BusyClock,
    /// Copying to a device.
    pub(super) copy: BusyClock,
    progress: ProgressReporter<'a>,
}

impl<'a> LoadMeter<'a> {
    /// Creates the meter of a load of `total` bytes.
    pub(super) fn new(total: u64, events: Events<'a>) -> LoadMeter<'a> {
        LoadMeter {
            read: BusyClock::default(),
            quantize: BusyClock::default(),
            copy: BusyClock::default(),
            progress: ProgressReporter::new(ProgressUnit::Bytes, total, events),
        }
    }

    /// Adds `bytes` that are loaded.
    pub(super) fn advance(&self, bytes: u64) {
        self.progress.advance(bytes);
    }

    /// Sends the totals.
    pub(super) fn finish(&self, events: Events) {
        self.progress.finish();
        let clocks = [
            (&self.read, ActivityName::Read),
            (&self.quantize, ActivityName::Quantize),
            (&self.copy, ActivityName::Copy),
        ];
        for (busy, name) in clocks {
            if let Some(activity) = busy.activity(name) {
                events(Event::Activity(activity));
            }
        }
    }
}
