//! The files of a model: a folder in Hugging Face layout, the parts of a split GGUF file, the
//! shards in an index.

use crate::other_format::{GGUF_MAGIC, OtherFormat};
use crate::{python_json, small_file, symlinks};
use modelgate_protocol::{FailureKind, ModelFiles, WeightFormat};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The file that describes a safetensors model.
pub const CONFIG: &str = "config.json";
/// The weights of a safetensors model, if they are in one file.
pub const SINGLE: &str = "model.safetensors";
/// The config of an adapter, for example of LoRA, which changes the weights of a base model.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
/// The index of a sharded safetensors model, which maps each tensor to its file.
pub const INDEX: &str = "model.safetensors.index.json";
/// Optional small files of a model, for all formats of weights.
pub const COMPANIONS: [&str; 6] = [
    "generation_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "chat_template.json",
];
/// The tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";

/// Suffixes of files that can run code when they are loaded.
pub const PICKLES: [&str; 5] = [".bin", ".pt", ".pth", ".ckpt", ".pkl"];

/// The maximum number of parts of a split model.
const MAX_PARTS: u32 = 10_000;

/// A folder or file that does not contain a model.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct LayoutError {
    /// The kind of failure.
    pub kind: FailureKind,
    /// The message: what is missing or wrong, and where.
    pub message: String,
    /// How to fix it.
    pub hint: String,
    /// The error of the operating system, if there is one.
    #[source]
    pub source: Option<io::Error>,
}

impl LayoutError {
    fn new(kind: FailureKind, message: String, hint: &str) -> LayoutError {
        LayoutError { kind, message, hint: hint.to_owned(), source: None }
    }

    /// Returns the error for a file that does not exist.
    pub fn not_found(message: String, hint: &str) -> LayoutError {
        LayoutError::new(FailureKind::NotFound, message, hint)
    }

    /// Returns the error for a file that cannot be read.
    pub fn io(path: &Path, error: io::Error) -> LayoutError {
        let message = format!("{}: {error}", path.display());
        let hint = "check the permissions and the disk";
        LayoutError { source: Some(error), ..LayoutError::new(FailureKind::Io, message, hint) }
    }
}

/// Returns the files of the model at `path`: a folder in Hugging Face layout, or a GGUF file.
///
/// # Errors
/// The error names the file that is missing or wrong.
pub fn files(path: &Path) -> Result<ModelFiles, LayoutError> {
    refuse_dangling(path)?;
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LayoutError::not_found(
            format!("{}: no such file or folder", path.display()),
            "set path to a folder with config.json and safetensors files, or to a GGUF file; a \
             relative path starts at the folder of the manifest",
        ),
        _ => LayoutError::io(path, error),
    })?;
    if metadata.is_dir() {
        return folder(path);
    }
    let is_named_gguf =
        path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    if is_named_gguf || is_gguf(path) {
        let root = path.parent().unwrap_or(Path::new("."));
        refuse_dangling_companions(root)?;
        return Ok(with_companions(root, WeightFormat::Gguf, gguf_parts(path)?, None));
    }
    let name = path.to_string_lossy().to_lowercase();
    if PICKLES.iter().any(|end| name.ends_with(end)) {
        return Err(pickle(path));
    }
    Err(LayoutError::not_found(
        format!("{}: neither a folder nor a GGUF file", path.display()),
        "set path to the folder of the model, or to a GGUF file",
    ))
}

/// Returns all parts of a split GGUF model, given the path of any of them; or the one file.
fn gguf_parts(path: &Path) -> Result<Vec<PathBuf>, LayoutError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let Some((stem, count)) = split_name(&name) else { return Ok(vec![path.to_owned()]) };
    let part = |number| path.with_file_name(part_name(stem, number, count));
    let parts: Vec<PathBuf> = (1..=count).map(part).collect();
    for part in &parts {
        refuse_dangling(part)?;
    }
    match parts.iter().find(|part| !part.is_file()) {
        None => Ok(parts),
        Some(missing) => Err(LayoutError::not_found(
            format!("{}: a part of {name} is missing", missing.display()),
            "download the missing part; all parts of a split GGUF file must be in one folder",
        )),
    }
}

