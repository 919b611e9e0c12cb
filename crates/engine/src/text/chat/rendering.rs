//! Renders a compiled template with variables.

use super::bounded_output::BoundedOutput;
use super::compile::{NAME, compiled, with_causes};
use super::render_thread::run_bounded;
use crate::failures;
use minijinja::Environment;
use minijinja::value::Value;
use modelgate_protocol::{Failure, Stage};

/// Renders the template in `environment`.
///
/// # Errors
/// The template rejects the variables, or exceeds a bound: `failed` converts the message to a
/// failure.
pub(super) fn rendered(
    environment: Environment<'static>,
    variables: Value,
    failed: impl Fn(String) -> Failure,
) -> Result<String, Failure> {
    let render = move || {
        let mut out = BoundedOutput::default();
        environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(variables, &mut out).map(drop))
            .map_err(|error| with_causes(&error))?;
        String::from_utf8(out.0).map_err(|error| error.to_string())
    };
    run_bounded(render, failed)
}

/// Renders the template `text` with the variables of the JSON object `variables`, without a model.
///
/// # Errors
/// The template or the JSON is invalid, or the template rejects the variables.
pub(crate) fn render_text(text: &str, variables: &str) -> Result<String, Failure> {
    let invalid = |reason: String| failures::tokenizer(Stage::Generate, reason, "fix the template");
    let variables: Value =
        serde_json::from_str(variables).map_err(|error| invalid(error.to_string()))?;
    rendered(compiled(text.to_owned(), invalid)?, variables, invalid)
}
