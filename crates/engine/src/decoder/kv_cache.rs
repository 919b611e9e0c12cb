//! The KV cache: keys and values of the tokens so far, for a fixed number of positions, allocated
//! once. f32 on the CPU, f16 on a device.

use candle_core::{DType, Device, Result, Tensor, bail};
use modelgate_model::Config;

/// The KV cache of all layers.
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    positions: usize,
    filled: usize,
}

/// The KV cache of one layer: keys and values (kv heads, positions, head width).
pub(crate) struct LayerCache {
    keys: Tensor,
    values: Tensor,
}

/// Why the cache could not be created.
#[derive(Debug)]
pub(crate) enum CacheError {
    /// So many bytes in all cannot be allocated.
    Memory(u64),
    /// The engine failed.
    Engine(candle_core::Error),
}

impl KvCache {
    /// Creates a cache of `positions` positions, every page of which is resident when this returns:
    /// the memory of a model is known when it is loaded, not at its first long prompt.
    pub(crate) fn new(
        config: &Config,
        positions: usize,
        device: &Device,
    ) -> std::result::Result<KvCache, CacheError> {
        let shape = (config.kv_heads, positions, config.head_dim);
        let all = modelgate_model::kv_cache_bytes(config, positions, !device.is_cpu());
        let zeros = || {
            let all_sizes = [config.kv_heads, positions, config.head_dim];
            let count = all_sizes.iter().try_fold(1usize, |all, size| all.checked_mul(*size));
            let Some(count) = count else { return Err(CacheError::Memory(all)) };
            if !device.is_cpu() {
                return Tensor::zeros(shape, DType::F16, device).map_err(CacheError::Engine);
            }
            let mut values = Vec::new();
            values.try_reserve_exact(count).map_err(|_| CacheError::Memory(all))?;
            // writes the zeros, unlike `vec![0.0; count]`, whose pages are not resident
            values.resize(count, 0f32);
            Tensor::from_vec(values, shape, &Device::Cpu).map_err(CacheError::Engine)
        };
        let layers = (0..config.layers)
            .map(|_| Ok(LayerCache { keys: zeros()?, values: zeros()? }))
            .collect::<std::result::Result<_, _>>()?;
        Ok(KvCache { layers, positions, filled: 0 })
    }

    /// Returns the device of the cache.
    pub(super) fn device(&self) -> Result<&Device> {
        match self.layers.first() {
            Some(layer) => Ok(layer.keys.device()),
            None => bail!("a decoder without layers"),
        }
    }

    /// Returns the number of positions that the cache can hold.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// Returns the number of positions that the cache holds.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Sets the number of positions that all layers hold.
    pub(super) fn set_filled(&mut self, end: usize) {
        self.filled = end;
    }

    /// Forgets all positions.
    pub(super) fn reset(&mut self) {
        self.filled = 0;
    }

    /// Returns the caches of all layers.
    pub(super) fn layers(&self) -> &[LayerCache] {
        &self.layers
    }
}

impl LayerCache {
    /// Returns keys and values (kv heads, positions, head width), whole.
    pub(super) fn whole(&self) -> [&Tensor; 2] {
        [&self.keys, &self.values]
    }

    /// Returns keys and values up to position `end`, in f32.
    pub(super) fn until(&self, end: usize) -> Result<(Tensor, Tensor)> {
        let part = |tensor: &Tensor| tensor.narrow(1, 0, end)?.to_dtype(DType::F32);
        Ok((part(&self.keys)?, part(&self.values)?))
    }

    /// Writes keys and values (kv heads, n, head width) at positions `start` on.
    pub(super) fn append(&self, keys: &Tensor, values: &Tensor, start: usize) -> Result<()> {
        let put = |cache: &Tensor, new: &Tensor| {
            cache.slice_set(&new.to_dtype(cache.dtype())?.contiguous()?, 1, start)
        };
        put(&self.keys, keys)?;
        put(&self.values, values)
    }
}
