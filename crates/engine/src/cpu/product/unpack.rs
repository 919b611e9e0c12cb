//! Unpacks blocks of every type to one form: bytes in groups, each with a scale and an offset. A
//! weight is scale times (byte - zero) + offset. The layouts of blocks are those of ggml's
//! `ggml-common.h` and `ggml-quants.c`.

use candle_core::quantized::GgmlDType;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Columns of a tile: rows of weights that are unpacked side by side.
pub(super) const COLUMNS: usize = 32;

/// Values of each column in a tile: those of one large block or of several small ones.
pub(super) const DEPTH: usize = 256;

/// Values of the smallest group.
const MIN_GROUP: usize = 16;

/// The form of a type's weights when they are unpacked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Form {
    dtype: GgmlDType,
    /// Values that share a scale.
    pub(super) group: usize,
    /// The byte of a weight of 0, without the offset.
    pub(super) zero: i32,
    /// Whether groups have offsets.
    pub(super) offsets: bool,
    block_values: usize,
    block_bytes: usize,
}

impl Form {
    /// Returns the form of a type; `None` if it is not unpacked.
    pub(super) fn of(dtype: GgmlDType) -> Option<Form> {
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
        Some(Form { dtype, group, zero, offsets, block_values, block_bytes })
    }

    /// Returns whether a single row is multiplied with the blocks themselves by our own kernel.
    pub(super) fn has_dot(&self) -> bool {
        self.dtype == GgmlDType::Q8_0
    }

    /// Returns whether unpacking pays for so many rows. For a single row candle's kernels of large
    /// blocks, which do not unpack, are faster; those of small blocks are not.
    pub(super) fn pays(&self, rows: usize) -> bool {
        rows > 1 || self.block_values < DEPTH
    }

    /// Returns the bytes of the blocks of so many values.
    pub(super) fn bytes(&self, values: usize) -> usize {
        values / self.block_values * self.block_bytes
    }
}

/// Unpacked columns, one after another.
#[repr(C, align(64))]
pub(super) struct Columns {
    /// Bytes.
    pub(super) quants: [[u8; DEPTH]; COLUMNS],
    /// Scales, group by group, so that those of all columns are adjacent.
    pub(super) scales: [[f32; COLUMNS]; DEPTH / MIN_GROUP],
    /// Offsets, likewise.
    pub(super) offsets: [[f32; COLUMNS]; DEPTH / MIN_GROUP],
}

impl Columns {
    /// Creates columns of zeros.
    pub(super) fn zeros() -> Columns {
        let groups = [[0.0; COLUMNS]; DEPTH / MIN_GROUP];
        Columns { quants: [[0; DEPTH]; COLUMNS], scales: groups, offsets: groups }
    }

    /// Unpacks blocks of at most [`DEPTH`] values to a column.
    #[inline(always)]
    pub(super) fn unpack(&mut self, form: &Form, column: usize, blocks: &[u8]) {
        let mut to = Column {
            quants: &mut self.quants[column],
            scales: [0.0; DEPTH / MIN_GROUP],
            offsets: [0.0; DEPTH / MIN_GROUP],
        };
        match form.dtype {
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
        for (row, scale) in self.scales[..DEPTH / form.group].iter_mut().zip(to.scales) {
            row[column] = scale;
        }
        if form.offsets {
            for (row, offset) in self.offsets[..DEPTH / form.group].iter_mut().zip(to.offsets) {
                row[column] = offset;
            }
        }
    }
}

/// One column while it is unpacked.
struct Column<'a> {
    quants: &'a mut [u8; DEPTH],
    scales: [f32; DEPTH / MIN_GROUP],
    offsets: [f32; DEPTH / MIN_GROUP],
}

