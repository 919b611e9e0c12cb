//! The kernels that need AVX-512 with VNNI. The only file with intrinsics.

use super::activations::{self, Activations, Group};
use super::unpack::{COLUMNS, Columns, DEPTH, Form};
use std::arch::x86_64::*;
use std::ops::Range;

/// Values that one instruction multiplies and sums in each lane.
const STEP: usize = 4;

/// Lanes of a register.
const LANES: usize = 16;

/// Registers that the columns of a tile take.
const ACROSS: usize = COLUMNS / LANES;

/// Rows that are multiplied with a tile at once: their integer and float sums just fit the
/// registers.
const ROWS: usize = 6;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Proof that this processor has the instructions that the kernels use.
#[derive(Clone, Copy)]
pub(super) struct Vnni(());

/// Columns of weights as the multiplying instruction takes them: four adjacent values of each
/// column, then the next four.
#[repr(C, align(64))]
pub(super) struct Tile([[[u8; STEP]; COLUMNS]; DEPTH / STEP]);

impl Tile {
    /// Creates a tile of zeros.
    pub(super) fn zeros() -> Tile {
        Tile([[[0; STEP]; COLUMNS]; DEPTH / STEP])
    }
}

impl Vnni {
    /// Returns the proof on processors that have the instructions.
    pub(super) fn detect() -> Option<Vnni> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("fma");
        found.then_some(Vnni(()))
    }

    /// Rounds groups of values.
    pub(super) fn round(self, form: &Form, x: &[f32], quants: &mut [i8], groups: &mut [Group]) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { round(form, x, quants, groups) }
    }

    /// Unpacks the blocks of some columns.
    pub(super) fn unpack<'a>(
        self,
        form: &Form,
        blocks: impl Iterator<Item = &'a [u8]>,
        to: &mut Columns,
    ) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { unpack(form, blocks, to) }
    }

    /// Makes a tile of columns.
    pub(super) fn interleave(self, columns: &Columns, tile: &mut Tile) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { interleave(columns, tile) }
    }

    /// Adds to `sums`, one for each row, the products of a tile with rows.
    pub(super) fn multiply(self, form: &Form, work: &Work, sums: &mut [[f32; COLUMNS]]) {
        let values = &work.values;
        assert!(values.start.is_multiple_of(form.group) && values.len() <= DEPTH);
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            match (form.group, form.offsets) {
                (32, false) => work.panel::<32, false>(sums),
                (32, true) => work.panel::<32, true>(sums),
                (_, false) => work.panel::<16, false>(sums),
                (_, true) => work.panel::<16, true>(sums),
            }
        }
    }

    /// Writes the products of the one row of `x` with rows of q8_0 blocks, one for each of `out`.
    pub(super) fn dot(self, x: &Activations, blocks: &[u8], out: &mut [f32]) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { dot(x, blocks, out) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
fn round(form: &Form, x: &[f32], quants: &mut [i8], groups: &mut [Group]) {
    match form.group {
        32 => activations::round::<32>(form.zero, x, quants, groups),
        _ => activations::round::<16>(form.zero, x, quants, groups),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn unpack<'a>(form: &Form, blocks: impl Iterator<Item = &'a [u8]>, to: &mut Columns) {
    for (column, blocks) in blocks.enumerate() {
        // The next blocks of this column follow directly. They need not exist.
        for line in (0..blocks.len()).step_by(LINE) {
            prefetch(blocks.as_ptr().wrapping_add(blocks.len() + line));
        }
        to.unpack(form, column, blocks);
    }
}

#[target_feature(enable = "avx512f")]
fn interleave(columns: &Columns, tile: &mut Tile) {
    for (across, columns) in columns.quants.as_chunks::<LANES>().0.iter().enumerate() {
        for from in (0..DEPTH).step_by(LANES * STEP) {
            let mut rows = [_mm512_setzero_si512(); LANES];
            for (row, column) in rows.iter_mut().zip(columns) {
                let bytes: &[u8] = &column[from..from + LANES * STEP];
                // SAFETY: reads the 64 bytes of the slice.
                *row = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            }
            for (step, row) in transposed(rows).into_iter().enumerate() {
                let to = &mut tile.0[from / STEP + step][across * LANES..(across + 1) * LANES];
                // SAFETY: writes the 16 times 4 bytes of the slice.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), row) };
            }
        }
    }
}

/// Transposes 16 by 16 numbers of 32 bits.
#[target_feature(enable = "avx512f")]
#[inline]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut pairs = rows;
    for at in (0..LANES).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Each quarter of `fours[4 i + j]` is column j of that quarter, of rows 4 i to 4 i + 3.
    let mut fours = rows;
    for at in (0..LANES).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    let mut out = rows;
    for at in 0..4 {
        let [a, b, c, d] = [fours[at], fours[at + 4], fours[at + 8], fours[at + 12]];
        let (even_ab, odd_ab) =
            (_mm512_shuffle_i32x4::<0x88>(a, b), _mm512_shuffle_i32x4::<0xdd>(a, b));
        let (even_cd, odd_cd) =
            (_mm512_shuffle_i32x4::<0x88>(c, d), _mm512_shuffle_i32x4::<0xdd>(c, d));
        out[at] = _mm512_shuffle_i32x4::<0x88>(even_ab, even_cd);
        out[at + 4] = _mm512_shuffle_i32x4::<0x88>(odd_ab, odd_cd);
        out[at + 8] = _mm512_shuffle_i32x4::<0xdd>(even_ab, even_cd);
        out[at + 12] = _mm512_shuffle_i32x4::<0xdd>(odd_ab, odd_cd);
    }
    out
}

/// A tile and the rows that it is to be multiplied with.
pub(super) struct Work<'a> {
    /// The columns of the tile, whose scales and offsets are used.
    pub(super) columns: &'a Columns,
    /// Their bytes.
    pub(super) tile: &'a Tile,
    /// All rows.
    pub(super) x: &'a Activations,
    /// The number of the first row.
    pub(super) first: usize,
    /// The values of the rows that the tile covers: whole groups, at most [`DEPTH`] values.
    pub(super) values: Range<usize>,
}

