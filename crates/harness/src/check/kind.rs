//! The five checks by name.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is checked of a model.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Every tensor that the architecture needs is resident and sound.
    Load,
    /// It was loaded in the time that was planned.
    TimeBudget,
    /// It took the memory that was planned.
    MemoryRange,
    /// It generates sense.
    Generation,
    /// The quantization that was asked for is really there.
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

    /// The name as test names and reports write it.
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
