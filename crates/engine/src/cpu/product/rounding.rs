//! Rounds rows of f32 values to 8 bits, on all cores.

use super::activations::{Activations, Group};
use super::parallel::{DisjointSlice, in_parallel};
use super::unpack::UnpackedLayout;
use super::vnni::Vnni;

/// Rounds rows of `depth` values for products with weights of this layout.
pub(super) fn rounded(vnni: Vnni, layout: &UnpackedLayout, depth: usize, x: &[f32]) -> Activations {
    let mut quants = vec![0; x.len()];
    let mut groups = vec![Group::default(); x.len() / layout.group];
    let quants_slice = DisjointSlice::new(&mut quants);
    let groups_slice = DisjointSlice::new(&mut groups);
    in_parallel(x.len(), groups_slice.len(), |range| {
        let values = range.start * layout.group..range.end * layout.group;
        // SAFETY: the ranges of groups are disjoint, and so are the ranges of their values.
        let (quants, groups) =
            unsafe { (quants_slice.part(values.clone()), groups_slice.part(range)) };
        vnni.round(layout, &x[values], quants, groups);
    });
    Activations { quants, groups, depth, groups_in_row: depth / layout.group }
}
