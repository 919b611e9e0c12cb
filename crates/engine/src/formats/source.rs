//! Weight files that are open, and the tensors in them.

use crate::failures;
use modelgate_model::small_file::open_regular;
use modelgate_protocol::{DType, Failure};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The name of the file of tensors that have none.
pub(crate) const SYNTHETIC_FILE: &str = "(synthetic)";

/// Weight files that are open, and the tensors in them.
pub(crate) struct Source {
    pub(super) files: Vec<SourceFile>,
    /// Every tensor, by its name.
    pub(crate) tensors: BTreeMap<String, SourceTensor>,
}

/// One weight file.
pub(super) struct SourceFile {
    /// The name relative to the model's folder.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// The file's length.
    pub(super) bytes: u64,
}

/// The place and type of a tensor in the files.
#[derive(Debug, Clone)]
pub(crate) struct SourceTensor {
    /// The number of the file.
    pub(super) file: usize,
    /// Sizes, rows first.
    pub(crate) shape: Vec<usize>,
    /// The type of the values.
    pub(crate) dtype: DType,
    /// The position of the first byte in the file.
    pub(super) offset: u64,
    /// The bytes in the file.
    pub(crate) bytes: u64,
}

impl Source {
    /// Creates a source without files and tensors.
    pub(super) fn new() -> Source {
        Source { files: Vec::new(), tensors: BTreeMap::new() }
    }

    /// Returns the names of all files.
    pub(crate) fn file_names(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.name.as_str()).collect()
    }

    /// Returns the name of a tensor's file.
    pub(crate) fn file_name(&self, tensor: &SourceTensor) -> &str {
        self.files.get(tensor.file).map_or(SYNTHETIC_FILE, |file| &file.name)
    }

    /// Fills `buffer` with the tensor's bytes from `from` on.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn read(
        &self,
        tensor: &SourceTensor,
        from: u64,
        buffer: &mut [u8],
    ) -> Result<(), Failure> {
        let file = &self.files[tensor.file];
        file.file
            .read_exact_at(buffer, tensor.offset + from)
            .map_err(|error| failures::io(&file.path, &error))
    }
}

impl SourceFile {
    /// Opens a file of the model in `root`.
    pub(super) fn open(root: &Path, path: &Path) -> Result<SourceFile, Failure> {
        let file = open_regular(path).map_err(|error| failures::io(path, &error))?;
        let bytes = file.metadata().map_err(|error| failures::io(path, &error))?.len();
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        Ok(SourceFile { name, path: path.to_owned(), file, bytes })
    }
}
