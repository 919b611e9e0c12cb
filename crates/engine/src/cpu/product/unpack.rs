//! Unpacks blocks of every type to the same layout: bytes in groups, each with a scale and an
//! offset. A weight is `scale * (byte - zero) + offset`. The layouts of the blocks are defined by
//! ggml (`ggml-common.h` and `ggml-quants.c`).

use candle_core::quantized::GgmlDType;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// The number of columns of a tile, each of which is a row of weights.
pub(super) const COLUMNS: usize = 32;

/// The number of values of each column in a tile: those of one large block or of several small
/// blocks.
pub(super) const DEPTH: usize = 256;

/// The number of values in the smallest group.
const MIN_GROUP: usize = 16;

/// The parameters of the unpacked weights of one type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct UnpackedLayout {
    dtype: GgmlDType,
    /// The number of values that share a scale.
    pub(super) group: usize,
    /// The zero point: the byte of a weight that equals its offset.
    pub(super) zero: i32,
    /// Whether the groups have offsets other than 0.
    pub(super) offsets: bool,
    /// The number of values in a block.
    block_values: usize,
    /// The number of bytes of a block.
    block_bytes: usize,
}

impl UnpackedLayout {
    /// Returns the parameters of a type. `None` if the type has no kernel for unpacking.
    pub(super) fn of(dtype: GgmlDType) -> Option<UnpackedLayout> {
        let (group, zero, offsets) = match dtype {
            GgmlDType::Q4_0 => (32, 8, false),
            GgmlDType::Q4_1 => (32, 0, true),
            GgmlDType::Q5_0 => (32, 16, false),
            GgmlDType::Q5_1 => (32, 0, true),
            GgmlDType::Q8_0 => (32, 128, false),
            GgmlDType::Q2K => (16, 0, true),
            GgmlDType::Q3K => (16, 4, false),
            GgmlDType::Q4K => (32, 0, true),
            GgmlDType::Q5K => (32, 0, true),
            GgmlDType::Q6K => (16, 32, false),
            _ => return None,
        };
        let (block_values, block_bytes) = (dtype.block_size(), dtype.type_size());
        Some(UnpackedLayout { dtype, group, zero, offsets, block_values, block_bytes })
    }

    /// Returns whether `Vnni::dot` can multiply a single row with the blocks without unpacking.
    pub(super) fn has_dot_kernel(&self) -> bool {
        self.dtype == GgmlDType::Q8_0
    }

    /// Returns whether the kernels of this module are faster than candle's for this number of rows.
    /// For a single row, candle's kernels for blocks of [`DEPTH`] values are faster, since they do
    /// not unpack. Its kernels for smaller blocks are not.
    pub(super) fn is_faster_than_candle(&self, rows: usize) -> bool {
        rows > 1 || self.block_values < DEPTH
    }

    /// Returns the number of bytes of the blocks of `values` values.
    pub(super) fn bytes(&self, values: usize) -> usize {
        values / self.block_values * self.block_bytes
    }
}

/// The unpacked columns of a tile.
#[repr(C, align(64))]
pub(super) struct Columns {
    /// The bytes of the weights, column by column.
    pub(super) quants: [[u8; DEPTH]; COLUMNS],
    /// The scales, group by group, so that the scales of all columns are adjacent.
    pub(super) scales: [[f32; COLUMNS]; DEPTH / MIN_GROUP],
    /// The offsets, in the same order as the scales.
    pub(super) offsets: [[f32; COLUMNS]; DEPTH / MIN_GROUP],
}

impl Columns {
    /// Creates columns of zeros.
    pub(super) fn zeros() -> Columns {
        let groups = [[0.0; COLUMNS]; DEPTH / MIN_GROUP];
        Columns { quants: [[0; DEPTH]; COLUMNS], scales: groups, offsets: groups }
    }

