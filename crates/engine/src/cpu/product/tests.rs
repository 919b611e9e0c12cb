//! Compares products with blocks of each type with products of the same weights in f64.

use super::product;
use crate::blocks::{Block, allocate_zeroed};
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0,
};
use modelgate_testkit::random::Random;

/// Returns shapes (rows, depth, columns) with one block and with several blocks of `block` values
/// per row, with columns that do not fill a tile, and with few and many rows.
fn shapes(block: usize) -> Vec<(usize, usize, usize)> {
    let mut shapes = Vec::new();
    for rows in [1, 2, 5, 33, 300] {
        for (depth, columns) in [(block, 9), (3 * block, 50), (1024, 16), (256 + block, 33)] {
            shapes.push((rows, depth, columns));
        }
    }
    shapes
}

/// Returns nearly normally distributed values.
fn normal_values(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.nearly_normal()).collect()
}

/// Returns values that rounding to 8 bits does not change: integers from -127 to 127, of which each
/// group contains 127.
fn integers(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let value = |at| if at % 16 == 0 { 127.0 } else { (random.bits() % 255) as f32 - 127.0 };
    (0..count).map(value).collect()
}

/// Quantizes values with candle's quantizer.
fn quantized<T: Block>(values: &[f32]) -> Vec<T> {
    let mut blocks =
        allocate_zeroed(values.len() / T::BLCK_SIZE).expect("the blocks are allocated");
    T::from_float(values, &mut blocks);
    blocks
}

/// Returns the error of the product, as the root mean square of the error divided by the root mean
/// square of the expected values.
fn relative_product_error<T: Block>(
    (m, k, n): (usize, usize, usize),
    x: &[f32],
    blocks: &[T],
) -> f64 {
    let mut found = vec![f32::NAN; m * n];
    product((m, k, n), x, blocks, &mut found).expect("the product succeeds");
    let mut weights = vec![0.0; n * k];
    T::to_float(blocks, &mut weights);
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let (mut difference, mut square) = (0.0, 0.0);
    for (x, found) in x.chunks(k).zip(found.chunks(n)) {
        for (weights, found) in weights.chunks(k).zip(found) {
            let expected = dot(x, weights);
            difference += (f64::from(*found) - expected).powi(2);
            square += expected.powi(2);
        }
    }
    (difference / square).sqrt()
}

/// Compares the products of all shapes, with fractional and with integral activations.
fn check_all_shapes<T: Block>() {
    for (number, (m, k, n)) in shapes(T::BLCK_SIZE).into_iter().enumerate() {
        let seed = number as u64;
        // the mean is not zero, so that errors of offsets and zero points are visible
        let weights: Vec<f32> =
            normal_values(n * k, seed).iter().map(|w| w * 0.02 + 0.01).collect();
        let weights = quantized::<T>(&weights);
        let rounded = relative_product_error((m, k, n), &normal_values(m * k, !seed), &weights);
        assert!(rounded < 0.01, "{:?} {m} {k} {n}: {rounded}", T::DTYPE);
        let exact = relative_product_error((m, k, n), &integers(m * k, !seed), &weights);
        // candle's kernels, which may multiply a single row, round more coarsely
        let max_error = if m > 1 { 1e-5 } else { 0.01 };
        assert!(exact < max_error, "{:?} {m} {k} {n}: {exact}", T::DTYPE);
    }
}

macro_rules! product_tests {
    ($($name:ident: $block:ty),* $(,)?) => {$(
        #[test]
        fn $name() {
            check_all_shapes::<$block>();
        }
    )*};
}
product_tests!(
    q4_0_products_match_f64: BlockQ4_0,
    q4_1_products_match_f64: BlockQ4_1,
    q5_0_products_match_f64: BlockQ5_0,
    q5_1_products_match_f64: BlockQ5_1,
    q8_0_products_match_f64: BlockQ8_0,
    q2k_products_match_f64: BlockQ2K,
    q3k_products_match_f64: BlockQ3K,
    q4k_products_match_f64: BlockQ4K,
    q5k_products_match_f64: BlockQ5K,
    q6k_products_match_f64: BlockQ6K,
);

#[test]
fn the_product_of_a_row_does_not_depend_on_other_rows() {
    let (m, k, n) = (300, 512, 96);
    let weights = quantized::<BlockQ8_0>(&normal_values(n * k, 1));
    let x = normal_values(m * k, 2);
    let mut all_rows = vec![0.0; m * n];
    product((m, k, n), &x, &weights, &mut all_rows).expect("the product succeeds");
    for (x, row) in x.chunks(k).zip(all_rows.chunks(n)) {
        let mut single = vec![0.0; n];
        product((1, k, n), x, &weights, &mut single).expect("the product succeeds");
        for (a, b) in single.iter().zip(row) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
}

#[test]
fn products_of_nonfinite_values_are_not_finite() {
    fn check<T: Block>() {
        let (k, n) = (256, 40);
        let weights = quantized::<T>(&normal_values(n * k, 1));
        for nonfinite in [f32::NAN, f32::INFINITY] {
            for m in [1, 3] {
                let mut x = normal_values(m * k, 2);
                x[100] = nonfinite;
                let mut out = vec![0.0; m * n];
                product((m, k, n), &x, &weights, &mut out).expect("the product succeeds");
                let name = std::any::type_name::<T>();
                assert!(out[..n].iter().all(|value| !value.is_finite()), "{name} {nonfinite} {m}");
                assert!(out[n..].iter().all(|value| value.is_finite()), "{name} {nonfinite} {m}");
            }
        }
    }
    check::<BlockQ4_0>();
    check::<BlockQ4_1>();
    check::<BlockQ5_0>();
    check::<BlockQ5_1>();
    check::<BlockQ8_0>();
    check::<BlockQ2K>();
    check::<BlockQ3K>();
    check::<BlockQ4K>();
    check::<BlockQ5K>();
    check::<BlockQ6K>();
}
