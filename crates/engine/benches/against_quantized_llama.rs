//! Compares prefill and decoding with quantized_llama of candle-transformers, on the same files and the
//! same threads or GPU. Prints a Markdown table.
//!
//! `cargo bench -p modelgate-engine --bench against_quantized_llama [-- tiny|1b [REPEATS
//! [THREADS]]]`
//!
//! Writes two q8_0 files to a temporary folder: the bundled tiny Llama, and a synthetic model with the
//! shapes of Llama 3.2 1B and random weights (1.3 GB). Both engines hold a model at the same time, and
//! alternate.
//!
//! `cargo bench -p modelgate-engine --features cuda --bench against_quantized_llama -- cuda:0
//! FILE.gguf..`
//!
//! Compares existing files (`cargo xtask synthesize` writes them) on any device, one engine after the
//! other, because a device may not have memory for both. A file without a tokenizer, in it or in its
//! folder, is treated as synthetic.

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Content;
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use modelgate_engine::Model;
use modelgate_protocol::{Device as ModelDevice, Evidence, ModelFiles, Request, Scheme};
use modelgate_testkit::gguf::{Experts, uniform, write_from_safetensors};
use modelgate_testkit::synthetic::write_gguf;
use modelgate_testkit::tokenizers::numbered;
use modelgate_testkit::{model_files, requests};
use std::error::Error;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The number of tokens to evaluate.
#[derive(Clone, Copy)]
struct Work {
    /// Tokens of the prompt.
    prompt: usize,
    /// Tokens that are decoded after the prompt.
    decoded: usize,
    /// Positions of the KV cache.
    context: usize,
}

/// The work for files that this benchmark writes.
const SHORT: Work = Work { prompt: 300, decoded: 64, context: 364 };

/// The work for given files.
const GIVEN: Work = Work { prompt: 512, decoded: 64, context: 1024 };

/// The number of measurements of given files.
const GIVEN_REPEATS: usize = 5;

fn main() -> Outcome<()> {
    // `cargo bench` passes `--bench`. `cargo test --all-targets` does not.
    if std::env::args().len() == 1 {
        return Ok(());
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match arguments.split_first().map(|(first, rest)| (first.parse(), rest)) {
        Some((Ok(device), files)) => given(device, files),
        _ => written(&arguments),
    }
}

/// Compares on the CPU, with files that this function writes.
fn written(arguments: &[String]) -> Outcome<()> {
    let threads = match arguments.get(2) {
        Some(threads) => threads.clone(),
        None => std::thread::available_parallelism()?.to_string(),
    };
    for name in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        // SAFETY: the process still has one thread, so no other thread reads the environment.
        unsafe { std::env::set_var(name, &threads) };
    }
    if let Some(name) = arguments.first().filter(|name| !["tiny", "1b"].contains(&name.as_str())) {
        return Err(format!("unknown model {name}: expected tiny or 1b").into());
    }
    let wanted = |name| arguments.first().is_none_or(|only| only == name);
    let repeats = |usual| arguments.get(1).map_or(Ok(usual), |number| number.parse::<usize>());
    println!("{threads} threads; tokens/s, median (best); q8_0\n");
    print_head(SHORT, "");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("model.gguf");
    if wanted("tiny") {
        write_from_safetensors(&tiny(), &file, &uniform(GgmlDType::Q8_0));
        in_turns("tiny", &file, &tiny().join("tokenizer.json"), repeats(50)?)?;
    }
    if wanted("1b") {
        let tokenizer = folder.path().join("tokenizer.json");
        std::fs::write(&tokenizer, numbered(128_256))?;
        let types = uniform(GgmlDType::Q8_0);
        write_gguf(ONE_B, &file, &types, Experts::Separate, 1, &|_, _| {})?;
        in_turns("synthetic 1B", &file, &tokenizer, repeats(5)?)?;
    }
    Ok(())
}

/// The shapes of Llama 3.2 1B, without RoPE scaling, which quantized_llama does not support.
const ONE_B: &str = r#"{
    "model_type": "llama", "num_hidden_layers": 16, "hidden_size": 2048, "intermediate_size": 8192,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256,
    "rms_norm_eps": 1e-5, "max_position_embeddings": 4096, "rope_theta": 500000.0,
    "tie_word_embeddings": true
}"#;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/llama")
}

