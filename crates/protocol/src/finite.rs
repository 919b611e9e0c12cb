//! A floating-point number that JSON can represent.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// A finite `f64`. JSON has neither NaN nor infinity, and a writer that turns them into null hides
/// the result of a broken model. A value that may be non-finite is therefore an `Option<Finite>`,
/// with a separate count of non-finite values.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Finite(f64);

impl Finite {
    /// Returns `value` as a finite number. `None` if it is NaN or infinite.
    pub fn new(value: f64) -> Option<Finite> {
        value.is_finite().then_some(Finite(value))
    }

    /// Returns the seconds of a duration, which are always finite.
    pub fn seconds(duration: std::time::Duration) -> Finite {
        Finite(duration.as_secs_f64())
    }

    /// Returns the number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl<'de> Deserialize<'de> for Finite {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = f64::deserialize(deserializer)?;
        Finite::new(value).ok_or_else(|| D::Error::custom("expected a finite number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn non_finite_values_are_none_and_null_is_refused() {
        assert_eq!(Finite::new(f64::NAN), None);
        assert_eq!(Finite::new(f64::INFINITY), None);
        assert!(serde_json::from_str::<Finite>("null").is_err());
        assert_eq!(serde_json::from_str::<Option<Finite>>("null").ok(), Some(None));
        assert!(serde_json::from_str::<Finite>("1e999").is_err());
    }
}
