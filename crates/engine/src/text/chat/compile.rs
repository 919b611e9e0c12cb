//! Compiles a template.

use super::environment::environment;
use super::generation_tags::without_generation;
use super::render_thread::run_bounded;
use minijinja::Environment;
use modelgate_protocol::Failure;

/// The name of the template in its environment.
pub(super) const NAME: &str = "chat";

/// Returns an environment with the template of that text. `unsound` makes the failure of a text that is
/// not a template.
pub(super) fn compiled(
    text: String,
    unsound: impl Fn(String) -> Failure,
) -> Result<Environment<'static>, Failure> {
    let compile = move || {
        let mut environment = environment();
        environment
            .add_template_owned(NAME, without_generation(&text))
            .map_err(|error| with_causes(&error))?;
        Ok(environment)
    };
    run_bounded(compile, unsound)
}

/// Formats an error and its causes on one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
