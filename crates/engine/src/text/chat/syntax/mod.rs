//! Reads templates exactly as jinja2 does, and translates them to the dialect of minijinja.
//!
//! The lexer and the grammar of minijinja differ from those of jinja2, for example in newlines, in
//! string literals and in the set of tags. So minijinja receives a translation in which all
//! differences are resolved: text is already trimmed, literals are decoded, and operations with
//! other semantics than in Python are calls of filters (`super::python`).

mod expressions;
mod lexer;
mod literals;
mod names;
mod parser;
mod statements;

pub(super) use parser::translated;
