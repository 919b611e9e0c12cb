//! The role of a tensor.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The role of a tensor in the architecture.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A matrix of attention or of the feed-forward network.
    Linear,
    /// A matrix of one expert or of all experts of a layer.
    Expert,
    /// The token embedding.
    Embedding,
    /// The matrix that computes the logits.
    Output,
    /// The weight of a norm.
    Norm,
    /// A bias.
    Bias,
    /// The matrix that selects experts.
    Router,
    /// The kernel of a convolution.
    Convolution,
    /// Any other tensor, for example a table of positions or frequencies.
    Other,
}

impl Role {
    /// All roles.
    pub const ALL: [Role; 9] = [
        Role::Linear,
        Role::Expert,
        Role::Embedding,
        Role::Output,
        Role::Norm,
        Role::Bias,
        Role::Router,
        Role::Convolution,
        Role::Other,
    ];

    /// Returns the name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Role::Linear => "linear",
            Role::Expert => "expert",
            Role::Embedding => "embedding",
            Role::Output => "output",
            Role::Norm => "norm",
            Role::Bias => "bias",
            Role::Router => "router",
            Role::Convolution => "convolution",
            Role::Other => "other",
        }
    }

    /// Returns whether schemes quantize tensors of this role.
    pub fn is_quantizable(self) -> bool {
        matches!(self, Role::Linear | Role::Expert | Role::Embedding | Role::Output)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that is not the name of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownRole(String);

impl fmt::Display for UnknownRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not the role of a tensor", self.0)
    }
}

impl std::error::Error for UnknownRole {}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(name: &str) -> Result<Role, UnknownRole> {
        let found = Role::ALL.into_iter().find(|role| role.name() == name);
        found.ok_or_else(|| UnknownRole(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_equal_displayed_names() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_string(&role).ok(), Some(format!("\"{role}\"")));
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("linea".parse::<Role>().is_err());
    }
}
