//! Splits the weights of a product into tiles and the rows into panels, and multiplies the pairs of
//! a tile and a panel in parallel.

use super::activations::Activations;
use super::parallel::{DisjointSlice, PARTS_PER_THREAD, in_parallel};
use super::rounding::rounded;
use super::unpack::{COLUMNS, Columns, DEPTH, UnpackedLayout};
use super::vnni::{Tile, TileWork, Vnni};
use std::ops::Range;

/// The minimum number of rows of a panel. With fewer rows, another thread saves less time than the
/// repeated unpacking of a tile costs.
const MIN_PANEL_ROWS: usize = 64;

/// Rows of quantized weights, each of which produces one column of the product.
pub(super) struct Weights<'a> {
    /// The layout to which the blocks are unpacked.
    pub(super) layout: UnpackedLayout,
    /// The bytes of the blocks, row by row.
    pub(super) bytes: &'a [u8],
    /// The number of rows of weights, which is the number of columns of the product.
    pub(super) columns: usize,
    /// The number of values in a row.
    pub(super) depth: usize,
}

impl Weights<'_> {
    /// Returns the bytes of the blocks of a range of values in the row for `column`.
    fn blocks(&self, column: usize, values: Range<usize>) -> &[u8] {
        let column = &self.bytes[self.layout.bytes(column * self.depth)..];
        &column[self.layout.bytes(values.start)..self.layout.bytes(values.end)]
    }
}

/// Writes the products of all rows of `x` (m, depth) with all rows of the weights (columns, depth)
/// to `out` (m, columns).
pub(super) fn product(vnni: Vnni, weights: &Weights, x: &[f32], out: &mut [f32]) {
    if x.is_empty() || out.is_empty() {
        out.fill(0.0);
        return;
    }
    let rows = x.len() / weights.depth;
    let x = rounded(vnni, &weights.layout, weights.depth, x);
    let work = rows * weights.depth * weights.columns;
    let out = DisjointSlice::new(out);
    if rows == 1 && weights.layout.has_dot_kernel() {
        in_parallel(work, weights.columns, |columns| {
            let blocks = &weights.bytes[weights.layout.bytes(columns.start * weights.depth)..];
            // SAFETY: the ranges of columns are disjoint.
            vnni.dot(&x, blocks, unsafe { out.part(columns) });
        });
        return;
    }
    let tiles = weights.columns.div_ceil(COLUMNS);
    let panels = (rayon::current_num_threads() * PARTS_PER_THREAD / tiles)
        .clamp(1, rows.div_ceil(MIN_PANEL_ROWS));
    let panel_rows = rows.div_ceil(panels);
    in_parallel(work, tiles * panels, |parts| {
        let mut scratch = Scratch::new();
        for part in parts {
            let (tile, panel) = (part / panels, part % panels);
            let columns = tile * COLUMNS..((tile + 1) * COLUMNS).min(weights.columns);
            let rows = panel * panel_rows..((panel + 1) * panel_rows).min(rows);
            scratch.multiply(vnni, weights, columns.clone(), &x, rows.clone());
            for (row, sums) in rows.zip(&scratch.sums) {
                let at = row * weights.columns;
                // SAFETY: each pair of a tile and a panel belongs to exactly one part.
                let to = unsafe { out.part(at + columns.start..at + columns.end) };
                to.copy_from_slice(&sums[..columns.len()]);
            }
        }
    });
}

/// The buffers of one thread.
struct Scratch {
    /// The unpacked columns of the current tile.
    columns: Box<Columns>,
    /// The interleaved bytes of the same columns.
    tile: Box<Tile>,
    /// The products of each row of the panel with the columns of the tile.
    sums: Vec<[f32; COLUMNS]>,
}

impl Scratch {
    fn new() -> Scratch {
        Scratch {
            columns: Box::new(Columns::zeros()),
            tile: Box::new(Tile::zeros()),
            sums: Vec::new(),
        }
    }

    /// Writes the products of the rows `rows` of `x` with at most [`COLUMNS`] columns to `sums`.
    fn multiply(
        &mut self,
        vnni: Vnni,
        weights: &Weights,
        columns: Range<usize>,
        x: &Activations,
        rows: Range<usize>,
    ) {
        self.sums.clear();
        self.sums.resize(rows.len(), [0.0; COLUMNS]);
        for from in (0..weights.depth).step_by(DEPTH) {
            let values = from..(from + DEPTH).min(weights.depth);
            let blocks = columns.clone().map(|column| weights.blocks(column, values.clone()));
            vnni.unpack(&weights.layout, blocks, &mut self.columns);
            vnni.interleave(&self.columns, &mut self.tile);
            let work =
                TileWork { columns: &self.columns, tile: &self.tile, x, first: rows.start, values };
            vnni.multiply(&weights.layout, &work, &mut self.sums);
        }
    }
}
