//! The test target `models` consists of one call into the harness.

use crate::finding::Finding;
use crate::items::items;
use crate::module_graph::Paths;
use crate::rules::harness_layer::names_engine;
use crate::source::Source;
use crate::tokens::{Token, flat};
use proc_macro2::Delimiter;

const PATH: &str = "tests/models.rs";
const HARNESS: &str = "modelgate_harness";

/// Reports code in `tests/models.rs` other than a `main` with one call into the harness.
pub fn product_test(sources: &[Source]) -> Vec<Finding> {
    let Some(source) = sources.iter().find(|source| source.path == PATH) else {
        return vec![Finding::new(PATH, "does not exist")];
    };
    let mut findings = Vec::new();
    for item in items(&source.tokens) {
        let message = match (item.keyword, item.name) {
            ("fn", Some("main")) => {
                let body = item.tokens.last().and_then(|token| token.group(Delimiter::Brace));
                let is_call = body.is_some_and(|body| is_call_into_harness(body, source));
                (!is_call).then(|| format!("`main` is not a single call into `{HARNESS}`"))
            }
            ("use", _) => {
                let imports = Paths::of(item.tokens).imports;
                let foreign = imports
                    .iter()
                    .find(|import| !matches!(import.path[0].as_str(), HARNESS | "std"));
                foreign.map(|import| format!("imports `{}`", import.path.join("::")))
            }
            (keyword, _) => Some(format!("contains `{keyword}`, expected only `main`")),
        };
        findings.extend(message.map(|message| Finding::at_line(PATH, item.line, message)));
    }
    for token in flat(&source.tokens) {
        if let Token::Word { text, line } | Token::Literal { text, line } = token
            && names_engine(text)
        {
            findings.push(Finding::at_line(PATH, *line, format!("names an engine: {text}")));
        }
    }
    findings
}

/// Returns whether the body of a function consists of one call of a function of the harness.
fn is_call_into_harness(body: &[Token], source: &Source) -> bool {
    let call = match body {
        [call @ .., Token::Mark(';')] => call,
        call => call,
    };
    let Some((Token::Group { delimiter: Delimiter::Parenthesis, .. }, called)) = call.split_last()
    else {
        return false;
    };
    let is_path =
        called.iter().all(|token| matches!(token, Token::Word { .. } | Token::PathSeparator));
    let Some(first) = called.first().and_then(Token::word) else { return false };
    let imports = Paths::of(&source.tokens).imports;
    let imported = imports
        .iter()
        .any(|import| import.path[0] == HARNESS && import.name.as_deref() == Some(first));
    is_path && (first == HARNESS || imported)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(text: &str) -> usize {
        product_test(&[Source::of(PATH, text)]).len()
    }

    #[test]
    fn a_single_call_is_not_reported() {
        assert_eq!(
            reported("fn main() -> std::process::ExitCode { modelgate_harness::main() }"),
            0
        );
        let text = "use modelgate_harness::{run, Worker};
                    fn main() -> ExitCode { run(Worker::at(env!(\"CARGO_BIN_EXE_modelgate-worker\"))) }";
        assert_eq!(reported(text), 0);
    }

    #[test]
    fn other_code_is_reported() {
        assert_eq!(product_test(&[]), [Finding::new(PATH, "does not exist")]);
        assert_eq!(reported("fn main() { prepare(); modelgate_harness::main() }"), 1);
        assert_eq!(reported("fn main() { other::main() }"), 1);
        assert_eq!(reported("fn main() { modelgate_harness::main() } fn help() {}"), 1);
        assert_eq!(reported("use other::A; fn main() { modelgate_harness::main() }"), 1);
        assert_eq!(reported("fn main() { modelgate_harness::main(modelgate_engine::run) }"), 1);
    }
}
