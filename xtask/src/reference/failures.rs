//! The reference page of failures, generated from the schema of reports.

use super::json_schema::{constants, definition};
use super::table::table;
use serde_json::Value;

/// The separator between the meaning and the remedy in the documentation of a failure kind.
const FIX: &str = "Fix:";

const HEAD: &str = "\
# Failures

A failure has a stage, a kind, a message (what, where, expected, found) and a hint (how to fix it). The output, the summary
and the JSON report contain all four. Programs match on the kind; messages may change.

A test (`cargo test --release --test suite_faults`) causes each failure of the hub, of files and of workers. It checks the
kind, the message and the hint, and that the next run passes after the fault is fixed, without manual cleanup.

";

/// Returns the text of the page. `report` is the JSON schema of reports.
pub(super) fn failures(report: &Value) -> String {
    let kinds = constants(definition(report, "FailureKind"));
    let rows: Vec<[String; 3]> = kinds.into_iter().map(|(name, text)| row(&name, &text)).collect();
    let stages = constants(definition(report, "Stage"));
    let stages: Vec<[String; 2]> =
        stages.into_iter().map(|(name, text)| [format!("`{name}`"), text]).collect();
    format!(
        "{HEAD}## Kinds\n\n{}\n## Stages\n\n{}",
        table(["kind", "meaning", "how to fix it"], &rows),
        table(["stage", "meaning"], &stages)
    )
}

fn row(name: &str, text: &str) -> [String; 3] {
    let (meaning, fix) = text.split_once(FIX).unwrap_or((text, ""));
    [format!("`{name}`"), meaning.trim().to_owned(), fix.trim().to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fix_is_in_a_separate_column() {
        let report = serde_json::json!({"$defs": {
            "FailureKind": {"oneOf": [
                {"const": "disk_full", "description": "No room.\nFix: free some."},
                {"const": "io", "description": "A file cannot be read."},
            ]},
            "Stage": {"oneOf": [{"const": "load", "description": "Loading."}]},
        }});
        let page = failures(&report);
        assert!(page.contains("| `disk_full` | No room. | free some. |\n"), "{page}");
        assert!(page.contains("| `io` | A file cannot be read. |  |\n"), "{page}");
        assert!(page.contains("| `load` | Loading. |\n"), "{page}");
    }
}
