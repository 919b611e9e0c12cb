//! Measures a load: the time for reading, quantizing and copying, and the progress in bytes.

use crate::events::Events;
use crate::meter::{BusyClock, ProgressReporter};
use modelgate_protocol::{ActivityName, Event, ProgressUnit};

/// The clocks and the progress of one load.
pub(super) struct LoadMeter<'a> {
    /// The time for reading weight files.
    pub(super) read: BusyClock,
    /// The time for quantizing values that were read.
    pub(super) quantize: BusyClock,
    /// The time for copying to a device.
    pub(super) copy: BusyClock,
    progress: ProgressReporter<'a>,
}

impl<'a> LoadMeter<'a> {
    /// Creates the meter of a load of `total` bytes of weight files.
    pub(super) fn new(total: u64, events: Events<'a>) -> LoadMeter<'a> {
        LoadMeter {
            read: BusyClock::default(),
            quantize: BusyClock::default(),
            copy: BusyClock::default(),
            progress: ProgressReporter::new(ProgressUnit::Bytes, total, events),
        }
    }

    /// Adds `bytes` to the progress.
    pub(super) fn advance(&self, bytes: u64) {
        self.progress.advance(bytes);
    }

    /// Sends the final progress and the totals of all clocks that were used.
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
