//! The items that a module declares.

use crate::tokens::{Token, attributes, from_keyword, item_length};

/// An item of a module.
#[derive(Debug)]
pub(crate) struct Item<'a> {
    /// The keyword, for example `fn`, `mod` or `use`, or the name of a called macro.
    pub(crate) keyword: &'a str,
    /// The declared name. `None` if the item is an implementation, an import or a macro call.
    pub(crate) name: Option<&'a str>,
    /// The line of the keyword, from 1.
    pub(crate) line: usize,
    /// The tokens between the brackets of each attribute.
    pub(crate) attributes: Vec<&'a [Token]>,
    /// The tokens of the item, without attributes.
    pub(crate) tokens: &'a [Token],
}

impl<'a> Item<'a> {
    /// Returns the path in the attribute `#[path = ".."]` of a module. `None` if there is none.
    pub(crate) fn path(&self) -> Option<&'a str> {
        self.attributes.iter().find_map(|attribute| match attribute {
            [name, Token::Mark('='), Token::Literal { text, .. }] if name.is_word("path") => {
                Some(text.trim_matches('"'))
            }
            _ => None,
        })
    }

    /// Returns whether the item has the attribute `name`.
    pub(crate) fn has_attribute(&self, name: &str) -> bool {
        self.attributes
            .iter()
            .any(|attribute| attribute.first().is_some_and(|word| word.is_word(name)))
    }
}

/// Returns the items of a module, split from its tokens.
pub(crate) fn items(tokens: &[Token]) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    let mut rest = tokens;
    while !rest.is_empty() {
        let (attributes, after) = attributes(rest);
        let (tokens, next) = after.split_at(item_length(after));
        rest = next;
        let declared = from_keyword(tokens);
        let Some(Token::Word { text, line }) = declared.first() else {
            // An inner attribute of the file, or a single semicolon.
            if let [Token::Mark('#'), Token::Mark('!'), _, next @ ..] = after {
                rest = next;
            }
            continue;
        };
        let (keyword, line) = (text.as_str(), *line);
        items.push(Item { keyword, name: name(declared), line, attributes, tokens });
    }
    items
}

/// Returns the name that an item declares. `declared` starts with its keyword.
fn name(declared: &[Token]) -> Option<&str> {
    match (declared.first()?.word()?, declared) {
        ("macro_rules", [_, Token::Mark('!'), name, ..]) => name.word(),
        ("static", [_, mutable, name, ..]) if mutable.is_word("mut") => name.word(),
        (
            "fn" | "mod" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static",
            [_, name, ..],
        ) => name.word(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Source;

    #[test]
    fn items_have_their_keywords_and_names() {
        let source = Source::of(
            "a.rs",
            "#![allow(dead_code)] //! Doc.\n
             use a::{b, c}; pub(crate) const fn f() {} pub unsafe extern \"C\" fn g() {}
             pub static mut S: [u8; 2] = [1, 2]; const C: A = A { b: 1 };
             #[derive(Debug)] pub struct T(u8, u8); struct U { a: u8 } impl T {}
             macro_rules! m { () => { fn h() {} }; }
             thread_local! { static X: u8 = 1; } call!(a, b);
             #[path = \"n.rs\"] mod n; mod o { fn inside() {} }",
        );
        let found: Vec<(&str, Option<&str>)> =
            items(&source.tokens).iter().map(|item| (item.keyword, item.name)).collect();
        let expected = [
            ("use", None),
            ("fn", Some("f")),
            ("fn", Some("g")),
            ("static", Some("S")),
            ("const", Some("C")),
            ("struct", Some("T")),
            ("struct", Some("U")),
            ("impl", None),
            ("macro_rules", Some("m")),
            ("thread_local", None),
            ("call", None),
            ("mod", Some("n")),
            ("mod", Some("o")),
        ];
        assert_eq!(found, expected);
        assert_eq!(items(&source.tokens)[11].path(), Some("n.rs"));
    }
}
