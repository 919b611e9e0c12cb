//! Open weight files, and the places of the tensors in them.

use crate::failures;
use modelgate_model::small_file::open_regular;
use modelgate_protocol::{DType, Failure};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The file name in reports of tensors that are not in a file.
pub(crate) const SYNTHETIC_FILE: &str = "(synthetic)";

/// Open weight files, and the places of the tensors in them.
pub(crate) struct Source {
    pub(super) files: Vec<SourceFile>,
    /// The places of all tensors, by their names in the files.
    pub(crate) tensors: BTreeMap<String, SourceTensor>,
}

/// An open weight file.
pub(super) struct SourceFile {
    /// The path relative to the folder of the model.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// The length of the file in bytes.
    pub(super) bytes: u64,
}

/// The place and type of a tensor in the files.
#[derive(Debug, Clone)]
pub(crate) struct SourceTensor {
    /// The index of the file in [`Source::files`]; unused if the tensor is not in a file.
    pub(super) file: usize,
    /// The sizes of the dimensions, rows before columns; merged experts have a first dimension for
    /// the number of experts.
    pub(crate) shape: Vec<usize>,
    /// The type of the values in the file.
    pub(crate) dtype: DType,
    /// The position in the file of the first byte.
    pub(super) offset: u64,
    /// The number of bytes in the file.
    pub(crate) bytes: u64,
}

impl Source {
    /// Creates a source without files or tensors.
    pub(super) fn new() -> Source {
        Source { files: Vec::new(), tensors: BTreeMap::new() }
    }

    /// Returns the names of all files, relative to the folder of the model.
    pub(crate) fn file_names(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.name.as_str()).collect()
    }

    /// Returns the name of the file that contains a tensor, or [`SYNTHETIC_FILE`] if it is in no
    /// file.
    pub(crate) fn file_name(&self, tensor: &SourceTensor) -> &str {
        self.files.get(tensor.file).map_or(SYNTHETIC_FILE, |file| &file.name)
    }

    /// Fills `buffer` with the bytes of a tensor from its byte `from` on.
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
    /// Opens the weight file `path` of the model in the folder `root`.
    ///
    /// # Errors
    /// The path cannot be opened or is not a regular file.
    pub(super) fn open(root: &Path, path: &Path) -> Result<SourceFile, Failure> {
        let file = open_regular(path).map_err(|error| failures::io(path, &error))?;
        let bytes = file.metadata().map_err(|error| failures::io(path, &error))?.len();
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        Ok(SourceFile { name, path: path.to_owned(), file, bytes })
    }
}
