//! The peak memory of a load. One test in its own process, because the high-water mark that it reads is
//! that of the process.

#![allow(clippy::unwrap_used)]

mod common;

use common::{inventory, load, request, tiny};
use modelgate_protocol::{Event, Scheme};
use modelgate_testkit::shapes::write_random_model;

/// The bytes that a load may use in addition to weights and KV cache: buffers of threads, tables, and
/// the allocator.
const ALLOWANCE: u64 = 40 << 20;

const CONFIG: &str = r#"{
    "model_type": "llama", "num_hidden_layers": 2, "hidden_size": 2048, "intermediate_size": 8192,
    "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 512, "rms_norm_eps": 1e-5,
    "max_position_embeddings": 4096, "rope_theta": 10000.0, "tie_word_embeddings": false
}"#;

/// Returns a line of `/proc/self/status`, in bytes.
fn status(key: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_load_uses_little_more_memory_than_it_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let file_bytes = write_random_model(dir.path(), CONFIG, 1, &tiny());
    let before = status("VmHWM");
    let begin = std::time::Instant::now();
    let (model, events) = load(&request(dir.path(), Scheme::Q8_0));
    let seconds = begin.elapsed().as_secs_f64();
    let mut model = model.unwrap();
    let taken = status("VmHWM") - before;
    let weights: u64 = inventory(&events).iter().map(|tensor| tensor.bytes).sum();
    let cache = modelgate_model::kv_cache_bytes(model.config(), 2048, false);
    println!(
        "{file_bytes} bytes in {seconds:.2} s; weights {weights}, cache {cache}, taken {taken}"
    );
    for event in &events {
        if let Event::Activity(activity) = event {
            println!(
                "{}: {} bytes in {:.2} s",
                activity.name,
                activity.bytes,
                activity.busy_s.get()
            );
        }
    }
    assert!(taken < weights + cache + ALLOWANCE, "{taken} of {}", weights + cache);
    // The first matrix products must not allocate memory that is kept.
    let before = status("VmRSS");
    model.forward(&[1, 2, 3, 4], 0).unwrap();
    let grown = status("VmRSS").saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more after the first products");
}
