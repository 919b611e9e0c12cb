//! The Jinja environment: settings, functions and filters as in transformers.

use super::pinned_date::pinned_date;
use super::python::register;
use minijinja::Environment;
use minijinja::syntax::SyntaxConfig;

/// The maximum number of steps of the template's virtual machine. A chat of 100 turns takes about
/// 5,000.
const MAX_STEPS: u64 = 1_000_000;

/// Returns an environment without templates.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    // the translation has already removed the newlines that jinja2 removes
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_fuel(Some(MAX_STEPS));
    register(&mut environment);
    environment.add_function("strftime_now", |format: String| pinned_date(&format));
    environment
}
