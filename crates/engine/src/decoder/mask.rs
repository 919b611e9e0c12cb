//! Attention masks: the positions that each token attends to.

use candle_core::{Device, Result, Tensor};

/// The positions that the tokens of a step attend to.
pub(super) struct Mask {
    /// The number of positions that a token attends to, its own included; `None` if a token attends
    /// to all positions up to its own.
    pub(super) window: Option<usize>,
    /// The values (queries, keys) that are added to the scores: 0 if a query attends to a key,
    /// negative infinity if not. `None` if every query attends to every key.
    pub(super) tensor: Option<Tensor>,
}

impl Mask {
    /// Creates the mask of `count` queries at the positions from `start` on.
    pub(super) fn new(
        count: usize,
        start: usize,
        window: Option<usize>,
        device: &Device,
    ) -> Result<Mask> {
        let tensor = values(count, start, window)?;
        Ok(Mask { window, tensor: tensor.map(|mask| mask.to_device(device)).transpose()? })
    }

    /// Creates a mask without a tensor, for kernels that apply the window themselves.
    pub(super) fn without_values(window: Option<usize>) -> Mask {
        Mask { window, tensor: None }
    }
}

/// Returns the mask (count, start + count) of `count` queries at the positions from `start` on. A
/// token attends to itself and to the positions before it that are inside the window. `None` if no
/// position is excluded.
fn values(count: usize, start: usize, window: Option<usize>) -> Result<Option<Tensor>> {
    let keys = start + count;
    let window = window.unwrap_or(usize::MAX);
    if count == 1 && keys <= window {
        return Ok(None);
    }
    let allowed = |query: usize, key: usize| key <= query && query - key < window;
    let values: Vec<f32> = (start..keys)
        .flat_map(|query| (0..keys).map(move |key| (query, key)))
        .map(|(query, key)| if allowed(query, key) { 0.0 } else { f32::NEG_INFINITY })
        .collect();
    Tensor::from_vec(values, (count, keys), &Device::Cpu).map(Some)
}

#[cfg(test)]
mod tests {
    use super::values;

    #[test]
    fn a_window_excludes_positions_that_are_too_far_back() {
        let drawn = |count, start, window| {
            let mask = values(count, start, window).expect("mask")?;
            let rows = mask.to_vec2::<f32>().expect("rows");
            let line =
                |row: Vec<f32>| row.iter().map(|v| if *v == 0.0 { 'x' } else { '.' }).collect();
            Some(rows.into_iter().map(line).collect::<Vec<String>>())
        };
        assert_eq!(drawn(1, 3, None), None);
        assert_eq!(drawn(1, 3, Some(4)), None);
        assert_eq!(drawn(1, 3, Some(2)), Some(vec!["..xx".into()]));
        assert_eq!(drawn(2, 1, None), Some(vec!["xx.".into(), "xxx".into()]));
        assert_eq!(drawn(3, 0, Some(2)), Some(vec!["x..".into(), "xx.".into(), ".xx".into()]));
    }
}