/// One of the two engines.
trait Side {
    /// Evaluates `tokens` at the positions from `start`, and returns the logits after the last. Clears the
    /// KV cache if `start` is 0.
    fn last_logits(&mut self, tokens: &[u32], start: usize) -> Outcome<Tensor>;
}

impl Side for Model {
    fn last_logits(&mut self, tokens: &[u32], start: usize) -> Outcome<Tensor> {
        if start == 0 {
            self.reset();
        }
        Ok(Model::last_logits(self, tokens, start)?)
    }
}

/// The model of candle-transformers and its device.
struct Theirs {
    weights: ModelWeights,
    device: Device,
}

impl Theirs {
    fn load(file: &Path, device: &Device) -> Outcome<Theirs> {
        let mut reader = BufReader::new(File::open(file)?);
        let content = Content::read(&mut reader)?;
        let weights = ModelWeights::from_gguf(content, &mut reader, device)?;
        device.synchronize()?;
        Ok(Theirs { weights, device: device.clone() })
    }
}

impl Side for Theirs {
    fn last_logits(&mut self, tokens: &[u32], start: usize) -> Outcome<Tensor> {
        let tokens = Tensor::new(tokens, &self.device)?.unsqueeze(0)?;
        Ok(self.weights.forward(&tokens, start)?.squeeze(0)?)
    }
}

/// The seconds of all measurements.
#[derive(Default)]
struct Times {
    /// The seconds of each prompt.
    prefill: Vec<f64>,
    /// The seconds of all tokens decoded after the prompt.
    decode: Vec<f64>,
}

/// Compares the engines alternately, with both models loaded.
fn in_turns(name: &str, file: &Path, tokenizer: &Path, repeats: usize) -> Outcome<()> {
    let prompt = tokens(SHORT.prompt);
    let before = resident_bytes()?;
    let request = request(file, Some(tokenizer), Evidence::Real, ModelDevice::Cpu, SHORT.context);
    let mut ours = Model::load(&request, &|_| {})?;
    ours.last_logits(&prompt, 0)?;
    let between = resident_bytes()?;
    let mut theirs = Theirs::load(file, &Device::Cpu)?;
    theirs.last_logits(&prompt, 0)?;
    let after = resident_bytes()?;

    let (mut our_times, mut their_times) = (Times::default(), Times::default());
    for _ in 0..repeats {
        measure(&mut ours, SHORT, &mut our_times)?;
        measure(&mut theirs, SHORT, &mut their_times)?;
    }
    print_row(name, SHORT, &our_times, &their_times, "");
    println!(
        "\n{name}: file of {} bytes; resident after the first products: ours {}, theirs {}\n",
        std::fs::metadata(file)?.len(),
        between - before,
        after - between
    );
    Ok(())
}

/// Compares the engines on given files, with one model loaded at a time.
fn given(device: ModelDevice, files: &[String]) -> Outcome<()> {
    if files.is_empty() {
        return Err(format!("missing GGUF file after {device}").into());
    }
    let their_device = match device {
        ModelDevice::Cpu => Device::Cpu,
        ModelDevice::Cuda(ordinal) => Device::new_cuda(ordinal as usize)?,
    };
    println!("{device}; tokens/s, median (best) of {GIVEN_REPEATS}; load in s, from page cache\n");
    print_head(GIVEN, " load: ours | theirs | ratio |");
    for file in files.iter().map(Path::new) {
        read_through(file)?;
        let request = request_of_given(file, device)?;
        let (our_load, our_times) = alone(|| Ok(Model::load(&request, &|_| {})?))?;
        let (their_load, their_times) = alone(|| Theirs::load(file, &their_device))?;
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        let ratio = their_load / our_load;
        let load = format!(" {our_load:.2} | {their_load:.2} | {ratio:.2} |");
        print_row(&name, GIVEN, &our_times, &their_times, &load);
    }
    Ok(())
}

/// Loads one engine, measures it, and drops it. Returns the seconds of the load and of the measurements.
fn alone<S: Side>(load: impl FnOnce() -> Outcome<S>) -> Outcome<(f64, Times)> {
    let begin = Instant::now();
    let mut side = load()?;
    let seconds = begin.elapsed().as_secs_f64();
    let mut times = Times::default();
    // The first use compiles kernels and allocates memory.
    measure(&mut side, GIVEN, &mut Times::default())?;
    for _ in 0..GIVEN_REPEATS {
        measure(&mut side, GIVEN, &mut times)?;
    }
    Ok((seconds, times))
}

