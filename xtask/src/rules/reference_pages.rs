//! The generated reference pages are up to date.

use crate::document::Document;
use crate::finding::Finding;
use crate::reference::Page;

/// Reports the pages whose file is missing or differs from the generated text.
pub fn reference_pages(pages: &[Page], documents: &[Document]) -> Vec<Finding> {
    let text = |path: &str| documents.iter().find(|document| document.path == path);
    pages
        .iter()
        .filter(|page| text(&page.path).is_none_or(|document| document.text != page.text))
        .map(|page| Finding::new(&page.path, "is outdated: run `cargo xtask docs`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outdated_or_missing_page_is_reported() {
        let pages = [Page { path: "docs/a.md".into(), text: "new".into() }];
        assert_eq!(reference_pages(&pages, &[Document::of("docs/a.md", "new")]), []);
        for documents in [vec![Document::of("docs/a.md", "old")], Vec::new()] {
            let found = reference_pages(&pages, &documents);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].to_string(), "docs/a.md: is outdated: run `cargo xtask docs`");
        }
    }
}