impl Work<'_> {
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn panel<const GROUP: usize, const OFFSETS: bool>(&self, sums: &mut [[f32; COLUMNS]]) {
        let (whole, rest) = sums.as_chunks_mut::<ROWS>();
        let mut row = self.first;
        for sums in whole {
            self.rows::<ROWS, GROUP, OFFSETS>(row, sums);
            row += ROWS;
        }
        macro_rules! rest {
            ($($count:literal)*) => {
                match rest.len() {
                    $($count => {
                        if let Ok(sums) = rest.try_into() {
                            self.rows::<$count, GROUP, OFFSETS>(row, sums);
                        }
                    })*
                    _ => {}
                }
            };
        }
        rest!(1 2 3 4 5);
    }

    /// Multiplies some rows at once, whose sums stay in registers.
    #[target_feature(enable = "avx512f,avx512vnni")]
    #[inline]
    fn rows<const COUNT: usize, const GROUP: usize, const OFFSETS: bool>(
        &self,
        row: usize,
        sums: &mut [[f32; COLUMNS]; COUNT],
    ) {
        let x = self.x;
        let quants: [&[i8]; COUNT] = std::array::from_fn(|r| {
            &x.quants[(row + r) * x.depth..][..x.depth][self.values.clone()]
        });
        let in_row = self.values.start / GROUP..self.values.end / GROUP;
        let groups: [&[Group]; COUNT] = std::array::from_fn(|r| {
            &x.groups[(row + r) * x.groups_in_row..][..x.groups_in_row][in_row.clone()]
        });
        let mut totals = [[_mm512_setzero_ps(); ACROSS]; COUNT];
        for (totals, sums) in totals.iter_mut().zip(&*sums) {
            for (total, sums) in totals.iter_mut().zip(sums.as_chunks::<LANES>().0) {
                // SAFETY: reads the 16 floats of the array.
                *total = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
            }
        }
        for group in 0..in_row.len() {
            let mut products = [[_mm512_setzero_si512(); ACROSS]; COUNT];
            for (products, groups) in products.iter_mut().zip(&groups) {
                *products = [_mm512_set1_epi32(groups[group].correction); ACROSS];
            }
            for step in group * GROUP / STEP..(group + 1) * GROUP / STEP {
                let weights = &self.tile.0[step];
                // SAFETY: reads the 32 times 4 bytes of the array.
                let weights: [__m512i; ACROSS] = std::array::from_fn(|across| unsafe {
                    _mm512_loadu_si512(weights.as_ptr().add(across * LANES).cast())
                });
                for (products, quants) in products.iter_mut().zip(&quants) {
                    // SAFETY: reads four of the group's quants; the values begin with a group and
                    // consist of whole groups.
                    let four =
                        unsafe { quants.as_ptr().add(step * STEP).cast::<i32>().read_unaligned() };
                    let four = _mm512_set1_epi32(four);
                    for (product, weights) in products.iter_mut().zip(weights) {
                        *product = _mm512_dpbusd_epi32(*product, weights, four);
                    }
                }
            }
            for across in 0..ACROSS {
                // SAFETY: reads 16 floats of the 32 in a row of the table.
                let load = |table: &[[f32; COLUMNS]]| unsafe {
                    _mm512_loadu_ps(table[group].as_ptr().add(across * LANES))
                };
                let scales = load(&self.columns.scales);
                for ((totals, products), groups) in totals.iter_mut().zip(products).zip(&groups) {
                    let scale = _mm512_mul_ps(scales, _mm512_set1_ps(groups[group].scale));
                    let products = _mm512_cvtepi32_ps(products[across]);
                    totals[across] = _mm512_fmadd_ps(products, scale, totals[across]);
                    if OFFSETS {
                        let sum = _mm512_set1_ps(groups[group].sum);
                        totals[across] =
                            _mm512_fmadd_ps(load(&self.columns.offsets), sum, totals[across]);
                    }
                }
            }
        }
        for (totals, sums) in totals.iter().zip(sums) {
            for (total, sums) in totals.iter().zip(sums.as_chunks_mut::<LANES>().0) {
                // SAFETY: writes the 16 floats of the array.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *total) };
            }
        }
    }
}