/// Reads a file completely, so that the first load does not wait for the disk.
fn read_through(file: &Path) -> Outcome<()> {
    let mut reader = File::open(file)?;
    let mut buffer = vec![0; 8 << 20];
    while reader.read(&mut buffer)? > 0 {}
    Ok(())
}

fn measure(side: &mut dyn Side, work: Work, times: &mut Times) -> Outcome<()> {
    let prompt = tokens(work.prompt);
    times.prefill.push(seconds(side, &prompt, 0)?);
    let mut decode = 0.0;
    for (number, token) in prompt[..work.decoded].iter().enumerate() {
        decode += seconds(side, &[*token], work.prompt + number)?;
    }
    times.decode.push(decode);
    Ok(())
}

/// Returns the seconds until the logits are on the host, where the next token is selected.
fn seconds(side: &mut dyn Side, tokens: &[u32], start: usize) -> Outcome<f64> {
    let begin = Instant::now();
    let logits = side.last_logits(tokens, start)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
    let seconds = begin.elapsed().as_secs_f64();
    match logits.iter().all(|logit| logit.is_finite()) {
        true => Ok(seconds),
        false => Err(format!("logits at position {start} are not finite").into()),
    }
}

fn print_head(work: Work, more: &str) {
    println!(
        "| model | {} tokens of prefill: ours | theirs | ratio | {} tokens decoded: ours | \
         theirs | ratio |{more}",
        work.prompt, work.decoded
    );
    println!("|{}", " --- |".repeat(7 + more.matches('|').count()));
}

fn print_row(name: &str, work: Work, ours: &Times, theirs: &Times, more: &str) {
    let cells = |tokens: usize, ours: &[f64], theirs: &[f64]| {
        let rate = |seconds: f64| tokens as f64 / seconds;
        let both = |times| format!("{:.1} ({:.1})", rate(median(times)), rate(least(times)));
        let (medians, bests) = (median(theirs) / median(ours), least(theirs) / least(ours));
        format!("{} | {} | {medians:.2} ({bests:.2})", both(ours), both(theirs))
    };
    println!(
        "| {name} | {} | {} |{more}",
        cells(work.prompt, &ours.prefill, &theirs.prefill),
        cells(work.decoded, &ours.decode, &theirs.decode)
    );
}

fn tokens(count: usize) -> Vec<u32> {
    (0..count as u32).map(|n| (n * 31 + n / 7) % 490).collect()
}

fn sorted(times: &[f64]) -> Vec<f64> {
    let mut times = times.to_vec();
    times.sort_by(f64::total_cmp);
    times
}

fn median(times: &[f64]) -> f64 {
    sorted(times)[times.len() / 2]
}

fn least(times: &[f64]) -> f64 {
    sorted(times)[0]
}

fn resident_bytes() -> Outcome<i64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    let kilobytes: i64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kilobytes * 1024)
}

/// Returns a request for a given file. The tokenizer is optional, and in the file or in its folder.
fn request_of_given(file: &Path, device: ModelDevice) -> Outcome<Request> {
    let tokenizer = file.with_file_name("tokenizer.json");
    let tokenizer = Some(tokenizer.as_path()).filter(|path| path.is_file());
    let content = Content::read(&mut BufReader::new(File::open(file)?))?;
    let has_one = tokenizer.is_some() || content.metadata.contains_key("tokenizer.ggml.tokens");
    let evidence = if has_one { Evidence::Real } else { Evidence::Synthetic };
    Ok(request(file, tokenizer, evidence, device, GIVEN.context))
}

fn request(
    file: &Path,
    tokenizer: Option<&Path>,
    evidence: Evidence,
    device: ModelDevice,
    context: usize,
) -> Request {
    let files = ModelFiles { tokenizer: tokenizer.map(Path::to_owned), ..model_files::gguf(file) };
    Request {
        evidence,
        devices: vec![device],
        context: Some(context as u32),
        // A GGUF file is loaded unchanged, whatever is requested.
        ..requests::load(files, Scheme::None)
    }
}