    /// Unpacks blocks of at most [`DEPTH`] values to one column.
    #[inline(always)]
    pub(super) fn unpack(&mut self, layout: &UnpackedLayout, column: usize, blocks: &[u8]) {
        let mut to = Column {
            quants: &mut self.quants[column],
            scales: [0.0; DEPTH / MIN_GROUP],
            offsets: [0.0; DEPTH / MIN_GROUP],
        };
        match layout.dtype {
            GgmlDType::Q4_0 => to.q4_0(blocks.as_chunks().0),
            GgmlDType::Q4_1 => to.q4_1(blocks.as_chunks().0),
            GgmlDType::Q5_0 => to.q5_0(blocks.as_chunks().0),
            GgmlDType::Q5_1 => to.q5_1(blocks.as_chunks().0),
            GgmlDType::Q8_0 => to.q8_0(blocks.as_chunks().0),
            GgmlDType::Q2K => to.q2k(blocks.as_chunks().0),
            GgmlDType::Q3K => to.q3k(blocks.as_chunks().0),
            GgmlDType::Q4K => to.q4k(blocks.as_chunks().0),
            GgmlDType::Q5K => to.q5k(blocks.as_chunks().0),
            GgmlDType::Q6K => to.q6k(blocks.as_chunks().0),
            _ => {}
        }
        for (row, scale) in self.scales[..DEPTH / layout.group].iter_mut().zip(to.scales) {
            row[column] = scale;
        }
        if layout.offsets {
            for (row, offset) in self.offsets[..DEPTH / layout.group].iter_mut().zip(to.offsets) {
                row[column] = offset;
            }
        }
    }
}

/// A column that is being unpacked.
struct Column<'a> {
    quants: &'a mut [u8; DEPTH],
    scales: [f32; DEPTH / MIN_GROUP],
    offsets: [f32; DEPTH / MIN_GROUP],
}