impl Column<'_> {
    /// Reads f16 scale, 32 nibbles.
    #[inline(always)]
    fn q4_0(&mut self, blocks: &[[u8; 18]]) {
        floats(blocks, 0, &mut self.scales);
        for ([_, _, low @ ..], quants) in blocks.iter().zip(self.quants.as_chunks_mut().0) {
            *quants = nibbles(*low);
        }
    }

    /// Reads f16 scale, f16 offset, 32 nibbles.
    #[inline(always)]
    fn q4_1(&mut self, blocks: &[[u8; 20]]) {
        floats(blocks, 0, &mut self.scales);
        floats(blocks, 2, &mut self.offsets);
        for ([_, _, _, _, low @ ..], quants) in blocks.iter().zip(self.quants.as_chunks_mut().0) {
            *quants = nibbles(*low);
        }
    }

    /// Reads f16 scale, 32 fifth bits, 32 nibbles.
    #[inline(always)]
    fn q5_0(&mut self, blocks: &[[u8; 22]]) {
        floats(blocks, 0, &mut self.scales);
        for (block, quants) in blocks.iter().zip(self.quants.as_chunks_mut().0) {
            let [_, _, a, b, c, d, low @ ..] = block;
            *quants = five_bits(*low, [*a, *b, *c, *d]);
        }
    }

    /// Reads f16 scale, f16 offset, 32 fifth bits, 32 nibbles.
    #[inline(always)]
    fn q5_1(&mut self, blocks: &[[u8; 24]]) {
        floats(blocks, 0, &mut self.scales);
        floats(blocks, 2, &mut self.offsets);
        for (block, quants) in blocks.iter().zip(self.quants.as_chunks_mut().0) {
            let [_, _, _, _, a, b, c, d, low @ ..] = block;
            *quants = five_bits(*low, [*a, *b, *c, *d]);
        }
    }

    /// Reads f16 scale, 32 signed bytes.
    #[inline(always)]
    fn q8_0(&mut self, blocks: &[[u8; 34]]) {
        floats(blocks, 0, &mut self.scales);
        for ([_, _, bytes @ ..], quants) in blocks.iter().zip(self.quants.as_chunks_mut::<32>().0) {
            *quants = each(*bytes, |byte| byte ^ 0x80);
        }
    }

    /// Reads 16 scales and minima in nibbles, 256 quants in 2 bits, f16 factors of scales and
    /// minima.
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

    /// Reads 256 third bits, 256 quants in 2 bits, 16 scales in 6 bits, their f16 factor.
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

    /// Reads f16 factors, 8 scales and minima in 6 bits, 256 nibbles.
    #[inline(always)]
    fn q4k(&mut self, blocks: &[[u8; 144]]) {
        let Some(block) = blocks.first() else { return };
        self.scales_and_minima(&block[..16]);
        self.pairs_of_nibbles(&block[16..]);
    }

    /// Reads the same as q4_k, with fifth bits before the nibbles.
    #[inline(always)]
    fn q5k(&mut self, blocks: &[[u8; 176]]) {
        let Some(block) = blocks.first() else { return };
        self.scales_and_minima(&block[..16]);
        self.pairs_of_nibbles(&block[48..]);
        self.upper_bits(&block[16..48], 4);
    }

    /// Reads 256 nibbles, 256 times their upper 2 bits, 16 signed scales, their f16 factor.
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
            let low = each(low[2 * half + part % 2], |low| low >> (4 * (part / 2)) & 15);
            let high = each(high[half], |high| (high >> (2 * part) & 3) << 4);
            *quants = either(low, high);
        }
    }

    /// Reads the head of q4_k and q5_k: factors, then 12 bytes that hold eight times two 6-bit
    /// numbers.
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

    /// Reads nibbles: of each 32 bytes, the lower ones are 32 quants, and the upper ones the next 32.
    #[inline(always)]
    fn pairs_of_nibbles(&mut self, bytes: &[u8]) {
        let bytes = bytes.as_chunks().0;
        for (part, quants) in self.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            *quants = each(bytes[part / 2], |byte| byte >> (4 * (part % 2)) & 15);
        }
    }

    /// Reads pairs of bits: of each 32 bytes, the lowest are 32 quants, the next the next 32, and so
    /// on.
    #[inline(always)]
    fn pairs_of_bits(&mut self, bytes: &[u8]) {
        let bytes = bytes.as_chunks().0;
        for (part, quants) in self.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            *quants = each(bytes[part / 4], |byte| byte >> (2 * (part % 4)) & 3);
        }
    }

    /// Adds bit `at` of all quants: of 32 bytes, the lowest bits are those of the first 32 quants, and
    /// so on.
    #[inline(always)]
    fn upper_bits(&mut self, bytes: &[u8], at: usize) {
        let bytes = bytes.as_chunks().0[0];
        for (part, quants) in self.quants.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            *quants = either(*quants, each(bytes, |byte| (byte >> part & 1) << at));
        }
    }
}

/// Reads the f16 at byte `at` of each block.
#[inline(always)]
fn floats<const BYTES: usize>(blocks: &[[u8; BYTES]], at: usize, to: &mut [f32]) {
    let mut halves = [f16::ZERO; DEPTH / 32];
    let halves = &mut halves[..blocks.len()];
    for (half, block) in halves.iter_mut().zip(blocks) {
        *half = f16::from_le_bytes([block[at], block[at + 1]]);
    }
    halves.convert_to_f32_slice(&mut to[..blocks.len()]);
}

/// Reads the f16 at byte `at`.
#[inline(always)]
fn float(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Splits bytes into nibbles: the lower ones are the first half, the upper ones the second.
#[inline(always)]
fn nibbles(bytes: [u8; 16]) -> [u8; 32] {
    let mut quants = [0; 32];
    for (at, byte) in bytes.into_iter().enumerate() {
        quants[at] = byte & 15;
        quants[at + 16] = byte >> 4;
    }
    quants
}

/// Adds to nibbles bits with the value 16.
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
    either(nibbles(low), upper)
}

// These take and return whole arrays: the compiler vectorizes them since input and output cannot
// overlap.

/// Changes each byte.
#[inline(always)]
fn each(mut bytes: [u8; 32], change: impl Fn(u8) -> u8) -> [u8; 32] {
    for byte in &mut bytes {
        *byte = change(*byte);
    }
    bytes
}

/// Returns the bitwise or.
#[inline(always)]
fn either(mut a: [u8; 32], b: [u8; 32]) -> [u8; 32] {
    for (a, b) in a.iter_mut().zip(b) {
        *a |= b;
    }
    a
}
