//! A small file that describes a model.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A file that was used in addition to the weight files, such as the config, the tokenizer or the
/// chat template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Companion {
    /// The path, relative to the folder of the model if the file is inside.
    pub name: String,
    /// The size of the file.
    pub bytes: u64,
    /// The SHA-256 of the content in hexadecimal.
    pub sha256: String,
}
