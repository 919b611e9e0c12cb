//! Chats to prompts, by the model's own chat template, as transformers renders it
//! (`utils/chat_template_utils.py`).
//!
//! A template comes with the model's files, from their publisher, who is not trusted: it gets access to
//! nothing, a bounded number of steps, a bounded output, and bounds on its time and memory.

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
