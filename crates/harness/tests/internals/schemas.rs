//! The committed schema of reports: it is that of the type, and the committed reports follow it.
//! `UPDATE_SCHEMAS=1 cargo test -p modelgate-harness schemas` writes it anew.

use crate::summary::on_a_gpu;
use modelgate_harness::report::Report;
use modelgate_testkit::workers::project;
use schemars::schema_for;

const SCHEMA: &str = "schemas/report.json";

#[test]
fn the_schema_is_that_of_the_type() {
    let path = project(SCHEMA);
    let fresh = serde_json::to_string_pretty(&schema_for!(Report)).expect("a schema") + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &fresh).expect("the schema is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == fresh,
        "{SCHEMA} is not the schema of the type; UPDATE_SCHEMAS=1 writes it anew"
    );
}

/// Asserts that `report` follows the schema, by an implementation that knows nothing of the types.
fn follows(name: &str, report: &serde_json::Value) {
    let text = std::fs::read_to_string(project(SCHEMA)).expect("the committed schema");
    let schema = serde_json::from_str(&text).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is a schema");
    let errors: Vec<String> = validator.iter_errors(report).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
}

#[test]
fn reports_follow_it() {
    follows("a report", &serde_json::to_value(on_a_gpu()).expect("a report is JSON"));
    let folder = project("docs/benchmarks/h200");
    let entries = std::fs::read_dir(&folder).expect("reference reports");
    let paths = entries.flatten().map(|entry| entry.path());
    let reports = paths.filter(|path| path.extension().is_some_and(|e| e == "json"));
    let reports: Vec<_> = reports.collect();
    assert!(!reports.is_empty(), "{}", folder.display());
    for path in reports {
        let text = std::fs::read_to_string(&path).expect("a report");
        follows(&path.display().to_string(), &serde_json::from_str(&text).expect("JSON"));
    }
}
