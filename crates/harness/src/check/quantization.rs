//! `quantization`: every tensor is resident in the block type of the scheme, its error is typical of
//! that type, and the bits per weight are those of the scheme.
//!
//! Layers that silently stay unquantized are a known failure. The check therefore inspects the
//! resident storage of every tensor that the engine reports, not a config. It takes shapes and
//! source types from the headers of the files, which the harness reads independently of the engine,
//! and uses neither the rule nor the fallback types of the loader.

use super::block_types::{MIN_BLOCK, bits, for_rows, max_bits, max_error};
use super::expectation::Expectation;
use super::mix::{self, Mix};
use super::resident::{Resident, resident};
use super::tensor_class::TensorClass;
use super::verdict::{Verdict, without_evidence};
use crate::measurement::{Headers, Measurement};
use modelgate_model::units::format_bytes;
use modelgate_protocol::{DType, Scheme};
use std::collections::BTreeMap;

/// The minimum fraction of the weights in matrices that must be quantized: with less, the requested
/// quantization is not in effect, even if no block divides the rows of the other matrices.
const MIN_QUANTIZED: f64 = 0.5;

/// Compares every tensor, and the sum of all matrices, with the scheme.
pub(super) fn check(measurement: &Measurement, expectation: &Expectation) -> Verdict {
    let scheme = expectation.quantization;
    let expected = expected(expectation);
    if measurement.load_s.is_none() || measurement.tensors.list.is_empty() {
        return without_evidence(measurement, expected, false);
    }
    let verdict = Verdict::passed(expected, by_type(measurement), false);
    let list = match resident(measurement, expectation.in_place) {
        Ok(list) => list,
        Err(message) => return verdict.failed(message, ENGINE_DEFECT_HINT),
    };
    let rule = Rule::new(&list, scheme);
    let matrices = Matrices::of(&list);
    let mut observed = format!("{}; {}", verdict.observed, matrices.describe(&rule));
    let in_metadata = scheme_in_metadata(measurement).filter(|other| *other != scheme);
    if let Some(other) = in_metadata {
        observed += &format!("; the metadata of the file name {other}");
    }
    let verdict = Verdict { observed, ..verdict };
    let wrong: Vec<String> = list.iter().filter_map(|item| rule.wrong_tensor(item)).collect();
    if let Some(first) = wrong.first() {
        let more = match wrong.len() - 1 {
            0 => String::new(),
            n => format!("; and {n} more of {} tensors", list.len()),
        };
        return verdict.failed(format!("{first}{more}"), hint(in_metadata, &rule));
    }
    match rule.wrong_total(&list, &matrices) {
        None => verdict,
        Some(message) => verdict.failed(message, hint(in_metadata, &rule)),
    }
}

const ENGINE_DEFECT_HINT: &str = "report this defect of the engine: its tensors are not those in \
                                  the headers of the weight files";

fn expected(expectation: &Expectation) -> String {
    let scheme = expectation.quantization;
    match scheme.dtype() {
        None => "no tensor quantized".to_owned(),
        Some(_) if scheme.is_gguf_only() => {
            format!("every matrix in a block type of {scheme} in llama.cpp")
        }
        Some(dtype) => {
            let bits = max_bits(scheme)
                .map_or(String::new(), |bits| format!(", at most {bits} bits per weight"));
            let error = if expectation.in_place { "" } else { ", within its error" };
            format!("every quantizable tensor in {dtype}{error}{bits}")
        }
    }
}

/// Returns the resident bytes of each type as text.
fn by_type(measurement: &Measurement) -> String {
    let by_type = measurement.tensors.by_type.iter();
    let types: Vec<String> =
        by_type.map(|(name, bytes)| format!("{name} {}", format_bytes(*bytes))).collect();
    types.join(", ")
}

/// Returns the scheme that the metadata of a GGUF file name (`general.file_type`).
fn scheme_in_metadata(measurement: &Measurement) -> Option<Scheme> {
    match &measurement.headers {
        Some(Headers::Read { file_type, .. }) => file_type.and_then(mix::scheme_of_file_type),
        Some(Headers::Unreadable { .. }) | None => None,
    }
}

