//! A floating point number that JSON can carry.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

/// A finite `f64`. JSON has no NaN and no infinity, and a writer that turns them into null hides
/// just what a broken model produces; so what may be non-finite is an `Option<Finite>` here, with
/// a count of its own beside it.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Finite(f64);

impl Finite {
    /// `value`, unless it is NaN or infinite.
    pub fn new(value: f64) -> Option<Finite> {
        value.is_finite().then_some(Finite(value))
    }

    /// Seconds of a duration (always finite).
    pub fn seconds(duration: std::time::Duration) -> Finite {
        Finite(duration.as_secs_f64())
    }

    /// The number.
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
    fn what_is_not_finite_is_none_and_null_is_not_a_number() {
        assert_eq!(Finite::new(f64::NAN), None);
        assert_eq!(Finite::new(f64::INFINITY), None);
        assert!(serde_json::from_str::<Finite>("null").is_err());
        assert_eq!(serde_json::from_str::<Option<Finite>>("null").ok(), Some(None));
        assert!(serde_json::from_str::<Finite>("1e999").is_err());
    }
}
