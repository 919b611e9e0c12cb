//! Golden data of the supported families: logits that transformers computes from random weights
//! (`scripts/golden/families.py`).

use crate::safetensors_edit::{Shard, read_shard};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The golden data of all variants, from `fixtures/golden/families`.
pub struct Golden {
    /// All variants, in the order of `golden.json`.
    pub variants: Vec<Variant>,
    logits: Shard,
    folder: PathBuf,
}

/// A model config with its weights, its prompts and statistics of its reference logits.
#[derive(Debug, Deserialize)]
pub struct Variant {
    /// The name of the variant, and of the folder with its `config.json`.
    pub name: String,
    /// The folder with the weights, which several variants can share.
    weights: String,
    /// SHA-256 of the weight file, in hexadecimal.
    pub weights_sha256: String,
    /// Prompts of 1, 17 and 300 tokens.
    pub prompts: Vec<Prompt>,
    /// The mean over queries of the largest attention probability, for the longest prompt.
    pub attention_peak: f64,
    /// The standard deviation of the logits of the longest prompt.
    pub logit_deviation: f64,
    /// The largest change of a logit that an implementation mistake causes, by the name of the
    /// mistake and the prompt length in tokens.
    pub mistakes: BTreeMap<String, BTreeMap<String, f64>>,
}

/// A prompt and the output of the reference implementation.
#[derive(Debug, Deserialize)]
pub struct Prompt {
    /// The number of tokens.
    pub length: usize,
    /// The token ids, without text.
    pub token_ids: Vec<u32>,
    /// The positions whose logits are stored, in ascending order.
    pub positions: Vec<usize>,
    /// The token ids that greedy decoding appends.
    #[serde(default)]
    pub greedy: Vec<u32>,
    /// The difference between the best and the second-best logit at each greedy step.
    #[serde(default)]
    pub greedy_margins: Vec<f64>,
}

impl Golden {
    /// Reads `golden/families` in `fixtures`, the fixtures folder of the repository.
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

    /// Returns the variant with the name `name`.
    pub fn variant(&self, name: &str) -> &Variant {
        let found = self.variants.iter().find(|variant| variant.name == name);
        found.unwrap_or_else(|| panic!("variant {name} does not exist"))
    }

    /// Returns the path of the `config.json` of a variant.
    pub fn config(&self, variant: &Variant) -> PathBuf {
        self.folder.join(&variant.name).join("config.json")
    }

    /// Returns the path of the weight file of a variant.
    pub fn weights(&self, variant: &Variant) -> PathBuf {
        self.folder.join(&variant.weights).join("model.safetensors")
    }

    /// Returns the reference logits at [`Prompt::positions`], one row per position.
    pub fn logits(&self, variant: &Variant, prompt: &Prompt) -> Vec<Vec<f32>> {
        self.logits[&format!("{}/{}", variant.name, prompt.length)].rows()
    }
}
