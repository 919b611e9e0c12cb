//! `quantization`: every tensor is resident in the block type of the scheme, and its error is
//! typical of that type.
//!
//! Layers that silently stay unquantized are a known failure. The check therefore inspects every
//! tensor, and inspects the resident storage that the engine reports, not a config.

use super::expectation::Expectation;
use super::tensor_class::{TensorClass, class};
use super::verdict::{Verdict, without_evidence};
use crate::measurement::Measurement;
use modelgate_model::units::format_bytes;
use modelgate_model::{Mix, mix};
use modelgate_protocol::{DType, Scheme, Tensor};

/// Returns the maximum normalized mean squared error of a block type against its source.
///
/// It is two to three times the error on Gaussian rows, which trained weights resemble; rows with
/// heavy tails come closer to the bound. Errors on Gaussian rows: q4_0 7.4e-3, q4_k 5.1e-3, q5_0
/// 1.8e-3, q5_1 1.5e-3, q5_k 1.3e-3, q6_k 3.2e-4, q8_0 2.9e-5 (measured by the tests of the engine).
fn error_bound(dtype: &DType) -> Option<f64> {
    Some(match dtype {
        DType::Q4_0 => 2.5e-2,
        DType::Q4K => 1.5e-2,
        DType::Q5_0 => 6e-3,
        DType::Q5_1 => 6e-3,
        DType::Q5K => 4e-3,
        DType::Q6K => 1.2e-3,
        DType::Q8_0 => 1.5e-4,
        // rounding to a mantissa of 10 or 7 bits; a wider float loses nothing
        DType::F16 => 1e-6,
        DType::Bf16 => 1e-5,
        DType::F32 => 1e-12,
        _ => return None,
    })
}

/// The smallest block of any type, in weights: a row that is not a multiple of it cannot be
/// quantized.
const MIN_BLOCK: u64 = 32;

/// The block types for rows that are multiples of [`MIN_BLOCK`], but not of the block size of the
/// requested type. Source: `tensor_type_fallback` in `llama-quant.cpp` of llama.cpp.
const FALLBACKS: [(DType, DType); 3] =
    [(DType::Q4K, DType::Q5_0), (DType::Q5K, DType::Q5_1), (DType::Q6K, DType::Q8_0)];

/// Compares every tensor with the rule.
pub(super) fn check(measurement: &Measurement, expectation: &Expectation) -> Verdict {
    let scheme = expectation.quantization;
    let expected = match scheme.dtype() {
        None => "no tensor quantized".to_owned(),
        Some(_) if scheme.is_gguf_only() => {
            format!("every tensor in a block type of {scheme} in llama.cpp")
        }
        Some(dtype) if in_place(expectation) => format!("every quantizable tensor in {dtype}"),
        Some(dtype) => format!("every quantizable tensor in {dtype}, within its error"),
    };
    if measurement.load_s.is_none() || measurement.tensors.list.is_empty() {
        return without_evidence(measurement, expected, false);
    }
    let list = &measurement.tensors.list;
    let types = measurement
        .tensors
        .by_type
        .iter()
        .map(|(name, bytes)| format!("{name} {}", format_bytes(*bytes)))
        .collect::<Vec<_>>()
        .join(", ");
    let bits = measurement.tensors.bits_per_weight.map_or(0.0, |bits| bits.get());
    let verdict = Verdict::passed(expected, format!("{types}; {bits:.2} bits per weight"), false);
    let wrong: Vec<String> =
        list.iter().filter_map(|tensor| wrong_tensor(tensor, expectation)).collect();
    let mixed = !in_place(expectation) && list.iter().any(has_blocks_of_file);
    let wrong_bits = mix(scheme).filter(|_| mixed).and_then(|mix| wrong_bits(list, scheme, &mix));
    if let Some(first) = wrong.first().or(wrong_bits.as_ref()) {
        let more = match wrong.len().saturating_sub(1) {
            0 => String::new(),
            n => format!("; and {n} more of {} tensors", list.len()),
        };
        return verdict.failed(
            format!("{first}{more}"),
            "read the list of tensors in the report; for a GGUF file, set `quantization` to the \
             type of the file, or use another file",
        );
    }
    let any_quantized = list.iter().any(|tensor| tensor.dtype.is_quantized());
    if scheme.dtype().is_some() && !any_quantized {
        return verdict.failed(
            format!("no tensor is quantized: {scheme} was requested"),
            "read the reason for each tensor in the report; rows must be multiples of 32, the \
             smallest block size",
        );
    }
    verdict
}

/// Returns whether the weights have no source: then each tensor must have the type of the scheme,
/// and there is no conversion error.
fn in_place(expectation: &Expectation) -> bool {
    expectation.in_place
}

/// Returns whether the blocks of the tensor are those of its file, as for a GGUF file.
fn has_blocks_of_file(tensor: &Tensor) -> bool {
    tensor.dtype.is_quantized() && tensor.source_dtype == tensor.dtype
}