/// Splits `NAME-00002-of-00003.gguf` into the part before the numbers and the number of parts
/// (`llama_split_path` of llama.cpp). Returns `None` for another name.
pub fn split_name(name: &str) -> Option<(&str, u32)> {
    let stem = name.get(..name.len().checked_sub(".gguf".len())?)?;
    let (rest, count) = stem.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|b| b.is_ascii_digit());
    let count = count.parse().ok().filter(|_| digits(count) && digits(number))?;
    (1..=MAX_PARTS).contains(&count).then_some((stem, count))
}

/// Returns the name of a part; `stem` is the part before the numbers.
pub fn part_name(stem: &str, number: u32, count: u32) -> String {
    format!("{stem}-{number:05}-of-{count:05}.gguf")
}

fn folder(root: &Path) -> Result<ModelFiles, LayoutError> {
    refuse_adapter(root)?;
    let index = root.join(INDEX);
    let single = root.join(SINGLE);
    for path in [&index, &single, &root.join(CONFIG)] {
        refuse_dangling(path)?;
    }
    refuse_dangling_companions(root)?;
    // like transformers, which does not read the index of an older, sharded version then
    let (weights, index) = if single.is_file() {
        (vec![single], None)
    } else if index.is_file() {
        (shards(root, &index)?, Some(index))
    } else if let Some(weights) = only_gguf_model(root)? {
        return Ok(with_companions(root, WeightFormat::Gguf, weights, None));
    } else {
        return Err(no_model(root));
    };
    let files = with_companions(root, WeightFormat::Safetensors, weights, index);
    if files.config.is_none() {
        return Err(LayoutError::not_found(
            format!("{}: {CONFIG} is missing", root.display()),
            "download config.json from the repository of the weights into the same folder",
        ));
    }
    Ok(files)
}

/// The paths of the small files in a folder that describe a model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Companions {
    /// The path of `generation_config.json`. `None` if it does not exist.
    pub generation_config: Option<PathBuf>,
    /// The path of `tokenizer.json`. `None` if it does not exist.
    pub tokenizer: Option<PathBuf>,
    /// The path of `tokenizer_config.json`. `None` if it does not exist.
    pub tokenizer_config: Option<PathBuf>,
    /// The path of `special_tokens_map.json`. `None` if it does not exist.
    pub special_tokens_map: Option<PathBuf>,
    /// The path of `chat_template.jinja` or `chat_template.json`. `None` if neither exists.
    pub chat_template: Option<PathBuf>,
}

/// Returns the small files in the folder `root` that describe a model.
pub fn companions(root: &Path) -> Companions {
    let existing = |name: &str| Some(root.join(name)).filter(|path| path.is_file());
    Companions {
        generation_config: existing("generation_config.json"),
        tokenizer: existing(TOKENIZER),
        tokenizer_config: existing("tokenizer_config.json"),
        special_tokens_map: existing("special_tokens_map.json"),
        chat_template: existing("chat_template.jinja").or_else(|| existing("chat_template.json")),
    }
}

fn with_companions(
    root: &Path,
    format: WeightFormat,
    weights: Vec<PathBuf>,
    index: Option<PathBuf>,
) -> ModelFiles {
    let companions = companions(root);
    let existing = |name: &str| Some(root.join(name)).filter(|path| path.is_file());
    ModelFiles {
        index,
        // the metadata of a GGUF file describe it; a `config.json` next to it may belong to another
        // model
        config: existing(CONFIG).filter(|_| format == WeightFormat::Safetensors),
        generation_config: companions.generation_config,
        tokenizer: companions.tokenizer,
        tokenizer_config: companions.tokenizer_config,
        special_tokens_map: companions.special_tokens_map,
        chat_template: companions.chat_template,
        ..ModelFiles::new(root, format, weights)
    }
}

