//! A model of random weights, written piece by piece, so that it may be larger than memory.

use crate::random::Random;
use half::bf16;
use modelgate_model::{Config, Role, TensorShape, role, tensors};
use serde_json::{Map, json};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

/// Files that are copied from the folder of another model, where it has them.
const BESIDE: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
];

/// Writes `config.json` and a `model.safetensors` in bf16 of every tensor that it calls for, with
/// the tokenizer of the model in `tokenizer_from`: norms of ones, biases of zeros, all else nearly
/// normal with variance 1 over a row's length. Returns the bytes of the weight file.
pub fn write_random_model(dir: &Path, config: &str, seed: u64, tokenizer_from: &Path) -> u64 {
    fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    fs::write(dir.join("config.json"), config).unwrap();
    for name in BESIDE {
        if tokenizer_from.join(name).is_file() {
            fs::copy(tokenizer_from.join(name), dir.join(name)).unwrap();
        }
    }
    let list = tensors(&Config::from_json(config).expect("a config of a known model"));
    let path = dir.join("model.safetensors");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&path).unwrap());
    let header = header(&list);
    out.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    out.write_all(&header).unwrap();
    let mut random = Random::new(seed);
    for tensor in &list {
        write_values(&mut out, tensor, &mut random);
    }
    out.flush().unwrap();
    fs::metadata(&path).unwrap().len()
}

fn header(list: &[TensorShape]) -> Vec<u8> {
    let mut offset = 0;
    let mut entries = Map::new();
    for tensor in list {
        let end = offset + 2 * tensor.elements();
        let entry =
            json!({ "dtype": "BF16", "shape": tensor.shape, "data_offsets": [offset, end] });
        entries.insert(tensor.name.clone(), entry);
        offset = end;
    }
    let mut bytes = serde_json::to_vec(&entries).unwrap();
    // The format wants the data to begin at a multiple of 8.
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    bytes
}

fn write_values(out: &mut impl Write, tensor: &TensorShape, random: &mut Random) {
    let shape: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
    let scale = 1.0 / (*shape.last().unwrap() as f32).sqrt();
    let role = role(&tensor.name, &shape);
    let mut value = || match role {
        Role::Norm => 1.0,
        Role::Bias => 0.0,
        _ => scale * random.nearly_normal(),
    };
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut left = tensor.elements();
    while left > 0 {
        let now = left.min(1 << 15);
        buffer.clear();
        (0..now).for_each(|_| buffer.extend(bf16::from_f32(value()).to_le_bytes()));
        out.write_all(&buffer).unwrap();
        left -= now;
    }
}
