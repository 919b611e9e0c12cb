//! The job of one model: all inputs of its measurement and its checks, planned from its manifest
//! entry.

use super::expect::expectation;
use super::questions::{questions, request};
use super::text::{PerplexityText, TextError, perplexity_text};
use crate::admission::LoadSpec;
use crate::check::{Expectation, FixedRun};
use crate::embedded::known;
use crate::manifest::{DeviceChoice, Manifest, Model, Source, WeightOrigin};
use modelgate_hub::ModelSource;
use modelgate_model::Config;
use modelgate_protocol::{Device, Evidence, GenerationRequest};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The inputs of the measurement and of the checks of one model.
#[derive(Debug, Clone)]
pub struct ModelJob {
    /// The manifest entry of the model.
    pub spec: Model,
    /// The location of the files of the model.
    pub location: Location,
    /// The `tokenizer.json` that the manifest names, or its folder. `None` for the tokenizer of the
    /// model.
    pub tokenizer: Option<PathBuf>,
    /// The generations to request.
    pub requests: Requests,
    /// The text whose perplexity is measured. `None` for a synthetic model.
    pub text: Result<Option<PerplexityText>, Arc<TextError>>,
    /// The values with which its checks compare the measurement.
    pub expectation: Expectation,
}

/// The location of the files of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a repository of the hub.
    Hub(ModelSource),
    /// In a local folder, or a GGUF file.
    Local(PathBuf),
    /// Embedded in the program, with the path in the default manifest.
    Bundled(PathBuf),
    /// No files: the weights are made in place, from the embedded config of this repository.
    KnownConfig(String),
}

/// The generations that are requested from a model.
#[derive(Debug, Clone, PartialEq)]
pub enum Requests {
    /// Answers to questions.
    Chats(Vec<GenerationRequest>),
    /// The continuation of fixed tokens, for a synthetic model.
    FixedRun(FixedRun),
}

impl Requests {
    /// Returns the requests for a model. `config` is `None` if the config of the model is unknown.
    pub fn generations(&self, config: Option<&Config>) -> Vec<GenerationRequest> {
        match self {
            Requests::Chats(chats) => chats.clone(),
            Requests::FixedRun(fixed_run) => vec![fixed_run.request(config)],
        }
    }
}

impl ModelJob {
    /// Plans the job of `model`, and reads its perplexity text.
    pub fn plan(model: &Model, manifest: &Manifest) -> ModelJob {
        let synthetic = model.weights.evidence() == Evidence::Synthetic;
        let has_config = !model.source.is_gguf_file();
        let fixed_run = synthetic.then_some(FixedRun { context: model.context, has_config });
        let text = perplexity_text(model, manifest).map_err(Arc::new);
        // an unreadable text prevents the measurement, and the verdict reports it
        let known_text = text.as_ref().ok().and_then(Option::as_ref);
        ModelJob {
            location: location(model, manifest),
            tokenizer: model.tokenizer.as_deref().map(|path| in_folder(path, manifest)),
            requests: match fixed_run {
                Some(fixed_run) => Requests::FixedRun(fixed_run),
                None => Requests::Chats(questions(model).into_iter().map(request).collect()),
            },
            expectation: expectation(model, fixed_run, known_text),
            text,
            spec: model.clone(),
        }
    }

    /// Returns the devices that the manifest names. `None` if it names none.
    pub fn named_devices(&self) -> Option<&[Device]> {
        match &self.spec.device {
            DeviceChoice::Listed(devices) => Some(devices),
            DeviceChoice::Auto => None,
        }
    }

    /// Returns the embedded config of the hub repository of the model. `None` if the model has no
    /// repository, or the program contains no usable config of it.
    pub fn known_config(&self) -> Option<Config> {
        known::config(self.spec.source.repo()?)?.ok()
    }

    /// Returns the load of a model with this config. `file_bytes` is the size of its GGUF files.
    pub fn load_spec(
        &self,
        config: Config,
        devices: &[Device],
        file_bytes: Option<u64>,
    ) -> LoadSpec {
        LoadSpec {
            config,
            quantization: self.spec.quantization,
            evidence: self.spec.weights.evidence(),
            in_place: self.spec.weights == WeightOrigin::InPlace,
            context: self.spec.context,
            devices: devices.to_vec(),
            file_bytes,
            repo: self.spec.source.repo().map(str::to_owned),
        }
    }
}

/// Returns a path of the manifest, which starts at its folder if it is relative.
fn in_folder(path: &Path, manifest: &Manifest) -> PathBuf {
    manifest.folder().map_or_else(|| path.to_owned(), |folder| folder.join(path))
}

fn location(model: &Model, manifest: &Manifest) -> Location {
    match &model.source {
        Source::Hub { repo, .. } if model.weights == WeightOrigin::InPlace => {
            Location::KnownConfig(repo.clone())
        }
        Source::Hub { repo, revision, file } => Location::Hub(ModelSource {
            repo: repo.clone(),
            revision: revision.clone(),
            file: file.clone(),
        }),
        Source::Local { path } => match manifest.folder() {
            Some(folder) => Location::Local(folder.join(path)),
            None => Location::Bundled(path.clone()),
        },
    }
}
