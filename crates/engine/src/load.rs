//! From opened files to resident weights: which tensors are needed, which are missing, misshapen
//! or left over, what each is to become, and the inventory of what became of it.

use crate::allocate::allocate;
use crate::fail;
use crate::fill::{Filled, Form, Loading, Target, fill, spoiled};
use crate::gpu::{Gpu, Region};
use crate::meter::Meter;
use crate::model::Events;
use crate::place::Place;
use crate::source::{Source, SourceTensor};
use crate::staging::StagingPool;
use crate::storage::Resident;
use crate::synthetic::{self, BlockRecipe};
use modelgate_model::{
    Config, Family, Placement, TensorShape, float_dtype, gguf_name, residence, tensors,
};
use modelgate_protocol::{
    DType, Event, Failure, FailureKind, Finite, Omitted, Scheme, Stage, Tensor, WeightFormat,
};
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The table of factors on RoPE's frequencies that some GGUF files have.
pub(crate) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Parts of Qwen2.5-Omni that are not text, by how the names of their tensors begin after the
/// prefix of the text model's. The towers will be loaded one day; talker and token2wav speak, which
/// no check asks for.
const OMNI_GROUPS: [(&str, &str); 4] = [
    ("audio_tower.", "audio tower"),
    ("visual.", "vision tower"),
    ("talker.", "talker"),
    ("token2wav.", "token2wav"),
];

/// How many names a message lists.
const NAMES_SHOWN: usize = 3;

/// Resident weights, by their Hugging Face names (and [`ROPE_FACTORS`]).
pub(crate) type Weights = HashMap<String, Resident>;

/// What is to be loaded: every needed tensor beside the one that the files have for it.
pub(crate) struct Plan<'a> {
    source: &'a Source,
    jobs: Vec<Job<'a>>,
    omitted: Vec<Omitted>,
}

/// What becomes of one tensor of the files.
pub(crate) struct Job<'a> {
    /// Names that the decoder asks for: one, or those of all the experts that the tensor holds.
    pub(crate) needed: Vec<String>,
    /// Name in the file.
    pub(crate) name: String,
    pub(crate) tensor: &'a SourceTensor,
    placement: Placement,
    form: Form,
}

impl Job<'_> {
    /// The type that it will have in memory.
    pub(crate) fn dtype(&self) -> &DType {
        match &self.form {
            Form::Float(dtype) | Form::Quantize(dtype) => dtype,
            Form::Keep | Form::Make => &self.tensor.dtype,
        }
    }
}

/// What decides what becomes of a tensor.
#[derive(Clone, Copy)]
struct Rule {
    format: WeightFormat,
    scheme: Scheme,
    on_device: bool,
}

