//! Rows of f32 rounded to 8 bits, each group of values under a scale of its own.

use super::share::{Parts, share};
use super::unpack::Form;
use super::vnni::Vnni;

/// What a group of values has in common.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Group {
    /// A value is its quant times this.
    pub(super) scale: f32,
    /// What the weights' zero point adds to the group's sum of products.
    pub(super) correction: i32,
    /// Sum of the values as they are rounded.
    pub(super) sum: f32,
}

/// Rounded rows.
pub(super) struct Activations {
    /// Quants, row by row.
    pub(super) quants: Vec<i8>,
    /// Groups, row by row.
    pub(super) groups: Vec<Group>,
    /// Values of a row.
    pub(super) depth: usize,
    /// Groups of a row.
    pub(super) groups_in_row: usize,
}

impl Activations {
    /// Rounds rows of `depth` values for weights of this form.
    pub(super) fn new(vnni: Vnni, form: &Form, depth: usize, x: &[f32]) -> Activations {
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
}

/// Rounds groups of `GROUP` values. A group with NaN or infinity gets a scale that is none either,
/// so that its products are none.
#[inline(always)]
pub(super) fn round<const GROUP: usize>(
    zero: i32,
    x: &[f32],
    quants: &mut [i8],
    groups: &mut [Group],
) {
    let (x, quants) = (x.as_chunks::<GROUP>().0, quants.as_chunks_mut::<GROUP>().0);
    for ((x, quants), group) in x.iter().zip(quants).zip(groups) {
        // Bits of floats without sign are in the order of the floats, and their largest is found
        // many at a time.
        let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).fold(0, u32::max);
        let largest = f32::from_bits(largest);
        let inverse = 127.0 / largest;
        // of zeros, of values whose inverse no float can hold, and of what is no number
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        let mut sum = 0i32;
        for (quant, x) in quants.iter_mut().zip(x) {
            let rounded = nearest(x * inverse);
            // what is no number rounds to anything
            sum = sum.wrapping_add(rounded);
            *quant = rounded as i8;
        }
        let scale = largest / 127.0;
        *group = Group { scale, correction: (-zero).wrapping_mul(sum), sum: scale * sum as f32 };
    }
}

/// The nearest whole number of a value of at most 127.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    // At 1.5 times 2^23 floats are whole numbers, and their last bits count them.
    const WHOLE: f32 = 12_582_912.0;
    (x + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()) as i32
}
