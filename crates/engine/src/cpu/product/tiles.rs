//! Splits a product into tiles of the weights by panels of the rows, and computes them in parallel.

use super::activations::Activations;
use super::rounding::rounded;
use super::share::{PARTS_PER_THREAD, Parts, share};
use super::unpack::{COLUMNS, Columns, DEPTH, Form};
use super::vnni::{Tile, Vnni, Work};
use std::ops::Range;

/// The fewest rows of a panel: with fewer, one more thread saves less than unpacking a tile again
/// costs.
const MIN_PANEL_ROWS: usize = 64;

/// Rows of weights, which make the columns of the product.
pub(super) struct Weights<'a> {
    /// The form of their blocks.
    pub(super) form: Form,
    /// Their blocks.
    pub(super) bytes: &'a [u8],
    /// The number of rows.
    pub(super) columns: usize,
    /// Values of each row.
    pub(super) depth: usize,
}

impl Weights<'_> {
    /// Returns the blocks of a range of values of one column.
    fn blocks(&self, column: usize, values: Range<usize>) -> &[u8] {
        let column = &self.bytes[self.form.bytes(column * self.depth)..];
        &column[self.form.bytes(values.start)..self.form.bytes(values.end)]
    }
}

/// Computes the products of all rows of `x` with all columns.
pub(super) fn product(vnni: Vnni, weights: &Weights, x: &[f32], out: &mut [f32]) {
    if x.is_empty() || out.is_empty() {
        out.fill(0.0);
        return;
    }
    let rows = x.len() / weights.depth;
    let x = rounded(vnni, &weights.form, weights.depth, x);
    let work = rows * weights.depth * weights.columns;
    let out = Parts::new(out);
    if rows == 1 && weights.form.has_dot() {
        share(work, weights.columns, |columns| {
            let blocks = &weights.bytes[weights.form.bytes(columns.start * weights.depth)..];
            // SAFETY: ranges of columns are disjoint.
            vnni.dot(&x, blocks, unsafe { out.part(columns) });
        });
        return;
    }
    let tiles = weights.columns.div_ceil(COLUMNS);
    let panels = (rayon::current_num_threads() * PARTS_PER_THREAD / tiles)
        .clamp(1, rows.div_ceil(MIN_PANEL_ROWS));
    let panel = rows.div_ceil(panels);
    share(work, tiles * panels, |parts| {
        let mut scratch = Scratch::new();
        for part in parts {
            let (tile, panel_number) = (part / panels, part % panels);
            let columns = tile * COLUMNS..((tile + 1) * COLUMNS).min(weights.columns);
            let rows = panel_number * panel..((panel_number + 1) * panel).min(rows);
            scratch.multiply(vnni, weights, columns.clone(), &x, rows.clone());
            for (row, sums) in rows.zip(&scratch.sums) {
                let at = row * weights.columns;
                // SAFETY: each pair of a tile and a panel belongs to one part.
                let to = unsafe { out.part(at + columns.start..at + columns.end) };
                to.copy_from_slice(&sums[..columns.len()]);
            }
        }
    });
}

/// The buffers of a thread.
struct Scratch {
    columns: Box<Columns>,
    tile: Box<Tile>,
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

    /// Writes the products of some rows with at most [`COLUMNS`] columns to `sums`.
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
            vnni.unpack(&weights.form, blocks, &mut self.columns);
            vnni.interleave(&self.columns, &mut self.tile);
            let work =
                Work { columns: &self.columns, tile: &self.tile, x, first: rows.start, values };
            vnni.multiply(&weights.form, &work, &mut self.sums);
        }
    }
}
