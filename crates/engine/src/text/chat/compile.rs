//! Compiles a chat template.

use super::environment::environment;
use super::generation_tags::without_generation_tags;
use super::render_thread::run_bounded;
use minijinja::Environment;
use modelgate_protocol::Failure;

/// The name of the chat template in its environment.
pub(super) const NAME: &str = "chat";

/// Compiles the template `text`, and returns an environment that contains it as [`NAME`].
///
/// # Errors
/// The text is not a valid template: `invalid` converts the message to a failure.
pub(super) fn compiled(
    text: String,
    invalid: impl Fn(String) -> Failure,
) -> Result<Environment<'static>, Failure> {
    let compile = move || {
        let mut environment = environment();
        environment
            .add_template_owned(NAME, without_generation_tags(&text))
            .map_err(|error| with_causes(&error))?;
        Ok(environment)
    };
    run_bounded(compile, invalid)
}

/// Formats an error and its causes in one line.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}
