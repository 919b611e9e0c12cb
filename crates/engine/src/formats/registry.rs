//! The table of weight file formats.

use super::format::Format;
use super::gguf::GgufFormat;
use super::safetensors::SafetensorsFormat;
use super::synthetic::SyntheticFormat;
use modelgate_protocol::WeightFormat;

/// Returns the implementation of the format `name`. Only this function lists the implementations.
pub(crate) fn format_of(name: WeightFormat) -> &'static dyn Format {
    match name {
        WeightFormat::Safetensors => &SafetensorsFormat,
        WeightFormat::Gguf => &GgufFormat,
        WeightFormat::Synthetic => &SyntheticFormat,
    }
}
