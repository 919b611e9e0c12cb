//! Writes the initial inputs of the fuzz targets in `fuzz/` to `fuzz/corpus`.

use modelgate_testkit::gguf::GgmlDType;
use modelgate_testkit::smallest::{self, Kind};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Writes the inputs below `fuzz/corpus` of the repository at `root`: one folder per target.
///
/// # Errors
/// A fixture cannot be read, or an input cannot be written.
pub(crate) fn write(root: &Path) -> io::Result<()> {
    let corpus = Corpus { folder: root.join("fuzz/corpus") };
    write_smallest_models(&corpus)?;
    write_configs(&corpus, root)?;
    write_chat_templates(&corpus, root)?;
    write_manifests(&corpus, root)
}

/// The folder of all inputs.
struct Corpus {
    folder: PathBuf,
}

impl Corpus {
    /// Writes the input `name` of a target.
    fn add(&self, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    }
}

fn write_smallest_models(corpus: &Corpus) -> io::Result<()> {
    for (name, kind) in [("bytes", Kind::ByteLevel), ("pieces", Kind::Pieces)] {
        let folder = tempfile::tempdir()?;
        smallest::write(folder.path(), kind);
        let gguf = fs::read(smallest::write_gguf(folder.path(), GgmlDType::Q8_0))?;
        corpus.add("gguf", name, &gguf)?;
        corpus.add("gguf_vocabulary", name, &gguf)?;
        corpus.add("tokenizer", name, smallest::tokenizer(kind).to_string().as_bytes())?;
        let weights = fs::read(folder.path().join("model.safetensors"))?;
        corpus.add("safetensors", "smallest", &weights)?;
    }
    corpus.add("config", "smallest", smallest::config().to_string().as_bytes())?;
    corpus.add("chat_template", "smallest", smallest::TEMPLATE.as_bytes())
}

fn write_configs(corpus: &Corpus, root: &Path) -> io::Result<()> {
    for family in ["mixtral", "qwen2-window", "omni", "llama3-scaling", "transformers-5"] {
        let path = root.join("fixtures/golden/families").join(family).join("config.json");
        corpus.add("config", family, &fs::read(path)?)?;
    }
    Ok(())
}

fn write_chat_templates(corpus: &Corpus, root: &Path) -> io::Result<()> {
    for tiny in ["llama", "mixtral", "qwen2.5-omni"] {
        let folder = root.join("fixtures/tiny").join(tiny);
        for name in ["tokenizer_config.json", "chat_template.json"] {
            let path = folder.join(name);
            if !path.exists() {
                continue;
            }
            let json: serde_json::Value = serde_json::from_slice(&fs::read(path)?)?;
            if let Some(template) = json["chat_template"].as_str() {
                corpus.add("chat_template", tiny, template.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// Writes the default manifest, and one manifest per model in it.
fn write_manifests(corpus: &Corpus, root: &Path) -> io::Result<()> {
    let manifest = fs::read_to_string(root.join("fixtures/models.toml"))?;
    corpus.add("manifest", "default", manifest.as_bytes())?;
    for (number, entry) in manifest.split("\n[[model]]").skip(1).enumerate() {
        let text = format!("schema = 1\n[[model]]{entry}");
        corpus.add("manifest", &number.to_string(), text.as_bytes())?;
    }
    Ok(())
}