impl<'a> Plan<'a> {
    /// Compares what the config calls for with what the files hold, without reading a weight.
    pub(crate) fn new(
        source: &'a Source,
        config: &Config,
        format: WeightFormat,
        scheme: Scheme,
        on_device: bool,
    ) -> Result<Plan<'a>, Failure> {
        refuse_absurd(source, config)?;
        if format != WeightFormat::Gguf && scheme.is_gguf_only() {
            return Err(mix_of_safetensors(scheme));
        }
        let rule = Rule { format, scheme, on_device };
        let mut jobs: Vec<Job> = Vec::new();
        let mut known: HashMap<String, usize> = HashMap::new();
        for needed in tensors(config) {
            let held = held(source, config, &needed, format);
            match known.get(&held.name) {
                Some(index) => jobs[*index].needed.push(needed.name),
                None => {
                    known.insert(held.name.clone(), jobs.len());
                    jobs.push(job(source, needed.name, held, rule)?);
                }
            }
        }
        // llama.cpp has such a table for these families alone
        let factored = matches!(config.family, Family::Llama | Family::Mixtral);
        let gguf = format == WeightFormat::Gguf;
        if gguf && factored && source.tensors.contains_key(ROPE_FACTORS) {
            let held = TensorShape { name: ROPE_FACTORS.into(), shape: vec![config.head_dim / 2] };
            jobs.push(job(source, ROPE_FACTORS.into(), held, rule)?);
        }
        let omitted = left_over(source, config, &jobs)?;
        Ok(Plan { source, jobs, omitted })
    }

    /// Weights, counted.
    pub(crate) fn parameters(&self) -> u64 {
        let elements = |job: &Job| job.tensor.shape.iter().map(|size| *size as u64).product();
        self.jobs.iter().map(|job| -> u64 { elements(job) }).sum()
    }

    /// Loads everything to `place`, on all cores.
    pub(crate) fn load(&self, place: &Place, events: Events) -> Result<Weights, Failure> {
        for omitted in &self.omitted {
            events(Event::Omitted(omitted.clone()));
        }
        let targets: Vec<Target> = match place {
            Place::Host => self.jobs.iter().map(|_| Target::Host).collect(),
            Place::Gpu(gpu) => allocate(gpu, &self.jobs)?,
        };
        // until the copies are over, also where a tensor fails and its own handles are dropped
        let _held: Vec<Resident> = targets.iter().flat_map(Target::residents).cloned().collect();
        let meter = Meter::new(self.jobs.iter().map(|job| job.tensor.bytes).sum(), events);
        let staging = place.gpu().map(StagingPool::new);
        let loading = Loading { source: self.source, meter: &meter, staging: staging.as_ref() };
        // Threads of its own, whose buffers go when the load is over.
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|number| format!("load-{number}"))
            .build()
            .map_err(|error| fail::load(FailureKind::Internal, error.to_string(), "try again"))?;
        let load = |(job, target): (&Job, Target)| {
            let filled = match (place, &job.form, target) {
                (Place::Gpu(gpu), Form::Make, Target::Device(parts))
                    if job.tensor.dtype != DType::F32 =>
                {
                    make_on_device(gpu, job, parts, &meter)?
                }
                (_, form, target) => fill(&loading, &job.name, job.tensor, form, target)?,
            };
            let file = self.source.file_name(job.tensor);
            events(Event::Tensor(inventory(job, file, &filled)));
            match spoiled(&job.name, file, job.placement.role, &filled) {
                Some(failure) => Err(failure),
                None => Ok(filled.residents),
            }
        };
        let loaded: Result<Vec<_>, Failure> = threads
            .install(|| self.jobs.par_iter().zip(targets).with_max_len(1).map(load).collect());
        let loaded = loaded?;
        if let Some(staging) = staging {
            staging.finish(&meter.copy)?;
        }
        meter.finish(events);
        let mut weights = Weights::new();
        for (job, residents) in self.jobs.iter().zip(loaded) {
            weights.extend(job.needed.iter().cloned().zip(residents));
        }
        Ok(weights)
    }
}

fn mix_of_safetensors(scheme: Scheme) -> Failure {
    let instead = scheme.dtype().map_or("none".to_owned(), |dtype| dtype.to_string());
    let instead = match Scheme::from_name(&instead) {
        Some(uniform) if !uniform.is_gguf_only() => uniform,
        _ => Scheme::Q4K,
    };
    fail::load(
        FailureKind::Unsupported,
        format!("{scheme} is a form of GGUF files; these weights are safetensors files"),
        format!("set quantization = \"{instead}\", or name a GGUF file as the path"),
    )
}

/// The name and shape of the tensor in the files that holds a needed one, by itself or merged with
/// those of the other experts of its layer.
fn held(
    source: &Source,
    config: &Config,
    needed: &TensorShape,
    format: WeightFormat,
) -> TensorShape {
    let gguf = match format {
        WeightFormat::Safetensors | WeightFormat::Synthetic => None,
        WeightFormat::Gguf => gguf_name(&needed.name),
    };
    let Some(gguf) = gguf else { return needed.clone() };
    match (gguf.merged, config.experts) {
        (Some(merged), Some(experts)) if source.tensors.contains_key(&merged) => {
            let shape = [&[experts.count], needed.shape.as_slice()].concat();
            TensorShape { name: merged, shape }
        }
        _ => TensorShape { name: gguf.name, shape: needed.shape.clone() },
    }
}

