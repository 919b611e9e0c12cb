//! The default members of the workspace are all members, so that `cargo test` tests all of them.

use crate::finding::Finding;
use crate::repository::{Manifest, strings};
use std::collections::BTreeSet;

/// Reports members that are not default members, and default members that are not members.
pub fn default_members(workspace: &Manifest) -> Vec<Finding> {
    let members: BTreeSet<&str> = strings(workspace, "members").into_iter().collect();
    let defaults: BTreeSet<&str> = strings(workspace, "default-members").into_iter().collect();
    let differing = members.symmetric_difference(&defaults);
    let message = |folder: &&str| format!("{folder} is not in both members and default-members");
    differing.map(|folder| Finding::new("Cargo.toml", message(folder))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let found = default_members(&Manifest::of(".", text));
        found.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn a_member_that_is_not_a_default_member_is_reported() {
        let one = ["b is not in both members and default-members"];
        assert_eq!(found("[workspace]\nmembers = ['a', 'b']\ndefault-members = ['a']"), one);
        assert_eq!(found("[workspace]\nmembers = ['b']"), one);
        assert_eq!(
            found("[workspace]\nmembers = ['a', 'b']\ndefault-members = ['b', 'a']"),
            [""; 0]
        );
    }
}
