//! The committed schemas are those of the types. `UPDATE_SCHEMAS=1 cargo test -p modelgate-protocol`
//! writes them anew.

#![allow(clippy::expect_used)]

use modelgate_protocol::{Event, Request};
use schemars::{JsonSchema, schema_for};
use std::path::Path;

fn is_committed<T: JsonSchema>(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas").join(name);
    let fresh = serde_json::to_string_pretty(&schema_for!(T)).expect("a schema") + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &fresh).expect("the schema is written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == fresh,
        "{} is not the schema of the type; UPDATE_SCHEMAS=1 writes it anew",
        path.display()
    );
}

#[test]
fn request() {
    is_committed::<Request>("request.json");
}

#[test]
fn event() {
    is_committed::<Event>("event.json");
}
