//! Compares the quantizers with those of ggml on rows of many kinds (`scripts/golden/ggml_rows.py`).

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::quantized::{GgmlDType, QTensor, ggml_file::qtensor_from_ggml};
use candle_core::{Device, Tensor};
use common::fixtures;
use modelgate_engine::quantize_rows;
use modelgate_protocol::DType;
use modelgate_testkit::random::Random;
use modelgate_testkit::safetensors_edit::{Shard, read_shard};
use serde_json::Value;

/// The maximum ratio of the squared error to that of ggml, for a row and for a kind of rows.
const RATIO: f64 = 1.01;

/// The types that a load quantizes to, with their names in candle.
const TYPES: [(DType, GgmlDType); 7] = [
    (DType::Q4_0, GgmlDType::Q4_0),
    (DType::Q5_0, GgmlDType::Q5_0),
    (DType::Q5_1, GgmlDType::Q5_1),
    (DType::Q4K, GgmlDType::Q4K),
    (DType::Q5K, GgmlDType::Q5K),
    (DType::Q6K, GgmlDType::Q6K),
    (DType::Q8_0, GgmlDType::Q8_0),
];

/// A row, and its values after quantization by ggml.
struct Row {
    kind: String,
    values: Vec<f32>,
    blocks: Vec<u8>,
    /// `None` if the values of ggml are NaN or infinite.
    squared_error: Option<f64>,
}

/// Returns all rows of the golden data, for one type.
fn rows(dtype: &DType) -> Vec<Row> {
    let shard = read_shard(&fixtures().join("golden/ggml_rows.safetensors"));
    let text = std::fs::read_to_string(fixtures().join("golden/ggml_rows.json")).unwrap();
    let json: Value = serde_json::from_str(&text).unwrap();
    let kinds = json["squared_errors"].as_object().unwrap();
    kinds.iter().flat_map(|(kind, errors)| rows_of_kind(&shard, dtype, kind, errors)).collect()
}

fn rows_of_kind(shard: &Shard, dtype: &DType, kind: &str, errors: &Value) -> Vec<Row> {
    let (rows, blocks) = (&shard[kind], &shard[&format!("{kind}.{dtype}")]);
    let values = rows.to_f32();
    let errors = errors[dtype.name()].as_array().unwrap();
    let rows = values.chunks(rows.shape[1]).zip(blocks.data.chunks(blocks.shape[1])).zip(errors);
    rows.map(|((values, blocks), error)| Row {
        kind: kind.to_owned(),
        values: values.to_vec(),
        blocks: blocks.to_vec(),
        squared_error: error.as_f64(),
    })
    .collect()
}

/// Returns the values of blocks, dequantized by candle.
fn decoded(blocks: &[u8], dtype: GgmlDType, count: usize) -> Vec<f32> {
    let tensor = qtensor_from_ggml(dtype, blocks, vec![count], &Device::Cpu).unwrap();
    tensor.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap()
}

fn squared_error(values: &[f32], back: &[f32]) -> f64 {
    values.iter().zip(back).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum()
}

/// Returns a message for each row and each kind of rows whose error is too large, with the ratio.
fn too_far(found: &[(&Row, f64)]) -> Vec<String> {
    let mut failures = Vec::new();
    for kind in found.chunk_by(|a, b| a.0.kind == b.0.kind) {
        let name = &kind[0].0.kind;
        let expected = |(row, _): &(&Row, f64)| row.squared_error.unwrap();
        for row in kind.iter().filter(|row| row.1 > RATIO * expected(row)) {
            failures.push(format!("a row of {name}: {}", row.1 / expected(row)));
        }
        let ours: f64 = kind.iter().map(|row| row.1).sum();
        let ggml_s: f64 = kind.iter().map(expected).sum();
        if ours > RATIO * ggml_s {
            failures.push(format!("{name}: {}", ours / ggml_s));
        }
    }
    failures
}

#[test]
fn the_error_of_every_kind_of_rows_is_at_most_that_of_ggml() {
    for (dtype, ggml) in TYPES {
        let rows = rows(&dtype);
        let mut found = Vec::new();
        for row in &rows {
            let ours = quantize_rows(&row.values, &dtype);
            let told = format!("{dtype}, {}, up to {:e}", row.kind, largest(&row.values));
            assert_eq!(ours.is_some(), row.squared_error.is_some(), "{told}: refused or not");
            let Some(ours) = ours else { continue };
            let back = decoded(&ours.bytes, ggml, row.values.len());
            let error = squared_error(&row.values, &back);
            let energy = squared_error(&row.values, &vec![0.0; row.values.len()]);
            assert!((ours.nmse * energy - error).abs() <= 1e-9 * error, "{told}: {}", ours.nmse);
            found.push((row, error));
        }
        assert!(found.len() > 150 && found.len() < rows.len(), "{dtype}: {}", found.len());
        assert_eq!(too_far(&found), [""; 0], "{dtype}");
    }
}

