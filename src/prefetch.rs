//! The command that fetches the files of models and runs none of them, so that one job can fetch
//! and another validate.

use crate::acquire::{self, Acquired, Context, hub};
use crate::env::Environment;
use crate::harness::{self, FAILED, PASSED, USAGE};
use crate::manifest::{Manifest, Model, Source, Weights, format_bytes};
use crate::measure::read_config;
use crate::report;
use crate::select;
use crate::signal::{self, Interrupt};
use modelgate_protocol::Failure;
use std::process::ExitCode;

/// What is asked of the command.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Models, as the filters of tests name them; all where there is none.
    pub filters: Vec<String>,
    /// Hash every file, also those that were found right before.
    pub verify: bool,
}

/// Fetches the models' files. Gives 0 where all are there and right, 101 where one is not, 2 where
/// the command line, the environment or the manifest is wrong, 128 + n where signal n ended it.
pub fn run(options: &Options) -> ExitCode {
    let environment = Environment::from_process();
    let manifest = match harness::manifest(&environment) {
        Ok(manifest) => manifest,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    if let Err(error) = hub::Settings::check(&environment.variables) {
        eprintln!("error: {}\nhint: {}", error.message, error.hint);
        return ExitCode::from(USAGE);
    }
    let models = match chosen(options, &manifest) {
        Ok(models) => models,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => {
            eprintln!("error: signals cannot be taken over: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let mut code = PASSED;
    for model in models {
        let context = Context {
            manifest: &manifest,
            environment: &environment,
            scratch: &std::env::temp_dir(),
            interrupt: &interrupt,
            verify: options.verify,
            // what cannot be loaded anywhere need not be fetched
            admit: &|config| read_config(config).map(drop),
        };
        match acquire::acquire(model, &context) {
            Ok(acquired) => println!("{}: {}", model.title(), told(&acquired)),
            Err(failure) => {
                tell(model, &failure);
                code = FAILED;
            }
        }
        if let Some(signal) = interrupt.signal() {
            return ExitCode::from(u8::try_from(signal::exit_code(signal)).unwrap_or(FAILED));
        }
    }
    ExitCode::from(code)
}

/// The models of the manifest that have files to be fetched, each file set once.
fn chosen<'a>(options: &Options, manifest: &'a Manifest) -> Result<Vec<&'a Model>, String> {
    let mut indices = Vec::new();
    for filter in &options.filters {
        let named = select::models(filter, manifest);
        if named.is_empty() {
            let list = "`cargo test --release --test models -- --list` shows every model";
            let hint = select::near_hint(filter, manifest, list);
            return Err(format!("no model matches \"{filter}\"\nhint: {hint}"));
        }
        indices.extend(named);
    }
    if options.filters.is_empty() {
        indices.extend(0..manifest.models.len());
    }
    let mut files: Vec<&Source> = Vec::new();
    let mut models = Vec::new();
    for index in indices {
        let model = &manifest.models[index];
        let is_fetched = model.source.repo().is_some() && model.weights != Weights::InPlace;
        if is_fetched && !files.contains(&&model.source) {
            files.push(&model.source);
            models.push(model);
        }
    }
    if models.is_empty() {
        return Err(
            "none of these models comes from a hub: there is nothing to fetch\nhint: `repo` \
                    in the manifest names a model's repository"
                .into(),
        );
    }
    Ok(models)
}

/// What was had, in a line.
fn told(acquired: &Acquired) -> String {
    format!(
        "commit {}, {}, {} fetched",
        acquired.commit.as_deref().unwrap_or("unknown"),
        report::files(&acquired.seen),
        format_bytes(acquired.downloaded_bytes),
    )
}

fn tell(model: &Model, failure: &Failure) {
    let (title, kind) = (model.title(), failure.kind.name());
    eprintln!("{title}: {kind}: {}\nhint: {}", failure.message, failure.hint);
}