/// A config of more layers than there are tensors is refused before its tensors are listed.
fn refuse_absurd(source: &Source, config: &Config) -> Result<(), Failure> {
    if config.layers <= source.tensors.len() {
        return Ok(());
    }
    Err(fail::load(
        FailureKind::TensorMissing,
        format!(
            "the config calls for {} layers, but {} hold {} tensors",
            config.layers,
            files(source),
            source.tensors.len()
        ),
        "config and weights are not of the same model: fetch the model again",
    ))
}

fn job<'a>(
    source: &'a Source,
    needed: String,
    held: TensorShape,
    rule: Rule,
) -> Result<Job<'a>, Failure> {
    let TensorShape { name, shape: expected } = held;
    let tensor = source.tensors.get(&name).ok_or_else(|| {
        fail::load(
            FailureKind::TensorMissing,
            format!("tensor {name} of shape {expected:?} is missing; searched {}", files(source)),
            "config and weights are not of the same model, or a file is missing: fetch the model \
             again",
        )
    })?;
    if tensor.shape != expected {
        return Err(fail::load(
            FailureKind::TensorShape,
            format!(
                "tensor {name} in {}: expected shape {expected:?}, found {:?}",
                source.file_name(tensor),
                tensor.shape
            ),
            "config and weights are not of the same model: fetch the model again",
        ));
    }
    let shape: Vec<u64> = tensor.shape.iter().map(|size| *size as u64).collect();
    let placement = residence(&name, &shape, rule.scheme);
    let form = form(source, &name, tensor, &placement, rule)?;
    Ok(Job { needed: vec![needed], name, tensor, placement, form })
}

/// Blocks of a file stay what they are, whatever the scheme says: to quantize them again would
/// hide that the file is not what was asked for.
fn form(
    source: &Source,
    name: &str,
    tensor: &SourceTensor,
    placement: &Placement,
    rule: Rule,
) -> Result<Form, Failure> {
    if rule.format == WeightFormat::Synthetic {
        return Ok(Form::Make);
    }
    if tensor.dtype.block().is_none() {
        return Err(fail::load(
            FailureKind::Unsupported,
            format!(
                "tensor {name} in {} has type {}, which is not supported",
                source.file_name(tensor),
                tensor.dtype
            ),
            "use a checkpoint in bf16, f16 or f32, or a GGUF file",
        ));
    }
    if tensor.dtype.is_quantized() && !placement.role.is_quantizable() {
        return Err(fail::load(
            FailureKind::Unsupported,
            format!(
                "tensor {name} in {} has type {}; a {} tensor is expected to be f32, f16 or bf16",
                source.file_name(tensor),
                tensor.dtype,
                placement.role.name()
            ),
            "use a file that llama.cpp's converter has written",
        ));
    }
    Ok(match (&placement.quantized, rule.format) {
        _ if tensor.dtype.is_quantized() => Form::Keep,
        (Some(dtype), WeightFormat::Safetensors) => Form::Quantize(dtype.clone()),
        _ => Form::Float(float_dtype(placement.role, &tensor.dtype, rule.on_device)),
    })
}

/// Groups of tensors that no job uses and that are known to be harmless. Others are a failure: a
/// model with a part that nobody reads is not the model that was meant.
fn left_over(source: &Source, config: &Config, jobs: &[Job]) -> Result<Vec<Omitted>, Failure> {
    let used: HashSet<&str> = jobs.iter().map(|job| job.name.as_str()).collect();
    let mut groups: BTreeMap<&str, Omitted> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (name, tensor) in source.tensors.iter().filter(|(name, _)| !used.contains(name.as_str())) {
        match harmless(config, name) {
            None => unknown.push((name, tensor)),
            Some(group) => {
                let entry = groups.entry(group).or_insert_with(|| Omitted {
                    group: group.to_owned(),
                    tensors: 0,
                    bytes: 0,
                });
                entry.tensors += 1;
                entry.bytes += tensor.bytes;
            }
        }
    }
    if unknown.is_empty() {
        return Ok(groups.into_values().collect());
    }
    let shown: Vec<String> = unknown
        .iter()
        .take(NAMES_SHOWN)
        .map(|(name, tensor)| format!("{name} in {}", source.file_name(tensor)))
        .collect();
    let more = unknown.len() - shown.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    Err(fail::load(
        FailureKind::TensorLeftOver,
        format!(
            "{} tensors that the architecture does not account for: {}{more}",
            unknown.len(),
            shown.join(", ")
        ),
        "config and weights are not of the same model, or the architecture is a variant that is \
         not supported",
    ))
}

