//! The quantization error.

/// The squared error of quantized values, as two sums. The errors of parts can be added.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct SquaredError {
    /// The sum of the squared differences between source and quantized values.
    pub(crate) difference: f64,
    /// The sum of the squared source values.
    pub(crate) source: f64,
}

impl SquaredError {
    /// Returns the normalized mean squared error: `difference / source`. It is 0 if no value
    /// differs, and infinite if all source values are zero and a quantized value is not.
    pub(crate) fn normalized(self) -> f64 {
        if self.difference == 0.0 { 0.0 } else { self.difference / self.source }
    }
}

impl std::ops::Add for SquaredError {
    type Output = SquaredError;

    fn add(self, other: SquaredError) -> SquaredError {
        SquaredError {
            difference: self.difference + other.difference,
            source: self.source + other.source,
        }
    }
}
