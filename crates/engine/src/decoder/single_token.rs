//! Decoding of single tokens on a device.

use super::llama::Decoder;
use super::mask::Mask;
use super::recorded_step::RecordedStep;
use candle_core::{Result, Tensor, bail};

impl Decoder {
    /// Returns whether [`Decoder::next`] can decode single tokens: the decoder must be on a device,
    /// and the kernel must support the head width of every layer.
    pub(crate) fn supports_single_tokens(&self) -> bool {
        self.cache.device().is_ok_and(|device| device.is_cuda())
            && self.layers.iter().all(|layer| layer.attention.supports_single_tokens())
    }

    /// Evaluates `token` at position `start`, and returns the logits (1, vocabulary) of the next
    /// token. The next call overwrites these logits.
    ///
    /// # Errors
    /// The token is not in the vocabulary, a position before `start` is not in the cache, the cache
    /// is full, or candle fails.
    pub(crate) fn next(&mut self, token: u32, start: usize) -> Result<Tensor> {
        let rows = self.embedding.row_count()?;
        if token as usize >= rows || start > self.cache.filled() || start >= self.cache.positions()
        {
            bail!(
                "token {token} of {rows} at position {start}: cache contains {} of {} positions",
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

    /// Evaluates the token in the input buffers of `recorded`, and writes its logits.
    fn single_step(&self, recorded: &RecordedStep) -> Result<()> {
        let (mask, windowed_mask) = (Mask::without_values(None), Mask::without_values(self.window));
        let step = self.step_on_device(0, recorded.position.clone(), mask, windowed_mask);
        let x = self.embedding.gather_rows(&recorded.token)?;
        let logits = self.logits(&self.evaluate_layers(x, &step, &|_| {})?)?;
        recorded.logits.slice_set(&logits, 0, 0)
    }
}
