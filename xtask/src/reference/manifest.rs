//! The reference page of the manifest, generated from the structs into which it is parsed.

use super::table::{table, without_links};
use crate::source::Source;
use crate::tokens::{Token, doc_text};
use proc_macro2::Delimiter;

/// The file that contains the structs.
pub(super) const FILE: &str = "crates/harness/src/manifest/read.rs";
/// The structs, each with the title of its section and the prefix of its keys.
const STRUCTS: [(&str, &str, &str); 8] = [
    ("RawManifest", "The file", ""),
    ("RawModel", "`[[model]]`", ""),
    ("RawExpect", "`expect`", "expect."),
    ("RawLoadTime", "`expect.load_time`", "expect.load_time."),
    ("RawRange", "`expect.vram` and `expect.ram`", ""),
    ("RawPerplexity", "`expect.perplexity`", "expect.perplexity."),
    ("RawGeneration", "`generation` or `[[model.generation]]`", ""),
    ("RawMessage", "`messages`", ""),
];

const HEAD: &str = "\
# The manifest

A manifest is a TOML file that lists models. `MODELGATE_MANIFEST` names it; without the variable, the embedded default
manifest ([`fixtures/models.toml`](../../fixtures/models.toml)) is used. An unknown key, a wrong unit or an impossible range
ends the run before anything starts, with file, line, column and a hint.

Sizes are decimal (`GB` is 10^9 bytes) or binary (`GiB` is 2^30 bytes). Durations are numbers with `ms`, `s`, `min` or `h`.
";

/// Returns the text of the page, generated from the source of [`FILE`].
pub(super) fn manifest(source: &Source) -> String {
    let mut page = HEAD.to_owned();
    for (name, title, prefix) in STRUCTS {
        let rows: Vec<[String; 2]> = fields(&source.code, name)
            .into_iter()
            .map(|(key, doc)| [format!("`{prefix}{key}`"), without_links(&doc)])
            .collect();
        page += &format!("\n## {title}\n\n{}", table(["key", "meaning"], &rows));
    }
    page
}

/// Returns the names of the fields of the struct `name`, with their documentation.
fn fields(tokens: &[Token], name: &str) -> Vec<(String, String)> {
    let at = tokens.windows(2).position(|pair| pair[0].is_word("struct") && pair[1].is_word(name));
    let body = at.and_then(|at| tokens[at + 2..].iter().find_map(|t| t.group(Delimiter::Brace)));
    let (mut fields, mut docs) = (Vec::new(), Vec::new());
    let mut depth = 0_i32;
    let mut is_type = false;
    let mut word = String::new();
    for token in body.unwrap_or_default() {
        match token {
            Token::Doc { text, .. } => docs.push(doc_text(text)),
            Token::Mark('<') => depth += 1,
            Token::Mark('>') => depth -= 1,
            Token::Mark(',') if depth == 0 => is_type = false,
            Token::Mark(':') if !is_type => {
                is_type = true;
                fields.push((std::mem::take(&mut word), docs.join(" ")));
                docs.clear();
            }
            Token::Word { text, .. } if !is_type => word.clone_from(text),
            _ => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_listed_with_their_documentation() {
        let source = Source::of(
            "a.rs",
            "struct Other { x: u8 }
             pub(super) struct Raw { /// One.\n#[serde(default)] pub(super) a: Map<String, Vec<u8>>,
             /// Two\n/// lines.\n pub(super) b: Option<super::B>, c: u8 }",
        );
        let expected = [("a", "One."), ("b", "Two lines."), ("c", "")];
        let expected = expected.map(|(key, doc)| (key.to_owned(), doc.to_owned()));
        assert_eq!(fields(&source.code, "Raw"), expected);
    }
}