impl Column<'_> {
    /// Unpacks blocks of an f16 scale and 32 nibbles.
    #[inline(always)]
    fn q4_0(&mut self, blocks: &[[u8; 18]]) {
        floats(blocks, 0, &mut self.scales);
        for ([_, _, low @ ..], quants) in blocks.iter().zip(self.quants.as_chunks_mut().0) {
            *quants = nibbles(*low);
        }
    }

    /// Unpacks blocks of an f16 scale, an f16 offset and 32 nibbles.
    #[inline(always)]
    fn q4_1(&mut self, blocks: &[[u8; 20]]) {
        floats(blocks, 0, &mut self.scales);
        floats(blocks, 2, &mut self.offsets);
        for ([_, _, _, _, low @ ..], quants) in blocks.iter().zip(self.quants.as_chunks_mut().0) {
            *quants = nibbles(*low);
        }
    }

    /// Unpacks blocks of an f16 scale, 32 fifth bits and 32 nibbles.
    #[inline(always)]
    fn q5_0(&mut self, blocks: &[[u8; 22]]) {
        floats(blocks, 0, &mut self.scales);
        for (block, quants) in blocks.iter().zip(self.quants.as_chunks_mut().0) {
            let [_, _, a, b, c, d, low @ ..] = block;
            *quants = five_bits(*low, [*a, *b, *c, *d]);
        }
    }

    /// Unpacks blocks of an f16 scale, an f16 offset, 32 fifth bits and 32 nibbles.
    #[inline(always)]
    fn q5_1(&mut self, blocks: &[[u8; 24]]) {
        floats(blocks, 0, &mut self.scales);
        floats(blocks, 2, &mut self.offsets);
        for (block, quants) in blocks.iter().zip(self.quants.as_chunks_mut().0) {
            let [_, _, _, _, a, b, c, d, low @ ..] = block;
            *quants = five_bits(*low, [*a, *b, *c, *d]);
        }
    }

    /// Unpacks blocks of an f16 scale and 32 signed bytes.
    #[inline(always)]
    fn q8_0(&mut self, blocks: &[[u8; 34]]) {
        floats(blocks, 0, &mut self.scales);
        for ([_, _, bytes @ ..], quants) in blocks.iter().zip(self.quants.as_chunks_mut::<32>().0) {
            *quants = map_bytes(*bytes, |byte| byte ^ 0x80);
        }
    }

    /// Unpacks one block of 16 scales and 16 minima in nibbles, 256 quants in 2 bits, and the f16
    /// factors of the scales and of the minima.
    #[inline(always)]
    fn q2k(&mut self, blocks: &[[u8; 84]]) {
        let Some(block) = blocks.first() else { return };
        let (scale, minimum) = (float(block, 80), float(block, 82));
        for (group, nibbles) in block[..16].iter().enumerate() {
            self.scales[group] = scale * f32::from(nibbles & 15);
            self.offsets[group] = -minimum * f32::from(nibbles >> 4);
        }
        self.pairs_of_bits(&block[16..80]);
    }

    /// Unpacks one block of 256 third bits, 256 quants in 2 bits, 16 scales in 6 bits, and the f16
    /// factor of the scales.
    #[inline(always)]
    fn q3k(&mut self, blocks: &[[u8; 110]]) {
        let Some(block) = blocks.first() else { return };
        let (scale, packed) = (float(block, 108), &block[96..108]);
        for (group, to) in self.scales.iter_mut().enumerate() {
            let low = packed[group % 8] >> (4 * (group / 8)) & 15;
            let high = packed[8 + group % 4] >> (2 * (group / 4)) & 3;
            *to = scale * f32::from((low | high << 4) as i8 - 32);
        }
        self.pairs_of_bits(&block[32..96]);
        self.upper_bits(&block[..32], 2);
    }

    /// Unpacks one block of the f16 factors of the scales and of the minima, 8 scales and 8 minima
    /// in 6 bits, and 256 nibbles.
    #[inline(always)]
    fn q4k(&mut self, blocks: &[[u8; 144]]) {
        let Some(block) = blocks.first() else { return };
        self.scales_and_minima(&block[..16]);
        self.pairs_of_nibbles(&block[16..]);
    }

    /// Unpacks one block with the layout of q4_k and 256 fifth bits before the nibbles.
    #[inline(always)]
    fn q5k(&mut self, blocks: &[[u8; 176]]) {
        let Some(block) = blocks.first() else { return };
        self.scales_and_minima(&block[..16]);
        self.pairs_of_nibbles(&block[48..]);
        self.upper_bits(&block[16..48], 4);
    }

    /// Unpacks one block of 256 nibbles, the upper 2 bits of the 256 quants, 16 signed 8-bit
    /// scales, and the f16 factor of the scales.
    #[inline(always)]
    fn q6k(&mut self, blocks: &[[u8; 210]]) {
        let Some(block) = blocks.first() else { return };
        let scale = float(block, 208);
        for (to, byte) in self.scales.iter_mut().zip(&block[192..208]) {
            *to = scale * f32::from(*byte as i8);
        }
        let (low, high) = (block[..128].as_chunks().0, block[128..192].as_chunks().0);
        for (part, quants) in self.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            let (half, part) = (part / 4, part % 4);
            let low = map_bytes(low[2 * half + part % 2], |low| low >> (4 * (part / 2)) & 15);
            let high = map_bytes(high[half], |high| (high >> (2 * part) & 3) << 4);
            *quants = bitwise_or(low, high);
        }
    }

    /// Reads the first 16 bytes of a q4_k or q5_k block: the f16 factors of the scales and of the
    /// minima, then 12 bytes with 8 scales and 8 minima in 6 bits.
    #[inline(always)]
    fn scales_and_minima(&mut self, head: &[u8]) {
        let (scale, minimum) = (float(head, 0), float(head, 2));
        let packed = &head[4..];
        for group in 0..8 {
            let (scale_bits, minimum_bits) = if group < 4 {
                (packed[group] & 63, packed[group + 4] & 63)
            } else {
                let (both, upper) = (packed[group + 4], group - 4);
                (both & 15 | packed[upper] >> 6 << 4, both >> 4 | packed[group] >> 6 << 4)
            };
            self.scales[group] = scale * f32::from(scale_bits);
            self.offsets[group] = -minimum * f32::from(minimum_bits);
        }
    }

    /// Reads nibbles: the lower nibbles of 32 bytes are 32 quants, and the upper nibbles of the
    /// same bytes are the next 32 quants.
    #[inline(always)]
    fn pairs_of_nibbles(&mut self, bytes: &[u8]) {
        let bytes = bytes.as_chunks().0;
        for (part, quants) in self.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            *quants = map_bytes(bytes[part / 2], |byte| byte >> (4 * (part % 2)) & 15);
        }
    }

    /// Reads pairs of bits: the lowest pairs of 32 bytes are 32 quants, the next higher pairs of
    /// the same bytes are the next 32 quants, and so on.
    #[inline(always)]
    fn pairs_of_bits(&mut self, bytes: &[u8]) {
        let bytes = bytes.as_chunks().0;
        for (part, quants) in self.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            *quants = map_bytes(bytes[part / 4], |byte| byte >> (2 * (part % 4)) & 3);
        }
    }

    /// Sets bit `at` of all quants: the lowest bits of the 32 bytes belong to the first 32 quants,
    /// the next higher bits to the next 32 quants, and so on.
    #[inline(always)]
    fn upper_bits(&mut self, bytes: &[u8], at: usize) {
        let bytes = bytes.as_chunks().0[0];
        for (part, quants) in self.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            *quants = bitwise_or(*quants, map_bytes(bytes, |byte| (byte >> part & 1) << at));
        }
    }
}

