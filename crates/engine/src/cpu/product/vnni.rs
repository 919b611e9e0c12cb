//! The kernels that need AVX-512 with VNNI. Only this file uses intrinsics.

use super::activations::{self, Activations, Group};
use super::unpack::{COLUMNS, Columns, DEPTH, UnpackedLayout};
use std::arch::x86_64::*;
use std::ops::Range;

/// The number of values that one instruction multiplies and sums in each lane.
const STEP: usize = 4;

/// The number of 32-bit lanes of a register.
const LANES: usize = 16;

/// The number of registers for one 32-bit number per column of a tile.
const TILE_REGISTERS: usize = COLUMNS / LANES;

/// The number of rows that are multiplied with a tile together. Their integer and float sums just
/// fit in the registers.
const TILE_ROWS: usize = 6;

/// The number of bytes of a cache line.
const CACHE_LINE_BYTES: usize = 64;

/// A proof that this processor has the instructions that the kernels use.
#[derive(Clone, Copy)]
pub(super) struct Vnni(());

/// The bytes of the columns of a tile in the order of the multiplying instruction: four adjacent
/// values of each column, then the next four values of each column.
#[repr(C, align(64))]
pub(super) struct Tile([[[u8; STEP]; COLUMNS]; DEPTH / STEP]);

impl Tile {
    /// Creates a tile of zeros.
    pub(super) fn zeros() -> Tile {
        Tile([[[0; STEP]; COLUMNS]; DEPTH / STEP])
    }
}

impl Vnni {
    /// Returns the proof. `None` if the processor lacks one of the instructions.
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

