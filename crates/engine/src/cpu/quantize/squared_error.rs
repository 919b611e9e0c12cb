//! The error of quantizing.

/// The squared error of converted values, as two sums that may be added.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct SquaredError {
    /// The sum of squared differences.
    pub(crate) difference: f64,
    /// The sum of the source's squares.
    pub(crate) source: f64,
}

impl SquaredError {
    /// Returns the normalised mean squared error: 0 if nothing differs, infinite if all-zero values
    /// become something else.
    pub(crate) fn normalised(self) -> f64 {
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
