//! Loads a model from the files of a request.

use super::loaded::Model;
use super::rope_frequencies::rope_frequencies;
use super::stop_tokens::{StopTokens, stop_tokens};
use crate::agreement::FirstLayers;
use crate::compute_device::ComputeDevice;
use crate::decoder::{CacheError, Decoder, KvCache};
use crate::events::Events;
use crate::failures;
use crate::formats::format_of;
use crate::load::Plan;
use crate::text::ModelText;
use crate::traffic::Traffic;
use modelgate_model::Config;
use modelgate_protocol::{Event, Evidence, Failure, FailureKind, Request, Stage};

/// The maximum number of tokens for which candle uses its kernels for vectors.
const MAX_VECTORS: usize = 8;

impl Model {
    /// Loads the model of `request` to the first device of the request, and sends an event for
    /// every tensor. Does not check the protocol version, and generates nothing.
    ///
    /// # Errors
    /// The failure names the file, the tensor, and the expected and the found value.
    pub fn load(request: &Request, events: Events) -> Result<Model, Failure> {
        let device = ComputeDevice::open(&request.devices, request.device_limit)?;
        if let Some(gpu) = device.gpu() {
            gpu.load_kernels()?;
        }
        Model::load_to(&device, request, events)
    }

    /// Loads the model of `request` to an open device.
    ///
    /// # Errors
    /// See [`Model::load`].
    pub(crate) fn load_to(
        device: &ComputeDevice,
        request: &Request,
        events: Events,
    ) -> Result<Model, Failure> {
        let files = &request.files;
        let on_device = device.gpu().is_some();
        let format = format_of(files.format);
        let mut opened = format.open(files, request.quantization, on_device)?;
        let embedded = opened.embedded_text.take();
        let config = opened.config.clone();
        let context = request.context.unwrap_or_else(|| config.default_context());
        check_context(context, &config)?;
        let text = match request.evidence {
            Evidence::Real => {
                // a missing template is reported before the weights are loaded, which may take half
                // an hour
                let chats =
                    request.generations.iter().any(|generation| generation.tokens.is_empty());
                Some(ModelText::open(files, embedded.as_deref(), &config, chats)?)
            }
            Evidence::Synthetic => None,
        };
        let stop_tokens = match request.evidence {
            Evidence::Real => {
                let StopTokens { ids, note } =
                    stop_tokens(files.generation_config.as_deref(), &config)?;
                let of_tokenizer = text.as_ref().and_then(|text| text.other_stop(files, &ids));
                let of_text = embedded.filter(|_| files.tokenizer.is_none());
                let of_text = of_text.and_then(|embedded| embedded.note());
                for text in [note, of_tokenizer, of_text].into_iter().flatten() {
                    events(Event::Note { text });
                }
                ids
            }
            // random weights may generate a stop token by chance, which would end an answer early
            // and change its measured duration
            Evidence::Synthetic => Vec::new(),
        };
        let plan = Plan::new(format, &opened, request.quantization, on_device)?;
        events(Event::Model {
            architecture: opened.architecture.clone(),
            parameters: plan.parameters(),
            context,
            config: opened.config_json.clone(),
            parts: vec!["text".into()],
            devices: request.devices.iter().take(1).copied().collect(),
        });
        let positions = context as usize;
        // memory that cannot be allocated is reported before the weights are read
        let cache = kv_cache(&config, positions, device)?;
        let mut weights = plan.load(device, events)?;
        let layout = opened.rope_layout;
        let frequencies = rope_frequencies(&config, &mut weights)?;
        let prefix = (on_device && request.evidence == Evidence::Synthetic)
            .then(|| FirstLayers::of(&config, &weights, &frequencies, layout));
        let traffic = Traffic::of(&config, &weights, on_device);
        let mut decoder = Decoder::new(&config, weights, &frequencies, layout, cache)
            .map_err(failures::internal(Stage::Load))?;
        if let Some(gpu) = device.gpu() {
            // candle's workspace for vectors needs its full size before a step is recorded
            decoder
                .warm_up(MAX_VECTORS.min(positions), &|_| {})
                .and_then(|hidden| decoder.logits(&hidden))
                .map_err(failures::internal(Stage::Load))?;
            decoder.reset();
            gpu.synchronize(Stage::Load)?;
            events(Event::DeviceMemory(gpu.memory(Stage::Load)?));
        }
        events(Event::Loaded);
        Ok(Model { config, decoder, text, stop_tokens, prefix, traffic, device: device.clone() })
    }
}

/// Checks that `context` is between 1 and the number of positions that the model supports.
fn check_context(context: u32, config: &Config) -> Result<(), Failure> {
    if context == 0 || context as usize > config.max_positions {
        return Err(failures::load(
            FailureKind::ContextLength,
            format!(
                "context: expected 1 to {} positions, the maximum of the model, found {context}",
                config.max_positions
            ),
            format!("set `context` to at most {}", config.max_positions),
        ));
    }
    Ok(())
}

fn kv_cache(config: &Config, positions: usize, device: &ComputeDevice) -> Result<KvCache, Failure> {
    KvCache::new(config, positions, &device.candle()).map_err(|error| match error {
        CacheError::Memory(bytes) => {
            failures::host_memory(bytes, &format!("a KV cache of {positions} positions"))
        }
        CacheError::Engine(error) => failures::internal(Stage::Load)(error),
    })
}
