//! Tests of the committed JSON schema of reports: it matches the type [`Report`], and the committed
//! reports match it. `UPDATE_SCHEMAS=1 cargo test -p modelgate-harness schemas` regenerates it.

use crate::summary::gpu_report;
use modelgate_harness::report::Report;
use modelgate_testkit::workers::project;
use schemars::schema_for;

const SCHEMA: &str = "schemas/report.json";

#[test]
fn the_committed_schema_matches_the_report_type() {
    let path = project(SCHEMA);
    let expected = serde_json::to_string_pretty(&schema_for!(Report)).expect("a schema") + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &expected).expect("the schema cannot be written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == expected,
        "{SCHEMA}: not the schema of the type; set UPDATE_SCHEMAS=1 to regenerate it"
    );
}

/// Asserts that the report `name` matches the schema, with a validator that is independent of the
/// types.
fn assert_matches_schema(name: &str, report: &serde_json::Value) {
    let text = std::fs::read_to_string(project(SCHEMA)).expect("the committed schema");
    let schema = serde_json::from_str(&text).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    let errors: Vec<String> = validator.iter_errors(report).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
}

#[test]
fn reports_match_the_schema() {
    let report = serde_json::to_value(gpu_report()).expect("a report is JSON");
    assert_matches_schema("a report", &report);
    let folder = project("docs/benchmarks/h200");
    let entries = std::fs::read_dir(&folder).expect("reference reports");
    let paths = entries.flatten().map(|entry| entry.path());
    let reports = paths.filter(|path| path.extension().is_some_and(|e| e == "json"));
    let reports: Vec<_> = reports.collect();
    assert!(!reports.is_empty(), "{}", folder.display());
    for path in reports {
        let text = std::fs::read_to_string(&path).expect("a report");
        assert_matches_schema(
            &path.display().to_string(),
            &serde_json::from_str(&text).expect("JSON"),
        );
    }
}
