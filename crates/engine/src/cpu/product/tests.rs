//! Compares products of every type of block with those of the same weights in f64.

use super::product;
use crate::blocks::{Block, zeroed};
use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0,
};
use modelgate_testkit::random::Random;

/// Returns the shapes: one block, an odd number of blocks, columns that do not fill a tile, many rows.
fn shapes(block: usize) -> Vec<(usize, usize, usize)> {
    let mut shapes = Vec::new();
    for rows in [1, 2, 5, 33, 300] {
        for (depth, columns) in [(block, 9), (3 * block, 50), (1024, 16), (256 + block, 33)] {
            shapes.push((rows, depth, columns));
        }
    }
    shapes
}

fn normal(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    (0..count).map(|_| random.nearly_normal()).collect()
}

/// Returns values that rounding to 8 bits does not change.
fn whole(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Random::new(seed);
    let value = |at| if at % 16 == 0 { 127.0 } else { (random.bits() % 255) as f32 - 127.0 };
    (0..count).map(value).collect()
}

fn blocks<T: Block>(values: &[f32]) -> Vec<T> {
    let mut blocks = zeroed(values.len() / T::BLCK_SIZE).expect("memory");
    T::from_float(values, &mut blocks);
    blocks
}

/// Returns the root of the mean squared error over the root of the mean square.
fn error<T: Block>((m, k, n): (usize, usize, usize), x: &[f32], blocks: &[T]) -> f64 {
    let mut found = vec![f32::NAN; m * n];
    product((m, k, n), x, blocks, &mut found).expect("a product");
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

fn every_shape<T: Block>() {
    for (number, (m, k, n)) in shapes(T::BLCK_SIZE).into_iter().enumerate() {
        let seed = number as u64;
        // Not centred, so that errors of offsets and zero points show.
        let weights: Vec<f32> = normal(n * k, seed).iter().map(|w| w * 0.02 + 0.01).collect();
        let weights = blocks::<T>(&weights);
        let rounded = error((m, k, n), &normal(m * k, !seed), &weights);
        assert!(rounded < 0.01, "{:?} {m} {k} {n}: {rounded}", T::DTYPE);
        let exact = error((m, k, n), &whole(m * k, !seed), &weights);
        // A single row may be multiplied by kernels of candle that round coarser than ours.
        let most = if m > 1 { 1e-5 } else { 0.01 };
        assert!(exact < most, "{:?} {m} {k} {n}: {exact}", T::DTYPE);
    }
}

macro_rules! types {
    ($($name:ident: $block:ty),* $(,)?) => {$(
        #[test]
        fn $name() {
            every_shape::<$block>();
        }
    )*};
}
types!(
    q4_0: BlockQ4_0, q4_1: BlockQ4_1, q5_0: BlockQ5_0, q5_1: BlockQ5_1, q8_0: BlockQ8_0,
    q2k: BlockQ2K, q3k: BlockQ3K, q4k: BlockQ4K, q5k: BlockQ5K, q6k: BlockQ6K,
);

#[test]
fn a_row_is_the_same_alone_and_among_others() {
    let (m, k, n) = (300, 512, 96);
    let weights = blocks::<BlockQ8_0>(&normal(n * k, 1));
    let x = normal(m * k, 2);
    let mut together = vec![0.0; m * n];
    product((m, k, n), &x, &weights, &mut together).expect("a product");
    for (x, together) in x.chunks(k).zip(together.chunks(n)) {
        let mut alone = vec![0.0; n];
        product((1, k, n), x, &weights, &mut alone).expect("a product");
        for (a, b) in alone.iter().zip(together) {
            assert!((a - b).abs() < 1e-3, "{a} {b}");
        }
    }
}

#[test]
fn what_is_not_finite_stays_so() {
    fn check<T: Block>() {
        let (k, n) = (256, 40);
        let weights = blocks::<T>(&normal(n * k, 1));
        for bad in [f32::NAN, f32::INFINITY] {
            for m in [1, 3] {
                let mut x = normal(m * k, 2);
                x[100] = bad;
                let mut out = vec![0.0; m * n];
                product((m, k, n), &x, &weights, &mut out).expect("a product");
                let name = std::any::type_name::<T>();
                assert!(out[..n].iter().all(|value| !value.is_finite()), "{name} {bad} {m}");
                assert!(out[n..].iter().all(|value| value.is_finite()), "{name} {bad} {m}");
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
