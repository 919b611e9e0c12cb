//! The table of formats.

use super::format::Format;
use super::gguf::GgufFormat;
use super::safetensors::SafetensorsFormat;
use super::synthetic::SyntheticFormat;
use modelgate_protocol::WeightFormat;

/// Returns the format of that name. The only place that lists formats.
pub(crate) fn format_of(name: WeightFormat) -> &'static dyn Format {
    match name {
        WeightFormat::Safetensors => &SafetensorsFormat,
        WeightFormat::Gguf => &GgufFormat,
        WeightFormat::Synthetic => &SyntheticFormat,
    }
}
