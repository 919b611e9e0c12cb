//! Weight files: which tensors they hold, where, and their bytes.
//!
//! Opening a source reads headers alone and checks every offset against the file's size, so that
//! what comes after can read any tensor without asking again. Files are read at positions, never
//! mapped: a mapped page counts as memory of the process, and a file that shrinks while it is
//! mapped kills it. Knows nothing of what a model needs.

mod gguf;
mod gguf_header;
mod metadata;
mod safetensors;

pub(crate) use gguf::{Architecture, Gguf};
pub(crate) use metadata::{Metadata, whole_number};
pub(crate) use safetensors::open as open_safetensors;

use crate::fail;
use crate::small_file::open_regular;
use crate::synthetic::MADE;
use modelgate_model::{Config, float_dtype, residence, tensors};
use modelgate_protocol::{DType, Failure, Scheme};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Weight files that were opened, and the tensors in them.
pub(crate) struct Source {
    files: Vec<SourceFile>,
    /// Every tensor, by its name.
    pub(crate) tensors: BTreeMap<String, SourceTensor>,
}

/// One weight file.
struct SourceFile {
    /// Name relative to the model's folder.
    name: String,
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// Where a tensor is, and as what.
#[derive(Debug, Clone)]
pub(crate) struct SourceTensor {
    file: usize,
    /// Sizes, rows first.
    pub(crate) shape: Vec<usize>,
    /// Type of its values.
    pub(crate) dtype: DType,
    /// Position of its first byte in the file.
    offset: u64,
    /// Its bytes in the file.
    pub(crate) bytes: u64,
}

impl Source {
    fn new() -> Source {
        Source { files: Vec::new(), tensors: BTreeMap::new() }
    }

    /// Every tensor that `config` calls for, of no file: its weights are to be made. They have the
    /// types that `scheme` gives them, and where it leaves them floats those of a checkpoint in
    /// bf16.
    pub(crate) fn synthetic(config: &Config, scheme: Scheme, on_device: bool) -> Source {
        let tensor = |needed: modelgate_model::TensorShape| {
            let shape: Vec<u64> = needed.shape.iter().map(|size| *size as u64).collect();
            let placed = residence(&needed.name, &shape, scheme);
            let float = || float_dtype(placed.role, &DType::Bf16, on_device);
            let dtype = placed.quantized.clone().unwrap_or_else(float);
            let bytes = dtype.bytes(needed.elements()).unwrap_or(0);
            (needed.name, SourceTensor { file: 0, shape: needed.shape, dtype, offset: 0, bytes })
        };
        Source { files: Vec::new(), tensors: tensors(config).into_iter().map(tensor).collect() }
    }

    /// Names of all files.
    pub(crate) fn file_names(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.name.as_str()).collect()
    }

    /// Name of the file that a tensor is in.
    pub(crate) fn file_name(&self, tensor: &SourceTensor) -> &str {
        self.files.get(tensor.file).map_or(MADE, |file| &file.name)
    }

    /// Fills `buffer` with the tensor's bytes from `from` on.
    pub(crate) fn read(
        &self,
        tensor: &SourceTensor,
        from: u64,
        buffer: &mut [u8],
    ) -> Result<(), Failure> {
        let file = &self.files[tensor.file];
        file.file
            .read_exact_at(buffer, tensor.offset + from)
            .map_err(|error| fail::io(&file.path, &error))
    }
}

impl SourceFile {
    fn open(root: &Path, path: &Path) -> Result<SourceFile, Failure> {
        let file = open_regular(path).map_err(|error| fail::io(path, &error))?;
        let bytes = file.metadata().map_err(|error| fail::io(path, &error))?.len();
        let name = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        Ok(SourceFile { name, path: path.to_owned(), file, bytes })
    }
}