/// Refuses a folder with the config of an adapter, because the weights in the folder alone are not
/// the model that transformers would load (`_BaseAutoModelClass.from_pretrained`).
fn refuse_adapter(root: &Path) -> Result<(), LayoutError> {
    #[derive(Deserialize)]
    struct Adapter {
        base_model_name_or_path: Option<String>,
    }
    let path = root.join(ADAPTER_CONFIG);
    if !path.is_file() {
        return Ok(());
    }
    let text = small_file::read_text(&path, small_file::MAX_TEXT_BYTES)
        .map_err(|error| LayoutError::io(&path, error))?;
    let adapter = serde_json::from_str(&text).ok();
    let base = adapter.and_then(|adapter: Adapter| adapter.base_model_name_or_path);
    let base = base.map_or(String::new(), |base| format!(" \"{base}\""));
    let message = format!(
        "{}: adapters are not supported: transformers 5 would apply this one to the weights in the \
         folder, and transformers 4 would load its base model{base} instead of these weights",
        path.display()
    );
    let hint = "remove adapter_config.json if the weights in the folder contain the adapter; or merge \
                the adapter into its base model and save the result to another folder";
    Err(LayoutError::new(FailureKind::Unsupported, message, hint))
}

/// Returns whether a file is a GGUF file by its first bytes, whatever its name. Blobs of the hub and
/// of Ollama are named by their hash.
fn is_gguf(path: &Path) -> bool {
    let mut magic = Vec::new();
    small_file::open_regular(path)
        .and_then(|file| file.take(GGUF_MAGIC.len() as u64).read_to_end(&mut magic))
        .is_ok_and(|_| magic == GGUF_MAGIC)
}

/// Returns the files of the only GGUF model in the folder `root`: one file, or all parts of a split
/// file. `None` if there is no GGUF file, or if there are several models.
fn only_gguf_model(root: &Path) -> Result<Option<Vec<PathBuf>>, LayoutError> {
    let entries = std::fs::read_dir(root).map_err(|error| LayoutError::io(root, error))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> = paths.filter(|path| is_gguf(path)).collect();
    found.sort();
    let Some(first) = found.first() else { return Ok(None) };
    Ok(Some(gguf_parts(first)?).filter(|parts| *parts == found))
}

/// Refuses a symlink whose target does not exist. Otherwise, the file would count as absent.
///
/// # Errors
/// The target of the symlink `path` does not exist.
fn refuse_dangling(path: &Path) -> Result<(), LayoutError> {
    match symlinks::missing_target(path) {
        None => Ok(()),
        Some(target) => Err(LayoutError::not_found(
            symlinks::dangling_message(path, &target),
            symlinks::DANGLING_HINT,
        )),
    }
}

/// Applies [`refuse_dangling`] to the optional files in the folder `root`.
fn refuse_dangling_companions(root: &Path) -> Result<(), LayoutError> {
    COMPANIONS.iter().try_for_each(|name| refuse_dangling(&root.join(name)))
}

/// Returns the distinct shards that an index names, in the order of their names.
fn shards(root: &Path, index: &Path) -> Result<Vec<PathBuf>, LayoutError> {
    let indexed = indexed(index)?;
    for name in indexed.keys() {
        refuse_dangling(&root.join(name))?;
    }
    if let Some((name, tensor)) = indexed.iter().find(|(name, _)| !root.join(name).is_file()) {
        return Err(LayoutError::not_found(
            format!("{}: shard {name} is missing; the index places {tensor} in it", root.display()),
            "download the missing shard; the download may have been interrupted",
        ));
    }
    Ok(indexed.keys().map(|name| root.join(name)).collect())
}

