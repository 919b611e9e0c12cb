//! The texts of a program: its messages, hints and names, as templates.

use crate::items::items;
use crate::source::Source;
use crate::tokens::Token;
use proc_macro2::Delimiter;

/// Returns the string literals of at least two words in the code below `folder`, in their order, below
/// the path of their file. Test code and comments are left out. Placeholders stay as in the source.
///
/// Every message and every hint is made of such literals, so the result shows all of them.
pub fn texts(sources: &[Source], folder: &str) -> String {
    let mut all = String::new();
    let sources = || sources.iter().filter(|source| source.is_in(folder));
    let test_files: Vec<String> = sources().flat_map(test_files).collect();
    for source in sources().filter(|source| !test_files.contains(&source.path)) {
        let mut found = Vec::new();
        collect(&source.code, &mut found);
        if !found.is_empty() {
            all += &format!("{}\n", source.path);
            all.extend(found.iter().map(|text| format!("    {text}\n")));
            all.push('\n');
        }
    }
    all
}

/// Returns the paths of the files that the source declares as test modules.
fn test_files(source: &Source) -> Vec<String> {
    let folder = match source.path.strip_suffix(source.file_name()) {
        Some(folder) if matches!(source.file_name(), "lib.rs" | "main.rs" | "mod.rs") => {
            folder.into()
        }
        _ => format!("{}/", source.path.trim_end_matches(".rs")),
    };
    let modules = items(&source.tokens).into_iter().filter(|item| {
        let is_test = |attribute: &&[Token]| match attribute {
            [cfg, Token::Group { tokens, .. }] => {
                cfg.is_word("cfg") && matches!(&tokens[..], [word] if word.is_word("test"))
            }
            _ => false,
        };
        item.keyword == "mod" && item.attributes.iter().any(is_test)
    });
    modules.filter_map(|item| Some(format!("{folder}{}.rs", item.name?))).collect()
}

fn collect(tokens: &[Token], found: &mut Vec<String>) {
    for token in tokens {
        match token {
            Token::Literal { text, .. } => {
                found.extend(content(text).filter(|text| is_sentence(text)));
            }
            Token::Group { tokens, delimiter } if *delimiter != Delimiter::None => {
                collect(tokens, found);
            }
            _ => {}
        }
    }
}

/// Returns the content of a string literal in one line. `None` for other literals, and for byte strings.
fn content(literal: &str) -> Option<String> {
    let quoted = literal.strip_prefix('r').map_or(literal, |raw| raw.trim_matches('#'));
    let inside = quoted.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = String::new();
    let mut lines = inside.split("\\\n");
    text += lines.next()?;
    for line in lines {
        text += line.trim_start();
    }
    Some(text.replace("\\\"", "\"").replace('\n', "\\n"))
}

/// Returns whether a text has at least two words in addition to its placeholders.
fn is_sentence(text: &str) -> bool {
    let mut words = String::new();
    let mut depth = 0;
    for character in text.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ if depth == 0 => words.push(character),
            _ => {}
        }
    }
    words.split_whitespace().filter(|word| word.contains(|c: char| c.is_alphabetic())).count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_of_the_code_are_listed_by_file() {
        let text = r##"
            /// A comment is left out.
            #[error("cannot read {0}")]
            fn f() {
                let text = "one line \
                            and the \"next\" one";
                g("word", "{}: {a b}", b"some bytes", r#"a raw text"#, 'c', 1.5);
            }
            #[cfg(test)]
            mod tests { fn t() { g("a test text"); } }
        "##;
        let sources = [
            Source::of("crates/a/src/f.rs", text),
            Source::of("crates/a/src/lib.rs", "mod f; #[cfg(test)] mod checks;"),
            Source::of("crates/a/src/checks.rs", text),
            Source::of("b/src/g.rs", text),
        ];
        let expected = "crates/a/src/f.rs\n    cannot read {0}\n    one line and the \"next\" one\n    \
                        a raw text\n\n";
        assert_eq!(texts(&sources, "crates/a"), expected);
    }
}
