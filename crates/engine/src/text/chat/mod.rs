//! Renders chats to prompts with the chat template of the model, as transformers does
//! (`utils/chat_template_utils.py`).
//!
//! A template is part of the model's files, and its publisher is not trusted. It has no access to
//! files or variables, and its steps, output, time and memory are bounded.
//!
//! minijinja executes the templates. `syntax` reads them as jinja2 does and translates them to the
//! dialect of minijinja, and `python` has the operations whose results differ.

mod bounded_output;
mod compile;
mod environment;
mod lookup;
mod pinned_date;
mod python;
mod render_thread;
mod rendering;
mod special_tokens;
mod syntax;
mod template;

pub(crate) use rendering::render_text;
pub(crate) use template::ChatTemplate;
