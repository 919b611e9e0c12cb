//! The memory that the values of a tensor are written to.

use crate::cuda::Region;
use crate::weights::ResidentTensor;

/// The memory that the values of a tensor are written to.
pub(super) enum Target {
    /// Host memory, which is allocated when the tensor is loaded.
    Host,
    /// Allocated device memory: a region and its matrix for each matrix in the tensor.
    Device(Vec<(Region, ResidentTensor)>),
}

impl Target {
    /// Returns the matrices in allocated device memory; none for host memory.
    pub(super) fn matrices(&self) -> impl Iterator<Item = &ResidentTensor> {
        let parts = match self {
            Target::Host => &[][..],
            Target::Device(parts) => parts,
        };
        parts.iter().map(|(_, matrix)| matrix)
    }
}
