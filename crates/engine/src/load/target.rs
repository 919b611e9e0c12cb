//! Where the values of a tensor are written.

use crate::cuda::Region;
use crate::weights::Resident;

/// Where the values of a tensor are written.
pub(super) enum Target {
    /// New memory of the host.
    Host,
    /// Device memory that is allocated already: one region and one matrix for each that the tensor
    /// holds.
    Device(Vec<(Region, Resident)>),
}

impl Target {
    /// Returns the matrices that are to be filled, if they exist already.
    pub(super) fn residents(&self) -> impl Iterator<Item = &Resident> {
        let parts = match self {
            Target::Host => &[][..],
            Target::Device(parts) => parts,
        };
        parts.iter().map(|(_, resident)| resident)
    }
}
