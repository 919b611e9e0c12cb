// Attention of single tokens over a KV cache in 16 bits, and the kernel that appends to that cache.
//
// Shapes are row-major; `width` is that of one head. Sums are in f32. The position of a token is read from
// device memory, so that the same launches, recorded once, work for every token.

#include <cuda_fp16.h>

// Positions that one block attends to. Must not exceed THREADS.
#define SPLIT 64
// Threads of a block.
#define THREADS 128
// Threads that share one key. Each reads 8 values at a time.
#define TEAM 8
// Partial sums of the values of a split.
#define PARTS 2

// Rotates queries and keys by the angles of their positions (RoPE: Su et al., 2021, arXiv:2104.09864),
// and appends keys and values to the KV cache. One block per token and head, one thread per pair.
//
// query (n, heads * width), key and value (n, kv heads * width), cosines and sines (positions, width /
// 2), rotated (heads, n, width), keys and values of the cache (kv heads, positions, width), position
// (1), which is the position of the first token.
extern "C" __global__ void rope_append(
    const float *query, const float *key, const float *value, const float *cosines,
    const float *sines, float *rotated, __half *keys, __half *values, int heads, int kv_heads,
    int width, int positions, const unsigned int *position, int interleaved)
{
    const int start = *position;
    const int token = blockIdx.x, tokens = gridDim.x, part = blockIdx.y, pairs = width / 2;
    for (int pair = threadIdx.x; pair < pairs; pair += blockDim.x) {
        if (part >= heads + kv_heads) {
            const int head = part - heads - kv_heads;
            const float *from = value + ((size_t)token * kv_heads + head) * width;
            __half *to = values + ((size_t)head * positions + start + token) * width;
            to[2 * pair] = __float2half(from[2 * pair]);
            to[2 * pair + 1] = __float2half(from[2 * pair + 1]);
            continue;
        }
        const int first = interleaved ? 2 * pair : pair;
        const int second = interleaved ? 2 * pair + 1 : pair + pairs;
        const float c = cosines[(size_t)(start + token) * pairs + pair];
        const float s = sines[(size_t)(start + token) * pairs + pair];
        if (part < heads) {
            const float *from = query + ((size_t)token * heads + part) * width;
            float *to = rotated + ((size_t)part * tokens + token) * width;
            const float a = from[first], b = from[second];
            to[first] = a * c - b * s;
            to[second] = a * s + b * c;
        } else {
            const int head = part - heads;
            const float *from = key + ((size_t)token * kv_heads + head) * width;
            __half *to = keys + ((size_t)head * positions + start + token) * width;
            const float a = from[first], b = from[second];
            to[first] = __float2half(a * c - b * s);
            to[second] = __float2half(a * s + b * c);
        }
    }
}

static __device__ float max_of_block(float value, float *shared)
{
    for (int offset = 16; offset > 0; offset /= 2)
        value = fmaxf(value, __shfl_xor_sync(0xffffffff, value, offset));
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    value = shared[0];
    for (int warp = 1; warp < THREADS / 32; warp++) value = fmaxf(value, shared[warp]);
    __syncthreads();
    return value;
}

static __device__ float sum_of_block(float value, float *shared)
{
    for (int offset = 16; offset > 0; offset /= 2)
        value += __shfl_xor_sync(0xffffffff, value, offset);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
    __syncthreads();
    value = 0.0f;
    for (int warp = 0; warp < THREADS / 32; warp++) value += shared[warp];
    __syncthreads();
    return value;
}

