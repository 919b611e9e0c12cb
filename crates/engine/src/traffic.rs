//! Counts the bytes of memory that the evaluation of prompts and answers reads: the weights that a
//! token uses, and the keys and values of the earlier positions. The rate of these bytes, compared
//! with the bandwidth of the memory, shows how far decoding is from the limit of the hardware.

use crate::events::Events;
use crate::meter::BusyClock;
use crate::weights::WeightMap;
use modelgate_model::{Config, PREFILL_CHUNK, kv_cache_bytes, role};
use modelgate_protocol::{ActivityName, Event, Role};
use std::time::Duration;

/// The numbers of bytes that were read so far, and the durations of the reads.
pub(crate) struct Traffic {
    /// The bytes of the weights that one token uses.
    active_bytes: u64,
    /// The bytes of the weights that a chunk of a prompt uses, including all experts.
    all_bytes: u64,
    /// The bytes of the keys and values of one position.
    position_bytes: u64,
    prefill: BusyClock,
    decode: BusyClock,
}

impl Traffic {
    /// Creates the counters of a model with these weights. `on_device` says whether the KV cache is
    /// in device memory.
    pub(crate) fn of(config: &Config, weights: &WeightMap, on_device: bool) -> Traffic {
        let (mut active_bytes, mut all_bytes) = (0, 0);
        for (name, weight) in weights {
            let bytes = weight.bytes();
            match (role(name, &[0, 0]), config.experts) {
                // a token reads only one row, unless the embedding is also the output matrix
                (Role::Embedding, _) if !config.tied_embeddings => {}
                (Role::Expert, Some(experts)) => {
                    active_bytes += bytes * experts.per_token as u64 / experts.count.max(1) as u64;
                    all_bytes += bytes;
                }
                _ => {
                    active_bytes += bytes;
                    all_bytes += bytes;
                }
            }
        }
        Traffic {
            active_bytes,
            all_bytes,
            position_bytes: kv_cache_bytes(config, 1, on_device),
            prefill: BusyClock::default(),
            decode: BusyClock::default(),
        }
    }

    /// Counts a prompt of `tokens` tokens, which was evaluated in `duration`.
    pub(crate) fn count_prefill(&self, tokens: usize, duration: Duration) {
        let chunks = tokens.div_ceil(PREFILL_CHUNK) as u64;
        self.prefill.add(chunks * self.all_bytes + tokens as u64 * self.position_bytes, duration);
    }

    /// Counts `tokens` tokens that were decoded one by one from position `start` on in `duration`.
    pub(crate) fn count_decode(&self, start: usize, tokens: usize, duration: Duration) {
        let positions: u64 = (start..start + tokens).map(|position| position as u64 + 1).sum();
        self.decode
            .add(tokens as u64 * self.active_bytes + positions * self.position_bytes, duration);
    }

    /// Sends the counts as one activity event each for prefill and decode. Omits an activity
    /// without bytes.
    pub(crate) fn report(&self, events: Events) {
        let clocks = [(&self.prefill, ActivityName::Prefill), (&self.decode, ActivityName::Decode)];
        for (busy, name) in clocks {
            if let Some(activity) = busy.activity(name) {
                events(Event::Activity(activity));
            }
        }
    }
}
