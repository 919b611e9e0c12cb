//! Resolves the expectations of a model: ranges with a bound that a load can meet.

use super::model::{DeviceChoice, Expect, LoadTime, Model, PerplexityBound, Source, WeightOrigin};
use super::read::{RawExpect, RawRange, Spanned};
use super::resolver::{Resolver, Result};
use crate::admission::{self, ByteRange, LoadSpec, MemoryBounds};
use crate::embedded::known;
use modelgate_model::units::parse_bytes;
use modelgate_protocol::Device;
use std::ops::Range;

impl Resolver<'_> {
    /// Validates the expectations of `model`.
    pub(super) fn expect(&self, model: &Model, raw: RawExpect) -> Result<Expect> {
        let load_time = match raw.load_time {
            None => LoadTime::default(),
            Some(raw) => {
                let cached = self.duration(raw.cached.as_ref())?;
                let first = self.duration(raw.first.as_ref())?;
                if let (Some(cached), Some(first), Some(key)) = (cached, first, &raw.first)
                    && first < cached
                {
                    return self.error(
                        key.span(),
                        "load_time.first is shorter than load_time.cached",
                        "set `first` to the time of the download and the load, and `cached` to the \
                         time of the load alone",
                    );
                }
                LoadTime { cached, first }
            }
        };
        let vram_span = raw.vram.as_ref().map(Spanned::span);
        let ram_span = raw.ram.as_ref().map(Spanned::span);
        let perplexity = match raw.perplexity {
            None => PerplexityBound::default(),
            Some(raw) => {
                let raw = raw.into_inner();
                if let Some(max) = &raw.max
                    && (!max.get_ref().is_finite() || *max.get_ref() <= 1.0)
                {
                    return self.error(
                        max.span(),
                        format!("perplexity.max is {}, expected more than 1", max.get_ref()),
                        "set `max` to more than 1: a perfect prediction has a perplexity of 1",
                    );
                }
                PerplexityBound { max: raw.max.map(Spanned::into_inner), text: raw.text }
            }
        };
        let expect = Expect {
            load_time,
            memory: MemoryBounds {
                vram: raw.vram.map(|range| self.range(range)).transpose()?,
                ram: raw.ram.map(|range| self.range(range)).transpose()?,
            },
            perplexity,
        };
        if let (Some(span), DeviceChoice::Listed(devices)) = (&vram_span, &model.device)
            && devices.iter().all(|device| *device == Device::Cpu)
        {
            return self.error(
                span.clone(),
                "expect.vram can never be met: a model on the CPU takes no device memory",
                "set expect.ram instead",
            );
        }
        self.refuse_impossible(model, expect.memory, vram_span.or(ram_span))?;
        Ok(expect)
    }

    /// Refuses a range that no load of the model can meet, if the shapes of the model are known.
    fn refuse_impossible(
        &self,
        model: &Model,
        memory: MemoryBounds,
        span: Option<Range<usize>>,
    ) -> Result<()> {
        let (Source::Hub { repo, .. }, DeviceChoice::Listed(devices)) =
            (&model.source, &model.device)
        else {
            return Ok(());
        };
        let (Some(span), Some(Ok(config))) = (span, known::config(repo)) else {
            return Ok(());
        };
        let spec = LoadSpec {
            config,
            quantization: model.quantization,
            evidence: model.weights.evidence(),
            in_place: model.weights == WeightOrigin::InPlace,
            context: model.context,
            devices: devices.clone(),
            file_bytes: None,
            repo: Some(repo.clone()),
        };
        match admission::bounds_refusal(&spec, memory) {
            Some(refusal) => self.error(span, refusal.message, refusal.hint),
            None => Ok(()),
        }
    }

    fn range(&self, range: Spanned<RawRange>) -> Result<ByteRange> {
        let span = range.span();
        let RawRange { min, max } = range.into_inner();
        let bytes = |text: &Option<Spanned<String>>| match text {
            None => Ok(None),
            Some(text) => match parse_bytes(text.get_ref()) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(message) => self.error(text.span(), message, "add the unit"),
            },
        };
        let (min, max) = (bytes(&min)?, bytes(&max)?);
        match (min, max) {
            (None, None) => self.error(
                span,
                "the range is empty: it has neither min nor max",
                "set min, max or both",
            ),
            (Some(min), Some(max)) if min > max => self.error(
                span,
                "the range is impossible: min is above max",
                "swap `min` and `max`; or correct the unit",
            ),
            (_, Some(0)) => {
                self.error(span, "the range is impossible: max is 0", "set `max` to more than 0")
            }
            (Some(0), None) => self.error(
                span,
                "the range has no bound: min is 0, and there is no max",
                "set max; or set min to more than 0, so that the check can fail",
            ),
            (min, max) => Ok(ByteRange { min: min.unwrap_or(0), max: max.unwrap_or(u64::MAX) }),
        }
    }
}
