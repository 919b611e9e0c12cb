//! The README is short; longer texts belong in `docs`.

use crate::document::Document;
use crate::finding::Finding;

const README: &str = "README.md";
const MAX_BYTES: usize = 10_000;

/// Reports a README with more than 10,000 bytes, and a missing README.
pub fn readme_size(documents: &[Document]) -> Vec<Finding> {
    match documents.iter().find(|document| document.path == README) {
        None => vec![Finding::new(README, "does not exist")],
        Some(readme) if readme.text.len() > MAX_BYTES => {
            let bytes = readme.text.len();
            vec![Finding::new(README, format!("has {bytes} bytes, expected at most {MAX_BYTES}"))]
        }
        Some(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_or_missing_readme_is_reported() {
        let found = |bytes: usize| readme_size(&[Document::of(README, &"x".repeat(bytes))]);
        assert_eq!(found(10_001).len(), 1);
        assert_eq!(found(10_000), []);
        assert_eq!(readme_size(&[]).len(), 1);
    }
}
