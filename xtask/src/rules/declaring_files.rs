//! `mod.rs` and `lib.rs` contain only declarations and reexports; logic is in other files.

use crate::finding::Finding;
use crate::items::items;
use crate::source::Source;
use crate::tokens::Token;
use proc_macro2::Delimiter;

/// Reports functions, types, traits and implementations in the `mod.rs` and `lib.rs` files below
/// `folder`, the `src` of a crate.
pub fn declaring_files(sources: &[Source], folder: &str) -> Vec<Finding> {
    let declaring = sources
        .iter()
        .filter(|source| source.is_in(folder))
        .filter(|source| matches!(source.file_name(), "mod.rs" | "lib.rs"));
    let mut findings = Vec::new();
    for source in declaring {
        add_findings(&source.path, &source.code, &mut findings);
    }
    findings
}

fn add_findings(path: &str, tokens: &[Token], findings: &mut Vec<Finding>) {
    for item in items(tokens) {
        match item.keyword {
            "fn" | "impl" | "struct" | "enum" | "union" | "trait" => {
                let name = item.name.map_or(String::new(), |name| format!(" {name}"));
                let message = format!("contains `{}{name}`: move it to another file", item.keyword);
                findings.push(Finding::at_line(path, item.line, message));
            }
            "mod" => {
                let inside = item.tokens.last().and_then(|token| token.group(Delimiter::Brace));
                add_findings(path, inside.unwrap_or_default(), findings);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let found = declaring_files(&[Source::of(path, text)], "src");
        found.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn logic_in_a_declaring_file_is_reported() {
        let reported = |text| found("src/a/mod.rs", text).len();
        assert_eq!(reported("pub(crate) async fn f() {}"), 1);
        assert_eq!(reported("mod b { struct C; }"), 1);
        assert_eq!(reported("struct D; impl D {} enum E {} trait F {} union G { h: u8 }"), 5);
        let expected = ["src/lib.rs:2: contains `fn f`: move it to another file"];
        assert_eq!(found("src/lib.rs", "mod a;\nfn f() {}"), expected);
    }

    #[test]
    fn declarations_are_not_reported() {
        let text = "//! Doc.\n mod a; pub use a::B; pub const PROTOCOL_VERSION: u32 = 1;
                    macro_rules! m { () => { fn f() {} }; }
                    mod kernels { include!(concat!(env!(\"OUT_DIR\"), \"/kernels.rs\")); }
                    #[cfg(test)] mod tests { fn f() {} }";
        assert_eq!(found("src/lib.rs", text), [""; 0]);
        assert_eq!(found("src/a.rs", "fn f() {}"), [""; 0]);
        assert_eq!(found("tests/common/mod.rs", "fn f() {}"), [""; 0]);
    }
}
