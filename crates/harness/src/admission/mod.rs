//! Does it fit? The memory that a model will take, and whether expectations, GPUs and host allow it:
//! every such question of the harness is answered here, from one [`LoadSpec`].
//!
//! Pure: shapes and sizes in, bytes and arithmetic out.

mod admit;
mod bounds;
mod device_room;
mod host_room;
mod predict;
mod prediction;
mod refusal;
mod spec;

pub use admit::Admission;
pub use bounds::{ByteRange, MemoryBounds, impossible};
pub use device_room::{Room, too_large};
pub use host_room::beyond_host;
pub use predict::predict;
pub use prediction::Prediction;
pub use refusal::Refusal;
pub use spec::LoadSpec;