/// Returns the files in the index at `path`, each with one of its tensors. All are plain names of
/// safetensors files in the folder of the index.
///
/// # Errors
/// The index cannot be read, or contains another kind of name.
pub fn indexed(path: &Path) -> Result<BTreeMap<String, String>, LayoutError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: Files,
    }
    let corrupt = |detail: String| {
        LayoutError::new(
            FailureKind::Corrupt,
            format!("{}: {detail}", path.display()),
            "download the index again from the repository that contains the shards",
        )
    };
    let text = small_file::read_json_text(path, small_file::MAX_TEXT_BYTES);
    let text = text.map_err(|error| match (OtherFormat::of_error(&error), error.kind()) {
        (Some(format), _) => {
            LayoutError { hint: format.hint().to_owned(), ..corrupt(format.to_string()) }
        }
        (None, io::ErrorKind::InvalidData) => corrupt(error.to_string()),
        _ => LayoutError::io(path, error),
    })?;
    let Index { weight_map: Files(files) } = python_json::parse(text.as_bytes())
        .map_err(|error| corrupt(format!("not a safetensors index: {error}")))?;
    for (name, tensor) in &files {
        if !is_inside(name) || name.contains('/') {
            return Err(corrupt(format!(
                "tensor {tensor} is mapped to {name:?}, expected a file name without a folder"
            )));
        }
        if !name.ends_with(".safetensors") {
            return Err(pickle(&path.with_file_name(name)));
        }
    }
    if files.is_empty() {
        return Err(corrupt("weight_map is empty, expected the file of each tensor".into()));
    }
    Ok(files)
}

/// Returns the file name in a value of the `weight_map` of an index, without `./` at its beginning.
pub fn shard_name(value: &str) -> &str {
    value.trim_start_matches("./")
}

/// The values of the `weight_map` of an index, each with its first key. Millions of tensors in few
/// files need only the memory of the names of the files.
struct Files(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Files, D::Error> {
        struct FilesVisitor;

        impl<'de> Visitor<'de> for FilesVisitor {
            type Value = Files;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "the names of at most {MAX_PARTS} files by tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Files, A::Error> {
                let mut files = BTreeMap::new();
                while let Some((tensor, name)) = map.next_entry::<String, String>()? {
                    files.entry(shard_name(&name).to_owned()).or_insert(tensor);
                    if files.len() > MAX_PARTS as usize {
                        return Err(serde::de::Error::invalid_length(files.len(), &self));
                    }
                }
                Ok(Files(files))
            }
        }

        deserializer.deserialize_map(FilesVisitor)
    }
}

/// The maximum length of a path in a repository in bytes.
const MAX_PATH_BYTES: usize = 1024;

/// Returns whether `path`, with the separator `/`, stays inside the folder that it is joined to.
pub fn is_inside(path: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    path.len() <= MAX_PATH_BYTES
        && path.split('/').all(is_part)
        && !path.chars().any(|c| c.is_control() || c == '\\')
}

/// Returns the error for a file of weights that can run code.
fn pickle(path: &Path) -> LayoutError {
    LayoutError::new(
        FailureKind::Unsupported,
        format!("{}: expected a name that ends in .safetensors", path.display()),
        PICKLE_HINT,
    )
}

const PICKLE_HINT: &str = "use safetensors files of the same model; or convert the files to \
                           safetensors: pickle files are refused because reading them can run code";