    /// Rounds the values `x` to `quants` and `groups`, for weights of this layout.
    pub(super) fn round(
        self,
        layout: &UnpackedLayout,
        x: &[f32],
        quants: &mut [i8],
        groups: &mut [Group],
    ) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { round(layout, x, quants, groups) }
    }

    /// Unpacks the blocks of consecutive columns, one item of `blocks` per column.
    pub(super) fn unpack<'a>(
        self,
        layout: &UnpackedLayout,
        blocks: impl Iterator<Item = &'a [u8]>,
        to: &mut Columns,
    ) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { unpack(layout, blocks, to) }
    }

    /// Writes the bytes of unpacked columns to a tile.
    pub(super) fn interleave(self, columns: &Columns, tile: &mut Tile) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { interleave(columns, tile) }
    }

    /// Adds the products of a tile with rows to `sums`, which has one element per row.
    pub(super) fn multiply(
        self,
        layout: &UnpackedLayout,
        work: &TileWork,
        sums: &mut [[f32; COLUMNS]],
    ) {
        let values = &work.values;
        assert!(values.start.is_multiple_of(layout.group) && values.len() <= DEPTH);
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe {
            match (layout.group, layout.offsets) {
                (32, false) => work.multiply_panel::<32, false>(sums),
                (32, true) => work.multiply_panel::<32, true>(sums),
                (_, false) => work.multiply_panel::<16, false>(sums),
                (_, true) => work.multiply_panel::<16, true>(sums),
            }
        }
    }

    /// Writes the products of the only row of `x` with rows of q8_0 blocks to `out`, which has one
    /// element per row of blocks.
    pub(super) fn dot(self, x: &Activations, blocks: &[u8], out: &mut [f32]) {
        // SAFETY: `self` proves that the processor has the instructions.
        unsafe { dot(x, blocks, out) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma")]
fn round(layout: &UnpackedLayout, x: &[f32], quants: &mut [i8], groups: &mut [Group]) {
    match layout.group {
        32 => activations::round::<32>(layout.zero, x, quants, groups),
        _ => activations::round::<16>(layout.zero, x, quants, groups),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,fma,f16c")]
fn unpack<'a>(layout: &UnpackedLayout, blocks: impl Iterator<Item = &'a [u8]>, to: &mut Columns) {
    for (column, blocks) in blocks.enumerate() {
        // the next blocks of this column follow directly, if they exist
        for line in (0..blocks.len()).step_by(CACHE_LINE_BYTES) {
            prefetch(blocks.as_ptr().wrapping_add(blocks.len() + line));
        }
        to.unpack(layout, column, blocks);
    }
}

#[target_feature(enable = "avx512f")]
fn interleave(columns: &Columns, tile: &mut Tile) {
    for (register, columns) in columns.quants.as_chunks::<LANES>().0.iter().enumerate() {
        for from in (0..DEPTH).step_by(LANES * STEP) {
            let mut rows = [_mm512_setzero_si512(); LANES];
            for (row, column) in rows.iter_mut().zip(columns) {
                let bytes: &[u8] = &column[from..from + LANES * STEP];
                // SAFETY: it reads the 64 bytes of the slice.
                *row = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
            }
            for (step, row) in transposed(rows).into_iter().enumerate() {
                let to = &mut tile.0[from / STEP + step][register * LANES..(register + 1) * LANES];
                // SAFETY: it writes the 16 times 4 bytes of the slice.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), row) };
            }
        }
    }
}

/// Transposes a matrix of 16 by 16 numbers of 32 bits.
#[target_feature(enable = "avx512f")]
#[inline]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut pairs = rows;
    for at in (0..LANES).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // each quarter of `fours[4 * i + j]` has column j of that quarter, of the rows 4 * i to 4 * i +
    // 3
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

/// A tile and the rows with which it is multiplied.
pub(super) struct TileWork<'a> {
    /// The unpacked columns of the tile, of which only the scales and offsets are used.
    pub(super) columns: &'a Columns,
    /// The bytes of the same columns.
    pub(super) tile: &'a Tile,
    /// The rows of activations.
    pub(super) x: &'a Activations,
    /// The index of the first row to multiply.
    pub(super) first: usize,
    /// The range of values of each row that the tile covers: complete groups, at most [`DEPTH`]
    /// values.
    pub(super) values: Range<usize>,
}

impl TileWork<'_> {
    /// Multiplies all rows, in steps of [`TILE_ROWS`].
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn multiply_panel<const GROUP: usize, const OFFSETS: bool>(&self, sums: &mut [[f32; COLUMNS]]) {
        let (full, rest) = sums.as_chunks_mut::<TILE_ROWS>();
        let mut row = self.first;
        for sums in full {
            self.multiply_rows::<TILE_ROWS, GROUP, OFFSETS>(row, sums);
            row += TILE_ROWS;
        }
        macro_rules! rest {
            ($($count:literal)*) => {
                match rest.len() {
                    $($count => {
                        if let Ok(sums) = rest.try_into() {
                            self.multiply_rows::<$count, GROUP, OFFSETS>(row, sums);
                        }
                    })*
                    _ => {}
                }
            };
        }
        rest!(1 2 3 4 5);
    }

    /// Multiplies `COUNT` rows from `row` on together. Their sums stay in registers.
    #[target_feature(enable = "avx512f,avx512vnni")]
    #[inline]
    fn multiply_rows<const COUNT: usize, const GROUP: usize, const OFFSETS: bool>(
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
        let mut totals = [[_mm512_setzero_ps(); TILE_REGISTERS]; COUNT];
        for (totals, sums) in totals.iter_mut().zip(&*sums) {
            for (total, sums) in totals.iter_mut().zip(sums.as_chunks::<LANES>().0) {
                // SAFETY: it reads the 16 floats of the array.
                *total = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
            }
        }
        for group in 0..in_row.len() {
            let mut products = [[_mm512_setzero_si512(); TILE_REGISTERS]; COUNT];
            for (products, groups) in products.iter_mut().zip(&groups) {
                *products = [_mm512_set1_epi32(groups[group].correction); TILE_REGISTERS];
            }
            for step in group * GROUP / STEP..(group + 1) * GROUP / STEP {
                let weights = &self.tile.0[step];
                // SAFETY: it reads the 32 times 4 bytes of the array.
                let weights: [__m512i; TILE_REGISTERS] = std::array::from_fn(|register| unsafe {
                    _mm512_loadu_si512(weights.as_ptr().add(register * LANES).cast())
                });
                for (products, quants) in products.iter_mut().zip(&quants) {
                    // SAFETY: it reads four quants of the group; the values start at a group and
                    // consist of complete groups.
                    let four =
                        unsafe { quants.as_ptr().add(step * STEP).cast::<i32>().read_unaligned() };
                    let four = _mm512_set1_epi32(four);
                    for (product, weights) in products.iter_mut().zip(weights) {
                        *product = _mm512_dpbusd_epi32(*product, weights, four);
                    }
                }
            }
            for register in 0..TILE_REGISTERS {
                // SAFETY: it reads 16 of the 32 floats in a row of the table.
                let load = |table: &[[f32; COLUMNS]]| unsafe {
                    _mm512_loadu_ps(table[group].as_ptr().add(register * LANES))
                };
                let scales = load(&self.columns.scales);
                for ((totals, products), groups) in totals.iter_mut().zip(products).zip(&groups) {
                    let scale = _mm512_mul_ps(scales, _mm512_set1_ps(groups[group].scale));
                    let products = _mm512_cvtepi32_ps(products[register]);
                    totals[register] = _mm512_fmadd_ps(products, scale, totals[register]);
                    if OFFSETS {
                        let sum = _mm512_set1_ps(groups[group].sum);
                        totals[register] =
                            _mm512_fmadd_ps(load(&self.columns.offsets), sum, totals[register]);
                    }
                }
            }
        }
        for (totals, sums) in totals.iter().zip(sums) {
            for (total, sums) in totals.iter().zip(sums.as_chunks_mut::<LANES>().0) {
                // SAFETY: it writes the 16 floats of the array.
                unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *total) };
            }
        }
    }
}