/// A block of q8_0: an f16 scale and 32 signed bytes.
type Q8 = [u8; 34];

/// Rows of blocks that are multiplied at once.
const ROWS_AT_ONCE: usize = 4;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c,fma")]
fn dot(x: &Activations, blocks: &[u8], out: &mut [f32]) {
    let blocks: &[Q8] = blocks.as_chunks().0;
    let (out, rest) = out.as_chunks_mut::<ROWS_AT_ONCE>();
    let (first, last) = blocks.split_at(out.len() * ROWS_AT_ONCE * x.groups_in_row);
    for (out, rows) in out.iter_mut().zip(first.chunks_exact(ROWS_AT_ONCE * x.groups_in_row)) {
        *out = dot_rows(x, rows);
    }
    for (out, row) in rest.iter_mut().zip(last.chunks_exact(x.groups_in_row)) {
        [*out] = dot_rows(x, row);
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c,fma")]
#[inline]
fn dot_rows<const COUNT: usize>(x: &Activations, blocks: &[Q8]) -> [f32; COUNT] {
    let (quants, count): (&[[i8; 32]], usize) = (x.quants.as_chunks().0, x.groups_in_row);
    let (quants, groups) = (&quants[..count], &x.groups[..count]);
    let rows: [&[Q8]; COUNT] = std::array::from_fn(|row| &blocks[row * count..][..count]);
    let mut totals = [_mm256_setzero_ps(); COUNT];
    for at in 0..count {
        // SAFETY: reads the 32 bytes of the array.
        let quants = unsafe { _mm256_loadu_si256(quants[at].as_ptr().cast()) };
        let scale = _mm256_set1_ps(groups[at].scale);
        let correction = _mm256_zextsi128_si256(_mm_cvtsi32_si128(groups[at].correction));
        for (total, row) in totals.iter_mut().zip(rows) {
            let block = &row[at];
            // The next block to be read follows these rows. It need not exist.
            prefetch(block.as_ptr().wrapping_add(size_of::<Q8>() * count * COUNT));
            // SAFETY: reads 32 bytes of the block's 34, from the third on.
            let weights = unsafe { _mm256_loadu_si256(block.as_ptr().add(2).cast()) };
            let weights = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
            let products = _mm256_dpbusd_epi32(correction, weights, quants);
            let half = _mm_set1_epi16(i16::from_le_bytes([block[0], block[1]]));
            let scale = _mm256_mul_ps(_mm256_cvtph_ps(half), scale);
            *total = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products), scale, *total);
        }
    }
    let mut out = [0.0; COUNT];
    for (out, total) in out.iter_mut().zip(totals) {
        *out = sum(total);
    }
    out
}

/// Prefetches memory that will be read soon. An invalid address does no harm.
#[inline(always)]
fn prefetch(address: *const u8) {
    // SAFETY: a hint, which reads nothing and faults on no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// Returns the sum of all lanes.
#[target_feature(enable = "avx2")]
#[inline]
fn sum(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
