//! Decodes tokens one by one on a device.

use super::llama::Decoder;
use super::mask::Mask;
use super::recorded_step::RecordedStep;
use candle_core::{Result, Tensor, bail};

impl Decoder {
    /// Returns whether tokens can be decoded one by one by [`Decoder::next`]: on a device, if its
    /// kernel supports the width of the heads.
    pub(crate) fn has_single_steps(&self) -> bool {
        self.cache.device().is_ok_and(|device| device.is_cuda())
            && self.layers.iter().all(|layer| layer.attention.takes_single_tokens())
    }

    /// Returns the logits (1, vocabulary) of what follows `token` at position `start`. All positions
    /// before must be in the cache. The next call overwrites the logits.
    pub(crate) fn next(&mut self, token: u32, start: usize) -> Result<Tensor> {
        let rows = self.embedding.row_count()?;
        if token as usize >= rows || start > self.cache.filled() || start >= self.cache.positions()
        {
            bail!(
                "token {token} of {rows} at position {start}, with {} of {} positions in the cache",
                self.cache.filled(),
                self.cache.positions()
            )
        }
        let mut recorded = match self.recorded.take() {
            Some(recorded) => recorded,
            None => RecordedStep::new(self.cache.device()?, self.output.row_count()?)?,
        };
        recorded.run(token, start, |recorded| self.single_step(recorded))?;
        let logits = recorded.logits.clone();
        self.recorded = Some(recorded);
        self.cache.set_filled(start + 1);
        Ok(logits)
    }

    /// Evaluates one token from the inputs of `recorded` to its output.
    fn single_step(&self, recorded: &RecordedStep) -> Result<()> {
        let (all, windowed) = (Mask::without_values(None), Mask::without_values(self.window));
        let step = self.step_on_device(0, recorded.position.clone(), all, windowed);
        let x = self.embedding.rows_of(&recorded.token)?;
        let logits = self.logits(&self.through(x, &step, &|_| {})?)?;
        recorded.logits.slice_set(&logits, 0, 0)
    }
}
