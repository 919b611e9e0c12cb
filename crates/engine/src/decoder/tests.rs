//! Deliberate mistakes in a decoder of the Llama family. Each must change the logits by at least a
//! hundred times the tolerance of the comparison with the reference (`tests/families.rs`), so that
//! the comparison detects it. (`families.py` makes mistakes in the reference, which show that the
//! weights are sensitive.)

#![allow(clippy::unwrap_used)]

use super::llama::Decoder;
use super::norm::Norm;
use super::{KvCache, inverse_frequencies};
use crate::compute_device::ComputeDevice;
use crate::formats::format_of;
use crate::load::Plan;
use crate::weights::{ResidentTensor, RopeLayout, WeightMap};
use candle_core::{Device, Result, Tensor};
use modelgate_model::{Config, SlidingWindow};
use modelgate_protocol::{ModelFiles, Scheme, WeightFormat};
use modelgate_testkit::families::Golden;
use std::path::Path;

/// The minimum change of a logit that a mistake must cause: a hundred times the tolerance.
const MIN_DIFFERENCE: f32 = 1e-2;

/// The inputs of a decoder, which a test changes before the decoder is built.
struct DecoderParts {
    config: Config,
    weights: WeightMap,
    layout: RopeLayout,
}

impl DecoderParts {
    fn float(&self, name: &str) -> Tensor {
        self.weights[name].float().unwrap()
    }

    fn change(&mut self, name: &str, change: impl FnOnce(Tensor) -> Result<Tensor>) {
        let changed = change(self.float(name)).unwrap();
        assert_eq!(changed.dims(), self.float(name).dims(), "{name}");
        self.weights.insert(name.to_owned(), ResidentTensor::Float(changed));
    }

    fn swap(&mut self, a: &str, b: &str) {
        let (first, second) = (self.float(a), self.float(b));
        self.change(a, |_| Ok(second));
        self.change(b, |_| Ok(first));
    }

    /// Replaces the rows of each head in the projections with these names, in all layers.
    fn change_heads(&mut self, projections: &[&str], change: impl Fn(&[Tensor]) -> Vec<Tensor>) {
        let width = self.config.head_dim;
        for layer in 0..self.config.layers {
            for projection in projections {
                self.change(&format!("model.layers.{layer}.self_attn.{projection}.weight"), |w| {
                    let mut heads = Vec::new();
                    for head in 0..w.dim(0)? / width {
                        let rows = w.narrow(0, head * width, width)?.chunk(width, 0)?;
                        heads.extend(change(&rows));
                    }
                    Tensor::cat(&heads, 0)
                });
            }
        }
    }
}

/// Loads the variant `name` of the golden models.
fn load(golden: &Golden, name: &str) -> DecoderParts {
    let variant = golden.variant(name);
    let weights = golden.weights(variant);
    let root = weights.parent().unwrap().to_owned();
    let files = ModelFiles {
        config: Some(golden.config(variant)),
        ..ModelFiles::new(root, WeightFormat::Safetensors, vec![weights])
    };
    let format = format_of(files.format);
    let opened = format.open(&files, Scheme::None, false).unwrap();
    let plan = Plan::new(format, &opened, Scheme::None, false).unwrap();
    let weights = plan.load(&ComputeDevice::Cpu, &|_| ()).unwrap();
    DecoderParts { weights, layout: opened.rope_layout, config: opened.config }
}

/// Returns the largest difference between a logit and the reference over all prompts of a variant.
/// `change` is applied to the parts of the decoder, and `change_decoder` to the decoder.
fn difference(
    golden: &Golden,
    name: &str,
    change: impl FnOnce(&mut DecoderParts),
    change_decoder: impl FnOnce(&mut Decoder),
) -> f32 {
    let mut parts = load(golden, name);
    change(&mut parts);
    let DecoderParts { config, weights, layout } = parts;
    let frequencies = inverse_frequencies(&config, None);
    let cache = KvCache::new(&config, 512, &Device::Cpu).unwrap();
    let mut decoder = Decoder::new(&config, weights, &frequencies, layout, cache).unwrap();
    change_decoder(&mut decoder);
    let variant = golden.variant(name);
    let mut largest = 0f32;
    for prompt in &variant.prompts {
        decoder.reset();
        let hidden = decoder.hidden(&prompt.token_ids, 0, &|_| ()).unwrap();
        let found = decoder.logits(&hidden).unwrap().to_vec2::<f32>().unwrap();
        let expected = golden.logits(variant, prompt);
        for (at, expected) in prompt.positions.iter().zip(expected) {
            assert!(found[*at].iter().all(|logit| logit.is_finite()));
            let pairs = found[*at].iter().zip(expected);
            largest = pairs.map(|(a, b)| (a - b).abs()).fold(largest, f32::max);
        }
    }
    largest
}

/// Permutes the rows of a head so that the pair (i, i + half) becomes (2 i, 2 i + 1).
fn interleaved(rows: &[Tensor]) -> Vec<Tensor> {
    let half = rows.len() / 2;
    (0..half).flat_map(|i| [rows[i].clone(), rows[i + half].clone()]).collect()
}

