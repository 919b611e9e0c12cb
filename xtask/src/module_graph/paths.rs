//! The paths and imports in a sequence of tokens.

use crate::tokens::{Token, is_restriction};
use proc_macro2::Delimiter;

/// The segments of a path, as written in the source.
pub(crate) type Path = Vec<String>;

/// A name, or all names of a module, that a `use` declaration imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    /// The imported path.
    pub(crate) path: Path,
    /// The name in the importing module. `None` if the import is a glob.
    pub(crate) name: Option<String>,
}

/// The paths and imports in a sequence of tokens.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// The leaves of all `use` trees, including those inside functions.
    pub(crate) imports: Vec<Import>,
    /// All other paths, including single words.
    pub(crate) paths: Vec<Path>,
}

impl Paths {
    /// Returns the paths and imports in `tokens`, at any depth.
    pub(crate) fn of(tokens: &[Token]) -> Paths {
        let mut paths = Paths::default();
        paths.read(tokens);
        paths
    }

    /// Adds the paths and imports in `tokens`, at any depth.
    pub(crate) fn read(&mut self, tokens: &[Token]) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let next = tokens.get(at + 1);
            match token {
                Token::Word { text, .. } if text == "use" && is_import(next) => {
                    let length = tokens[at..].iter().position(|token| *token == Token::Mark(';'));
                    let end = length.map_or(tokens.len(), |length| at + length);
                    self.tree(&[], &tokens[at + 1..end]);
                    at = end;
                }
                Token::Word { text, .. } if text == "pub" && next.is_some_and(is_restriction) => {
                    at += 2;
                }
                Token::Word { text, .. } if starts_path(&tokens[..at], text) => {
                    let path = path(&tokens[at..]);
                    at += 2 * path.len() - 1;
                    // A word before a colon is the name of a field or a binding.
                    let is_label = path.len() == 1 && tokens.get(at) == Some(&Token::Mark(':'));
                    if !is_label {
                        self.paths.push(path);
                    }
                }
                Token::Group { tokens, .. } => {
                    self.read(tokens);
                    at += 1;
                }
                _ => at += 1,
            }
        }
    }

    /// Reads a `use` tree under `prefix`.
    fn tree(&mut self, prefix: &[String], tokens: &[Token]) {
        let mut path = prefix.to_vec();
        let mut rest = tokens;
        loop {
            rest = match rest {
                // A segment before a separator.
                [Token::Word { text, .. }, Token::PathSeparator, next @ ..] => {
                    path.push(text.clone());
                    next
                }
                [Token::Word { text, .. }, renamed @ ..] => {
                    if text != "self" || path.is_empty() {
                        path.push(text.clone());
                    }
                    let name = match renamed {
                        [rename, name, ..] if rename.is_word("as") => name.word(),
                        _ => path.last().map(String::as_str),
                    };
                    let name = name.map(str::to_owned);
                    self.imports.push(Import { path, name });
                    return;
                }
                [Token::Group { delimiter: Delimiter::Brace, tokens }, ..] => {
                    for branch in tokens.split(|token| *token == Token::Mark(',')) {
                        self.tree(&path, branch);
                    }
                    return;
                }
                [Token::Mark('*'), ..] if !path.is_empty() => {
                    self.imports.push(Import { path, name: None });
                    return;
                }
                // `::a` and `$a::b` do not refer to this crate, but `$crate::a` does.
                [Token::Mark('$'), name, ..] if name.is_word("crate") => &rest[1..],
                _ => return,
            };
        }
    }
}

/// Returns whether the word `use` starts an import, and not `use<..>`, which captures lifetimes.
/// `next` is the token after it.
fn is_import(next: Option<&Token>) -> bool {
    !matches!(next, None | Some(Token::Mark('<')))
}

/// Returns whether `word` after the tokens `before` starts a path. A field, a method, a later
/// segment of a path and a macro variable do not.
fn starts_path(before: &[Token], word: &str) -> bool {
    match before {
        [.., Token::PathSeparator] => false,
        [.., Token::Mark('.'), Token::Mark('.')] => true,
        [.., Token::Mark('.')] => false,
        [.., Token::Mark('$')] => word == "crate",
        _ => true,
    }
}

/// Returns the path at the start of `tokens`.
fn path(tokens: &[Token]) -> Path {
    let mut path: Path = tokens[0].word().into_iter().map(str::to_owned).collect();
    let mut rest = &tokens[1..];
    while let [Token::PathSeparator, Token::Word { text, .. }, next @ ..] = rest {
        path.push(text.clone());
        rest = next;
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    fn read(text: &str) -> Paths {
        Paths::of(&Source::of("a.rs", text).code)
    }

    fn imports(text: &str) -> Vec<String> {
        let imports = read(text).imports;
        let line = |import: &Import| {
            format!("{} as {}", import.path.join("::"), import.name.as_deref().unwrap_or("*"))
        };
        imports.iter().map(line).collect()
    }

    #[test]
    fn the_leaves_of_a_use_tree_are_imports() {
        let text = "pub(crate) use crate::a::{self, b::{C as D, *}, e}; use super::f as _;";
        let expected = [
            "crate::a as a",
            "crate::a::b::C as D",
            "crate::a::b as *",
            "crate::a::e as e",
            "super::f as _",
        ];
        assert_eq!(imports(text), expected);
        assert_eq!(imports("fn f() { use self::g::h; }"), ["self::g::h as h"]);
        assert_eq!(imports("fn f<'a>() -> impl Fn() + use<'a> { x() }"), [""; 0]);
    }

    #[test]
    fn paths_are_found_in_code_types_and_macros() {
        let text = "fn f(x: super::b::C) { m!(crate::d::e(x.field, y::<self::g::H>())); }
                    macro_rules! n { ($z:expr) => { $crate::i::j($z::k, ..l::m) }; }";
        let found: Vec<String> =
            read(text).paths.iter().filter(|path| path.len() > 1).map(|p| p.join("::")).collect();
        assert_eq!(found, ["super::b::C", "crate::d::e", "self::g::H", "crate::i::j", "l::m"]);
    }

    #[test]
    fn a_visibility_is_not_a_path() {
        let found = read("pub(in crate::a) struct B(pub(super) u8, pub (crate::c::D, u8));").paths;
        assert!(found.contains(&vec!["crate".to_owned(), "c".to_owned(), "D".to_owned()]));
        assert!(!found.iter().any(|path| path.contains(&"a".to_owned())), "{found:?}");
    }
}