/// Returns the error if the bits per weight are not those of the mix: each tensor may have a type
/// of the mix while the total does not match it.
fn wrong_bits(list: &[Tensor], scheme: Scheme, mix: &Mix) -> Option<String> {
    let sizes = list.iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.bytes));
    let bits = mix.bits_per_weight(sizes)?;
    let (min, max) = mix.bounds;
    (!(min..=max).contains(&bits)).then(|| {
        format!(
            "the matrices of the layers take {bits:.2} bits per weight, expected {min} to {max} \
             for {scheme}"
        )
    })
}

/// The required block type of a tensor.
struct ExpectedType {
    /// The block type.
    dtype: DType,
    /// Why it is not the type of the scheme. `None` if it is.
    reason: Option<String>,
}

/// Returns the required block type of a tensor, or why it must not be quantized.
fn expected_type(
    class: TensorClass,
    tensor: &Tensor,
    scheme: Scheme,
) -> Result<ExpectedType, String> {
    let Some(dtype) = scheme.dtype() else {
        return Err("no quantization was requested".to_owned());
    };
    if class != TensorClass::Matrix {
        return Err(format!("{} tensors are not quantized", class.name()));
    }
    let (block, _) = dtype.block().unwrap_or((1, 1));
    let row = tensor.shape.last().copied().unwrap_or(0);
    if row != 0 && row.is_multiple_of(block) {
        return Ok(ExpectedType { dtype, reason: None });
    }
    let reason = format!(
        "its rows have {row} weights, which is not a multiple of the block size {block} of {dtype}"
    );
    match FALLBACKS.iter().find(|(requested, _)| *requested == dtype) {
        Some((_, fallback)) if row != 0 && row.is_multiple_of(MIN_BLOCK) => {
            Ok(ExpectedType { dtype: fallback.clone(), reason: Some(reason) })
        }
        _ => Err(reason),
    }
}