/// A q8_0 block: an f16 scale and 32 signed bytes.
type Q8Block = [u8; 34];

/// The number of rows of blocks that `dot` multiplies together.
const DOT_ROWS: usize = 4;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c,fma")]
fn dot(x: &Activations, blocks: &[u8], out: &mut [f32]) {
    let blocks: &[Q8Block] = blocks.as_chunks().0;
    let (out, rest) = out.as_chunks_mut::<DOT_ROWS>();
    let (first, last) = blocks.split_at(out.len() * DOT_ROWS * x.groups_in_row);
    for (out, rows) in out.iter_mut().zip(first.chunks_exact(DOT_ROWS * x.groups_in_row)) {
        *out = dot_rows(x, rows);
    }
    for (out, row) in rest.iter_mut().zip(last.chunks_exact(x.groups_in_row)) {
        [*out] = dot_rows(x, row);
    }
}

/// Returns the products of the only row of `x` with `COUNT` rows of blocks.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c,fma")]
#[inline]
fn dot_rows<const COUNT: usize>(x: &Activations, blocks: &[Q8Block]) -> [f32; COUNT] {
    let (quants, count): (&[[i8; 32]], usize) = (x.quants.as_chunks().0, x.groups_in_row);
    let (quants, groups) = (&quants[..count], &x.groups[..count]);
    let rows: [&[Q8Block]; COUNT] = std::array::from_fn(|row| &blocks[row * count..][..count]);
    let mut totals = [_mm256_setzero_ps(); COUNT];
    for at in 0..count {
        // SAFETY: it reads the 32 bytes of the array.
        let quants = unsafe { _mm256_loadu_si256(quants[at].as_ptr().cast()) };
        let scale = _mm256_set1_ps(groups[at].scale);
        let correction = _mm256_zextsi128_si256(_mm_cvtsi32_si128(groups[at].correction));
        for (total, row) in totals.iter_mut().zip(rows) {
            let block = &row[at];
            // the next block to read follows these rows, if it exists
            prefetch(block.as_ptr().wrapping_add(size_of::<Q8Block>() * count * COUNT));
            // SAFETY: it reads 32 of the 34 bytes of the block, from the third byte on.
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

/// Prefetches the cache line at `address`, which may be invalid.
#[inline(always)]
fn prefetch(address: *const u8) {
    // SAFETY: prefetching is a hint, which never faults.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

/// Returns the sum of all lanes of a register.
#[target_feature(enable = "avx2")]
#[inline]
fn sum(lanes: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}
