//! The job of one model: everything that its measurement and its checks need, planned from its entry in
//! the manifest.

use super::expect::expectation;
use super::questions::{questions, request};
use super::text::{PerplexityText, TextError, perplexity_text};
use crate::admission::LoadSpec;
use crate::check::{Expectation, FixedRun};
use crate::embedded::known;
use crate::manifest::{DeviceChoice, Manifest, Model, Source, Weights};
use modelgate_hub::ModelSource;
use modelgate_model::Config;
use modelgate_protocol::{Device, Evidence, GenerationRequest};
use std::path::PathBuf;
use std::sync::Arc;

/// What is to be done with one model.
#[derive(Debug, Clone)]
pub struct ModelJob {
    /// The manifest's entry.
    pub spec: Model,
    /// Where its files are.
    pub location: Location,
    /// What it is asked to generate.
    pub requests: Requests,
    /// The text whose perplexity is measured; `None` for a synthetic model.
    pub text: Result<Option<PerplexityText>, Arc<TextError>>,
    /// What its checks compare the measurement with.
    pub expectation: Expectation,
}

/// Where the files of a model are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In a repository of the hub.
    Hub(ModelSource),
    /// In a local folder, or a GGUF file.
    Local(PathBuf),
    /// Embedded in the program, by the path in the default manifest.
    Bundled(PathBuf),
    /// Nowhere: the weights are made in place, by the embedded config of this repository.
    KnownConfig(String),
}

/// What a model is asked to generate.
#[derive(Debug, Clone, PartialEq)]
pub enum Requests {
    /// Questions.
    Chats(Vec<GenerationRequest>),
    /// To go on from fixed tokens, as a synthetic model is asked.
    FixedRun(FixedRun),
}

impl Requests {
    /// Returns the requests for a model with that config, if it is known.
    pub fn generations(&self, config: Option<&Config>) -> Vec<GenerationRequest> {
        match self {
            Requests::Chats(chats) => chats.clone(),
            Requests::FixedRun(fixed_run) => vec![fixed_run.request(config)],
        }
    }
}

impl ModelJob {
    /// Plans the job of `model`, and reads the text that it names.
    pub fn plan(model: &Model, manifest: &Manifest) -> ModelJob {
        let synthetic = model.weights.evidence() == Evidence::Synthetic;
        let has_config = !model.source.is_gguf_file();
        let fixed_run = synthetic.then_some(FixedRun { context: model.context, has_config });
        let text = perplexity_text(model, manifest).map_err(Arc::new);
        // a text that cannot be read keeps the model from being measured, which the verdict then says
        let known_text = text.as_ref().ok().and_then(Option::as_ref);
        ModelJob {
            location: location(model, manifest),
            requests: match fixed_run {
                Some(fixed_run) => Requests::FixedRun(fixed_run),
                None => Requests::Chats(questions(model).into_iter().map(request).collect()),
            },
            expectation: expectation(model, fixed_run, known_text),
            text,
            spec: model.clone(),
        }
    }

    /// Returns the devices that the model is to live on, if `auto` means `default`.
    pub fn devices(&self, default: Device) -> Vec<Device> {
        match &self.spec.device {
            DeviceChoice::Listed(devices) => devices.clone(),
            DeviceChoice::Auto => vec![default],
        }
    }

    /// Returns the config that is known before anything is fetched.
    pub fn known_config(&self) -> Option<Config> {
        known::config(self.spec.source.repo()?)?.ok()
    }

    /// Returns what is to be loaded, for a model of that config. `file_bytes` are those of GGUF files.
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
            in_place: self.spec.weights == Weights::InPlace,
            context: self.spec.context,
            devices: devices.to_vec(),
            file_bytes,
            repo: self.spec.source.repo().map(str::to_owned),
        }
    }
}

fn location(model: &Model, manifest: &Manifest) -> Location {
    match &model.source {
        Source::Hub { repo, .. } if model.weights == Weights::InPlace => {
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
