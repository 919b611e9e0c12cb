//! The manifest: which models, and what is expected of each.
//!
//! Parses and refuses; everything after it can trust what it holds. Knows no disk beyond the
//! manifest's own file, no network and no device.

mod error;
mod expect;
mod questions;
mod read;
mod resolve;
mod source;
mod synthetic;
mod units;

pub(crate) use error::nearest;
pub use error::{ManifestError, Place};
pub(crate) use resolve::parse_device;
pub(crate) use units::parse_bytes;
pub use units::{counted, format_bytes, format_duration};

use modelgate_protocol::{Device, Evidence, Message, Scheme};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest manifest, in bytes: room for two thousand models.
const LONGEST_TEXT: usize = 1 << 20;

/// A manifest that has been checked whole.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The file, or none for the one that is embedded in the program.
    pub path: Option<PathBuf>,
    /// SHA-256 of its text, in hexadecimal.
    pub sha256: String,
    /// Its models, in the order of the file, each followed by its synthetic variant where it has
    /// one; at least one, ids distinct.
    pub models: Vec<Model>,
}

/// One model and what is expected of it.
#[derive(Debug, Clone)]
pub struct Model {
    /// Distinct in its manifest; `[a-z0-9][a-z0-9._@-]*`.
    pub id: String,
    /// Where it comes from.
    pub source: Source,
    /// Whose its weights are.
    pub weights: Weights,
    /// The quantization to load it with.
    pub quantization: Scheme,
    /// Where it is to live.
    pub device: DeviceChoice,
    /// Positions of the key/value cache; derived from the model where it is not given.
    pub context: Option<u32>,
    /// The worker is ended after this.
    pub deadline: Duration,
    /// The worker is ended after so long without progress.
    pub stall: Duration,
    /// What is expected; what is not given is derived.
    pub expect: Expect,
    /// What to generate; empty where the built-in questions are to be asked, and for a synthetic
    /// model, which is asked nothing.
    pub generations: Vec<Question>,
}

impl Model {
    /// The id for a person to read, with a word where the weights are random and the id does not
    /// say so.
    pub fn title(&self) -> String {
        title(&self.id, self.weights.evidence())
    }
}

/// The id of a model for a person to read: a model of random weights is never shown without a word
/// on it.
pub fn title(id: &str, evidence: Evidence) -> String {
    match evidence {
        Evidence::Synthetic if !id.ends_with(SYNTHETIC_VARIANT) => format!("{id} (synthetic)"),
        _ => id.to_owned(),
    }
}

/// What the ids of synthetic variants end with. They are made here, not by a manifest's author.
const SYNTHETIC_VARIANT: &str = "@synthetic";

/// Whose a model's weights are. Only the manifest says it, never the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weights {
    /// Trained weights from the model's files.
    Files,
    /// Random weights from files of the model's shapes.
    RandomFiles,
    /// Random weights that the worker makes in place from the config alone: no files are needed.
    InPlace,
}

impl Weights {
    /// What a measurement of such weights is evidence of.
    pub fn evidence(self) -> Evidence {
        match self {
            Weights::Files => Evidence::Real,
            Weights::RandomFiles | Weights::InPlace => Evidence::Synthetic,
        }
    }
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A repository of the Hugging Face Hub.
    Hub {
        /// `owner/name`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// A GGUF file in it; none for a safetensors model.
        file: Option<String>,
    },
    /// A folder in Hugging Face layout or a GGUF file. Relative paths are taken from the
    /// manifest's folder.
    Local {
        /// As the manifest writes it.
        path: PathBuf,
    },
}

impl Source {
    /// The hub repository, where it is one.
    pub fn repo(&self) -> Option<&str> {
        match self {
            Source::Hub { repo, .. } => Some(repo),
            Source::Local { .. } => None,
        }
    }

    /// Whether it is a local GGUF file, by its name.
    pub fn is_gguf_file(&self) -> bool {
        matches!(self, Source::Local { path } if path
            .extension()
            .is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")))
    }
}

/// Where a model is to live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceChoice {
    /// What `MODELGATE_DEVICE` says; the CPU where it is unset, whatever GPUs there are.
    Auto,
    /// These, in this order.
    Listed(Vec<Device>),
}