/// Returns the error for a folder without a model, with the contents of the folder.
fn no_model(root: &Path) -> LayoutError {
    let mut names: Vec<String> = std::fs::read_dir(root)
        .map(|entries| {
            entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
        })
        .unwrap_or_default();
    names.sort();
    let any_ends_with = |end: &str| names.iter().any(|name| name.ends_with(end));
    let hint = if any_ends_with(".gguf") {
        "set path to one of the GGUF files in the folder"
    } else if PICKLES.iter().any(|end| any_ends_with(end)) {
        PICKLE_HINT
    } else {
        "set path to the folder with config.json and model.safetensors, or with its shards and \
         their index"
    };
    let shown = match names.len() {
        0 => "it is empty".to_owned(),
        n => format!("it contains {n} entries, for example {}", names[..n.min(4)].join(", ")),
    };
    LayoutError::not_found(
        format!(
            "{}: no model: expected model.safetensors or model.safetensors.index.json; {shown}",
            root.display()
        ),
        hint,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_split_file_selects_all_parts() {
        let dir = tempfile::tempdir().expect("a folder");
        for number in 1..=3 {
            let name = format!("m-q8_0-{number:05}-of-00003.gguf");
            std::fs::write(dir.path().join(name), "").expect("written");
        }
        let second = dir.path().join("m-q8_0-00002-of-00003.gguf");
        let names: Vec<_> = files(&second).expect("all parts exist").weights;
        assert_eq!(names.len(), 3);
        assert!(names[0].ends_with("m-q8_0-00001-of-00003.gguf"), "{names:?}");
        std::fs::remove_file(&names[2]).expect("removed");
        let failure = files(&second).expect_err("a part is missing");
        assert!(failure.message.contains("m-q8_0-00003-of-00003.gguf"), "{failure:?}");
        assert_eq!(split_name("model.gguf"), None);
        assert_eq!(split_name("a-1-of-3.gguf"), None);
        assert_eq!(split_name("a-00001-of-00000.gguf"), None);
    }

    /// Writes `files` (name and content) to a folder, and returns the files of the model in it.
    fn files_of(files: &[(&str, &str)]) -> (tempfile::TempDir, Result<ModelFiles, LayoutError>) {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, content) in files {
            std::fs::write(dir.path().join(name), content).expect("written");
        }
        let found = super::files(dir.path());
        (dir, found)
    }

    #[test]
    fn a_single_file_takes_precedence_over_an_older_index() {
        let index = "{\"weight_map\": {\"a\": \"model-00001-of-00001.safetensors\"}}";
        let sharded = [(CONFIG, "{}"), (INDEX, index), ("model-00001-of-00001.safetensors", "old")];
        let (dir, files) = files_of(&[&sharded[..], &[(SINGLE, "new")]].concat());
        let files = files.expect("a model");
        assert_eq!((files.weights, files.index), (vec![dir.path().join(SINGLE)], None));
        let (dir, files) = files_of(&sharded);
        let files = files.expect("a model");
        assert_eq!(files.weights, [dir.path().join("model-00001-of-00001.safetensors")]);
        assert_eq!(files.index, Some(dir.path().join(INDEX)));
    }

    #[test]
    fn an_adapter_next_to_weights_is_refused_with_its_base_model() {
        for (adapter, expected) in [
            (
                "{\"base_model_name_or_path\": \"owner/Base\"}",
                "its base model \"owner/Base\" instead",
            ),
            ("{}", "its base model instead"),
            ("half of", "its base model instead"),
        ] {
            let (_dir, files) =
                files_of(&[(CONFIG, "{}"), (SINGLE, "weights"), (ADAPTER_CONFIG, adapter)]);
            let error = files.expect_err("an adapter");
            assert_eq!(error.kind, FailureKind::Unsupported);
            assert!(error.message.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_index_with_too_many_files_or_unsafe_names_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join(INDEX);
        let index = |files: usize| {
            let entry = |n| format!("\"t{n}\": \"model-{:05}.safetensors\"", n % files);
            let map: Vec<String> = (0..3 * files).map(entry).collect();
            std::fs::write(&path, format!("{{\"weight_map\": {{{}}}}}", map.join(",")))
                .expect("written");
            indexed(&path)
        };
        assert_eq!(index(10_000).expect("an index").len(), 10_000);
        let failure = index(10_001).expect_err("too many");
        assert!(failure.message.contains("at most 10000 files"), "{failure}");
        for name in ["", "..", "../a.safetensors", "a/b.safetensors", "/a.safetensors", "a\\\\b"] {
            let text = format!("{{\"weight_map\": {{\"t\": \"{name}\"}}}}");
            std::fs::write(&path, text).expect("written");
            assert_eq!(indexed(&path).expect_err(name).kind, FailureKind::Corrupt, "{name}");
        }
    }
}