/// What a tensor is that may be left out, if it may.
fn harmless(config: &Config, name: &str) -> Option<&'static str> {
    if config.family == Family::Qwen25Omni
        && let Some((_, group)) = OMNI_GROUPS.iter().find(|(prefix, _)| {
            name.strip_prefix(config.prefix).unwrap_or(name).starts_with(prefix)
        })
    {
        Some(group)
    } else if name.ends_with(".rotary_emb.inv_freq") {
        Some("rotary frequencies, which follow from the config")
    } else if config.tied_embeddings && name == format!("{}lm_head.weight", config.prefix) {
        Some("output matrix, which is tied to the embedding")
    } else {
        None
    }
}

/// Makes the blocks or values of a synthetic tensor where they are to be.
fn make_on_device(
    gpu: &Gpu,
    job: &Job,
    parts: Vec<(Region, Resident)>,
    meter: &Meter,
) -> Result<Filled, Failure> {
    let columns = job.tensor.shape.last().copied().unwrap_or(1);
    let deviation = synthetic::deviation(job.placement.role, columns);
    let seed = synthetic::seed(&job.name);
    let recipe = BlockRecipe::new(&job.tensor.dtype, deviation);
    let mut residents = Vec::new();
    for (region, resident) in parts {
        match &recipe {
            Some(recipe) => gpu.random_blocks(region, recipe, seed),
            None => gpu.random_bf16(region, synthetic::even_scale(deviation), seed),
        }
        .map_err(fail::internal(Stage::Load))?;
        meter.advance(region.bytes);
        residents.push(resident);
    }
    Ok(Filled::made(residents))
}

fn inventory(job: &Job, file: &str, filled: &Filled) -> Tensor {
    let first = filled.residents.first();
    Tensor {
        name: job.name.clone(),
        file: file.to_owned(),
        shape: job.tensor.shape.iter().map(|size| *size as u64).collect(),
        source_dtype: job.tensor.dtype.clone(),
        dtype: first.map_or(DType::Other("none".into()), Resident::dtype),
        bytes: filled.residents.iter().map(Resident::bytes).sum(),
        device: first.map_or_else(String::new, Resident::device),
        nmse: filled.nmse.and_then(Finite::new),
        worst_nmse: filled.worst_nmse.and_then(Finite::new),
        nonfinite: filled.nonfinite,
        rule: job.placement.role.name().to_owned(),
        reason: job.placement.reason.clone(),
    }
}

/// The names of all files, or the first few of many.
fn files(source: &Source) -> String {
    let names = source.file_names();
    match names.len() {
        0..=NAMES_SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..NAMES_SHOWN].join(", "), count - NAMES_SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_tensor_of_the_omni_checkpoint_is_needed_or_known() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let read = |path: &str| std::fs::read_to_string(fixtures.join(path)).expect(path);
        let config = Config::from_json(&read("configs/qwen2.5-omni-7b/config.json"));
        let config = config.expect("a config");
        let golden: serde_json::Value =
            serde_json::from_str(&read("golden/tensors/qwen2.5-omni-7b.json")).expect("JSON");
        let list = golden.get("tensors").unwrap_or(&golden).as_object().expect("names");
        let needed: HashSet<String> = tensors(&config).into_iter().map(|t| t.name).collect();
        let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
        for name in list.keys().filter(|name| !needed.contains(*name)) {
            let group = harmless(&config, name).unwrap_or_else(|| panic!("{name} is left over"));
            *groups.entry(group).or_default() += 1;
        }
        assert_eq!(groups.len(), OMNI_GROUPS.len(), "{groups:?}");
        assert_eq!(harmless(&config, "thinker.model.extra.weight"), None);
        assert_eq!(harmless(&config, "thinker.other_tower.weight"), None);
    }
}
