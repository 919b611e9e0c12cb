//! The RoPE frequencies of a model.

use crate::decoder::inverse_frequencies;
use crate::failures;
use crate::formats::ROPE_FACTORS;
use crate::weights::WeightMap;
use modelgate_model::Config;
use modelgate_protocol::{Failure, FailureKind, Stage};

/// Returns the inverse frequencies of RoPE. If the files contain a tensor of factors for the
/// frequencies, removes it from the weights and applies it.
///
/// # Errors
/// A factor is not a positive number.
pub(super) fn rope_frequencies(
    config: &Config,
    weights: &mut WeightMap,
) -> Result<Vec<f32>, Failure> {
    let Some(factors) = weights.remove(ROPE_FACTORS) else {
        return Ok(inverse_frequencies(config, None));
    };
    let values = factors.float().and_then(|factors| factors.to_vec1::<f32>());
    let values = values.map_err(failures::internal(Stage::Load))?;
    if let Some(factor) = values.iter().find(|factor| !factor.is_finite() || **factor <= 0.0) {
        return Err(failures::load(
            FailureKind::Corrupt,
            format!("tensor {ROPE_FACTORS}: expected positive numbers, found {factor}"),
            failures::DOWNLOAD_AGAIN_HINT,
        ));
    }
    Ok(inverse_frequencies(config, Some(&values)))
}
