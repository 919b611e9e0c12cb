//! The evaluation of a single token on a device, recorded: the launches are the same for every token,
//! so they are recorded once and then launched together. Token, position and logits have memory of
//! their own.

use crate::cuda::{Graph, write_number};
use candle_core::{DType, Device, Result, Tensor};

/// The inputs and outputs of a single token's evaluation, and its recorded launches.
pub(super) struct RecordedStep {
    /// The token (1).
    pub(super) token: Tensor,
    /// Its position (1).
    pub(super) position: Tensor,
    /// Logits (1, vocabulary) of what follows.
    pub(super) logits: Tensor,
    recording: Recording,
}

/// What is known of the launches.
enum Recording {
    /// Nothing yet.
    New,
    /// They are recorded.
    Recorded(Graph),
    /// The driver does not record them.
    Unrecordable,
}

impl RecordedStep {
    /// Allocates inputs and outputs.
    pub(super) fn new(device: &Device, vocabulary: usize) -> Result<RecordedStep> {
        Ok(RecordedStep {
            token: Tensor::zeros(1, DType::U32, device)?,
            position: Tensor::zeros(1, DType::U32, device)?,
            logits: Tensor::zeros((1, vocabulary), DType::F32, device)?,
            recording: Recording::New,
        })
    }

    /// Runs `step` on `token` at position `start`: launches its recording, or records it the first
    /// time.
    pub(super) fn run(
        &mut self,
        token: u32,
        start: usize,
        step: impl Fn(&RecordedStep) -> Result<()>,
    ) -> Result<()> {
        write_number(&self.token, token)?;
        write_number(&self.position, start as u32)?;
        match &self.recording {
            Recording::New => {
                let recorded = Graph::record(self.logits.device(), || step(self))?;
                self.recording = recorded.map_or(Recording::Unrecordable, Recording::Recorded);
                Ok(())
            }
            Recording::Recorded(graph) => graph.launch(),
            Recording::Unrecordable => step(self),
        }
    }
}
