//! `quantization`: every tensor is resident as the scheme says, and its error is its type's own.
//!
//! Silently unquantized layers are the known failure, so every tensor is looked at, and what is
//! looked at is the resident storage as the engine reports it, not a config's word.

use super::{Expectation, Verdict, without_evidence};
use modelgate_model::{Mix, mix, residence};
use modelgate_protocol::{DType, Measurement, Scheme, Tensor};

/// Normalised mean squared error that a block type may have against its source.
///
/// Twice to three times what it has on Gaussian rows, where trained weights lie close to; rows
/// with heavy tails come nearer to the bound. Gaussian figures: q4_0 7.4e-3, q4_k 5.1e-3, q5_k
/// 1.3e-3, q6_k 3.2e-4, q8_0 2.9e-5 (the engine's tests measure them).
fn error_bound(dtype: &DType) -> Option<f64> {
    Some(match dtype {
        DType::Q4_0 => 2.5e-2,
        DType::Q4K => 1.5e-2,
        DType::Q5K => 4e-3,
        DType::Q6K => 1.2e-3,
        DType::Q8_0 => 1.5e-4,
        // rounding to 10 and 7 bits of mantissa; a wider float loses nothing
        DType::F16 => 1e-6,
        DType::Bf16 => 1e-5,
        DType::F32 => 1e-12,
        _ => return None,
    })
}

/// The smallest block of any type: rows that it does not divide cannot be quantized.
const LEAST_BLOCK: u64 = 32;

/// Holds every tensor against the rule.
pub(super) fn check(measurement: &Measurement, expectation: &Expectation) -> Verdict {
    let scheme = expectation.quantization;
    let expected = match scheme.dtype() {
        None => "no tensor quantized".to_owned(),
        Some(_) if scheme.is_gguf_only() => {
            format!("every tensor as llama.cpp's {scheme} has it")
        }
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
        .map(|(name, bytes)| format!("{name} {}", crate::manifest::format_bytes(*bytes)))
        .collect::<Vec<_>>()
        .join(", ");
    let bits = measurement.tensors.bits_per_weight.map_or(0.0, |bits| bits.get());
    let verdict = Verdict::passed(expected, format!("{types}; {bits:.2} bits per weight"), false);
    let wrong: Vec<String> =
        list.iter().filter_map(|tensor| wrong_tensor(tensor, expectation)).collect();
    let mixed = list.iter().any(is_kept);
    let wrong_bits = mix(scheme).filter(|_| mixed).and_then(|mix| wrong_bits(list, scheme, &mix));
    if let Some(first) = wrong.first().or(wrong_bits.as_ref()) {
        let more = match wrong.len().saturating_sub(1) {
            0 => String::new(),
            n => format!("; and {n} more of {} tensors", list.len()),
        };
        return verdict.failed(
            format!("{first}{more}"),
            "the inventory in the report lists every tensor; for a GGUF file ask for the \
             quantization that it was made with, or take another file",
        );
    }
    let touched = list.iter().any(|tensor| tensor.dtype.is_quantized());
    if scheme.dtype().is_some() && !touched {
        return verdict.failed(
            format!("{scheme} was asked for and no tensor could be quantized"),
            "the inventory gives the reason for each; rows must be multiples of the block",
        );
    }
    verdict
}

/// Whether its blocks are those of its file, as a GGUF file's stay.
fn is_kept(tensor: &Tensor) -> bool {
    tensor.dtype.is_quantized() && tensor.source_dtype == tensor.dtype
}

/// What is wrong with the bits per weight of a mix: each tensor may be of a type that the mix has,
/// and all together not be the mix.
fn wrong_bits(list: &[Tensor], scheme: Scheme, mix: &Mix) -> Option<String> {
    let sizes = list.iter().map(|t| (t.name.as_str(), t.shape.as_slice(), t.bytes));
    let bits = mix.bits_per_weight(sizes)?;
    let (least, most) = mix.bounds;
    (!(least..=most).contains(&bits)).then(|| {
        format!(
            "the matrices of the layers take {bits:.2} bits per weight, and those of {scheme} take \
             {least} to {most}"
        )
    })
}

/// What is wrong with one tensor.
fn wrong_tensor(tensor: &Tensor, expectation: &Expectation) -> Option<String> {
    let Tensor { name, file, dtype, .. } = tensor;
    let scheme = expectation.quantization;
    let placed = residence(name, &tensor.shape, scheme);
    let in_blocks = tensor.shape.last().is_some_and(|row| row.is_multiple_of(LEAST_BLOCK));
    let mixed =
        (is_kept(tensor) || scheme.is_gguf_only()) && placed.role.is_quantizable() && in_blocks;
    let mix = mix(scheme).filter(|_| mixed);
    if let Some(mix) = &mix
        && !mix.permits(name, &tensor.shape, dtype)
    {
        return Some(format!(
            "{name} of {file} is resident in {dtype}, expected {} or what else {scheme} has there",
            mix.bulk(&tensor.shape)
        ));
    }
    match &placed.quantized {
        _ if mix.is_some() => {}
        Some(expected) if dtype != expected => {
            return Some(format!("{name} of {file} is resident in {dtype}, expected {expected}"));
        }
        None if dtype.is_quantized() => {
            return Some(format!(
                "{name} of {file} is resident in {dtype}, expected unquantized: {}",
                placed.reason.as_deref().unwrap_or("no quantization was asked for")
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
    let converted = dtype.is_quantized() && tensor.source_dtype != *dtype;
    let nmse = tensor.nmse.map(|nmse| match tensor.worst_nmse {
        Some(worst) if worst > nmse => worst,
        _ => nmse,
    });
    match (nmse, error_bound(dtype)) {
        (None, Some(_)) if converted => Some(format!(
            "{name} of {file} was converted to {dtype} and its error was not measured"
        )),
        (Some(nmse), Some(bound)) if !(0.0..=bound).contains(&nmse.get()) => Some(format!(
            "{name} of {file} differs from its source by a normalised squared error of {:.2e}, \
             and {dtype} gives at most {bound:.1e}",
            nmse.get()
        )),
        _ => None,
    }
}
