//! The content of the header of one weight file.

use crate::acquire::companions::Embedded;
use modelgate_protocol::DType;
use std::io;

/// The content of the header of one weight file.
pub(super) struct Header {
    /// The name, shape (rows first) and type of each tensor.
    pub(super) tensors: Vec<(String, Vec<u64>, DType)>,
    /// The metadata value `general.file_type` of a GGUF file. `None` if there is none.
    pub(super) file_type: Option<u64>,
    /// The numbers of selected experts and of all experts in the metadata of a GGUF file. `None` for
    /// a dense model, and for other files.
    pub(super) experts: Option<(u64, u64)>,
    /// The descriptions in the metadata of a GGUF file.
    pub(super) embedded: Embedded,
}

/// Returns the error for an invalid header.
pub(super) fn invalid(detail: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, detail.into())
}
