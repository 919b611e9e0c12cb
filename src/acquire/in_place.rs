//! A model whose weights are made in place: all that it needs is a config.
//!
//! Nothing is looked for in the hub's cache, and no file of weights, where there is one.

use super::local::{self, CONFIG};
use super::{Acquired, Context, Origin};
use crate::known;
use crate::manifest::{Manifest, Source};
use crate::store::write_atomically;
use modelgate_protocol::{Failure, FailureKind, ModelFiles, Stage, WeightFormat};
use std::io;
use std::path::{Path, PathBuf};

/// A model that is made of nothing but its config.
pub(super) struct InPlace<'a> {
    pub(super) source: &'a Source,
}

impl Origin for InPlace<'_> {
    fn acquire(&self, context: &Context<'_>) -> Result<Acquired, Failure> {
        let files = files(self.source, context.manifest, context.scratch)?;
        Acquired::at_hand(files, context)
    }
}

/// The config of a model, as the files of one that has no other.
fn files(source: &Source, manifest: &Manifest, scratch: &Path) -> Result<ModelFiles, Failure> {
    let root = match source {
        Source::Hub { repo, .. } => embedded(repo, scratch)?,
        Source::Local { path } => match manifest.folder() {
            Some(folder) => folder.join(path),
            None => local::extracted(path, scratch)?,
        },
    };
    let config = root.join(CONFIG);
    if !config.is_file() {
        return Err(local::not_found(
            format!("{}: no such file", config.display()),
            "a synthetic variant is made from the config.json in the folder that path names; \
             nothing else need be there",
        ));
    }
    Ok(ModelFiles {
        root,
        format: WeightFormat::Synthetic,
        weights: Vec::new(),
        index: None,
        config: Some(config),
        generation_config: None,
        tokenizer: None,
        tokenizer_config: None,
        chat_template: None,
        page_cache_fraction: None,
    })
}

/// The folder below `scratch` with the embedded config of `repo`. It is named after the config's
/// hash, so that other versions of this program do not meet there, and what is there already and
/// whole is kept.
fn embedded(repo: &str, scratch: &Path) -> Result<PathBuf, Failure> {
    let text = known::text(repo).ok_or_else(|| {
        let message = format!("the shapes of {repo} are not known here");
        local::not_found(message, "give an entry whose path is a folder with its config.json")
    })?;
    let digest = &crate::hash::sha256_hex(text.as_bytes())[..16];
    let folder = scratch.join("bundled").join(format!("config-{digest}"));
    let path = folder.join(CONFIG);
    let written = || -> io::Result<()> {
        if std::fs::read(&path).is_ok_and(|content| content == text.as_bytes()) {
            return Ok(());
        }
        std::fs::create_dir_all(&folder)?;
        write_atomically(&path, text.as_bytes())
    };
    match written() {
        Ok(()) => Ok(folder),
        Err(error) => Err(Failure::new(
            Stage::Acquire,
            FailureKind::Io,
            format!("the config of {repo} cannot be written to {}: {error}", folder.display()),
            "TMPDIR names a folder with some megabytes of room",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acquire::acquire;
    use crate::env::Environment;
    use crate::manifest::Model;
    use crate::signal::Interrupt;

    fn acquired(model: &Model, manifest: &Manifest, scratch: &Path) -> Result<Acquired, Failure> {
        let context = Context {
            manifest,
            environment: &Environment::default(),
            scratch,
            interrupt: &Interrupt::default(),
            verify: false,
            admit: &|_| Ok(()),
        };
        acquire(model, &context)
    }

    fn variant(models: &str, path: Option<PathBuf>) -> (Manifest, Model) {
        let text = format!(
            "schema = 1\n[[model]]\nid = \"m\"\nquantization = \"q4_k\"\nsynthetic = true\n{models}"
        );
        let manifest = Manifest::parse(&text, "test", path).expect("a manifest");
        let model = manifest.models[1].clone();
        assert_eq!(model.id, "m@synthetic");
        (manifest, model)
    }

    #[test]
    fn a_known_repository_needs_nothing_but_what_is_embedded() {
        let repo = "mistralai/Mixtral-8x22B-Instruct-v0.1";
        let (manifest, model) = variant(&format!("repo = \"{repo}\"\n"), None);
        let scratch = tempfile::tempdir().expect("a folder");
        for damaged in [false, true] {
            let found = acquired(&model, &manifest, scratch.path()).expect("acquired");
            assert_eq!(found.files.format, WeightFormat::Synthetic);
            assert!(found.files.weights.is_empty() && found.seen.is_empty());
            assert_eq!(found.commit, None);
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
        let (manifest, model) = variant("path = \"shapes\"\n", manifest_path);
        let failure = acquired(&model, &manifest, folder.path()).expect_err("nothing is there");
        assert_eq!(failure.kind, FailureKind::NotFound);
        assert!(failure.message.contains("shapes/config.json"), "{failure:?}");
        std::fs::create_dir(folder.path().join("shapes")).expect("a folder");
        std::fs::write(folder.path().join("shapes/config.json"), "{}").expect("a config");
        let files = acquired(&model, &manifest, folder.path()).expect("acquired").files;
        assert_eq!(files.config, Some(folder.path().join("shapes/config.json")));
        assert!(files.weights.is_empty() && files.tokenizer.is_none());
    }
}
