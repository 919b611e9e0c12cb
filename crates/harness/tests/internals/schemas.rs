//! Tests of the committed JSON schema of reports: it matches the type [`Report`], and
//! reports match it. `UPDATE_SCHEMAS=1 cargo test -p modelgate-harness schemas` regenerates it.

use crate::summary::gpu_report;
use modelgate_harness::report::Report;
use modelgate_protocol::FailureKind;
use modelgate_testkit::workers::project_path;
use schemars::schema_for;
use serde_json::Value;

const SCHEMA: &str = "schemas/report.json";

#[test]
fn the_committed_schema_matches_the_report_type() {
    let path = project_path(SCHEMA);
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
fn assert_matches_schema(name: &str, report: &Value) {
    let text = std::fs::read_to_string(project_path(SCHEMA)).expect("the committed schema");
    let schema = serde_json::from_str(&text).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("a valid schema");
    let errors: Vec<String> = validator.iter_errors(report).map(|e| e.to_string()).collect();
    assert!(errors.is_empty(), "{name}: {errors:?}");
}

#[test]
fn reports_match_the_schema() {
    let report = serde_json::to_value(gpu_report()).expect("a report is JSON");
    assert_matches_schema("a report", &report);
}

/// Returns the number of values in `json` that are neither null nor a list or an object.
fn values(json: &Value) -> usize {
    match json {
        Value::Null => 0,
        Value::Array(list) => list.iter().map(values).sum(),
        Value::Object(object) => object.values().map(values).sum(),
        _ => 1,
    }
}

#[test]
fn a_report_of_version_1_is_read_without_loss() {
    let path = project_path("docs/benchmarks/h200/model_validation_20261125_000707.json");
    let text = std::fs::read_to_string(&path).expect("the reference report");
    let old: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(old["schema_version"], 1);
    let report: Report = serde_json::from_value(old.clone()).expect("a report of version 1");
    let current = serde_json::to_value(report).expect("a report is JSON");
    assert_matches_schema("the reference report", &current);
    assert_eq!(values(&current), values(&old), "every value is read");
}

#[test]
fn failure_kinds_of_version_1_are_read() {
    let renamed = [
        ("no_token", FailureKind::TokenMissing),
        ("connect", FailureKind::Connection),
        ("bad_answer", FailureKind::InvalidResponse),
        ("tensor_left_over", FailureKind::TensorUnexpected),
        ("no_device", FailureKind::DeviceNotFound),
        ("device_wrong", FailureKind::DeviceFault),
        ("no_worker", FailureKind::WorkerNotFound),
        ("impossible", FailureKind::ExpectationUnreachable),
        ("unoptimised", FailureKind::DebugBuild),
        ("deadline", FailureKind::DeadlineExceeded),
    ];
    for (old, kind) in renamed {
        let read: FailureKind = serde_json::from_value(old.into()).expect(old);
        assert_eq!(read, kind, "{old}");
    }
}
