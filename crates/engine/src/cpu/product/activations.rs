//! Rows of f32 values that are rounded to 8 bits, with one scale per group of values.

/// The scale and the sums of a group of values.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Group {
    /// The factor that converts quants to values.
    pub(super) scale: f32,
    /// The number to add to the sum of the group's integer products, to correct for the zero point
    /// of the weights.
    pub(super) correction: i32,
    /// The sum of the rounded values, which is `scale` times the sum of the quants.
    pub(super) sum: f32,
}

/// Rows of rounded values.
pub(super) struct Activations {
    /// The quantized values, row by row.
    pub(super) quants: Vec<i8>,
    /// The groups, row by row.
    pub(super) groups: Vec<Group>,
    /// The number of values in a row.
    pub(super) depth: usize,
    /// The number of groups in a row.
    pub(super) groups_in_row: usize,
}

/// Rounds the values `x` in groups of `GROUP` to `quants` and `groups`. `zero` is the zero point of
/// the weights. A group with NaN or infinity gets a scale that is not finite, so that its products
/// are not finite.
#[inline(always)]
pub(super) fn round<const GROUP: usize>(
    zero: i32,
    x: &[f32],
    quants: &mut [i8],
    groups: &mut [Group],
) {
    let (x, quants) = (x.as_chunks::<GROUP>().0, quants.as_chunks_mut::<GROUP>().0);
    for ((x, quants), group) in x.iter().zip(quants).zip(groups) {
        // The bits of nonnegative floats have the same order as the floats, and the compiler
        // vectorizes the maximum of integers.
        let largest = x.iter().map(|x| x.to_bits() & 0x7fff_ffff).fold(0, u32::max);
        let largest = f32::from_bits(largest);
        let inverse = 127.0 / largest;
        // the inverse is not finite for zeros, for tiny values and for NaN
        let inverse = if inverse.is_finite() { inverse } else { 0.0 };
        let mut sum = 0i32;
        for (quant, x) in quants.iter_mut().zip(x) {
            let rounded = nearest(x * inverse);
            // NaN and infinity round to arbitrary integers, so the sum may overflow
            sum = sum.wrapping_add(rounded);
            *quant = rounded as i8;
        }
        let scale = largest / 127.0;
        *group = Group { scale, correction: (-zero).wrapping_mul(sum), sum: scale * sum as f32 };
    }
}

/// Rounds a value between -127 and 127 to the nearest integer.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    // Near 1.5 times 2^23, floats are integers, and their bits differ by the same integers.
    const NO_FRACTION: f32 = 12_582_912.0;
    (x + NO_FRACTION).to_bits().wrapping_sub(NO_FRACTION.to_bits()) as i32
}
