//! A folder in Hugging Face layout, or a GGUF file, on this host.

use crate::bundled;
use modelgate_protocol::{Failure, FailureKind, ModelFiles, Stage, WeightFormat};
use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The files of a bundled model.
pub(super) fn bundled(path: &Path, scratch: &Path) -> Result<ModelFiles, Failure> {
    let folder = bundled::extract(path, scratch).map_err(|error| {
        Failure::new(
            Stage::Acquire,
            FailureKind::Io,
            format!(
                "the bundled model {} cannot be written below {}: {error}",
                path.display(),
                scratch.display()
            ),
            "TMPDIR names a folder with some megabytes of room",
        )
    })?;
    files(&folder)
}

/// The files of the model at `path`.
pub(super) fn files(path: &Path) -> Result<ModelFiles, Failure> {
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => not_found(
            format!("{}: no such file or folder", path.display()),
            "path is a folder with config.json and safetensors files, or a GGUF file; a relative \
             one is taken from the manifest's folder",
        ),
        _ => io(path, &error),
    })?;
    if metadata.is_dir() {
        return folder(path);
    }
    if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf")) {
        let root = path.parent().unwrap_or(Path::new("."));
        return Ok(with_companions(root, WeightFormat::Gguf, vec![path.to_owned()], None));
    }
    Err(not_found(
        format!("{}: neither a folder nor a GGUF file", path.display()),
        "path names the model's folder, or a file ending in .gguf",
    ))
}

fn folder(root: &Path) -> Result<ModelFiles, Failure> {
    let index = root.join("model.safetensors.index.json");
    let single = root.join("model.safetensors");
    let (weights, index) = if index.is_file() {
        (shards(root, &index)?, Some(index))
    } else if single.is_file() {
        (vec![single], None)
    } else {
        return Err(no_model(root));
    };
    let files = with_companions(root, WeightFormat::Safetensors, weights, index);
    if files.config.is_none() {
        return Err(not_found(
            format!("{}: config.json is missing", root.display()),
            "a model's folder holds config.json beside its weights: fetch it from the same \
             repository",
        ));
    }
    Ok(files)
}

fn with_companions(
    root: &Path,
    format: WeightFormat,
    weights: Vec<PathBuf>,
    index: Option<PathBuf>,
) -> ModelFiles {
    let beside = |name: &str| Some(root.join(name)).filter(|path| path.is_file());
    ModelFiles {
        root: root.to_owned(),
        format,
        weights,
        index,
        // a GGUF file's own metadata say what it is; a config.json beside it may be another model's
        config: beside("config.json").filter(|_| format == WeightFormat::Safetensors),
        generation_config: beside("generation_config.json"),
        tokenizer: beside("tokenizer.json"),
        tokenizer_config: beside("tokenizer_config.json"),
        chat_template: beside("chat_template.jinja").or_else(|| beside("chat_template.json")),
    }
}

/// The distinct shards that an index names, in the order of their names.
fn shards(root: &Path, index: &Path) -> Result<Vec<PathBuf>, Failure> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let corrupt = |what: String| {
        Failure::new(
            Stage::Acquire,
            FailureKind::Corrupt,
            format!("{}: {what}", index.display()),
            "fetch the index again from the repository that the shards are from",
        )
    };
    let text = super::read_small(index).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => corrupt(error.to_string()),
        _ => io(index, &error),
    })?;
    let Index { weight_map } = serde_json::from_str(&text)
        .map_err(|error| corrupt(format!("no safetensors index: {error}")))?;
    let mut names = BTreeSet::new();
    for (tensor, name) in &weight_map {
        let mut components = Path::new(name).components();
        let plain =
            matches!((components.next(), components.next()), (Some(Component::Normal(_)), None));
        if !plain {
            return Err(corrupt(format!(
                "tensor {tensor} is said to be in \"{name}\", expected the plain name of a file \
                 in the same folder"
            )));
        }
        if !root.join(name).is_file() {
            return Err(not_found(
                format!(
                    "{}: shard {name} is missing; the index places {tensor} in it",
                    root.display()
                ),
                "fetch the missing shard; an interrupted download leaves such a folder",
            ));
        }
        names.insert(name);
    }
    if names.is_empty() {
        return Err(corrupt("weight_map is empty, expected the file of each tensor".into()));
    }
    Ok(names.into_iter().map(|name| root.join(name)).collect())
}

/// Says what is in a folder that has no model.
fn no_model(root: &Path) -> Failure {
    let mut names: Vec<String> = std::fs::read_dir(root)
        .map(|entries| {
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    let is = |end: &str| names.iter().any(|name| name.ends_with(end));
    let hint = if is(".gguf") {
        "the folder holds GGUF files: name one of them as the path"
    } else if is(".bin") || is(".pt") || is(".pth") {
        "the folder holds pickle files, which can run code when they are read and are refused: \
         convert them to safetensors"
    } else {
        "path names the folder that holds config.json and model.safetensors or its shards with \
         their index"
    };
    let shown = match names.len() {
        0 => "it is empty".to_owned(),
        n => format!("it holds {n} entries, such as {}", names[..n.min(4)].join(", ")),
    };
    not_found(
        format!(
            "{}: no model here: expected model.safetensors or model.safetensors.index.json; {shown}",
            root.display()
        ),
        hint,
    )
}

fn not_found(message: String, hint: &str) -> Failure {
    Failure::new(Stage::Acquire, FailureKind::NotFound, message, hint)
}

/// The failure for a file that cannot be read.
pub(super) fn io(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Stage::Acquire,
        FailureKind::Io,
        format!("{}: {error}", path.display()),
        "check the permissions and the disk",
    )
}
