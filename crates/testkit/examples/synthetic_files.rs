//! Writes model files with the real tensor shapes and random weights, to test loading and speed
//! without the real weights. Needs only a `config.json`.
//!
//! `cargo run --release -p modelgate-testkit --example synthetic_files -- safetensors CONFIG OUT_DIR`
//! `cargo run --release -p modelgate-testkit --example synthetic_files -- gguf CONFIG OUT.gguf --type q4_0`

use modelgate_model::Config;
use modelgate_testkit::gguf::{Experts, GgmlDType, q4_k_m, type_by_name, uniform};
use modelgate_testkit::synthetic::{Progress, write_gguf, write_safetensors};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const USAGE: &str = "\
synthetic_files safetensors CONFIG.json OUT_DIR [--shard-bytes 5GB] [--seed 1]
synthetic_files gguf CONFIG.json OUT.gguf --type TYPE [--experts apart|merged] [--seed 1]

safetensors: a Hugging Face folder in bf16, without a tokenizer
gguf: one file, without a tokenizer
--type: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k, q5_k, q6_k for all matrices,
        or llama.cpp's mix q4_k_m
--experts: apart: one tensor per expert, the format that candle-transformers reads; merged: one
        tensor for all experts of a layer, the format of current files";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match Arguments::read(&words).and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The command-line arguments.
#[derive(Debug)]
struct Arguments {
    config: PathBuf,
    target: PathBuf,
    format: Format,
    seed: u64,
}

#[derive(Debug)]
enum Format {
    Safetensors { shard_bytes: u64 },
    Gguf { dtype: String, experts: Experts },
}

impl Arguments {
    fn read(words: &[String]) -> Result<Arguments, Box<dyn Error>> {
        let (mut positional, mut options) = (Vec::new(), Vec::new());
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.strip_prefix("--") {
                None => positional.push(word.as_str()),
                Some(name) => {
                    let value = words.next();
                    let value = value.ok_or_else(|| usage(&format!("--{name}: missing value")))?;
                    options.push((name, value.as_str()));
                }
            }
        }
        let [format, config, target] = positional[..] else {
            let found = positional.len();
            let message = format!("expected 3 arguments (format, config, target), found {found}");
            return Err(usage(&message).into());
        };
        let mut seed = 1;
        let (mut shard_bytes, mut dtype, mut experts) = (5_000_000_000, None, Experts::Apart);
        for (name, value) in options {
            match (format, name) {
                (_, "seed") => seed = value.parse()?,
                ("safetensors", "shard-bytes") => shard_bytes = bytes(value)?,
                ("gguf", "type") => dtype = Some(value.to_owned()),
                ("gguf", "experts") => {
                    experts = match value {
                        "apart" => Experts::Apart,
                        "merged" => Experts::Merged,
                        other => {
                            let message =
                                format!("--experts: expected apart or merged, found \"{other}\"");
                            return Err(usage(&message).into());
                        }
                    }
                }
                _ => return Err(usage(&format!("{format}: unknown option --{name}")).into()),
            }
        }
        let format = match format {
            "safetensors" => Format::Safetensors { shard_bytes },
            "gguf" => {
                let dtype = dtype.ok_or_else(|| usage("missing option --type"))?;
                Format::Gguf { dtype, experts }
            }
            other => {
                let message = format!("expected safetensors or gguf, found \"{other}\"");
                return Err(usage(&message).into());
            }
        };
        Ok(Arguments { config: config.into(), target: target.into(), format, seed })
    }
}

/// Returns an error message followed by the usage text.
fn usage(message: &str) -> String {
    format!("{message}\n\n{USAGE}")
}

/// Parses a number of bytes, for example `5GB` or `512MiB`.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "" | "B" => 1,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        other => {
            let expected = "B, MB, GB, MiB or GiB";
            return Err(format!("\"{text}\": unknown unit \"{other}\", expected {expected}"));
        }
    };
    let number: u64 = number.parse().map_err(|error| format!("\"{text}\": {error}"))?;
    number.checked_mul(unit).ok_or_else(|| format!("\"{text}\": more than 2^64 - 1 bytes"))
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { config, target, format, seed } = arguments;
    let text = std::fs::read_to_string(config)
        .map_err(|error| format!("{}: {error}", config.display()))?;
    let begin = Instant::now();
    let last = AtomicU64::new(0);
    let show = |written: u64, total: u64| {
        let percent = written * 100 / total;
        if last.fetch_max(percent, Ordering::Relaxed) < percent {
            let rate = written as f64 / 1e9 / begin.elapsed().as_secs_f64();
            eprint!("\r{percent:3} % of {:.1} GB, {rate:.2} GB/s", total as f64 / 1e9);
        }
    };
    let written = write(&text, target, format, *seed, &show);
    eprintln!();
    for path in written? {
        println!("{} {}", path.display(), std::fs::metadata(&path)?.len());
    }
    eprintln!("{:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn write(
    config: &str,
    target: &Path,
    format: &Format,
    seed: u64,
    progress: Progress,
) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    match format {
        Format::Safetensors { shard_bytes } => {
            Ok(write_safetensors(config, target, *shard_bytes, seed, progress)?)
        }
        Format::Gguf { dtype, experts } => {
            let of_tensor = type_of(dtype, config)?;
            write_gguf(config, target, &of_tensor, *experts, seed, progress)?;
            Ok(vec![target.to_owned()])
        }
    }
}

/// A function that returns the type of a tensor for its name and shape.
type TypeOf = Box<dyn Fn(&str, &[usize]) -> GgmlDType>;

fn type_of(name: &str, config: &str) -> Result<TypeOf, Box<dyn Error>> {
    match (name, type_by_name(name)) {
        ("q4_k_m", _) => Ok(Box::new(q4_k_m(&Config::from_json(config)?))),
        (_, Some(dtype)) => Ok(Box::new(uniform(dtype))),
        (_, None) => Err(usage(&format!("--type: unknown type \"{name}\"")).into()),
    }
}
