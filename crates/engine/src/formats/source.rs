//! Open weight files, and the places of the tensors in them.

use crate::failures;
use modelgate_model::other_format::{HEAD_BYTES, OtherFormat};
use modelgate_model::small_file::open_regular;
use modelgate_protocol::{DType, Failure};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The file name in reports of tensors that are not in a file.
pub(crate) const SYNTHETIC_FILE: &str = "(synthetic)";

/// The places of tensors, by their names.
pub(crate) type Tensors = BTreeMap<String, SourceTensor>;

/// Open weight files, and the places of the tensors in them.
pub(crate) struct Source {
    pub(super) files: Vec<SourceFile>,
    /// The places of all tensors. The names are those in the files; for safetensors files with other
    /// names than [`modelgate_model::tensors`], they are converted to those.
    pub(crate) tensors: Tensors,
    /// The index of sharded files. `None` if there is no index.
    pub(super) index: Option<ShardIndex>,
}

/// The index of sharded files.
pub(super) struct ShardIndex {
    pub(super) path: PathBuf,
    /// The file name of the shard of each tensor.
    pub(super) shards: BTreeMap<String, String>,
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
    /// The name in the file. `None` if it is the name in [`Source::tensors`].
    pub(super) stored_name: Option<String>,
}

impl SourceTensor {
    /// Returns the tensor's `name` in [`Source::tensors`] for messages, with its name in the file
    /// if that differs.
    pub(crate) fn label(&self, name: &str) -> String {
        match &self.stored_name {
            None => name.to_owned(),
            Some(stored) => format!("{name} (stored as {stored})"),
        }
    }
}

impl Source {
    /// Creates a source without files or tensors.
    pub(super) fn new() -> Source {
        Source { files: Vec::new(), tensors: Tensors::new(), index: None }
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

    /// Returns the path of the index and the shard in which it places the tensor `name`. `None` if
    /// there is no index, or it does not contain the name.
    pub(crate) fn indexed_shard(&self, name: &str) -> Option<(&Path, &str)> {
        let index = self.index.as_ref()?;
        index.shards.get(name).map(|shard| (index.path.as_path(), shard.as_str()))
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
    /// The path cannot be opened, is not a regular file, or has another format that its first bytes
    /// identify.
    pub(super) fn open(root: &Path, path: &Path) -> Result<SourceFile, Failure> {
        let file = open_regular(path).map_err(|error| failures::io(path, &error))?;
        let bytes = file.metadata().map_err(|error| failures::io(path, &error))?.len();
        let mut head = [0; HEAD_BYTES];
        let read = file.read_at(&mut head, 0).map_err(|error| failures::io(path, &error))?;
        if let Some(format) = OtherFormat::of(&head[..read]) {
            return Err(failures::io(path, &format.into()));
        }
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        Ok(SourceFile { name, path: path.to_owned(), file, bytes })
    }
}
