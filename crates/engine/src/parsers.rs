//! The parsers of a model's files as separate functions, for tests and fuzzers with malformed
//! files. [`crate::Model::load`] uses the same parsers, so these functions add no checks of their
//! own.

use crate::formats::{Gguf, Source, SourceTensor, format_of, open_safetensors};
use crate::text::{ChatTemplate, TextCodec};
use modelgate_model::Config;
use modelgate_protocol::{DType, Failure, Message, ModelFiles};

/// A tensor in the form in which it is stored in its file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorBytes {
    /// The name of the tensor in the file, for example `model.norm.weight`.
    pub name: String,
    /// The sizes of the dimensions, the outermost (rows) first.
    pub shape: Vec<usize>,
    /// The type of the stored values.
    pub dtype: DType,
    /// All bytes of the tensor, little-endian, in the order of the file.
    pub bytes: Vec<u8>,
}

/// Returns all tensors of safetensors files, sorted by name.
///
/// # Errors
/// A file is missing, unreadable or invalid. The failure names the file and the defect.
pub fn safetensors(files: &ModelFiles) -> Result<Vec<TensorBytes>, Failure> {
    read_all(&open_safetensors(files)?)
}

/// Returns the config of GGUF files and all their tensors, sorted by name.
///
/// # Errors
/// A file is missing, unreadable or invalid. The failure names the file and the defect.
pub fn gguf(files: &ModelFiles) -> Result<(Config, Vec<TensorBytes>), Failure> {
    let gguf = Gguf::open(&files.root, &files.weights)?;
    Ok((gguf.config, read_all(&gguf.source)?))
}

/// Encodes `text` with the tokenizer of `tokenizer.json` or of the weight files. Returns the token
/// IDs and the text to which they are decoded.
///
/// # Errors
/// A file is missing, unreadable or invalid. The failure names the file and the defect.
pub fn tokenizer(files: &ModelFiles, text: &str) -> Result<(Vec<u32>, String), Failure> {
    let embedded = format_of(files.format).embedded_text(files)?;
    let codec = TextCodec::read(files, embedded.as_deref())?;
    let ids = codec.encode(text, true)?;
    let text = codec.decode(&ids)?;
    Ok((ids, text))
}

/// Renders a chat with the chat template of the model.
///
/// # Errors
/// A file is missing, unreadable or invalid, or the template cannot render the chat. The failure
/// names the file and the defect.
pub fn chat(files: &ModelFiles, messages: &[Message]) -> Result<String, Failure> {
    let embedded = format_of(files.format).embedded_text(files)?;
    let template = ChatTemplate::open(files, embedded.as_deref())?;
    let codec = TextCodec::read(files, embedded.as_deref())?;
    let prompt = template.render(messages, codec.special())?;
    Ok(prompt.text().to_owned())
}

/// Reads all tensors of `source`, sorted by name.
fn read_all(source: &Source) -> Result<Vec<TensorBytes>, Failure> {
    let read = |(name, tensor): (&String, &SourceTensor)| {
        let mut bytes = vec![0; tensor.bytes as usize];
        source.read(tensor, 0, &mut bytes)?;
        let SourceTensor { shape, dtype, .. } = tensor.clone();
        Ok(TensorBytes { name: name.clone(), shape, dtype, bytes })
    };
    source.tensors.iter().map(read).collect()
}
