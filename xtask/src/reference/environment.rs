//! The reference page of environment variables, generated from the constants with their names.

use super::table::{table, without_links};
use crate::source::Source;
use crate::tokens::{Token, doc_text};
use proc_macro2::Delimiter;

/// The files that contain the constants.
pub(super) const FILES: [&str; 2] =
    ["crates/harness/src/settings/variables.rs", "crates/hub/src/variables.rs"];

const HEAD: &str = "\
# Environment variables

An empty value counts as not set, except for `CUDA_VISIBLE_DEVICES` and `NO_COLOR`. `~` and `$NAME` in paths of the Hugging
Face variables are expanded.

";

const FOOT: &str = "
The HTTP client reads `HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY` and `SSL_CERT_FILE`. `TMPDIR` is the folder for the bundled
models and the measurements of a run.
";

/// Returns the text of the page, generated from the sources of [`FILES`].
pub(super) fn environment(sources: [&Source; 2]) -> String {
    let rows: Vec<[String; 2]> =
        sources.into_iter().flat_map(|source| variables(&source.code)).collect();
    HEAD.to_owned() + &table(["variable", "meaning"], &rows) + FOOT
}

/// Returns a row (names, documentation) for each public constant that contains names of variables.
fn variables(tokens: &[Token]) -> Vec<[String; 2]> {
    let mut rows = Vec::new();
    let mut docs = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Doc { text, .. } => docs.push(doc_text(text)),
            Token::Word { text, .. }
                if text == "const" && at > 0 && tokens[at - 1].is_word("pub") =>
            {
                let value = tokens[at..].iter().skip_while(|token| **token != Token::Mark('='));
                let value = value.skip(1).take_while(|token| **token != Token::Mark(';'));
                let names = value.flat_map(names).collect::<Vec<_>>();
                if !names.is_empty() {
                    rows.push([names.join(", "), without_links(&docs.join(" "))]);
                }
                docs.clear();
            }
            Token::Mark(';') | Token::Group { .. } => docs.clear(),
            _ => {}
        }
    }
    rows
}

/// Returns the names of variables in a literal or in a list of literals, in backticks.
fn names(token: &Token) -> Vec<String> {
    match token {
        Token::Literal { text, .. } => {
            let name = text.trim_matches('"');
            let is_name = text.starts_with('"')
                && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
            if is_name { vec![format!("`{name}`")] } else { Vec::new() }
        }
        Token::Group { delimiter: Delimiter::Bracket, tokens } => {
            tokens.iter().flat_map(names).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_with_names_of_variables_become_rows() {
        let source = Source::of(
            "a.rs",
            "//! The file.\npub use other::X;\n/// One,\n/// [`NEVER`].\npub const A: &str = \"A_B\";
             /// The value.\npub const NEVER: &str = \"never\";
             /// Two.\npub const C: [&str; 2] = [\"C\", \"D\"];
             /// A limit.\nconst MAX: usize = 8;",
        );
        let expected = [["`A_B`", "One, `NEVER`."], ["`C`, `D`", "Two."]];
        assert_eq!(variables(&source.code), expected);
    }
}
