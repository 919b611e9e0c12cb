//! The KV cache: the keys and values of all tokens that were evaluated, for a fixed number of
//! positions. The cache is allocated once, in f32 on the CPU and in f16 on a device.

use candle_core::{DType, Device, Result, Tensor, bail};
use modelgate_model::Config;

/// The KV cache of all layers.
pub(crate) struct KvCache {
    layers: Vec<LayerCache>,
    /// The capacity in positions.
    positions: usize,
    /// The number of positions with keys and values, from position 0 on.
    filled: usize,
}

/// The KV cache of one layer: keys and values (KV heads, positions, head width).
pub(crate) struct LayerCache {
    keys: Tensor,
    values: Tensor,
}

/// An error of [`KvCache::new`].
#[derive(Debug)]
pub(crate) enum CacheError {
    /// The memory for the cache of all layers, in bytes, cannot be allocated.
    Memory(u64),
    /// An error of candle.
    Engine(candle_core::Error),
}

impl KvCache {
    /// Creates a cache of `positions` positions. Every page of the cache is resident when the
    /// function returns, so that the memory of a model is known after loading and not after its
    /// first long prompt.
    ///
    /// # Errors
    /// The memory cannot be allocated, or candle fails.
    pub(crate) fn new(
        config: &Config,
        positions: usize,
        device: &Device,
    ) -> std::result::Result<KvCache, CacheError> {
        let shape = (config.kv_heads, positions, config.head_dim);
        let bytes = modelgate_model::kv_cache_bytes(config, positions, !device.is_cpu());
        let zeros = || {
            let sizes = [config.kv_heads, positions, config.head_dim];
            let count = sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
            let Some(count) = count else { return Err(CacheError::Memory(bytes)) };
            if !device.is_cpu() {
                return Tensor::zeros(shape, DType::F16, device).map_err(CacheError::Engine);
            }
            let mut values = Vec::new();
            values.try_reserve_exact(count).map_err(|_| CacheError::Memory(bytes))?;
            // `resize` writes the zeros; the pages of `vec![0.0; count]` are not resident
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
            None => bail!("KV cache: expected at least 1 layer, found 0"),
        }
    }

    /// Returns the capacity of the cache in positions.
    pub(super) fn positions(&self) -> usize {
        self.positions
    }

    /// Returns the number of positions with keys and values, from position 0 on.
    pub(super) fn filled(&self) -> usize {
        self.filled
    }

    /// Sets the number of filled positions to `end`, after all layers have written them.
    pub(super) fn set_filled(&mut self, end: usize) {
        self.filled = end;
    }

    /// Marks all positions as empty; the memory stays allocated.
    pub(super) fn reset(&mut self) {
        self.filled = 0;
    }

    /// Returns the caches of all layers, first layer first.
    pub(super) fn layers(&self) -> &[LayerCache] {
        &self.layers
    }
}

impl LayerCache {
    /// Returns the complete buffers of keys and values (KV heads, positions, head width).
    pub(super) fn buffers(&self) -> [&Tensor; 2] {
        [&self.keys, &self.values]
    }

    /// Returns the keys and values (KV heads, end, head width) before position `end`, in f32.
    pub(super) fn up_to(&self, end: usize) -> Result<(Tensor, Tensor)> {
        let part = |tensor: &Tensor| tensor.narrow(1, 0, end)?.to_dtype(DType::F32);
        Ok((part(&self.keys)?, part(&self.values)?))
    }

    /// Writes keys and values (KV heads, n, head width) to n positions from `start` on.
    pub(super) fn append(&self, keys: &Tensor, values: &Tensor, start: usize) -> Result<()> {
        let write = |cache: &Tensor, new: &Tensor| {
            cache.slice_set(&new.to_dtype(cache.dtype())?.contiguous()?, 1, start)
        };
        write(&self.keys, keys)?;
        write(&self.values, values)
    }
}
