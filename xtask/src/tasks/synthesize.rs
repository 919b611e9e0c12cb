//! Writes model files with the real tensor shapes and random weights, to test loading and speed
//! without the real weights. Needs only a `config.json`.

use clap::{Args, Subcommand, ValueEnum};
use modelgate_model::Config;
use modelgate_testkit::gguf::{self, GgmlDType, q4_k_m, type_by_name, uniform};
use modelgate_testkit::synthetic::{write_gguf, write_safetensors};
use std::error::Error;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The arguments of `cargo xtask synthesize`.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    format: Format,
    /// The seed of the random weights.
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
}

#[derive(Subcommand)]
enum Format {
    /// Write a Hugging Face folder in bf16, without a tokenizer.
    Safetensors {
        /// The path of a `config.json`.
        config: PathBuf,
        /// The folder to write.
        folder: PathBuf,
        /// The size of a shard, for example 5GB or 512MiB.
        #[arg(long, default_value = "5GB", value_parser = bytes)]
        shard_bytes: u64,
    },
    /// Write one GGUF file, without a tokenizer.
    Gguf {
        /// The path of a `config.json`.
        config: PathBuf,
        /// The file to write.
        file: PathBuf,
        /// The type of all matrices: f32, f16, bf16, q4_0, q4_1, q5_0, q5_1, q8_0, q2_k, q3_k, q4_k,
        /// q5_k, q6_k, or llama.cpp's mix q4_k_m.
        #[arg(long = "type")]
        dtype: String,
        /// How the experts of a layer are stored.
        #[arg(long, value_enum, default_value_t = Experts::Separate)]
        experts: Experts,
    },
}

/// How the experts of a layer are stored in a GGUF file.
#[derive(Clone, Copy, ValueEnum)]
enum Experts {
    /// One tensor per expert: the format that candle-transformers reads.
    Separate,
    /// One tensor for all experts of a layer: the format of current files.
    Merged,
}

/// Writes the files, shows the progress on standard error, and prints each path with its bytes.
///
/// # Errors
/// The config cannot be read or is not supported, the type is unknown, or a file cannot be written.
pub(crate) fn write(arguments: &Arguments) -> Result<(), Box<dyn Error + Send + Sync>> {
    let begin = Instant::now();
    let last = AtomicU64::new(0);
    let progress = |written: u64, total: u64| {
        let percent = written * 100 / total;
        if last.fetch_max(percent, Ordering::Relaxed) < percent {
            let rate = written as f64 / 1e9 / begin.elapsed().as_secs_f64();
            eprint!("\r{percent:3} % of {:.1} GB, {rate:.2} GB/s", total as f64 / 1e9);
        }
    };
    let seed = arguments.seed;
    let paths = match &arguments.format {
        Format::Safetensors { config, folder, shard_bytes } => {
            write_safetensors(&read(config)?, folder, *shard_bytes, seed, &progress)?
        }
        Format::Gguf { config, file, dtype, experts } => {
            let config = read(config)?;
            let of_tensor = type_of_tensor(dtype, &config)?;
            let experts = match experts {
                Experts::Separate => gguf::Experts::Separate,
                Experts::Merged => gguf::Experts::Merged,
            };
            write_gguf(&config, file, &of_tensor, experts, seed, &progress)?;
            vec![file.clone()]
        }
    };
    eprintln!("\r{:.1} s{:30}", begin.elapsed().as_secs_f64(), "");
    for path in paths {
        println!("{} {}", path.display(), std::fs::metadata(&path)?.len());
    }
    Ok(())
}

fn read(config: &PathBuf) -> Result<String, String> {
    std::fs::read_to_string(config).map_err(|error| format!("{}: {error}", config.display()))
}

/// A function that returns the type of a tensor for its name and shape.
type TypeOfTensor = Box<dyn Fn(&str, &[usize]) -> GgmlDType>;

fn type_of_tensor(name: &str, config: &str) -> Result<TypeOfTensor, Box<dyn Error + Send + Sync>> {
    match (name, type_by_name(name)) {
        ("q4_k_m", _) => Ok(Box::new(q4_k_m(&Config::from_json(config)?))),
        (_, Some(dtype)) => Ok(Box::new(uniform(dtype))),
        (_, None) => {
            Err(format!("--type: unknown type \"{name}\"; see --help for the types").into())
        }
    }
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
