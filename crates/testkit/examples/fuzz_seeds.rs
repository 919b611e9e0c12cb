//! Writes the initial inputs of the fuzz targets in `fuzz/` to `fuzz/corpus`.

use modelgate_testkit::gguf::GgmlDType;
use modelgate_testkit::smallest::{self, Kind};
use std::fs;
use std::path::{Path, PathBuf};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let corpus = root.join("fuzz/corpus");
    let seed = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(corpus.join(target)).expect("a folder");
        fs::write(corpus.join(target).join(name), bytes).expect("written");
    };
    let read =
        |path: PathBuf| fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for (name, kind) in [("bytes", Kind::ByteLevel), ("pieces", Kind::Pieces)] {
        let folder = tempfile::tempdir().expect("a folder");
        smallest::write(folder.path(), kind);
        let gguf = read(smallest::write_gguf(folder.path(), GgmlDType::Q8_0));
        seed("gguf", name, &gguf);
        seed("gguf_vocabulary", name, &gguf);
        seed("tokenizer", name, smallest::tokenizer(kind).to_string().as_bytes());
        seed("safetensors", "smallest", &read(folder.path().join("model.safetensors")));
    }
    seed("config", "smallest", smallest::config().to_string().as_bytes());
    seed("chat_template", "smallest", smallest::TEMPLATE.as_bytes());
    for family in ["mixtral", "qwen2-window", "omni", "llama3-scaling", "transformers-5"] {
        let path = root.join("fixtures/golden/families").join(family).join("config.json");
        seed("config", family, &read(path));
    }
    for tiny in ["llama", "mixtral", "qwen2.5-omni"] {
        let folder = root.join("fixtures/tiny").join(tiny);
        for name in ["tokenizer_config.json", "chat_template.json"] {
            let Ok(text) = fs::read_to_string(folder.join(name)) else { continue };
            let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            if let Some(template) = json["chat_template"].as_str() {
                seed("chat_template", tiny, template.as_bytes());
            }
        }
    }
    let manifest = String::from_utf8(read(root.join("fixtures/models.toml"))).expect("a text");
    seed("manifest", "default", manifest.as_bytes());
    for (number, entry) in manifest.split("\n[[model]]").skip(1).enumerate() {
        seed("manifest", &format!("{number}"), format!("schema = 1\n[[model]]{entry}").as_bytes());
    }
}