#[test]
fn dequantized_values_match_ggml() {
    for (dtype, ggml) in TYPES {
        for row in rows(&dtype) {
            let Some(error) = row.squared_error else { continue };
            let ours = quantize_rows(&row.values, &dtype).unwrap().bytes;
            let expected = decoded(&row.blocks, ggml, row.values.len());
            assert_eq!(decoded(&ours, ggml, row.values.len()), expected, "{dtype}, {}", row.kind);
            // Blocks and values of the golden data match, and candle dequantizes as ggml does.
            let found = squared_error(&row.values, &expected);
            assert!((found - error).abs() <= 1e-9 * error, "{dtype}, {}: {found}", row.kind);
        }
    }
}

#[test]
fn blocks_of_types_without_a_minimum_equal_those_of_ggml() {
    // if the scale of a block of q5_1 is 0, its quants have no effect, and differ from those of ggml
    for dtype in [DType::Q4_0, DType::Q5_0, DType::Q8_0] {
        for row in rows(&dtype).iter().filter(|row| row.squared_error.is_some()) {
            let ours = quantize_rows(&row.values, &dtype).unwrap().bytes;
            assert!(ours == row.blocks, "{dtype}, {}", row.kind);
        }
    }
}

#[test]
fn the_comparison_detects_the_quantizer_of_candle() {
    for (dtype, ggml) in [(DType::Q4K, GgmlDType::Q4K), (DType::Q6K, GgmlDType::Q6K)] {
        let rows = rows(&dtype);
        let candle_s = |row: &Row| {
            let tensor = Tensor::from_slice(&row.values, row.values.len(), &Device::Cpu).unwrap();
            let quantized = QTensor::quantize(&tensor, ggml).unwrap();
            let back: Vec<f32> = quantized.dequantize(&Device::Cpu).unwrap().to_vec1().unwrap();
            squared_error(&row.values, &back)
        };
        let found: Vec<(&Row, f64)> = rows
            .iter()
            .filter(|row| row.squared_error.is_some())
            .map(|row| (row, candle_s(row)))
            .collect();
        let failures = too_far(&found);
        println!("{dtype}: {} rows and kinds of {}", failures.len(), found.len());
        assert!(!failures.is_empty(), "{dtype}");
    }
}

/// Returns rows in which all values, one value or one run of values have the magnitude.
fn rows_of(magnitude: f32) -> Vec<Vec<f32>> {
    let mut random = Random::new(3);
    let normal: Vec<f32> = (0..512).map(|_| random.normal().clamp(-3.0, 3.0) / 3.0).collect();
    let scaled = |factor: f32| -> Vec<f32> { normal.iter().map(|v| v * factor).collect() };
    let mut one_value = scaled(magnitude.min(1.0));
    one_value[300] = -magnitude;
    let mut one_run = scaled(magnitude.min(1e-3));
    one_run[128..160].fill(magnitude);
    vec![scaled(magnitude), vec![magnitude; 512], vec![-magnitude; 512], one_value, one_run]
}

#[test]
fn every_magnitude_of_f32_is_finite_after_quantization_or_refused() {
    for (dtype, ggml) in TYPES {
        // the minimum of a block of q5_1 is an f16, whose largest value is 65504
        let min_refused = if dtype == DType::Q5_1 { 16 } else { 18 };
        let mut refused = [false; 5];
        for exponent in -149..128 {
            let rows = rows_of(2f32.powi(exponent));
            for (kind, (row, refused)) in rows.iter().zip(&mut refused).enumerate() {
                let told = format!("{dtype}, kind {kind}, 2^{exponent}");
                let Some(found) = quantize_rows(row, &dtype) else {
                    assert!(exponent >= min_refused, "{told}: refused");
                    *refused = true;
                    continue;
                };
                assert!(!*refused, "{told}: a smaller row is refused");
                let back = decoded(&found.bytes, ggml, row.len());
                assert!(back.iter().all(|value| value.is_finite()), "{told}");
                // Where the f16 scales are normal numbers.
                if exponent >= 0 {
                    assert!(found.nmse < 0.05, "{told}: {}", found.nmse);
                }
            }
        }
        assert_eq!(refused, [true; 5], "{dtype}");
    }
}

fn largest(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
}
