//! The command that downloads the files of models without running them, so that one job can
//! download and another one validate.

use super::exit::{self, FAILED, PASSED, USAGE};
use crate::acquire::{self, AcquireError, AcquireOptions, ReadyModel, read_config};
use crate::manifest::{Manifest, Model, Source, WeightOrigin};
use crate::plan::{ModelJob, models, similar_ids_hint};
use crate::report;
use crate::reportable::Reportable;
use crate::settings::Environment;
use crate::signal::Interrupt;
use modelgate_model::units::format_bytes;
use modelgate_protocol::Failure;
use std::process::ExitCode;

/// The options of the command `prefetch`.
#[derive(Debug, Clone, Default)]
pub struct PrefetchOptions {
    /// The models, with the same filters as for tests. All models if empty.
    pub filters: Vec<String>,
    /// Whether to hash every file, including files that were verified before.
    pub verify: bool,
}

/// Downloads the files of the models.
///
/// Exit codes: 0 all files are present and verified; 101 a file is missing or wrong; 2 the command
/// line, the environment or the manifest is invalid; 128 + n signal n ended it.
pub fn prefetch(options: &PrefetchOptions, environment: &Environment) -> ExitCode {
    let (settings, manifest) = match exit::resolve(environment) {
        Ok(resolved) => resolved,
        Err(code) => return code,
    };
    let chosen = match models_to_download(options, &manifest) {
        Ok(models) => models,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            eprintln!("error: the signal handlers cannot be installed: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let acquire_options = AcquireOptions {
        settings: &settings,
        scratch: &settings.temp_dir,
        interrupt: &interrupt,
        verify: options.verify,
    };
    let mut code = PASSED;
    for model in chosen {
        match download(&ModelJob::plan(model, &manifest), &acquire_options) {
            Ok(ready) => println!("{}: {}", model.title(), describe(&ready)),
            Err(error) => {
                print_failure(model, &error.to_failure());
                code = FAILED;
            }
        }
        if let Some(signal) = interrupt.signal() {
            return exit::of_signal(signal);
        }
    }
    ExitCode::from(code)
}

/// Downloads the files of one model, unless its config shows that no engine can load it.
fn download(job: &ModelJob, options: &AcquireOptions<'_>) -> Result<ReadyModel, AcquireError> {
    let opened = acquire::open(job, options)?;
    opened.config().map(read_config).transpose()?;
    opened.finish()
}

/// Returns the models of the manifest that have files to download, without duplicates.
fn models_to_download<'a>(
    options: &PrefetchOptions,
    manifest: &'a Manifest,
) -> Result<Vec<&'a Model>, String> {
    let mut indices = Vec::new();
    for filter in &options.filters {
        let named = models(filter, manifest);
        if named.is_empty() {
            let list_hint = "run `cargo test --release --test models -- --list` to list all models";
            let hint = similar_ids_hint(filter, manifest, list_hint);
            return Err(format!("no model matches \"{filter}\"\nhint: {hint}"));
        }
        indices.extend(named);
    }
    if options.filters.is_empty() {
        indices.extend(0..manifest.models.len());
    }
    let mut files: Vec<&Source> = Vec::new();
    let mut chosen = Vec::new();
    for index in indices {
        let model = &manifest.models[index];
        let is_downloaded = model.source.repo().is_some() && model.weights != WeightOrigin::InPlace;
        if is_downloaded && !files.contains(&&model.source) {
            files.push(&model.source);
            chosen.push(model);
        }
    }
    if chosen.is_empty() {
        return Err(
            "no files to download: the selected models are local, or their weights are made in \
             place\nhint: select a model with `repo` in the manifest and trained weights"
                .into(),
        );
    }
    Ok(chosen)
}

/// Returns a description of the acquired files in one line.
fn describe(ready: &ReadyModel) -> String {
    format!(
        "commit {}, {}, {} fetched",
        ready.acquired.commit.as_deref().unwrap_or("unknown"),
        report::files(&ready.acquired.files),
        format_bytes(ready.acquired.downloaded_bytes),
    )
}

fn print_failure(model: &Model, failure: &Failure) {
    let (title, kind) = (model.title(), failure.kind.name());
    eprintln!("{title}: {kind}: {}", failure.message);
    if !failure.hint.is_empty() {
        eprintln!("hint: {}", failure.hint);
    }
}
