//! The recorded evaluation of a single token on a device. The kernel launches are the same for
//! every token, so they are recorded once and then launched together. The token, the position and
//! the logits have fixed buffers, which the recorded launches refer to.

use crate::cuda::{Graph, write_number};
use candle_core::{DType, Device, Result, Tensor};

/// The inputs and outputs of a single token's evaluation, and its recorded launches.
pub(super) struct RecordedStep {
    /// The id of the token (1), u32.
    pub(super) token: Tensor,
    /// The position of the token (1), u32.
    pub(super) position: Tensor,
    /// The logits (1, vocabulary) of the next token, f32.
    pub(super) logits: Tensor,
    recording: Recording,
}

/// The state of the recording.
enum Recording {
    /// No token was evaluated yet.
    New,
    /// The launches are recorded.
    Recorded(Graph),
    /// The driver cannot record the launches, so every token launches them one by one.
    Unrecordable,
}

impl RecordedStep {
    /// Allocates the buffers of inputs and outputs on `device`.
    pub(super) fn new(device: &Device, vocabulary: usize) -> Result<RecordedStep> {
        Ok(RecordedStep {
            token: Tensor::zeros(1, DType::U32, device)?,
            position: Tensor::zeros(1, DType::U32, device)?,
            logits: Tensor::zeros((1, vocabulary), DType::F32, device)?,
            recording: Recording::New,
        })
    }

    /// Evaluates `token` at position `start`. The first call records the launches of `step` and
    /// runs them; later calls launch the recording, or run `step` if it cannot be recorded.
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
