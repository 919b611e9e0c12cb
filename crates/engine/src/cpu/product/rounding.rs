//! Rounds rows of f32 to 8 bits, on all cores.

use super::activations::{Activations, Group};
use super::share::{Parts, share};
use super::unpack::Form;
use super::vnni::Vnni;

/// Rounds rows of `depth` values for weights of this form.
pub(super) fn rounded(vnni: Vnni, form: &Form, depth: usize, x: &[f32]) -> Activations {
    let mut quants = vec![0; x.len()];
    let mut groups = vec![Group::default(); x.len() / form.group];
    let (quants_parts, groups_parts) = (Parts::new(&mut quants), Parts::new(&mut groups));
    share(x.len(), groups_parts.len(), |range| {
        let values = range.start * form.group..range.end * form.group;
        // SAFETY: ranges of groups are disjoint, and so are those of their values.
        let (quants, groups) =
            unsafe { (quants_parts.part(values.clone()), groups_parts.part(range)) };
        vnni.round(form, &x[values], quants, groups);
    });
    Activations { quants, groups, depth, groups_in_row: depth / form.group }
}
