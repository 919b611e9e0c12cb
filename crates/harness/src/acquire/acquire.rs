//! Acquires the files of a model in two steps.

use super::companions;
use super::error::AcquireError;
use super::headers;
use super::in_place;
use super::observer::RunObserver;
use super::page_cache;
use crate::embedded::{bundled, known};
use crate::manifest::WeightOrigin;
use crate::measurement::Acquired;
use crate::plan::{Location, ModelJob};
use crate::settings::Settings;
use crate::signal::Interrupt;
use modelgate_hub::{FetchOptions, FileRecord};
use modelgate_model::layout;
use modelgate_protocol::{Finite, ModelFiles};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The inputs of acquiring, in addition to the job.
pub struct AcquireOptions<'a> {
    /// The settings of the run.
    pub settings: &'a Settings,
    /// The folder that embedded files are written to.
    pub scratch: &'a Path,
    /// The signals to this process.
    pub interrupt: &'a Interrupt,
    /// Whether to hash every file, including files that were verified before.
    pub verify: bool,
}

/// A model whose small files are present.
pub struct OpenedModel {
    files: OpenedFiles,
    /// The tokenizer that the manifest names. `None` for the tokenizer of the model.
    tokenizer: Option<PathBuf>,
}

/// Where the files of a model are.
enum OpenedFiles {
    Local(Box<ModelFiles>),
    Hub(Box<modelgate_hub::Opened>),
}

/// A model whose files are all present.
#[derive(Debug, Clone)]
pub struct ReadyModel {
    /// The files for the worker.
    pub files: ModelFiles,
    /// The description of the files for the report.
    pub acquired: Acquired,
    /// The numbers of selected experts and of all experts in the metadata of a GGUF file. `None` for
    /// a dense model, and for other files.
    pub experts: Option<(u64, u64)>,
}

/// Locates the model of `job`, and downloads its small files if they are on the hub.
///
/// # Errors
/// A file is missing or invalid. The error contains the searched places and the fix.
pub fn open(job: &ModelJob, options: &AcquireOptions<'_>) -> Result<OpenedModel, AcquireError> {
    let in_place = job.spec.weights == WeightOrigin::InPlace;
    let local = |root: PathBuf| match in_place {
        true => in_place::config_only(root),
        false => layout::files(&root).map_err(AcquireError::from),
    };
    let files = match &job.location {
        Location::Local(path) => local(path.clone())?,
        Location::Bundled(path) => local(extract_bundled(path, options.scratch)?)?,
        Location::KnownConfig(repo) => {
            in_place::config_only(in_place::write_known_config(repo, options.scratch)?)?
        }
        Location::Hub(source) => {
            let settings = options.settings.hub.as_ref().map_err(Clone::clone)?;
            let fetch = FetchOptions {
                model: job.spec.id.clone(),
                stall: job.spec.stall,
                verify: options.verify,
                known_repositories: known::repositories().collect(),
            };
            let observer =
                RunObserver { title: job.spec.title(), interrupt: options.interrupt.clone() };
            let opened = modelgate_hub::open(
                Arc::clone(settings),
                source.clone(),
                fetch,
                Arc::new(observer),
            )?;
            let files = OpenedFiles::Hub(Box::new(opened));
            return Ok(OpenedModel { files, tokenizer: job.tokenizer.clone() });
        }
    };
    let files = OpenedFiles::Local(Box::new(files));
    Ok(OpenedModel { files, tokenizer: job.tokenizer.clone() })
}

impl OpenedModel {
    /// Returns the path of `config.json`. `None` for GGUF files.
    pub fn config(&self) -> Option<&Path> {
        match &self.files {
            OpenedFiles::Local(files) => files.config.as_deref(),
            OpenedFiles::Hub(opened) => opened.config(),
        }
    }

    /// Downloads the weights if they are on the hub, determines their fraction in the page cache,
    /// reads their headers, and selects the small files that describe the model.
    ///
    /// # Errors
    /// A file is missing or invalid. The error contains the searched places and the fix.
    pub fn finish(self) -> Result<ReadyModel, AcquireError> {
        let ready = match self.files {
            OpenedFiles::Local(files) => ReadyModel {
                acquired: Acquired {
                    files: modelgate_hub::local_files(&files)?,
                    ..Acquired::default()
                },
                files: *files,
                experts: None,
            },
            OpenedFiles::Hub(opened) => {
                let fetched = opened.weights()?;
                ReadyModel {
                    files: fetched.files,
                    acquired: Acquired {
                        files: fetched.weights,
                        commit: Some(fetched.commit),
                        downloaded_bytes: fetched.downloaded_bytes,
                        notes: fetched.notes,
                        ..Acquired::default()
                    },
                    experts: None,
                }
            }
        };
        let ReadyModel { files, acquired, .. } = with_page_cache_fraction(ready);
        let read = headers::read(&files);
        let files = companions::select(files, read.embedded, self.tokenizer.as_deref())?;
        let companions = companions::records(&files);
        let acquired = Acquired { headers: read.headers, companions, ..acquired };
        Ok(ReadyModel { files, acquired, experts: read.experts })
    }
}

