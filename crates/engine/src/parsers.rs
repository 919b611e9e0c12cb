//! The parsers of a model's files, each by itself: where tests and fuzzers hand in hostile files.
//! [`crate::Model::load`] goes through the same ones. Must not know what is hostile about a file.

use crate::chat::ChatTemplate;
use crate::source::{Gguf, Source, SourceTensor, open_safetensors};
use crate::tokenizer::{GgufVocabulary, TextCodec};
use modelgate_model::Config;
use modelgate_protocol::{DType, Failure, Message, ModelFiles, WeightFormat};

/// A tensor as its file has it.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorBytes {
    /// Its name.
    pub name: String,
    /// Sizes, rows first.
    pub shape: Vec<usize>,
    /// Type of its values.
    pub dtype: DType,
    /// All its bytes.
    pub bytes: Vec<u8>,
}

/// Every tensor of safetensors files, in the order of their names.
///
/// # Errors
/// What is wrong with which file.
pub fn safetensors(files: &ModelFiles) -> Result<Vec<TensorBytes>, Failure> {
    all(&open_safetensors(files)?)
}

/// What GGUF files say the model is, and every tensor in the order of their names.
///
/// # Errors
/// What is wrong with which file.
pub fn gguf(files: &ModelFiles) -> Result<(Config, Vec<TensorBytes>), Failure> {
    let gguf = Gguf::open(&files.root, &files.weights)?;
    Ok((gguf.config, all(&gguf.source)?))
}

/// Token ids of a text, and the text that they stand for, by `tokenizer.json` or the metadata of GGUF
/// files.
///
/// # Errors
/// What is wrong with which file.
pub fn tokenizer(files: &ModelFiles, text: &str) -> Result<(Vec<u32>, String), Failure> {
    with_text(files, |files, vocabulary| {
        let codec = TextCodec::read(files, vocabulary)?;
        let ids = codec.encode(text, true)?;
        let text = codec.decode(&ids)?;
        Ok((ids, text))
    })
}

/// A chat as the model's template renders it, by the files beside the weights or the metadata of GGUF
/// files.
///
/// # Errors
/// What is wrong with which file, or what the template cannot do.
pub fn chat(files: &ModelFiles, messages: &[Message]) -> Result<String, Failure> {
    with_text(files, |files, vocabulary| {
        let template = ChatTemplate::open(files, vocabulary)?;
        let codec = TextCodec::read(files, vocabulary)?;
        let prompt = template.render(messages, codec.special())?;
        Ok(prompt.text().to_owned())
    })
}

fn with_text<T>(
    files: &ModelFiles,
    read: impl FnOnce(&ModelFiles, Option<&GgufVocabulary>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if files.format != WeightFormat::Gguf {
        return read(files, None);
    }
    let gguf = Gguf::open(&files.root, &files.weights)?;
    read(files, Some(&GgufVocabulary::new(&gguf.metadata)))
}

fn all(source: &Source) -> Result<Vec<TensorBytes>, Failure> {
    let whole = |(name, tensor): (&String, &SourceTensor)| {
        let mut bytes = vec![0; tensor.bytes as usize];
        source.read(tensor, 0, &mut bytes)?;
        let SourceTensor { shape, dtype, .. } = tensor.clone();
        Ok(TensorBytes { name: name.clone(), shape, dtype, bytes })
    };
    source.tensors.iter().map(whole).collect()
}
