//! The source of a model: exactly one of a hub repository and a local path.

use super::model::Source;
use super::read::Spanned;
use super::resolver::{Resolver, Result};
use std::ops::Range;
use std::path::PathBuf;

/// The keys that together give the location of a model.
pub(super) struct SourceKeys {
    pub(super) repo: Option<Spanned<String>>,
    pub(super) path: Option<Spanned<PathBuf>>,
    pub(super) file: Option<Spanned<String>>,
    pub(super) revision: Option<Spanned<String>>,
}

impl Resolver<'_> {
    /// Resolves the source. `span` is the position of the model `id`, for errors about missing
    /// keys.
    pub(super) fn source(&self, id: &str, span: Range<usize>, keys: SourceKeys) -> Result<Source> {
        match (keys.repo, keys.path, keys.file, keys.revision) {
            (Some(repo), None, file, revision) => Ok(Source::Hub {
                repo: self.repo(&repo)?,
                revision: revision.map_or_else(|| Ok("main".to_owned()), |r| self.revision(&r))?,
                file: file.map(|file| self.file(&file)).transpose()?,
            }),
            (None, Some(path), None, None) => {
                if path.get_ref().as_os_str().is_empty() {
                    return self.error(
                        path.span(),
                        "path is empty",
                        "set it to a folder or a GGUF file",
                    );
                }
                Ok(Source::Local { path: path.into_inner() })
            }
            (None, Some(_), Some(key), _) => self.error(
                key.span(),
                "file is valid only with repo, not with path",
                "set `path` to the GGUF file itself",
            ),
            (None, Some(_), _, Some(key)) => self.error(
                key.span(),
                "revision is valid only with repo, not with path",
                "remove it",
            ),
            (Some(repo), Some(_), _, _) => self.error(
                repo.span(),
                format!("model \"{id}\" has both repo and path"),
                "keep one of the keys: `repo` for a hub repository, or `path` for local files",
            ),
            (None, None, _, _) => self.error(
                span,
                format!("model \"{id}\" has neither repo nor path"),
                "add `repo = \"owner/name\"` for a hub repository; or add `path` for local files",
            ),
        }
    }

    /// Resolves the path of another tokenizer.
    pub(super) fn tokenizer(&self, path: Option<Spanned<PathBuf>>) -> Result<Option<PathBuf>> {
        match path {
            Some(path) if path.get_ref().as_os_str().is_empty() => self.error(
                path.span(),
                "tokenizer is empty",
                "set it to a tokenizer.json or to a folder that contains it; or remove the key",
            ),
            path => Ok(path.map(Spanned::into_inner)),
        }
    }

    fn repo(&self, repo: &Spanned<String>) -> Result<String> {
        let text = repo.get_ref();
        let is_valid = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
        };
        match text.split_once('/') {
            Some((owner, name)) if is_valid(owner) && is_valid(name) => Ok(text.clone()),
            _ => self.error(
                repo.span(),
                format!("repo \"{text}\" is malformed: expected \"owner/name\""),
                "copy owner/name from the address of the model page",
            ),
        }
    }

    fn revision(&self, revision: &Spanned<String>) -> Result<String> {
        let text = revision.get_ref();
        let well_formed = !text.is_empty()
            && !text.split('/').any(|part| part.is_empty() || part.starts_with('.'))
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
        if well_formed {
            Ok(text.clone())
        } else {
            self.error(
                revision.span(),
                format!("revision \"{text}\" is malformed: expected a branch, a tag or a commit"),
                "copy the name or the commit from the model page",
            )
        }
    }

    fn file(&self, file: &Spanned<String>) -> Result<String> {
        let text = file.get_ref();
        let is_relative_path =
            !text.split('/').any(|part| part.is_empty() || part == "." || part == "..");
        if is_relative_path && text.to_lowercase().ends_with(".gguf") {
            Ok(text.clone())
        } else {
            self.error(
                file.span(),
                format!("file \"{text}\" is not a GGUF file of the repository"),
                "use a name that ends with .gguf, for example \"model-q4_k_m.gguf\"; or remove the \
                 key for a safetensors model",
            )
        }
    }
}
