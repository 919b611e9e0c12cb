//! Prefill and decoding in q8_0 beside candle-transformers' own quantized_llama: the same files,
//! the same threads, repeats in turns, as a Markdown table.
//!
//! `cargo bench -p modelgate-engine --bench against_quantized_llama [-- tiny|1b [REPEATS [THREADS]]]`
//!
//! Two files are written to a temporary folder: the bundled tiny Llama, and a synthetic one of the
//! shape of Llama 3.2 1B, whose weights are random (1.3 GB).

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QStorage, QTensor};
use candle_core::{Device, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use half::f16;
use modelgate_engine::Model;
use modelgate_protocol::{Evidence, ModelFiles, PROTOCOL_VERSION, Request, Scheme, WeightFormat};
use modelgate_testkit::gguf::{uniform, write_from_safetensors};
use modelgate_testkit::random::Random;
use modelgate_testkit::tokenizers::numbered;
use std::borrow::Cow;
use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Tokens of the prompt.
const PROMPT: usize = 300;

/// Tokens that are decoded after it, one by one.
const DECODED: usize = 64;

fn main() -> Outcome<()> {
    // cargo gives `--bench` where it benchmarks, and nothing where it tests all targets
    if std::env::args().len() == 1 {
        return Ok(());
    }
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let threads = match arguments.get(2) {
        Some(threads) => threads.clone(),
        None => std::thread::available_parallelism()?.to_string(),
    };
    for name in ["CANDLE_NUM_THREADS", "RAYON_NUM_THREADS"] {
        // SAFETY: the process has one thread yet, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var(name, &threads) };
    }
    if let Some(name) = arguments.first().filter(|name| !["tiny", "1b"].contains(&name.as_str())) {
        return Err(format!("no model {name}; there are tiny and 1b").into());
    }
    let wanted = |name| arguments.first().is_none_or(|only| only == name);
    let repeats = |usual| arguments.get(1).map_or(Ok(usual), |number| number.parse::<usize>());
    println!("{threads} threads; tokens/s, median (best); q8_0\n");
    println!(
        "| model | {PROMPT} tokens of prefill: ours | theirs | ratio | {DECODED} tokens \
              decoded: ours | theirs | ratio |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("model.gguf");
    if wanted("tiny") {
        write_from_safetensors(&tiny(), &file, &uniform(GgmlDType::Q8_0));
        compare("tiny", &file, &tiny().join("tokenizer.json"), repeats(50)?)?;
    }
    if wanted("1b") {
        let tokenizer = folder.path().join("tokenizer.json");
        std::fs::write(&tokenizer, numbered(ONE_B.vocab))?;
        ONE_B.write(&file)?;
        compare("synthetic 1B", &file, &tokenizer, repeats(5)?)?;
    }
    Ok(())
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/tiny/llama")
}

/// One of the two that are compared.
trait Side {
    /// Logits of what follows `tokens`, which stand at positions `start` on.
    fn last_logits(&mut self, tokens: &[u32], start: usize) -> Outcome<Tensor>;
}

impl Side for Model {
    fn last_logits(&mut self, tokens: &[u32], start: usize) -> Outcome<Tensor> {
        Ok(Model::last_logits(self, tokens, start)?)
    }
}

impl Side for ModelWeights {
    fn last_logits(&mut self, tokens: &[u32], start: usize) -> Outcome<Tensor> {
        let tokens = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
        Ok(self.forward(&tokens, start)?.squeeze(0)?)
    }
}

/// Seconds of all repeats.
#[derive(Default)]
struct Times {
    /// Of each prompt.
    prefill: Vec<f64>,
    /// Of each token.
    decode: Vec<f64>,
}

fn compare(name: &str, file: &Path, tokenizer: &Path, repeats: usize) -> Outcome<()> {
    let before = resident_bytes()?;
    let mut ours = Model::load(&request(file, tokenizer), &|_| {})?;
    ours.last_logits(&tokens(), 0)?;
    let between = resident_bytes()?;
    let mut reader = BufReader::new(File::open(file)?);
    let content = Content::read(&mut reader)?;
    let mut theirs = ModelWeights::from_gguf(content, &mut reader, &Device::Cpu)?;
    theirs.last_logits(&tokens(), 0)?;
    let after = resident_bytes()?;

    let (mut our_times, mut their_times) = (Times::default(), Times::default());
    for _ in 0..repeats {
        ours.reset();
        measure(&mut ours, &mut our_times)?;
        measure(&mut theirs, &mut their_times)?;
    }
    let cells = |tokens: usize, ours: &[f64], theirs: &[f64]| {
        let rate = |seconds: f64| tokens as f64 / seconds;
        let both = |times| format!("{:.1} ({:.1})", rate(median(times)), rate(least(times)));
        let (medians, bests) = (median(theirs) / median(ours), least(theirs) / least(ours));
        format!("{} | {} | {medians:.2} ({bests:.2})", both(ours), both(theirs))
    };
    println!(
        "| {name} | {} | {} |",
        cells(PROMPT, &our_times.prefill, &their_times.prefill),
        cells(1, &our_times.decode, &their_times.decode)
    );
    println!(
        "\n{name}: file of {} bytes; resident after the first products: ours {}, theirs {}\n",
        std::fs::metadata(file)?.len(),
        between - before,
        after - between
    );
    Ok(())
}

fn measure(side: &mut dyn Side, times: &mut Times) -> Outcome<()> {
    let tokens = tokens();
    let begin = Instant::now();
    side.last_logits(&tokens, 0)?;
    times.prefill.push(begin.elapsed().as_secs_f64());
    for (number, token) in tokens[..DECODED].iter().enumerate() {
        let begin = Instant::now();
        side.last_logits(&[*token], PROMPT + number)?;
        times.decode.push(begin.elapsed().as_secs_f64());
    }
    Ok(())
}

fn tokens() -> Vec<u32> {
    (0..PROMPT as u32).map(|n| (n * 31 + n / 7) % 490).collect()
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

fn request(file: &Path, tokenizer: &Path) -> Request {
    Request {
        protocol: PROTOCOL_VERSION,
        model: file.display().to_string(),
        files: ModelFiles {
            root: file.parent().unwrap_or(file).to_owned(),
            format: WeightFormat::Gguf,
            weights: vec![file.to_owned()],
            index: None,
            config: None,
            generation_config: None,
            tokenizer: Some(tokenizer.to_owned()),
            tokenizer_config: None,
            chat_template: None,
        },
        evidence: Evidence::Real,
        quantization: Scheme::Q8_0,
        devices: vec![modelgate_protocol::Device::Cpu],
        device_limit: None,
        context: Some((PROMPT + DECODED) as u32),
        generations: Vec::new(),
        perplexity_text: None,
    }
}

/// Sizes of a Llama, whose output matrix is its embedding.
struct Sizes {
    layers: usize,
    hidden: usize,
    heads: usize,
    kv_heads: usize,
    ffn: usize,
    vocab: usize,
}

/// Llama 3.2 1B.
const ONE_B: Sizes =
    Sizes { layers: 16, hidden: 2048, heads: 32, kv_heads: 8, ffn: 8192, vocab: 128_256 };

impl Sizes {
    /// Writes a model of random q8_0 weights, whose activations stay of ordinary size.
    fn write(&self, path: &Path) -> Outcome<()> {
        let kv = self.hidden / self.heads * self.kv_heads;
        let mut random = Random::new(1);
        let mut tensors = vec![
            ("token_embd.weight".to_owned(), matrix(self.vocab, self.hidden, &mut random)?),
            ("output_norm.weight".to_owned(), ones(self.hidden)?),
        ];
        for layer in 0..self.layers {
            let mut add = |name: &str, tensor| {
                tensors.push((format!("blk.{layer}.{name}.weight"), tensor));
            };
            add("attn_norm", ones(self.hidden)?);
            add("ffn_norm", ones(self.hidden)?);
            for (name, rows, columns) in [
                ("attn_q", self.hidden, self.hidden),
                ("attn_k", kv, self.hidden),
                ("attn_v", kv, self.hidden),
                ("attn_output", self.hidden, self.hidden),
                ("ffn_gate", self.ffn, self.hidden),
                ("ffn_up", self.ffn, self.hidden),
                ("ffn_down", self.hidden, self.ffn),
            ] {
                add(name, matrix(rows, columns, &mut random)?);
            }
        }
        let metadata = self.metadata();
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(k, v)| (*k, v)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(k, v)| (k.as_str(), v)).collect();
        Ok(gguf_file::write(&mut File::create(path)?, &metadata, &tensors)?)
    }

    fn metadata(&self) -> Vec<(&'static str, Value)> {
        let number = |value: usize| Value::U32(value as u32);
        let head = self.hidden / self.heads;
        vec![
            ("general.architecture", Value::String("llama".into())),
            ("llama.block_count", number(self.layers)),
            ("llama.context_length", number(4096)),
            ("llama.embedding_length", number(self.hidden)),
            ("llama.feed_forward_length", number(self.ffn)),
            ("llama.attention.head_count", number(self.heads)),
            ("llama.attention.head_count_kv", number(self.kv_heads)),
            ("llama.attention.key_length", number(head)),
            ("llama.attention.value_length", number(head)),
            ("llama.rope.dimension_count", number(head)),
            ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
            ("llama.rope.freq_base", Value::F32(500_000.0)),
        ]
    }
}

/// Random blocks: uniform quants under one scale, so that values have variance 1 over a row.
fn matrix(rows: usize, columns: usize, random: &mut Random) -> Outcome<QTensor> {
    let deviation = 256.0 / 12f32.sqrt();
    let scale = f16::from_f32(1.0 / (deviation * (columns as f32).sqrt())).to_le_bytes();
    let mut bytes = Vec::with_capacity(rows * columns / 32 * 34);
    for _ in 0..rows * columns / 32 {
        bytes.extend(scale);
        (0..4).for_each(|_| bytes.extend(random.bits().to_le_bytes()));
    }
    let storage = QStorage::from_data(Cow::Owned(bytes), &Device::Cpu, GgmlDType::Q8_0)?;
    Ok(QTensor::new(storage, (rows, columns))?)
}

fn ones(count: usize) -> Outcome<QTensor> {
    let ones = Tensor::ones(count, candle_core::DType::F32, &Device::Cpu)?;
    Ok(QTensor::quantize(&ones, GgmlDType::F32)?)
}