/// Returns the error of one tensor.
fn wrong_tensor(tensor: &Tensor, expectation: &Expectation) -> Option<String> {
    let Tensor { name, file, dtype, .. } = tensor;
    let scheme = expectation.quantization;
    let class = class(name, &tensor.shape);
    let in_blocks = tensor.shape.last().is_some_and(|row| row.is_multiple_of(MIN_BLOCK));
    let from_file = !in_place(expectation) && (has_blocks_of_file(tensor) || scheme.is_gguf_only());
    let mixed = from_file && class == TensorClass::Matrix && in_blocks;
    let mix = mix(scheme).filter(|_| mixed);
    if let Some(mix) = &mix
        && !mix.permits(name, &tensor.shape, dtype)
    {
        return Some(format!(
            "{name} of {file} is resident in {dtype}, expected {} or another type that {scheme} \
             allows for this tensor",
            mix.bulk(&tensor.shape)
        ));
    }
    match expected_type(class, tensor, scheme) {
        _ if mix.is_some() => {}
        Ok(expected) if *dtype != expected.dtype => {
            let reason = expected.reason.map_or(String::new(), |reason| format!(": {reason}"));
            return Some(format!(
                "{name} of {file} is resident in {dtype}, expected {}{reason}",
                expected.dtype
            ));
        }
        Err(reason) if dtype.is_quantized() => {
            return Some(format!(
                "{name} of {file} is resident in {dtype}, expected unquantized: {reason}"
            ));
        }
        _ => {}
    }
    let elements = tensor.elements();
    if let Some(bytes) = dtype.bytes(elements)
        && bytes != tensor.bytes
    {
        return Some(format!(
            "{name} of {file} takes {} bytes, expected {bytes} for {elements} values in {dtype}",
            tensor.bytes
        ));
    }
    let converted = !in_place(expectation) && dtype.is_quantized() && tensor.source_dtype != *dtype;
    let nmse = tensor.nmse.map(|nmse| match tensor.worst_nmse {
        Some(worst) if worst > nmse => worst,
        _ => nmse,
    });
    match (nmse, error_bound(dtype)) {
        (None, Some(_)) if converted => Some(format!(
            "{name} of {file} was converted to {dtype}, and its quantization error was not \
             measured"
        )),
        (Some(nmse), Some(bound)) if !(0.0..=bound).contains(&nmse.get()) => Some(format!(
            "{name} of {file} differs from its source by a normalized mean squared error of \
             {:.2e}, expected at most {bound:.1e} for {dtype}",
            nmse.get()
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expectation::tests::expectation;
    use crate::check::verdict::Status;
    use crate::measurement::Tensors;
    use modelgate_protocol::{Device, Finite, Role};

    fn tensor(name: &str, shape: &[u64], dtype: DType) -> Tensor {
        let elements = shape.iter().product();
        Tensor {
            name: name.into(),
            file: "model.safetensors".into(),
            shape: shape.to_vec(),
            source_dtype: dtype.clone(),
            bytes: dtype.bytes(elements).expect("complete blocks"),
            dtype,
            device: Device::Cpu,
            nmse: None,
            worst_nmse: None,
            non_finite: 0,
            role: Role::Linear,
            reason: None,
        }
    }

    fn layer(dtype: &DType) -> Vec<Tensor> {
        vec![
            tensor("model.layers.0.self_attn.v_proj.weight", &[256, 512], dtype.clone()),
            tensor("model.layers.0.mlp.down_proj.weight", &[512, 256], dtype.clone()),
            tensor("model.layers.0.input_layernorm.weight", &[512], DType::F32),
        ]
    }

    fn verdict(scheme: &str, in_place: bool, list: Vec<Tensor>) -> Verdict {
        let measurement = Measurement {
            load_s: Finite::new(1.0),
            tensors: Tensors::of(list, Vec::new()),
            ..Measurement::empty()
        };
        check(&measurement, &Expectation { in_place, ..expectation(scheme) })
    }

    #[test]
    fn rows_that_a_fallback_type_divides_must_be_quantized() {
        // the rows of SmolLM2 135M: 576 is a multiple of 32, but not of 256
        let layer = |attention: DType, down: DType| {
            vec![
                tensor("model.layers.0.self_attn.q_proj.weight", &[576, 576], attention),
                tensor("model.layers.0.mlp.down_proj.weight", &[576, 1536], down),
            ]
        };
        for (scheme, base, fallback) in [
            ("q4_k", DType::Q4K, DType::Q5_0),
            ("q5_k", DType::Q5K, DType::Q5_1),
            ("q6_k", DType::Q6K, DType::Q8_0),
        ] {
            let quantized = verdict(scheme, true, layer(fallback.clone(), base.clone()));
            assert_eq!(quantized.status, Status::Passed, "{quantized:?}");
            for float in [DType::F32, DType::Bf16, DType::F16] {
                let expected = format!(
                    "q_proj.weight of model.safetensors is resident in {float}, expected \
                     {fallback}: its rows have 576 weights, which is not a multiple of the block \
                     size 256 of {base}"
                );
                let failed = verdict(scheme, true, layer(float, base.clone()));
                assert!(failed.message.unwrap_or_default().contains(&expected), "{expected}");
            }
            assert_fails(scheme, layer(fallback.clone(), fallback), "down_proj.weight");
        }
        // no block divides rows of 300
        let mut list = self::layer(&DType::Q4K);
        list.push(tensor("model.layers.0.mlp.gate_proj.weight", &[64, 300], DType::F32));
        let verdict = verdict("q4_k", true, list);
        assert_eq!(verdict.status, Status::Passed, "{verdict:?}");
    }

    fn assert_fails(scheme: &str, list: Vec<Tensor>, message_part: &str) {
        let verdict = verdict(scheme, true, list);
        assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
        let message = verdict.message.unwrap_or_default();
        assert!(message.contains(message_part), "expected {message_part:?} in {message}");
    }

    #[test]
    fn weights_made_in_place_have_no_conversion_error() {
        // the source type that the engine reports does not matter
        for source in [DType::Q4K, DType::F32] {
            let mut list = layer(&DType::Q4K);
            list.iter_mut().for_each(|tensor| tensor.source_dtype = source.clone());
            let in_place = verdict("q4_k", true, list.clone());
            assert_eq!(in_place.status, Status::Passed, "{in_place:?}");
            let from_files = verdict("q4_k", false, list);
            let expected = if source == DType::F32 { Status::Failed } else { Status::Passed };
            assert_eq!(
                from_files.status, expected,
                "weights of files have a conversion error: {from_files:?}"
            );
        }
        let plain = verdict("none", true, layer(&DType::Bf16));
        assert_eq!(plain.status, Status::Passed, "{plain:?}");
    }

    #[test]
    fn weights_made_in_place_have_the_type_of_the_scheme() {
        // the q4_0 of llama.cpp has more bits in the values and in the output matrix
        let mut list = layer(&DType::Q4_0);
        list[0] = tensor("model.layers.0.self_attn.v_proj.weight", &[256, 512], DType::Q4_1);
        assert_fails(
            "q4_0",
            list,
            "v_proj.weight of model.safetensors is resident in q4_1, expected q4_0",
        );
        let mut list = layer(&DType::Q4K);
        list[1] = tensor("model.layers.0.mlp.down_proj.weight", &[512, 256], DType::Bf16);
        assert_fails("q4_k", list, "is resident in bf16, expected q4_k");
        assert_fails("none", layer(&DType::Q8_0), "expected unquantized");
        let mut list = layer(&DType::Q8_0);
        list[0].bytes /= 2;
        assert_fails("q8_0", list, "bytes, expected");
    }
}