impl DeviceChoice {
    /// Whether the choice asks for a GPU by name.
    pub fn needs_gpu(&self) -> bool {
        matches!(self, DeviceChoice::Listed(list) if list.iter().any(|d| matches!(d, Device::Cuda(_))))
    }
}

/// What is expected of a model; none is derived.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expect {
    /// Time until it is loaded.
    pub load_time: LoadTime,
    /// Peak device memory, summed over devices.
    pub vram: Option<ByteRange>,
    /// Peak private host memory of the worker.
    pub ram: Option<ByteRange>,
    /// Perplexity of a text.
    pub perplexity: PerplexityBound,
}

/// Time until a model is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadTime {
    /// From spawn until loaded, with the files at hand.
    pub cached: Option<Duration>,
    /// With the download, where anything was downloaded.
    pub first: Option<Duration>,
}

/// Bytes from `min` to `max`, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// At least.
    pub min: u64,
    /// At most; `u64::MAX` where there is no bound.
    pub max: u64,
}

impl ByteRange {
    /// Whether `bytes` is in it.
    pub fn contains(self, bytes: u64) -> bool {
        (self.min..=self.max).contains(&bytes)
    }
}

impl std::fmt::Display for ByteRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.min, self.max) {
            (0, max) => write!(f, "at most {}", format_bytes(max)),
            (min, u64::MAX) => write!(f, "at least {}", format_bytes(min)),
            (min, max) => write!(f, "{} to {}", format_bytes(min), format_bytes(max)),
        }
    }
}

/// Perplexity of a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PerplexityBound {
    /// At most this.
    pub max: Option<f64>,
    /// A text of the user's own, relative to the manifest's folder; the built-in one otherwise.
    pub text: Option<PathBuf>,
}

/// A chat and the answers that are right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its name in the report; distinct in its model.
    pub name: String,
    /// The chat.
    pub messages: Vec<Message>,
    /// Tokens to generate at most.
    pub max_tokens: u32,
    /// Any of these, case-insensitive, on word boundaries; never empty.
    pub expect: Vec<String>,
}

impl Manifest {
    /// Reads the manifest in `path`.
    ///
    /// # Errors
    /// What is wrong, with file, line and column.
    pub fn open(path: &Path) -> Result<Manifest, ManifestError> {
        let mut text = String::new();
        // one byte more than there may be: that shows in the text, whatever the file says of its size
        let read = File::open(path)
            .and_then(|file| file.take(LONGEST_TEXT as u64 + 1).read_to_string(&mut text));
        read.map_err(|error| {
            ManifestError::without_place(
                &path.display().to_string(),
                format!("the manifest cannot be read: {error}"),
                "MODELGATE_MANIFEST is the path of a readable TOML file; without it the default \
                 manifest is used",
            )
        })?;
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Manifest::parse(&text, &path.display().to_string(), Some(absolute))
    }

    /// Checks a manifest's text. `name` is what errors call it, `path` its file, where it has one.
    ///
    /// # Errors
    /// What is wrong, with file, line and column.
    pub fn parse(text: &str, name: &str, path: Option<PathBuf>) -> Result<Manifest, ManifestError> {
        if text.len() > LONGEST_TEXT {
            return Err(ManifestError::without_place(
                name,
                format!("the manifest has more than {LONGEST_TEXT} bytes"),
                "MODELGATE_MANIFEST is the path of a manifest; texts for perplexity are in files of \
                 their own",
            ));
        }
        let place = Place { name, text };
        let raw = read::read(place)?;
        let models = resolve::resolve(raw, place)?;
        Ok(Manifest { path, sha256: crate::hash::sha256_hex(text.as_bytes()), models })
    }

    /// The folder that relative paths are taken from; none for the embedded manifest.
    pub fn folder(&self) -> Option<&Path> {
        self.path.as_deref().and_then(Path::parent)
    }
}
