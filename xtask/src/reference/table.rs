//! Formats tables in Markdown.

/// Returns a table with the header `head`. Line breaks in cells become spaces, and `|` is escaped.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let rule = vec!["---".to_owned(); N];
    let mut text = line(&head) + &line(&rule);
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| escaped(cell)).collect();
        text += &line(&cells);
    }
    text
}

fn escaped(cell: &str) -> String {
    let words: Vec<&str> = cell.split_whitespace().collect();
    words.join(" ").replace('|', "\\|")
}

/// Returns the text of a doc comment without links to Rust items, which do not work on a page:
/// `[`A`]` becomes `A` in backticks.
pub(super) fn without_links(text: &str) -> String {
    let text = text.replace("[`crate::", "[`");
    let mut rest = text.as_str();
    let mut plain = String::new();
    while let Some(start) = rest.find("[`") {
        let Some(length) = rest[start..].find("`]") else { break };
        plain += &rest[..start];
        plain += &rest[start + 1..=start + length];
        rest = &rest[start + length + 2..];
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_and_bars_in_cells_are_escaped() {
        let rows = [["a|b".to_owned(), "one\ntwo".to_owned()]];
        assert_eq!(table(["x", "y"], &rows), "| x | y |\n| --- | --- |\n| a\\|b | one two |\n");
    }

    #[test]
    fn links_to_items_become_code() {
        assert_eq!(without_links("[`NEVER`]: see [`crate::A`]."), "`NEVER`: see `A`.");
        assert_eq!(without_links("a [list] of `x`"), "a [list] of `x`");
    }
}
