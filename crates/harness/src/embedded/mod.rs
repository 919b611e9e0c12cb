//! The data embedded in the program: the default manifest, the tiny models, the configs of known
//! models.

pub mod bundled;
pub mod known;
