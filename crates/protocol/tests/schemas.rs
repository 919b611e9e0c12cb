//! Compares the committed schemas with those of the types.
//! `UPDATE_SCHEMAS=1 cargo test -p modelgate-protocol` regenerates them.

#![allow(clippy::expect_used)]

use modelgate_protocol::{Event, Request};
use schemars::{JsonSchema, schema_for};
use std::path::Path;

fn assert_committed<T: JsonSchema>(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas").join(name);
    let fresh = serde_json::to_string_pretty(&schema_for!(T)).expect("a schema") + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &fresh).expect("the schema is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == fresh,
        "{}: differs from the schema of the type; set UPDATE_SCHEMAS=1 to regenerate it",
        path.display()
    );
}

#[test]
fn schemas_of_requests_match_the_types() {
    assert_committed::<Request>("request.json");
}

#[test]
fn schemas_of_events_match_the_types() {
    assert_committed::<Event>("event.json");
}
