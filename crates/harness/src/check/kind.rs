//! The names of the five checks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A property of a model that is checked.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Every tensor of the architecture is resident and valid.
    Load,
    /// The model was loaded within the planned time.
    TimeBudget,
    /// The model used the planned memory.
    MemoryRange,
    /// The model generates sensible text.
    Generation,
    /// The requested quantization is in effect.
    Quantization,
}

impl Check {
    /// Every check, in the order in which they run.
    pub const ALL: [Check; 5] = [
        Check::Load,
        Check::TimeBudget,
        Check::MemoryRange,
        Check::Generation,
        Check::Quantization,
    ];

    /// Returns the name in tests and reports.
    pub fn name(self) -> &'static str {
        match self {
            Check::Load => "load",
            Check::TimeBudget => "time_budget",
            Check::MemoryRange => "memory_range",
            Check::Generation => "generation",
            Check::Quantization => "quantization",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_equal_displayed_names() {
        let names = ["load", "time_budget", "memory_range", "generation", "quantization"];
        assert_eq!(Check::ALL.map(Check::name), names);
        for check in Check::ALL {
            let json = serde_json::to_string(&check).expect("serializes");
            assert_eq!(json, format!("\"{}\"", check.name()));
        }
    }
}