/// Reads the f16 at byte offset `at` of each block.
#[inline(always)]
fn floats<const BYTES: usize>(blocks: &[[u8; BYTES]], at: usize, to: &mut [f32]) {
    let mut halves = [f16::ZERO; DEPTH / 32];
    let halves = &mut halves[..blocks.len()];
    for (half, block) in halves.iter_mut().zip(blocks) {
        *half = f16::from_le_bytes([block[at], block[at + 1]]);
    }
    halves.convert_to_f32_slice(&mut to[..blocks.len()]);
}

/// Reads the f16 at byte offset `at`.
#[inline(always)]
fn float(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Splits bytes into nibbles: the lower nibbles are the first half of the result, the upper nibbles
/// the second half.
#[inline(always)]
fn nibbles(bytes: [u8; 16]) -> [u8; 32] {
    let mut quants = [0; 32];
    for (at, byte) in bytes.into_iter().enumerate() {
        quants[at] = byte & 15;
        quants[at + 16] = byte >> 4;
    }
    quants
}

/// Combines 32 nibbles with 32 fifth bits, which have the value 16.
#[inline(always)]
fn five_bits(low: [u8; 16], high: [u8; 4]) -> [u8; 32] {
    let (mut upper, mut bits) = ([0; 32], [0; 32]);
    for at in 0..32 {
        upper[at] = high[at / 8];
        bits[at] = 1 << (at % 8);
    }
    for (upper, bit) in upper.iter_mut().zip(bits) {
        *upper = if *upper & bit == 0 { 0 } else { 16 };
    }
    bitwise_or(nibbles(low), upper)
}

// The following functions take and return arrays by value. The compiler can vectorize them, since
// the input and the output cannot overlap.

/// Applies `change` to each byte.
#[inline(always)]
fn map_bytes(mut bytes: [u8; 32], change: impl Fn(u8) -> u8) -> [u8; 32] {
    for byte in &mut bytes {
        *byte = change(*byte);
    }
    bytes
}

/// Returns the bitwise OR of two arrays.
#[inline(always)]
fn bitwise_or(mut a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    for (a, b) in a.iter_mut().zip(b) {
        *a |= b;
    }
    a
}
