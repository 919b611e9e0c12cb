//! The Jinja environment: settings, functions and filters as in transformers.

use super::pinned_date::pinned_date;
use super::{methods, to_json};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{Environment, Error, ErrorKind};

/// The maximum number of steps of the template's virtual machine. A chat of 100 turns takes about
/// 10,000.
const MAX_STEPS: u64 = 1_000_000;

/// Returns an environment without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    if let Ok(syntax) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(MAX_STEPS));
    environment.set_unknown_method_callback(methods::call);
    environment.add_function("raise_exception", |text: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, text))
    });
    environment.add_function("strftime_now", |format: String| pinned_date(&format));
    environment.add_filter("tojson", to_json::to_json);
    environment
}
