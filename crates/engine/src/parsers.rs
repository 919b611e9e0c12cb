//! The parsers of a model's files, each by itself, for tests and fuzzers with hostile files.
//! [`crate::Model::load`] uses the same ones. Must not know what is hostile about a file.

use crate::formats::{Gguf, Source, SourceTensor, format_of, open_safetensors};
use crate::text::{ChatTemplate, TextCodec};
use modelgate_model::Config;
use modelgate_protocol::{DType, Failure, Message, ModelFiles};

/// A tensor as it is in its file.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorBytes {
    /// Its name.
    pub name: String,
    /// Sizes, rows first.
    pub shape: Vec<usize>,
    /// The type of its values.
    pub dtype: DType,
    /// All its bytes.
    pub bytes: Vec<u8>,
}

/// Returns every tensor of safetensors files, in the order of their names.
///
/// # Errors
/// What is wrong with which file.
pub fn safetensors(files: &ModelFiles) -> Result<Vec<TensorBytes>, Failure> {
    all(&open_safetensors(files)?)
}

/// Returns the config of GGUF files, and every tensor in the order of their names.
///
/// # Errors
/// What is wrong with which file.
pub fn gguf(files: &ModelFiles) -> Result<(Config, Vec<TensorBytes>), Failure> {
    let gguf = Gguf::open(&files.root, &files.weights)?;
    Ok((gguf.config, all(&gguf.source)?))
}

/// Returns the token ids of a text, and the text that they are decoded to, by `tokenizer.json` or the
/// weight files.
///
/// # Errors
/// What is wrong with which file.
pub fn tokenizer(files: &ModelFiles, text: &str) -> Result<(Vec<u32>, String), Failure> {
    let embedded = format_of(files.format).embedded_text(files)?;
    let codec = TextCodec::read(files, embedded.as_deref())?;
    let ids = codec.encode(text, true)?;
    let text = codec.decode(&ids)?;
    Ok((ids, text))
}

/// Returns a chat as the model's template renders it.
///
/// # Errors
/// What is wrong with which file, or why the template cannot render the chat.
pub fn chat(files: &ModelFiles, messages: &[Message]) -> Result<String, Failure> {
    let embedded = format_of(files.format).embedded_text(files)?;
    let template = ChatTemplate::open(files, embedded.as_deref())?;
    let codec = TextCodec::read(files, embedded.as_deref())?;
    let prompt = template.render(messages, codec.special())?;
    Ok(prompt.text().to_owned())
}

/// Reads all tensors.
fn all(source: &Source) -> Result<Vec<TensorBytes>, Failure> {
    let whole = |(name, tensor): (&String, &SourceTensor)| {
        let mut bytes = vec![0; tensor.bytes as usize];
        source.read(tensor, 0, &mut bytes)?;
        let SourceTensor { shape, dtype, .. } = tensor.clone();
        Ok(TensorBytes { name: name.clone(), shape, dtype, bytes })
    };
    source.tensors.iter().map(whole).collect()
}
