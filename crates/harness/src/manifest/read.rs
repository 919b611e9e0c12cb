//! Reads TOML into the keys of the manifest, each with its position, without interpreting values.

use super::error::{ManifestError, ManifestText};
use modelgate_hub::nearest;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
pub(super) use toml::Spanned;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawManifest {
    /// The version of the format: 1.
    pub(super) schema: Spanned<u32>,
    /// The models, each as a table `[[model]]`.
    #[serde(default)]
    pub(super) model: Vec<Spanned<RawModel>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    /// The name of the model in tests and reports: lower-case letters, digits and `. _ @ -`.
    /// Variants of a model have the same name before an `@`.
    pub(super) id: Spanned<String>,
    /// A repository of the Hugging Face Hub: `owner/name`. Either `repo` or `path` is required.
    pub(super) repo: Option<Spanned<String>>,
    /// A folder with `config.json` and safetensors files, a GGUF file of any name, or a folder with
    /// one GGUF model. A relative path starts at the folder of the manifest.
    pub(super) path: Option<Spanned<PathBuf>>,
    /// A GGUF file of the repository. The name of any part of a split file selects all parts.
    pub(super) file: Option<Spanned<String>>,
    /// Another tokenizer: a `tokenizer.json`, or a folder that contains it, of which also
    /// `tokenizer_config.json` and the chat template are used. A relative path starts at the folder
    /// of the manifest. The default is the tokenizer of the model: the metadata of a GGUF file, or
    /// the files next to the weights.
    pub(super) tokenizer: Option<Spanned<PathBuf>>,
    /// A branch, a tag or a commit of the repository. The default is `main`.
    pub(super) revision: Option<Spanned<String>>,
    /// `none`, `q4_0`, `q4_k`, `q5_k`, `q6_k` or `q8_0`. For GGUF files also `q4_1`, `q5_0`,
    /// `q5_1`, and the mixes of llama.cpp: `q2_k`, `q2_k_s`, `q3_k_s`, `q3_k_m`, `q3_k_l`,
    /// `q4_k_s`, `q4_k_m`, `q5_k_s`, `q5_k_m`.
    pub(super) quantization: Spanned<String>,
    /// `cpu`, `cuda`, `cuda:N`, a list of one of these, or `auto`. `auto` is the value of
    /// `MODELGATE_DEVICE`; if it is not set, the GPU with the most memory if the model fits on it
    /// when no other process uses it; otherwise the CPU if its predicted rate is at least 1 token/s
    /// and `expect.vram` is not set; otherwise the model is refused. The default is `auto`.
    pub(super) device: Option<Spanned<OneOrMany<String>>>,
    /// The number of positions of the KV cache. The default is 4096, or the context of the model if
    /// that is smaller.
    pub(super) context: Option<Spanned<u32>>,
    /// `true` adds the variant `<id>@synthetic` with the same shapes and random weights.
    pub(super) synthetic: Option<Spanned<bool>>,
    /// `"synthetic"` means that the files at `path` contain random weights, so that answers are not
    /// judged. The default is `"real"`.
    pub(super) evidence: Option<Spanned<String>>,
    /// The maximum time of the worker. The default is `"45min"`.
    pub(super) deadline: Option<Spanned<String>>,
    /// The maximum time of the worker without progress. The default is `"2min"`.
    pub(super) stall: Option<Spanned<String>>,
    /// The expectations of the checks. A value that is not given is derived.
    #[serde(default)]
    pub(super) expect: RawExpect,
    /// One question, or several as `[[model.generation]]`. The default is two built-in questions.
    pub(super) generation: Option<Spanned<OneOrMany<RawGeneration>>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExpect {
    /// The budget of the check `time_budget`. The default is 20 minutes.
    pub(super) load_time: Option<RawLoadTime>,
    /// The range of the peak device memory. The default is the prediction, plus or minus 5 % (at
    /// least 100 MB).
    pub(super) vram: Option<Spanned<RawRange>>,
    /// The range of the peak private host memory. The default is the prediction, plus or minus 5 %
    /// (at least 100 MB), and plus 6 MB for each core.
    pub(super) ram: Option<Spanned<RawRange>>,
    /// The bound of the perplexity. The default is 100 on a built-in English text.
    pub(super) perplexity: Option<Spanned<RawPerplexity>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLoadTime {
    /// The maximum time of the load alone, for example `"15min"`.
    pub(super) cached: Option<Spanned<String>>,
    /// The maximum time of the load and the download together.
    pub(super) first: Option<Spanned<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRange {
    /// The lower bound, for example `"38GB"`.
    pub(super) min: Option<Spanned<String>>,
    /// The upper bound, for example `"45GB"`.
    pub(super) max: Option<Spanned<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPerplexity {
    /// The maximum perplexity.
    pub(super) max: Option<Spanned<f64>>,
    /// A text file. A relative path starts at the folder of the manifest.
    pub(super) text: Option<PathBuf>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGeneration {
    /// The name of the question in reports.
    pub(super) name: Option<Spanned<String>>,
    /// The text of one message of the user. Either `prompt` or `messages` is required.
    pub(super) prompt: Option<Spanned<String>>,
    /// A chat with several messages.
    pub(super) messages: Option<Spanned<Vec<RawMessage>>>,
    /// The maximum number of generated tokens. The default is 64.
    pub(super) max_tokens: Option<Spanned<u32>>,
    /// One or more answers. The generated text must contain one of them, in any case, at word
    /// boundaries.
    pub(super) expect: Spanned<OneOrMany<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMessage {
    /// `system`, `user` or `assistant`.
    pub(super) role: Spanned<String>,
    /// A text, or a list of parts: a text or `{ text = ".." }`. The parts `{ image = "FILE" }` and
    /// `{ audio = "FILE" }` are refused, because the image and audio encoders
    /// of a model are not loaded.
    pub(super) content: Spanned<OneOrMany<RawPart>>,
}

/// A part of a message: a bare string, or a table with one of the keys.
pub(super) enum RawPart {
    Text(String),
    Image(Spanned<PathBuf>),
    Audio(Spanned<PathBuf>),
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPartTable {
    text: Option<String>,
    image: Option<Spanned<PathBuf>>,
    audio: Option<Spanned<PathBuf>>,
}

impl<'de> Deserialize<'de> for RawPart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartVisitor;
        impl<'de> Visitor<'de> for PartVisitor {
            type Value = RawPart;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a table with one of text, image, audio")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawPart, E> {
                Ok(RawPart::Text(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawPart, A::Error> {
                let table = RawPartTable::deserialize(de::value::MapAccessDeserializer::new(map))?;
                match table {
                    RawPartTable { text: Some(text), image: None, audio: None } => {
                        Ok(RawPart::Text(text))
                    }
                    RawPartTable { text: None, image: Some(image), audio: None } => {
                        Ok(RawPart::Image(image))
                    }
                    RawPartTable { text: None, image: None, audio: Some(audio) } => {
                        Ok(RawPart::Audio(audio))
                    }
                    _ => Err(de::Error::custom(
                        "a part of a message needs exactly one of text, image, audio",
                    )),
                }
            }
        }
        deserializer.deserialize_any(PartVisitor)
    }
}

/// A value, or a list of such values.
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = OneOrMany<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(de::value::StrDeserializer::new(text))
                    .map(|one| OneOrMany(vec![one]))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map))
                    .map(|one| OneOrMany(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(OneOrMany(items))
            }
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

/// Reads the keys. Invalid TOML, unknown keys and wrong types are errors.
pub(super) fn read(manifest: ManifestText<'_>) -> Result<RawManifest, ManifestError> {
    toml::from_str(manifest.text).map_err(|error| {
        let hint = hint(error.message());
        let message = error.message().replace("unknown field", "unknown key");
        ManifestError::at(manifest, error.span().unwrap_or(0..0), message, hint)
    })
}

/// Returns a hint with the nearest known key, from the list of known keys in the message of serde.
fn hint(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else {
        return "read docs/reference/manifest.md, which lists every key".into();
    };
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let unknown = quoted.next().unwrap_or_default();
    match nearest(unknown, quoted) {
        Some(known) => format!("use the nearest known key, `{known}`"),
        None => "read docs/reference/manifest.md, which lists every key".into(),
    }
}
