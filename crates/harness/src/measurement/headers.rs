//! The headers of the weight files, as the harness reads them.
//!
//! They are evidence that does not depend on the worker: the checks compare the resident tensors of
//! the worker with them.

use modelgate_protocol::DType;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The result of reading the headers of all weight files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Headers {
    /// A header cannot be read.
    Unreadable {
        /// The file and the problem.
        message: String,
    },
    /// All headers were read.
    Read {
        /// The tensors in the files, in the order of the files.
        tensors: Vec<HeaderTensor>,
        /// The metadata value `general.file_type` of the first GGUF file (`llama_ftype` in `llama.h`).
        /// `None` if there is none.
        file_type: Option<u64>,
    },
}

/// A tensor in the header of a weight file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HeaderTensor {
    /// The name in the file.
    pub name: String,
    /// The file, relative to the folder of the model.
    pub file: String,
    /// The shape, rows first.
    pub shape: Vec<u64>,
    /// The type in the file.
    pub dtype: DType,
}