/// Returns how to fix a wrong type. `in_metadata` is the scheme that the metadata of the file name,
/// if it is not the requested one.
fn hint(in_metadata: Option<Scheme>, rule: &Rule) -> String {
    let scheme = rule.scheme;
    match in_metadata {
        Some(other) => format!(
            "set `quantization = \"{other}\"`, the type in the metadata of the file \
             (`general.file_type`); or use a file in {scheme}"
        ),
        None if rule.from_blocks => format!(
            "read the list of tensors in the report; set `quantization` to the type of the file; or \
             use a file in {scheme}"
        ),
        None => "read the list of tensors in the report".to_owned(),
    }
}

/// The expected types of one model.
struct Rule {
    scheme: Scheme,
    /// Whether the files contain blocks of quantized values.
    from_blocks: bool,
    /// The mix of llama.cpp, if the files contain its blocks.
    mix: Option<Mix>,
}

/// The expected type of a tensor.
enum ExpectedType {
    /// One of these types, and why it is not the type of the scheme.
    Quantized(Vec<DType>, Option<String>),
    /// Not quantized, and the reason.
    Unquantized(String),
}

impl Rule {
    fn new(list: &[Resident<'_>], scheme: Scheme) -> Rule {
        let from_blocks = list.iter().any(Resident::has_blocks_in_file);
        let tensors = list.iter().map(|item| (item.tensor.name.as_str(), item.shape));
        let mix = Mix::new(scheme, tensors).filter(|_| from_blocks || scheme.is_gguf_only());
        Rule { scheme, from_blocks, mix }
    }

    /// Returns the expected type of a tensor.
    fn expected_type(&self, item: &Resident<'_>) -> ExpectedType {
        let Some(dtype) = self.scheme.dtype() else {
            return ExpectedType::Unquantized("no quantization was requested".to_owned());
        };
        if item.class != TensorClass::Matrix {
            let reason = format!("{} tensors are not quantized", item.class.name());
            return ExpectedType::Unquantized(reason);
        }
        let row = item.row();
        let types = match &self.mix {
            Some(mix) => mix.types(&item.tensor.name, row),
            None => for_rows(&dtype, row).into_iter().collect(),
        };
        if types.is_empty() {
            return ExpectedType::Unquantized(not_divisible(row, MIN_BLOCK, "of any type"));
        }
        let (block, _) = dtype.block().unwrap_or((1, 1));
        let reason =
            (!row.is_multiple_of(block)).then(|| not_divisible(row, block, &format!("of {dtype}")));
        ExpectedType::Quantized(types, reason)
    }

    /// Returns the error of one tensor.
    fn wrong_tensor(&self, item: &Resident<'_>) -> Option<String> {
        let tensor = item.tensor;
        let dtype = &tensor.dtype;
        let wrong = |detail: String| {
            let (name, file) = (&tensor.name, &tensor.file);
            Some(format!("{name} of {file} {detail}"))
        };
        match self.expected_type(item) {
            ExpectedType::Quantized(types, reason) if !types.contains(dtype) => {
                let names: Vec<&str> = types.iter().map(DType::name).collect();
                let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
                return wrong(format!(
                    "is resident in {dtype}, expected {}{reason}",
                    names.join(" or ")
                ));
            }
            ExpectedType::Unquantized(reason) if dtype.is_quantized() => {
                return wrong(format!("is resident in {dtype}, expected unquantized: {reason}"));
            }
            _ => {}
        }
        let weights = item.weights();
        if dtype.bytes(weights) != Some(tensor.bytes) {
            let expected =
                dtype.bytes(weights).map_or("complete blocks".to_owned(), |n| format!("{n} bytes"));
            return wrong(format!(
                "takes {} bytes, expected {expected} for {weights} values in {dtype}",
                tensor.bytes
            ));
        }
        // converting to f32 loses nothing
        let converted = item.source.is_some_and(|source| source != dtype && *dtype != DType::F32);
        if converted && (tensor.nmse.is_none() || max_error(dtype).is_none()) {
            return wrong(format!(
                "was converted to {dtype}, and its quantization error was not measured"
            ));
        }
        let errors = [tensor.nmse, tensor.worst_nmse].into_iter().flatten();
        let max = max_error(dtype)?;
        let error = errors.map(|error| error.get()).find(|error| !(0.0..=max).contains(error))?;
        wrong(format!(
            "differs from its source by a normalized mean squared error of {error:.2e}, expected at \
             most {max:.1e} for {dtype}"
        ))
    }

    /// Returns the error of the sum of all matrices: each tensor may have an allowed type while the
    /// total does not match the scheme.
    fn wrong_total(&self, list: &[Resident<'_>], matrices: &Matrices) -> Option<String> {
        let scheme = self.scheme;
        scheme.dtype()?;
        let quantized = matrices.quantized.weights as f64 / matrices.all.weights.max(1) as f64;
        if quantized < MIN_QUANTIZED {
            return Some(format!(
                "only {:.0}% of the weights in matrices are quantized, expected at least {:.0}% for \
                 {scheme}: no block divides the rows of the others",
                100.0 * quantized,
                100.0 * MIN_QUANTIZED
            ));
        }
        if let Some(mix) = &self.mix {
            let in_layers = |item: &&Resident<'_>| {
                item.class == TensorClass::Matrix && mix::is_in_layer(&item.tensor.name)
            };
            let layers = list.iter().filter(in_layers);
            let quantized = layers.clone().filter(|item| item.tensor.dtype.is_quantized());
            let bits = Total::of(quantized).bits();
            let (min, max) = mix.bounds(layers.map(|item| (item.tensor.name.as_str(), item.shape)));
            return (!(min..=max).contains(&bits)).then(|| {
                format!(
                    "the matrices of the layers take {bits:.2} bits per weight, expected {min:.2} \
                     to {max:.2} for {scheme}"
                )
            });
        }
        let (bits, max) = (matrices.quantized.bits(), max_bits(scheme)?);
        (bits > max).then(|| {
            format!(
                "the matrices take {bits:.2} bits per weight, expected at most {max} for {scheme}"
            )
        })
    }
}

fn not_divisible(row: u64, block: u64, of: &str) -> String {
    format!("its rows have {row} weights, which is not a multiple of the block size {block} {of}")
}

/// The weights and the resident bytes of a group of tensors.
#[derive(Debug, Clone, Copy, Default)]
struct Total {
    weights: u64,
    bytes: u64,
}

impl Total {
    fn of<'a>(list: impl Iterator<Item = &'a Resident<'a>>) -> Total {
        list.fold(Total::default(), |total, item| Total {
            weights: total.weights.saturating_add(item.weights()),
            bytes: total.bytes.saturating_add(item.tensor.bytes),
        })
    }

