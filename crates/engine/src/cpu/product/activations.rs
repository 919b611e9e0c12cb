//! Rows of f32 rounded to 8 bits, where each group of values has a scale of its own.

/// What the values of a group have in common.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Group {
    /// A value is its quant times this.
    pub(super) scale: f32,
    /// What has to be added to the group's sum of products for the weights' zero point.
    pub(super) correction: i32,
    /// The sum of the rounded values.
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

/// Rounds groups of `GROUP` values. A group with NaN or infinity gets a scale that is not finite
/// either, so that its products are not.
#[inline(always)]
pub(super) fn round<const GROUP: usize>(
    zero: i32,
    x: &[f32],
    quants: &mut [i8],
    groups: &mut [Group],
) {
    let (x, quants) = (x.as_chunks::<GROUP>().0, quants.as_chunks_mut::<GROUP>().0);
    for ((x, quants), group) in x.iter().zip(quants).zip(groups) {
        // Bits of floats without sign have the order of the floats, and the maximum of integers is
        // vectorized.
        let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).fold(0, u32::max);
        let largest = f32::from_bits(largest);
        let inverse = 127.0 / largest;
        // not finite for zeros, for values whose inverse overflows, and for NaN and infinity
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        let mut sum = 0i32;
        for (quant, x) in quants.iter_mut().zip(x) {
            let rounded = nearest(x * inverse);
            // NaN and infinity round to any number
            sum = sum.wrapping_add(rounded);
            *quant = rounded as i8;
        }
        let scale = largest / 127.0;
        *group = Group { scale, correction: (-zero).wrapping_mul(sum), sum: scale * sum as f32 };
    }
}

/// Rounds a value of at most 127 to the nearest integer.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    // At 1.5 times 2^23 floats are integers, and their last bits count them.
    const WHOLE: f32 = 12_582_912.0;
    (x + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()) as i32
}
