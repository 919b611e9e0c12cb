//! The committed schemas are those of the types. `UPDATE_SCHEMAS=1 cargo test --test suite schemas`
//! writes them anew.

use modelgate::report::Report;
use modelgate_protocol::{Event, Request};
use schemars::{JsonSchema, schema_for};
use std::path::Path;

fn is_committed<T: JsonSchema>(path: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let fresh = serde_json::to_string_pretty(&schema_for!(T)).expect("a schema") + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
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
fn report() {
    is_committed::<Report>("reports/schema/report.json");
}

#[test]
fn request() {
    is_committed::<Request>("crates/protocol/schema/request.json");
}

#[test]
fn event() {
    is_committed::<Event>("crates/protocol/schema/event.json");
}
