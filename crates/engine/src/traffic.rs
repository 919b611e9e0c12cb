//! Counts the bytes that prompts and answers move: every weight that a token goes through is read,
//! and so are the keys and values before it. Compared with how fast the memory is, they say how far
//! decoding is from what the hardware allows.

use crate::events::Events;
use crate::meter::BusyClock;
use crate::weights::WeightMap;
use modelgate_model::{Config, PREFILL_CHUNK, kv_cache_bytes, role};
use modelgate_protocol::{ActivityName, Event, Role};
use std::time::Duration;

/// The bytes that were moved so far.
pub(crate) struct Traffic {
    /// Bytes of the weights that a token goes through.
    active: u64,
    /// Bytes of the weights that a prompt goes through, all experts among them.
    all: u64,
    /// Bytes of the keys and values of one position.
    position: u64,
    prefill: BusyClock,
    decode: BusyClock,
}

impl Traffic {
    /// Creates the counters of a model with these weights.
    pub(crate) fn of(config: &Config, weights: &WeightMap, on_device: bool) -> Traffic {
        let (mut active, mut all) = (0, 0);
        for (name, weight) in weights {
            let bytes = weight.bytes();
            match (role(name, &[0, 0]), config.experts) {
                // one row of it a token, unless it is the output matrix too
                (Role::Embedding, _) if !config.tied_embeddings => {}
                (Role::Expert, Some(experts)) => {
                    active += bytes * experts.per_token as u64 / experts.count.max(1) as u64;
                    all += bytes;
                }
                _ => {
                    active += bytes;
                    all += bytes;
                }
            }
        }
        Traffic {
            active,
            all,
            position: kv_cache_bytes(config, 1, on_device),
            prefill: BusyClock::default(),
            decode: BusyClock::default(),
        }
    }

    /// Counts a prompt of `tokens` tokens that took so long.
    pub(crate) fn count_prefill(&self, tokens: usize, took: Duration) {
        let chunks = tokens.div_ceil(PREFILL_CHUNK) as u64;
        self.prefill.add(chunks * self.all + tokens as u64 * self.position, took);
    }

    /// Counts `tokens` tokens that were decoded one by one after `start` others.
    pub(crate) fn count_decode(&self, start: usize, tokens: usize, took: Duration) {
        let positions: u64 = (start..start + tokens).map(|position| position as u64 + 1).sum();
        self.decode.add(tokens as u64 * self.active + positions * self.position, took);
    }

    /// Sends what was counted.
    pub(crate) fn report(&self, events: Events) {
        let clocks = [(&self.prefill, ActivityName::Prefill), (&self.decode, ActivityName::Decode)];
        for (busy, name) in clocks {
            if let Some(activity) = busy.activity(name) {
                events(Event::Activity(activity));
            }
        }
    }
}
