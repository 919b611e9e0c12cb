//! Renders chats to prompts with the chat template of the model, as transformers does
//! (`utils/chat_template_utils.py`).
//!
//! A template is part of the model's files, and its publisher is not trusted. It has no access to
//! files or variables, and its steps, output, time and memory are bounded.

mod bounded_output;
mod compile;
mod environment;
mod generation_tags;
mod lookup;
mod methods;
mod pinned_date;
mod render_thread;
mod special_tokens;
mod template;
mod to_json;

pub(crate) use template::ChatTemplate;
