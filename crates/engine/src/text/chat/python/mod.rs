//! The semantics of Python and of jinja2's built-ins, for the templates that `super::syntax`
//! translates: operators, text of values, methods, filters, tests and globals.

mod arguments;
mod built_in_tests;
mod containers;
mod filters;
mod formatting;
mod globals;
mod html;
mod iterators;
mod lookup;
mod macros;
mod methods;
mod operators;
mod register;
mod strings;
mod to_json;
mod types;
mod values;
mod wrapping;

pub(super) use register::register;
pub(super) use types::{is_method, is_space};
