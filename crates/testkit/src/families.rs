//! What transformers computes from random weights of every supported family
//! (`fixtures/golden/families.py`).

use crate::safetensors_edit::{Shard, read_shard};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The golden data of all variants.
pub struct Golden {
    /// Every variant, in the order of the file.
    pub variants: Vec<Variant>,
    logits: Shard,
    folder: PathBuf,
}

/// One config with its weights and what follows from them.
#[derive(Debug, Deserialize)]
pub struct Variant {
    /// Its name, which is that of the folder of its config.
    pub name: String,
    /// The folder that has its weights.
    weights: String,
    /// SHA-256 of the weight file, in hexadecimal.
    pub weights_sha256: String,
    /// Prompts of 1, 17 and 300 tokens.
    pub prompts: Vec<Prompt>,
    /// Mean over queries of the largest weight that attention gives a key.
    pub attention_peak: f64,
    /// Standard deviation of the logits.
    pub logit_deviation: f64,
    /// What mistakes change in the logits at most, by their name and the prompt's length.
    pub mistakes: BTreeMap<String, BTreeMap<String, f64>>,
}

/// A prompt and what the reference makes of it.
#[derive(Debug, Deserialize)]
pub struct Prompt {
    /// Number of its tokens.
    pub length: usize,
    /// Its tokens.
    pub token_ids: Vec<u32>,
    /// Positions whose logits are kept.
    pub positions: Vec<usize>,
    /// Tokens that greedy decoding appends.
    #[serde(default)]
    pub greedy: Vec<u32>,
    /// By how much the best logit leads at each of these steps.
    #[serde(default)]
    pub greedy_margins: Vec<f64>,
}

impl Golden {
    /// Reads the golden data below the repository's `fixtures`.
    pub fn read(fixtures: &Path) -> Golden {
        #[derive(Deserialize)]
        struct File {
            variants: Vec<Variant>,
        }
        let folder = fixtures.join("golden/families");
        let text = std::fs::read_to_string(folder.join("golden.json")).expect("golden.json");
        let File { variants } = serde_json::from_str(&text).expect("golden data");
        Golden { variants, logits: read_shard(&folder.join("golden.safetensors")), folder }
    }

    /// Returns the variant of that name.
    pub fn variant(&self, name: &str) -> &Variant {
        let found = self.variants.iter().find(|variant| variant.name == name);
        found.unwrap_or_else(|| panic!("no variant {name}"))
    }

    /// Returns a variant's `config.json`.
    pub fn config(&self, variant: &Variant) -> PathBuf {
        self.folder.join(&variant.name).join("config.json")
    }

    /// Returns a variant's weight file.
    pub fn weights(&self, variant: &Variant) -> PathBuf {
        self.folder.join(&variant.weights).join("model.safetensors")
    }

    /// Returns the reference's logits at the prompt's kept positions.
    pub fn logits(&self, variant: &Variant, prompt: &Prompt) -> Vec<Vec<f32>> {
        self.logits[&format!("{}/{}", variant.name, prompt.length)].rows()
    }
}
