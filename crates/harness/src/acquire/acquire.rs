//! The two steps of acquiring.

use super::error::AcquireError;
use super::in_place;
use super::observer::RunObserver;
use super::page_cache;
use crate::embedded::{bundled, known};
use crate::manifest::Weights;
use crate::measurement::Acquired;
use crate::plan::{Location, ModelJob};
use crate::settings::Settings;
use crate::signal::Interrupt;
use modelgate_hub::{FetchOptions, FileSeen};
use modelgate_model::layout;
use modelgate_protocol::{Finite, ModelFiles};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What acquiring needs in addition to the job.
pub struct AcquireOptions<'a> {
    /// The run's settings.
    pub settings: &'a Settings,
    /// The folder that embedded files are written to.
    pub scratch: &'a Path,
    /// Signals to this process.
    pub interrupt: &'a Interrupt,
    /// Whether to hash every file, also those that were verified before.
    pub verify: bool,
}

/// A model whose small files are here.
pub struct Opened(Kind);

enum Kind {
    Local(Box<ModelFiles>),
    Hub(Box<modelgate_hub::Opened>),
}

/// A model whose files are all here.
#[derive(Debug, Clone)]
pub struct Ready {
    /// The files for the worker.
    pub files: ModelFiles,
    /// The same for the report.
    pub acquired: Acquired,
}

/// Locates the model of `job`, and fetches its small files if they are on the hub.
///
/// # Errors
/// What is missing or wrong, where it was searched, and how to fix it.
pub fn open(job: &ModelJob, options: &AcquireOptions<'_>) -> Result<Opened, AcquireError> {
    let in_place = job.spec.weights == Weights::InPlace;
    let local = |root: PathBuf| match in_place {
        true => in_place::config_alone(root),
        false => layout::files(&root).map_err(AcquireError::from),
    };
    let files = match &job.location {
        Location::Local(path) => local(path.clone())?,
        Location::Bundled(path) => local(extracted(path, options.scratch)?)?,
        Location::KnownConfig(repo) => {
            in_place::config_alone(in_place::known_config(repo, options.scratch)?)?
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
            return Ok(Opened(Kind::Hub(Box::new(opened))));
        }
    };
    Ok(Opened(Kind::Local(Box::new(files))))
}

impl Opened {
    /// Returns the model's `config.json`; `None` for GGUF files.
    pub fn config(&self) -> Option<&Path> {
        match &self.0 {
            Kind::Local(files) => files.config.as_deref(),
            Kind::Hub(opened) => opened.config(),
        }
    }

    /// Fetches the weights if they are on the hub, and looks at how much of them is in the page cache.
    ///
    /// # Errors
    /// What is missing or wrong, where it was searched, and how to fix it.
    pub fn finish(self) -> Result<Ready, AcquireError> {
        let ready = match self.0 {
            Kind::Local(files) => Ready {
                acquired: Acquired {
                    files: modelgate_hub::local_files(&files)?,
                    ..Acquired::default()
                },
                files: *files,
            },
            Kind::Hub(opened) => {
                let fetched = opened.weights()?;
                Ready {
                    files: fetched.files,
                    acquired: Acquired {
                        files: fetched.weights,
                        commit: Some(fetched.commit),
                        downloaded_bytes: fetched.downloaded_bytes,
                        notes: fetched.notes,
                    },
                }
            }
        };
        Ok(with_page_cache(ready))
    }
}

/// Adds how much of the weights is in the page cache. They have not been read yet, unless they were
/// hashed just now.
fn with_page_cache(ready: Ready) -> Ready {
    let Ready { mut files, mut acquired } = ready;
    let look = |(path, seen): (&PathBuf, FileSeen)| {
        let page_cache_fraction = page_cache::fraction(path).and_then(Finite::new);
        FileSeen { page_cache_fraction, ..seen }
    };
    acquired.files = files.weights.iter().zip(acquired.files).map(look).collect();
    let cached = |seen: &FileSeen| Some(seen.page_cache_fraction?.get() * seen.bytes as f64);
    let cached = acquired.files.iter().map(cached).sum::<Option<f64>>();
    let all: f64 = acquired.files.iter().map(|seen| seen.bytes as f64).sum();
    files.page_cache_fraction = cached.and_then(|cached| Finite::new(cached / all));
    Ready { files, acquired }
}

/// Writes the bundled model at `path` below `scratch`, and returns its folder.
fn extracted(path: &Path, scratch: &Path) -> Result<PathBuf, AcquireError> {
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

    fn acquired(job: &ModelJob, scratch: &Path) -> Result<Ready, AcquireError> {
        let settings = Settings::resolve(&Environment::default()).expect("settings");
        let options = AcquireOptions {
            settings: &settings,
            scratch,
            interrupt: &Interrupt::default(),
            verify: false,
        };
        open(job, &options)?.finish()
    }

    fn variant(models: &str, path: Option<PathBuf>) -> ModelJob {
        let text = format!(
            "schema = 1\n[[model]]\nid = \"m\"\nquantization = \"q4_k\"\nsynthetic = true\n{models}"
        );
        let manifest = Manifest::parse(&text, "test", path).expect("a manifest");
        assert_eq!(manifest.models[1].id, "m@synthetic");
        ModelJob::plan(&manifest.models[1], &manifest)
    }

    #[test]
    fn a_known_repository_needs_nothing_but_what_is_embedded() {
        let repo = "mistralai/Mixtral-8x22B-Instruct-v0.1";
        let job = variant(&format!("repo = \"{repo}\"\n"), None);
        let scratch = tempfile::tempdir().expect("a folder");
        for damaged in [false, true] {
            let found = acquired(&job, scratch.path()).expect("acquired");
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
    fn a_folder_needs_nothing_but_its_config() {
        let folder = tempfile::tempdir().expect("a folder");
        let manifest_path = Some(folder.path().join("models.toml"));
        let job = variant("path = \"shapes\"\n", manifest_path);
        let failure = acquired(&job, folder.path()).expect_err("nothing is there");
        assert!(
            matches!(&failure, AcquireError::NoConfig(path) if path.ends_with("shapes/config.json"))
        );
        std::fs::create_dir(folder.path().join("shapes")).expect("a folder");
        std::fs::write(folder.path().join("shapes/config.json"), "{}").expect("a config");
        let files = acquired(&job, folder.path()).expect("acquired").files;
        assert_eq!(files.config, Some(folder.path().join("shapes/config.json")));
        assert!(files.weights.is_empty() && files.tokenizer.is_none());
    }
}
