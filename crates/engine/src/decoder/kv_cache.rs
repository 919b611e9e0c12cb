//! Keys and values of the tokens so far, for a fixed number of positions, allocated once.

use candle_core::{Device, Result, Tensor};
use modelgate_model::Config;

/// The cache of all layers.
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    positions: usize,
    filled: usize,
}

/// The cache of one layer: keys and values (kv heads, positions, head width).
pub(crate) struct LayerCache {
    keys: Tensor,
    values: Tensor,
}

/// Why there is no cache.
#[derive(Debug)]
pub(crate) enum CacheError {
    /// So many bytes in all cannot be had.
    Memory(u64),
    /// The engine failed.
    Engine(candle_core::Error),
}

impl KvCache {
    /// A cache of `positions` positions, every page of which is in memory when this returns: what
    /// a model takes is known when it is loaded, not when its first long prompt comes.
    pub(crate) fn new(
        config: &Config,
        positions: usize,
    ) -> std::result::Result<KvCache, CacheError> {
        let shape = (config.kv_heads, positions, config.head_dim);
        let all = modelgate_model::kv_cache_bytes(config, positions, size_of::<f32>() as u64);
        let zeros = || {
            let count = shape.0 * shape.1 * shape.2;
            let mut values = Vec::new();
            values.try_reserve_exact(count).map_err(|_| CacheError::Memory(all))?;
            // Writes the zeros, unlike `vec![0.0; count]`, which takes pages unseen.
            values.resize(count, 0f32);
            Tensor::from_vec(values, shape, &Device::Cpu).map_err(CacheError::Engine)
        };
        let layers = (0..config.layers)
            .map(|_| Ok(LayerCache { keys: zeros()?, values: zeros()? }))
            .collect::<std::result::Result<_, _>>()?;
        Ok(KvCache { layers, positions, filled: 0 })
    }

    /// Positions that it holds at most.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// Positions that it holds now.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Says that all layers hold positions up to `end`.
    pub(super) fn set_filled(&mut self, end: usize) {
        self.filled = end;
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.filled = 0;
    }

    /// One cache a layer.
    pub(super) fn layers(&self) -> &[LayerCache] {
        &self.layers
    }
}

impl LayerCache {
    /// Puts keys and values (kv heads, n, head width) at positions `start` on, and gives all up to
    /// their end.
    pub(super) fn append(
        &self,
        keys: &Tensor,
        values: &Tensor,
        start: usize,
    ) -> Result<(Tensor, Tensor)> {
        let end = start + keys.dim(1)?;
        self.keys.slice_set(&keys.contiguous()?, 1, start)?;
        self.values.slice_set(&values.contiguous()?, 1, start)?;
        Ok((self.keys.narrow(1, 0, end)?, self.values.narrow(1, 0, end)?))
    }
}
