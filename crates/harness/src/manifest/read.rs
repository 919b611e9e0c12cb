//! From TOML text to the keys as they are written, each with its place. No meaning yet.

use super::error::{ManifestError, Place};
use modelgate_hub::nearest;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
pub(super) use toml::Spanned;

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawManifest {
    pub(super) schema: Spanned<u32>,
    #[serde(default)]
    pub(super) model: Vec<Spanned<RawModel>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawModel {
    pub(super) id: Spanned<String>,
    pub(super) repo: Option<Spanned<String>>,
    pub(super) path: Option<Spanned<PathBuf>>,
    pub(super) file: Option<Spanned<String>>,
    pub(super) revision: Option<Spanned<String>>,
    pub(super) quantization: Spanned<String>,
    pub(super) device: Option<Spanned<OneOrMany<String>>>,
    pub(super) context: Option<Spanned<u32>>,
    pub(super) synthetic: Option<Spanned<bool>>,
    pub(super) evidence: Option<Spanned<String>>,
    pub(super) deadline: Option<Spanned<String>>,
    pub(super) stall: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) expect: RawExpect,
    pub(super) generation: Option<Spanned<OneOrMany<RawGeneration>>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExpect {
    pub(super) load_time: Option<RawLoadTime>,
    pub(super) vram: Option<Spanned<RawRange>>,
    pub(super) ram: Option<Spanned<RawRange>>,
    pub(super) perplexity: Option<Spanned<RawPerplexity>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLoadTime {
    pub(super) cached: Option<Spanned<String>>,
    pub(super) first: Option<Spanned<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRange {
    pub(super) min: Option<Spanned<String>>,
    pub(super) max: Option<Spanned<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPerplexity {
    pub(super) max: Option<Spanned<f64>>,
    pub(super) text: Option<PathBuf>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGeneration {
    pub(super) name: Option<Spanned<String>>,
    pub(super) prompt: Option<Spanned<String>>,
    pub(super) messages: Option<Spanned<Vec<RawMessage>>>,
    pub(super) max_tokens: Option<Spanned<u32>>,
    pub(super) expect: Spanned<OneOrMany<String>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMessage {
    pub(super) role: Spanned<String>,
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
        struct Part;
        impl<'de> Visitor<'de> for Part {
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
                        "a part of a message has exactly one of text, image, audio",
                    )),
                }
            }
        }
        deserializer.deserialize_any(Part)
    }
}

/// A value, or a list of such values.
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
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
        deserializer.deserialize_any(Items(PhantomData))
    }
}

/// Reads the keys; refuses what is not TOML, unknown keys and wrong types.
pub(super) fn read(place: Place<'_>) -> Result<RawManifest, ManifestError> {
    toml::from_str(place.text).map_err(|error| {
        let hint = hint(error.message());
        let message = error.message().replace("unknown field", "unknown key");
        ManifestError::at(place, error.span().unwrap_or(0..0), message, hint)
    })
}

/// The nearest known key, read off serde's own message, which lists what it knows in backticks.
fn hint(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field ") else {
        return "the README describes every key of a manifest".into();
    };
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let unknown = quoted.next().unwrap_or_default();
    match nearest(unknown, quoted) {
        Some(known) => format!("the nearest known key is `{known}`"),
        None => "the README describes every key of a manifest".into(),
    }
}
