//! Tokens one by one on a device. The launches of a step are the same for every token, so they are
//! recorded once and then started together; token, position and logits have places of their own.

use super::{Decoder, Mask};
use crate::gpu::{Graph, write_number};
use candle_core::{DType, Result, Tensor, bail};

/// Where a step's inputs and outputs are, and what was recorded of it.
pub(super) struct Single {
    /// The token (1).
    token: Tensor,
    /// Its position (1).
    position: Tensor,
    /// Logits (1, vocabulary) of what follows.
    logits: Tensor,
    state: State,
}

/// What is known of a step.
enum State {
    /// Nothing.
    New,
    /// It is recorded.
    Recorded(Graph),
    /// The driver does not record it.
    Unrecordable,
}

impl Decoder {
    /// Whether tokens can be decoded one by one by [`Decoder::next`]: on a device, where the kernel
    /// for it takes the width of the heads.
    pub(crate) fn has_single_steps(&self) -> bool {
        self.cache.device().is_ok_and(|device| device.is_cuda())
            && self.layers.iter().all(|layer| layer.attention.takes_single_tokens())
    }

    /// Logits (1, vocabulary) of what follows `token`, which stands at position `start`. All
    /// positions before must be in the cache. The next call overwrites them.
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
        let mut single = match self.single.take() {
            Some(single) => single,
            None => Single::new(self)?,
        };
        write_number(&single.token, token)?;
        write_number(&single.position, start as u32)?;
        match &single.state {
            State::New => {
                let recorded = Graph::record(single.logits.device(), || self.single_step(&single))?;
                single.state = recorded.map_or(State::Unrecordable, State::Recorded);
            }
            State::Recorded(graph) => graph.launch()?,
            State::Unrecordable => self.single_step(&single)?,
        }
        let logits = single.logits.clone();
        self.single = Some(single);
        self.cache.set_filled(start + 1);
        Ok(logits)
    }

    /// One step from where its input is to where its output is to be.
    fn single_step(&self, single: &Single) -> Result<()> {
        let everything = || Mask { window: None, tensor: None };
        let windowed = Mask { window: self.window, tensor: None };
        let step = self.step_on_device(0, single.position.clone(), everything(), windowed);
        let x = self.embedding.rows_of(&single.token)?;
        let logits = self.logits(&self.through(x, &step, &|_| {})?)?;
        single.logits.slice_set(&logits, 0, 0)
    }
}

impl Single {
    fn new(decoder: &Decoder) -> Result<Single> {
        let device = decoder.cache.device()?;
        Ok(Single {
            token: Tensor::zeros(1, DType::U32, device)?,
            position: Tensor::zeros(1, DType::U32, device)?,
            logits: Tensor::zeros((1, decoder.output.row_count()?), DType::F32, device)?,
            state: State::New,
        })
    }
}
