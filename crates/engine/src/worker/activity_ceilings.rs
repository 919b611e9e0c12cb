//! The maximum possible rate of an activity.

use super::file_ceilings::FileRates;
use modelgate_protocol::{ActivityName, Ceiling, CeilingName, Finite};

/// Returns the maximum rate of an activity in bytes per second. `None` if no ceiling was measured
/// for it.
pub(super) fn activity_ceiling(
    activity: &ActivityName,
    files: &FileRates,
    ceilings: &[Ceiling],
) -> Option<Finite> {
    let name = match activity {
        ActivityName::Read => return files.read_ceiling(ceilings).and_then(Finite::new),
        ActivityName::Copy => CeilingName::PinnedCopy,
        ActivityName::Prefill | ActivityName::Decode => CeilingName::DeviceMemory,
        _ => return None,
    };
    ceilings.iter().find(|ceiling| ceiling.name == name).map(|ceiling| ceiling.bytes_per_s)
}
