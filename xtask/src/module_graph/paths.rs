//! The paths that a run of tokens names, and what it imports.

use crate::tokens::{Token, is_restriction};
use proc_macro2::Delimiter;

/// A path as it is written, one segment per string.
pub(crate) type Path = Vec<String>;

/// One name, or all names of a module, that a `use` brings into scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    /// Where from.
    pub(crate) path: Path,
    /// The name it has here; all names of `path` without one.
    pub(crate) name: Option<String>,
}

/// What tokens name.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    /// The leaves of all `use` trees, those inside functions too.
    pub(crate) imports: Vec<Import>,
    /// All other paths, single words too.
    pub(crate) paths: Vec<Path>,
}

impl Paths {
    /// Reads what `tokens` name, at any depth.
    pub(crate) fn of(tokens: &[Token]) -> Paths {
        let mut paths = Paths::default();
        paths.read(tokens);
        paths
    }

    /// Adds what `tokens` name, at any depth.
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
                    // The name of a field or of a binding, before its value or its type.
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
                // The name follows a separator, or begins the tree.
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
                // `::a` and `$a::b` name nothing of this crate; `$crate::a` does.
                [Token::Mark('$'), name, ..] if name.is_word("crate") => &rest[1..],
                _ => return,
            };
        }
    }
}

/// Says whether what follows the word `use` is a tree of names, not `<..>` of a captured lifetime.
fn is_import(next: Option<&Token>) -> bool {
    !matches!(next, None | Some(Token::Mark('<')))
}

/// Says whether `word`, after `before`, begins a path: a field, a method, a later segment of a path
/// and a macro's variable do not.
fn starts_path(before: &[Token], word: &str) -> bool {
    match before {
        [.., Token::PathSeparator] => false,
        [.., Token::Mark('.'), Token::Mark('.')] => true,
        [.., Token::Mark('.')] => false,
        [.., Token::Mark('$')] => word == "crate",
        _ => true,
    }
}

/// Returns the path that `tokens` begin with.
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
    fn a_use_tree_has_leaves() {
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
    fn a_visibility_is_no_path() {
        let found = read("pub(in crate::a) struct B(pub(super) u8, pub (crate::c::D, u8));").paths;
        assert!(found.contains(&vec!["crate".to_owned(), "c".to_owned(), "D".to_owned()]));
        assert!(!found.iter().any(|path| path.contains(&"a".to_owned())), "{found:?}");
    }
}