/// Rotates the rows of a head by the angles of one position.
fn rotated(rows: &[Tensor], frequencies: &[f32]) -> Vec<Tensor> {
    let half = rows.len() / 2;
    let mix =
        |a: &Tensor, x: f64, b: &Tensor, y: f64| ((a * x).unwrap() + (b * y).unwrap()).unwrap();
    let part = |i: usize, first: bool| {
        let (sin, cos) = f64::from(frequencies[i]).sin_cos();
        let (low, high) = (&rows[i], &rows[i + half]);
        if first { mix(low, cos, high, -sin) } else { mix(high, cos, low, sin) }
    };
    (0..half).map(|i| part(i, true)).chain((0..half).map(|i| part(i, false))).collect()
}

/// Returns a norm that leaves its input unchanged: the mean square is negligible compared with the
/// epsilon, and the weight cancels the epsilon.
fn identity_norm(norm: &Norm) -> Norm {
    Norm { weight: norm.weight.affine(0.0, 1e6).unwrap(), eps: 1e12 }
}

/// Changes the number of positions of the sliding window.
fn change_window(parts: &mut DecoderParts, change: isize) {
    let SlidingWindow { positions, .. } = parts.config.sliding_window.as_mut().unwrap();
    *positions = positions.checked_add_signed(change).unwrap();
}

#[test]
fn every_mistake_in_the_decoder_changes_the_logits() {
    let golden = Golden::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures"));
    let parts =
        |name: &str, change: &dyn Fn(&mut DecoderParts)| difference(&golden, name, change, |_| ());
    let decoder =
        |name: &str, change: &dyn Fn(&mut Decoder)| difference(&golden, name, |_| (), change);
    let all = ["q_proj", "k_proj"];

    for name in ["llama", "llama3-scaling", "mha", "mixtral", "qwen2", "sliding-window"] {
        let unchanged = parts(name, &|_| ());
        assert!(unchanged <= 1e-4, "{name}: {unchanged}");
    }
    let permuted = parts("llama", &|p| {
        p.change_heads(&all, interleaved);
        p.layout = RopeLayout::Interleaved;
    });
    assert!(permuted <= 1e-4, "rows permuted as in a GGUF file, with interleaved RoPE: {permuted}");

    let mistakes = [
        (
            "interleaved RoPE for half-split rows",
            parts("llama", &|p| p.layout = RopeLayout::Interleaved),
        ),
        (
            "half-split RoPE for interleaved rows",
            parts("llama", &|p| p.change_heads(&all, interleaved)),
        ),
        ("no scaling", parts("llama3-scaling", &|p| p.config.rope.scaling = None)),
        ("wrong theta", parts("llama", &|p| p.config.rope.theta *= 10.0)),
        (
            "no bias",
            parts("qwen2", &|p| {
                for layer in 0..p.config.layers {
                    for name in ["q_proj", "k_proj", "v_proj"] {
                        let name = format!("model.layers.{layer}.self_attn.{name}.bias");
                        p.change(&name, |bias| bias.zeros_like());
                    }
                }
            }),
        ),
        (
            "experts swapped",
            parts("mixtral", &|p| {
                for name in ["w1", "w2", "w3"] {
                    let expert = |n: usize| {
                        format!("model.layers.0.block_sparse_moe.experts.{n}.{name}.weight")
                    };
                    p.swap(&expert(0), &expert(1));
                }
            }),
        ),
        (
            "weights of experts not renormalized",
            parts("mixtral", &|p| p.config.experts.as_mut().unwrap().renormalized = false),
        ),
        (
            "queries rotated by one extra position",
            parts("llama", &|p| {
                let frequencies = inverse_frequencies(&p.config, None);
                p.change_heads(&["q_proj"], |rows| rotated(rows, &frequencies));
            }),
        ),
        (
            "q and k swapped",
            parts("mha", &|p| {
                for layer in 0..p.config.layers {
                    let name = |n: &str| format!("model.layers.{layer}.self_attn.{n}_proj.weight");
                    p.swap(&name("q"), &name("k"));
                }
            }),
        ),
        (
            "no norm before attention",
            decoder("llama", &|d| {
                d.layers[0].attention_norm = identity_norm(&d.layers[0].attention_norm);
            }),
        ),
        (
            "no norm before the feed-forward network",
            decoder("llama", &|d| {
                d.layers[1].feed_forward_norm = identity_norm(&d.layers[1].feed_forward_norm);
            }),
        ),
        ("no last norm", decoder("llama", &|d| d.norm = identity_norm(&d.norm))),
        (
            "transposed lm_head",
            parts("llama", &|p| {
                p.change("lm_head.weight", |w| w.t()?.contiguous()?.reshape(w.dims()));
            }),
        ),
        ("window one too long", parts("sliding-window", &|p| change_window(p, 1))),
        ("window one too short", parts("sliding-window", &|p| change_window(p, -1))),
        ("no window", parts("sliding-window", &|p| p.config.sliding_window = None)),
        (
            "window in every layer",
            parts("qwen2-window", &|p| {
                p.config.sliding_window.as_mut().unwrap().layers.fill(true);
            }),
        ),
    ];
    for (mistake, found) in mistakes {
        println!("{mistake}: {found}");
        assert!(
            found >= MIN_DIFFERENCE,
            "{mistake}: expected a change of the logits by at least {MIN_DIFFERENCE}, found {found}"
        );
    }
}
