// Generates random weights in place. `src/weights/random.rs` generates the same weights on the host,
// bit for bit.

#include <cuda_bf16.h>
#include <stdint.h>

// The finalizer of SplitMix64 (Steele et al., 2014, "Fast splittable pseudorandom number
// generators") over a counter.
static __device__ uint64_t random_word(uint64_t seed, uint64_t counter)
{
    uint64_t z = seed + (counter + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// Returns 16 random bits, a quarter of a word.
static __device__ uint16_t random_half(uint64_t seed, uint64_t index)
{
    return (uint16_t)(random_word(seed, index / 4) >> (16 * (index % 4)));
}

// Writes blocks of quantized values: copies of `block` (`size` numbers of 16 bits each) in which the
// numbers with an index in [from, to) are random.
extern "C" __global__ void random_blocks(
    uint16_t *out, uint64_t halves, const uint16_t *block, uint32_t size, uint32_t from, uint32_t to,
    uint64_t seed)
{
    const uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < halves; i += step) {
        const uint32_t at = (uint32_t)(i % size);
        out[i] = at >= from && at < to ? random_half(seed, i) : block[at];
    }
}

// Writes uniformly distributed values in [-scale, scale].
extern "C" __global__ void random_bf16(__nv_bfloat16 *out, uint64_t count, float scale, uint64_t seed)
{
    const uint64_t step = (uint64_t)gridDim.x * blockDim.x;
    for (uint64_t i = (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step)
        out[i] = __float2bfloat16(((float)random_half(seed, i) - 32767.5f) / 32767.5f * scale);
}