    fn bits(self) -> f64 {
        self.bytes as f64 * 8.0 / self.weights.max(1) as f64
    }
}

/// The matrices of a model: attention, feed-forward, experts, embedding and output.
struct Matrices {
    count: usize,
    all: Total,
    quantized: Total,
    /// The number of matrices of each type and length of rows.
    groups: BTreeMap<(DType, u64), usize>,
}

impl Matrices {
    fn of(list: &[Resident<'_>]) -> Matrices {
        let is_matrix = |item: &&Resident<'_>| item.class == TensorClass::Matrix;
        let mut groups = BTreeMap::new();
        let mut count = 0;
        for item in list.iter().filter(is_matrix) {
            *groups.entry((item.tensor.dtype.clone(), item.row())).or_default() += 1;
            count += 1;
        }
        let quantized =
            list.iter().filter(is_matrix).filter(|item| item.tensor.dtype.is_quantized());
        Matrices {
            count,
            all: Total::of(list.iter().filter(is_matrix)),
            quantized: Total::of(quantized),
            groups,
        }
    }

    /// Returns the bits per weight as text, with the reason for each group of matrices that has
    /// more bits than the type of the scheme.
    fn describe(&self, rule: &Rule) -> String {
        let mut text = format!("{:.2} bits per weight in {} matrices", self.all.bits(), self.count);
        let Some(base) = rule.scheme.dtype().filter(|_| rule.mix.is_none()) else { return text };
        for ((dtype, row), count) in &self.groups {
            let (block, _) = base.block().unwrap_or((1, 1));
            let block = if dtype.is_quantized() { block } else { MIN_BLOCK };
            if bits(dtype) > bits(&base) && !row.is_multiple_of(block) {
                text += &format!(
                    "; {count} in {dtype}, because {block} does not divide their rows of {row}"
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::expectation::tests::expectation;
    use crate::check::verdict::Status;
    use crate::measurement::{HeaderTensor, Tensors};
    use modelgate_protocol::{Device, Finite, Role, Tensor};

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

    /// Returns a tensor that was converted from bf16 with an error of `nmse`.
    fn converted(name: &str, shape: &[u64], dtype: DType, nmse: f64) -> Tensor {
        Tensor { source_dtype: DType::Bf16, nmse: Finite::new(nmse), ..tensor(name, shape, dtype) }
    }

    fn layer(dtype: &DType) -> Vec<Tensor> {
        vec![
            tensor("model.layers.0.self_attn.v_proj.weight", &[256, 512], dtype.clone()),
            tensor("model.layers.0.mlp.down_proj.weight", &[512, 256], dtype.clone()),
            tensor("model.layers.0.input_layernorm.weight", &[512], DType::F32),
        ]
    }

    fn header(tensor: &Tensor) -> HeaderTensor {
        HeaderTensor {
            name: tensor.name.clone(),
            file: tensor.file.clone(),
            shape: tensor.shape.clone(),
            dtype: tensor.source_dtype.clone(),
        }
    }

    fn verdict_with(
        scheme: &str,
        in_place: bool,
        list: Vec<Tensor>,
        headers: Option<Headers>,
    ) -> Verdict {
        let measurement = Measurement {
            load_s: Finite::new(1.0),
            tensors: Tensors::of(list, Vec::new()),
            headers,
            ..Measurement::empty()
        };
        check(&measurement, &Expectation { in_place, ..expectation(scheme) })
    }

    /// Returns the verdict on tensors whose files agree with them.
    fn verdict(scheme: &str, in_place: bool, list: Vec<Tensor>) -> Verdict {
        let headers = match in_place {
            true => None,
            false => {
                Some(Headers::Read { tensors: list.iter().map(header).collect(), file_type: None })
            }
        };
        verdict_with(scheme, in_place, list, headers)
    }

    fn assert_message(verdict: &Verdict, message_part: &str) {
        assert_eq!(verdict.status, Status::Failed, "{verdict:?}");
        let message = verdict.message.clone().unwrap_or_default();
        assert!(message.contains(message_part), "expected {message_part:?} in {message}");
    }

    fn assert_fails(scheme: &str, list: Vec<Tensor>, message_part: &str) {
        assert_message(&verdict(scheme, true, list), message_part);
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
        for (scheme, base, fallback, bits) in [
            ("q4_k", DType::Q4K, DType::Q5_0, "4.77"),
            ("q5_k", DType::Q5K, DType::Q5_1, "5.64"),
            ("q6_k", DType::Q6K, DType::Q8_0, "7.09"),
        ] {
            let quantized = verdict(scheme, true, layer(fallback.clone(), base.clone()));
            assert_eq!(quantized.status, Status::Passed, "{quantized:?}");
            let reason = format!(
                "{bits} bits per weight in 2 matrices; 1 in {fallback}, because 256 does not divide \
                 their rows of 576"
            );
            assert!(quantized.observed.ends_with(&reason), "{reason}: {}", quantized.observed);
            for float in [DType::F32, DType::Bf16, DType::F16] {
                let expected = format!(
                    "q_proj.weight of model.safetensors is resident in {float}, expected \
                     {fallback}: its rows have 576 weights, which is not a multiple of the block \
                     size 256 of {base}"
                );
                assert_fails(scheme, layer(float, base.clone()), &expected);
            }
            assert_fails(scheme, layer(fallback.clone(), fallback), "down_proj.weight");
        }
    }

    #[test]
    fn rows_that_no_block_divides_stay_unquantized_with_a_reason() {
        let with_odd = |rows: u64| {
            let mut list = layer(&DType::Q4K);
            list.push(tensor("model.layers.0.mlp.gate_proj.weight", &[rows, 300], DType::F32));
            verdict("q4_k", true, list)
        };
        let few = with_odd(64);
        assert_eq!(few.status, Status::Passed, "{few:?}");
        let reason = "; 1 in f32, because 32 does not divide their rows of 300";
        assert!(few.observed.ends_with(reason), "{}", few.observed);
        // the two other matrices have 262,144 weights
        assert_eq!(with_odd(873).status, Status::Passed);
        assert_message(&with_odd(874), "only 50% of the weights in matrices are quantized");
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

    #[test]
    fn weights_converted_during_the_load_are_not_judged_as_a_mix() {
        // in a GGUF file of llama.cpp, this matrix may be in q4_1, and the output matrix in q6_k
        for (name, dtype) in [("blk.0.ffn_down.weight", DType::Q4_1), ("output.weight", DType::Q6K)]
        {
            let list = vec![
                converted("blk.0.ffn_up.weight", &[512, 256], DType::Q4_0, 1e-3),
                converted(name, &[512, 256], dtype.clone(), 1e-4),
            ];
            let message =
                format!("{name} of model.safetensors is resident in {dtype}, expected q4_0");
            assert_message(&verdict("q4_0", false, list), &message);
        }
    }

    #[test]
    fn each_error_has_the_bound_of_its_type() {
        let verdict = |scheme: &str, dtype: &DType, nmse: Option<f64>, worst: Option<f64>| {
            let row = if matches!(dtype, DType::Q5_0 | DType::Q5_1) { 576 } else { 512 };
            let converted = Tensor {
                nmse: nmse.and_then(Finite::new),
                worst_nmse: worst.and_then(Finite::new),
                source_dtype: DType::F32,
                ..tensor("model.layers.0.mlp.up_proj.weight", &[64, row], dtype.clone())
            };
            super::tests::verdict(scheme, false, vec![converted])
        };
        for (scheme, dtype, bound) in [
            ("q4_0", DType::Q4_0, 2.5e-2),
            ("q4_k", DType::Q4K, 1.5e-2),
            ("q4_k", DType::Q5_0, 6e-3),
            ("q5_k", DType::Q5K, 4e-3),
            ("q5_k", DType::Q5_1, 6e-3),
            ("q6_k", DType::Q6K, 1.2e-3),
            ("q8_0", DType::Q8_0, 1.5e-4),
            ("none", DType::F16, 1e-6),
            ("none", DType::Bf16, 1e-5),
        ] {
            for error in [0.0, bound] {
                let passed = verdict(scheme, &dtype, Some(error), Some(error));
                assert_eq!(passed.status, Status::Passed, "{dtype} {error}: {passed:?}");
            }
            let above = bound * 1.001;
            for (nmse, worst) in [
                (Some(above), None),
                (Some(0.0), Some(above)),
                (None, Some(above)),
                (Some(-1e-9), None),
                (None, None),
            ] {
                let failed = verdict(scheme, &dtype, nmse, worst);
                assert_eq!(failed.status, Status::Failed, "{dtype} {nmse:?} {worst:?}");
            }
        }
        // widening to f32 loses nothing, so that an error is a defect
        let widened = |nmse| {
            vec![converted("model.layers.0.mlp.up_proj.weight", &[64, 64], DType::F32, nmse)]
        };
        assert_eq!(super::tests::verdict("none", false, widened(0.0)).status, Status::Passed);
        assert_message(
            &super::tests::verdict("none", false, widened(1e-11)),
            "differs from its source",
        );
    }

    #[test]
    fn resident_tensors_that_differ_from_the_headers_fail() {
        let list = layer(&DType::Q8_0);
        let headers = |change: &dyn Fn(&mut Vec<HeaderTensor>)| {
            let mut tensors = list.iter().map(header).collect();
            change(&mut tensors);
            verdict_with(
                "q8_0",
                false,
                list.clone(),
                Some(Headers::Read { tensors, file_type: None }),
            )
        };
        assert_eq!(headers(&|_| {}).status, Status::Passed);
        assert_message(
            &headers(&|tensors| tensors[1].shape = vec![512, 512]),
            "down_proj.weight has shape [512, 512] in the header of model.safetensors, but the \
             worker reports [512, 256]",
        );
        assert_message(
            &headers(&|tensors| tensors[1].dtype = DType::Bf16),
            "has type bf16 in the header of model.safetensors, but the worker reports q8_0",
        );
        assert_message(
            &headers(&|tensors| tensors[1].name = "other".into()),
            "no weight file contains the resident tensor model.layers.0.mlp.down_proj.weight",
        );
        assert_message(&verdict_with("q8_0", false, list.clone(), None), "were not read");
        let unreadable = Some(Headers::Unreadable { message: "a.gguf: not GGUF".into() });
        assert_message(&verdict_with("q8_0", false, list.clone(), unreadable), "a.gguf: not GGUF");
    }

    #[test]
    fn the_scheme_in_the_metadata_of_a_file_is_reported() {
        // the only matrix of its kind with more bits, as the last layer of every q4_k_m file
        let list = vec![
            tensor("blk.0.ffn_up.weight", &[512, 256], DType::Q4K),
            tensor("blk.0.ffn_down.weight", &[256, 512], DType::Q6K),
            tensor("blk.0.attn_q.weight", &[1024, 256], DType::Q4K),
        ];
        let verdict = |scheme: &str, file_type: Option<u64>| {
            let tensors = list.iter().map(header).collect();
            verdict_with(scheme, false, list.clone(), Some(Headers::Read { tensors, file_type }))
        };
        let failed = verdict("q4_k_s", Some(15));
        assert_message(
            &failed,
            "blk.0.ffn_down.weight of model.safetensors is resident in q6_k, expected q4_k",
        );
        assert!(failed.hint.unwrap_or_default().starts_with("set `quantization = \"q4_k_m\"`"));
        for (file_type, note) in [(None, false), (Some(15), false), (Some(14), true)] {
            let passed = verdict("q4_k_m", file_type);
            assert_eq!(passed.status, Status::Passed, "{passed:?}");
            let named = passed.observed.ends_with("; the metadata of the file name q4_k_s");
            assert_eq!(named, note, "{}", passed.observed);
        }
        assert_message(&verdict("q5_k_m", None), "is resident in q4_k, expected q5_k");
    }

    /// The content of `fixtures/golden/mixes.json`.
    #[derive(serde::Deserialize)]
    struct GoldenMixes {
        models: Vec<GoldenModel>,
    }

    #[derive(serde::Deserialize)]
    struct GoldenModel {
        name: String,
        /// The names and shapes of the matrices, rows first.
        matrices: Vec<(String, Vec<u64>)>,
        files: Vec<GoldenFile>,
    }

    #[derive(serde::Deserialize)]
    struct GoldenFile {
        scheme: String,
        file_type: u64,
        /// Whether an importance matrix was used.
        importance: bool,
        /// The types of the matrices in the order of the model.
        types: Vec<DType>,
    }

    #[test]
    fn a_file_of_llama_cpp_passes_only_as_its_own_scheme() {
        let path = modelgate_testkit::workers::fixture("golden/mixes.json");
        let text = std::fs::read_to_string(path).expect("the golden data");
        let golden: GoldenMixes = serde_json::from_str(&text).expect("valid golden data");
        let (mut compared, mut equal) = (0, 0);
        for (model, file) in
            golden.models.iter().flat_map(|model| model.files.iter().map(move |file| (model, file)))
        {
            let matrices = model.matrices.iter().zip(&file.types);
            let list: Vec<Tensor> =
                matrices.map(|((name, shape), dtype)| tensor(name, shape, dtype.clone())).collect();
            for scheme in Scheme::all().filter(|scheme| *scheme != Scheme::None) {
                let tensors = list.iter().map(header).collect();
                let headers = Some(Headers::Read { tensors, file_type: Some(file.file_type) });
                let verdict = verdict_with(scheme.name(), false, list.clone(), headers);
                // with rows of 576, q2_k and q3_k_s have the same types
                let is_own = scheme.name() == file.scheme;
                let is_equal = model
                    .files
                    .iter()
                    .any(|other| other.scheme == scheme.name() && other.types == file.types);
                assert_eq!(
                    verdict.status == Status::Passed,
                    is_own || is_equal,
                    "{}: {} (importance matrix: {}) as {scheme}: {verdict:?}",
                    model.name,
                    file.scheme,
                    file.importance
                );
                let named = format!("set `quantization = \"{}\"`", file.scheme);
                if is_equal {
                    equal += 1;
                } else {
                    assert!(verdict.hint.unwrap_or_default().starts_with(&named));
                }
                compared += 1;
            }
        }
        assert_eq!((compared, equal), (6 * 29 * 17, 6 * 29 + 4));
    }
}
