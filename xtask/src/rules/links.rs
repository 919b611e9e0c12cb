//! The targets of links in Markdown exist.

use crate::document::Document;
use crate::finding::Finding;

/// Reports the relative links in Markdown documents whose file or heading does not exist. `exists`
/// returns whether a path from the root of the repository exists.
pub fn links(documents: &[Document], exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let pages = documents.iter().filter(|document| document.path.ends_with(".md"));
    pages.flat_map(|page| in_page(page, documents, exists)).collect()
}

fn in_page(page: &Document, documents: &[Document], exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in page.text.lines().enumerate() {
        for target in targets(line) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = path_from_root(&page.path, file);
            let is_missing = !file.is_empty() && !exists(&path);
            let linked = documents.iter().find(|document| document.path == path);
            let has_anchor = anchor.is_empty()
                || linked.is_some_and(|document| anchors(&document.text).any(|a| a == anchor));
            if is_missing || !has_anchor {
                let message = format!("links to {target}, which does not exist");
                findings.push(Finding::at_line(&page.path, index + 1, message));
            }
        }
    }
    findings
}

/// Returns the targets of the links `[..](target)` in a line.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// Converts a path relative to the page `from` to a path from the root of the repository.
fn path_from_root(from: &str, file: &str) -> String {
    if file.is_empty() {
        return from.to_owned();
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Returns the anchors of the headings of a page, in the format of GitHub.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let documents =
            [Document::of("docs/a.md", text), Document::of("docs/b.md", "# The *big* `One`")];
        let exists = |path: &str| ["docs/b.md", "src"].contains(&path);
        links(&documents, &exists).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn links_without_a_target_are_reported() {
        assert_eq!(found("x\n[c](c.md)"), ["docs/a.md:2: links to c.md, which does not exist"]);
        assert_eq!(found("[b](b.md#two), [c](../c)").len(), 2);
        assert_eq!(found("[own](#none)").len(), 1);
    }

    #[test]
    fn links_to_existing_targets_and_websites_are_not_reported() {
        let text = "# Own\n[b](b.md#the-big-one) [src](../src) [own](#own) [x](https://a.b/c)";
        assert_eq!(found(text), [""; 0]);
    }
}