/// Adds the fraction of the weights that is in the page cache. The weights have not been read yet,
/// unless they were hashed in this run.
fn with_page_cache_fraction(ready: ReadyModel) -> ReadyModel {
    let ReadyModel { mut files, mut acquired, experts } = ready;
    let with_fraction = |(path, file): (&PathBuf, FileRecord)| {
        let page_cache_fraction = page_cache::fraction(path).and_then(Finite::new);
        FileRecord { page_cache_fraction, ..file }
    };
    acquired.files = files.weights.iter().zip(acquired.files).map(with_fraction).collect();
    let cached_bytes =
        |file: &FileRecord| Some(file.page_cache_fraction?.get() * file.bytes as f64);
    let cached_bytes = acquired.files.iter().map(cached_bytes).sum::<Option<f64>>();
    let total_bytes: f64 = acquired.files.iter().map(|file| file.bytes as f64).sum();
    files.page_cache_fraction = cached_bytes.and_then(|cached| Finite::new(cached / total_bytes));
    ReadyModel { files, acquired, experts }
}

/// Writes the bundled model at `path` to a folder below `scratch`, and returns the folder.
fn extract_bundled(path: &Path, scratch: &Path) -> Result<PathBuf, AcquireError> {
    bundled::extract(path, scratch).map_err(|source| AcquireError::BundledNotWritten {
        path: path.to_owned(),
        scratch: scratch.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Manifest;
    use crate::settings::Environment;
    use modelgate_protocol::WeightFormat;

    fn acquire(job: &ModelJob, scratch: &Path) -> Result<ReadyModel, AcquireError> {
        let settings = Settings::resolve(&Environment::default()).expect("settings");
        let options = AcquireOptions {
            settings: &settings,
            scratch,
            interrupt: &Interrupt::default(),
            verify: false,
        };
        open(job, &options)?.finish()
    }

    fn synthetic_job(models: &str, path: Option<PathBuf>) -> ModelJob {
        let text = format!(
            "schema = 1\n[[model]]\nid = \"m\"\nquantization = \"q4_k\"\nsynthetic = true\n{models}"
        );
        let manifest = Manifest::parse(&text, "test", path).expect("a manifest");
        assert_eq!(manifest.models[1].id, "m@synthetic");
        ModelJob::plan(&manifest.models[1], &manifest)
    }

    #[test]
    fn a_known_repository_needs_only_the_embedded_config() {
        let repo = "mistralai/Mixtral-8x22B-Instruct-v0.1";
        let job = synthetic_job(&format!("repo = \"{repo}\"\n"), None);
        let scratch = tempfile::tempdir().expect("a folder");
        for damaged in [false, true] {
            let found = acquire(&job, scratch.path()).expect("acquired");
            assert_eq!(found.files.format, WeightFormat::Synthetic);
            assert!(found.files.weights.is_empty() && found.acquired.files.is_empty());
            assert_eq!(found.acquired.commit, None);
            let config = found.files.config.expect("a config");
            let text = std::fs::read_to_string(&config).expect("the config");
            assert_eq!(Some(text.as_str()), known::text(repo), "damaged: {damaged}");
            std::fs::write(config, "half of it").expect("damaged");
        }
    }

    #[test]
    fn a_synthetic_model_in_a_folder_needs_only_its_config() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest_path = Some(folder.path().join("models.toml"));
        let job = synthetic_job("path = \"shapes\"\n", manifest_path);
        let failure = acquire(&job, folder.path()).expect_err("a missing folder");
        assert!(
            matches!(&failure, AcquireError::NoConfig(path) if path.ends_with("shapes/config.json"))
        );
        std::fs::create_dir(folder.path().join("shapes")).expect("a folder");
        std::fs::write(folder.path().join("shapes/config.json"), "{}").expect("a config");
        let files = acquire(&job, folder.path()).expect("acquired").files;
        assert_eq!(files.config, Some(folder.path().join("shapes/config.json")));
        assert!(files.weights.is_empty() && files.tokenizer.is_none());
    }
}