// Computes a softmax over SPLIT positions as three values that can be combined later (Dao et al., 2023,
// "Flash-Decoding"). One block per head and split.
//
// query (heads, width), keys and values (kv heads, positions, width), partial (heads, splits,
// width + 2): the weighted sum of the values, the largest score, the sum of the weights. `width` is
// a multiple of 8. The token at `position` attends to the last `window` positions, its own included;
// splits without such a position are not written.
extern "C" __global__ void attend_split(
    const float *query, const __half *keys, const __half *values, float *partial, int group,
    int positions, int width, const unsigned int *position, int window, float scale)
{
    const int end = *position + 1, first = max(0, end - window);
    extern __shared__ float shared[];
    float *weights = shared, *q = shared + SPLIT, *scratch = q + width;
    const int head = blockIdx.x, split = blockIdx.y, splits = gridDim.y;
    const int begin = first + split * SPLIT;
    const int count = min(SPLIT, end - begin);
    if (count <= 0) return;
    const size_t base = ((size_t)(head / group) * positions + begin) * width;
    for (int i = threadIdx.x; i < width; i += THREADS) q[i] = query[(size_t)head * width + i] * scale;
    __syncthreads();

    const int lane = threadIdx.x % TEAM;
    float largest = -INFINITY;
    for (int at = threadIdx.x / TEAM; at < SPLIT; at += THREADS / TEAM) {
        float score = 0.0f;
        if (at < count) {
            const __half *row = keys + base + (size_t)at * width;
            for (int i = lane * 8; i < width; i += TEAM * 8) {
                const uint4 packed = *reinterpret_cast<const uint4 *>(row + i);
                const __half2 *pairs = reinterpret_cast<const __half2 *>(&packed);
                for (int j = 0; j < 4; j++) {
                    const float2 pair = __half22float2(pairs[j]);
                    score += pair.x * q[i + 2 * j] + pair.y * q[i + 2 * j + 1];
                }
            }
        }
        for (int offset = TEAM / 2; offset > 0; offset /= 2)
            score += __shfl_xor_sync(0xffffffff, score, offset);
        if (at >= count) score = -INFINITY;
        if (lane == 0) weights[at] = score;
        largest = fmaxf(largest, score);
    }
    largest = max_of_block(largest, scratch);
    const float weight = threadIdx.x < count ? __expf(weights[threadIdx.x] - largest) : 0.0f;
    __syncthreads();
    if (threadIdx.x < SPLIT) weights[threadIdx.x] = weight;
    const float sum = sum_of_block(weight, scratch);

    // Each thread sums two columns of every PARTS-th value. Then the partial sums are added.
    float *out = partial + ((size_t)head * splits + split) * (width + 2);
    float2 *parts = reinterpret_cast<float2 *>(scratch + THREADS / 32);
    const int columns = width / 2, part = threadIdx.x / (THREADS / PARTS);
    for (int i = threadIdx.x % (THREADS / PARTS); i < columns; i += THREADS / PARTS) {
        float2 mixed = make_float2(0.0f, 0.0f);
#pragma unroll 8
        for (int at = part; at < count; at += PARTS) {
            const __half2 pair =
                *reinterpret_cast<const __half2 *>(values + base + (size_t)at * width + 2 * i);
            const float2 value = __half22float2(pair);
            mixed.x += weights[at] * value.x;
            mixed.y += weights[at] * value.y;
        }
        parts[part * columns + i] = mixed;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < columns; i += THREADS) {
        float2 mixed = parts[i];
        for (int other = 1; other < PARTS; other++) {
            mixed.x += parts[other * columns + i].x;
            mixed.y += parts[other * columns + i].y;
        }
        out[2 * i] = mixed.x;
        out[2 * i + 1] = mixed.y;
    }
    if (threadIdx.x == 0) {
        out[width] = largest;
        out[width + 1] = sum;
    }
}

// Combines the splits of a head that were written. One block per head. mixed (heads, width).
extern "C" __global__ void attend_combine(
    const float *partial, float *mixed, int max_splits, int width, const unsigned int *position,
    int window)
{
    const int end = *position + 1, seen = min(end, window);
    const int splits = (seen + SPLIT - 1) / SPLIT;
    const float *parts = partial + (size_t)blockIdx.x * max_splits * (width + 2);
    float largest = -INFINITY;
    for (int split = 0; split < splits; split++)
        largest = fmaxf(largest, parts[(size_t)split * (width + 2) + width]);
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        float value = 0.0f, sum = 0.0f;
        for (int split = 0; split < splits; split++) {
            const float *part = parts + (size_t)split * (width + 2);
            const float share = __expf(part[width] - largest);
            value += share * part[i];
            sum += share * part[width + 1];
        }
        mixed[(size_t)blockIdx.x * width + i] = value / sum;
    }
}
