//! The filter `tojson` of transformers' templates: JSON in the format of Python's `json.dumps`.

use super::bounded_output::BoundedOutput;
use crate::text::tokenizer::is_reserved;
use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::Formatter;
use std::io::{self, Write};

/// The maximum indentation of one level, in bytes.
const MAX_INDENT: usize = 16;

/// Returns `value` as JSON, in the format of `json.dumps` with the defaults of transformers.
///
/// # Errors
/// An option is invalid or unknown, or the JSON is too long.
pub(super) fn to_json(value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => match (indent.as_usize(), indent.as_str()) {
            (Some(width), _) => Some(" ".repeat(width.min(MAX_INDENT))),
            (None, Some(text)) if text.len() <= MAX_INDENT => Some(text.to_owned()),
            _ => {
                let what = format!(
                    "tojson: expected an indent that is a number or a text of at most {MAX_INDENT} \
                     bytes"
                );
                return Err(Error::new(ErrorKind::InvalidOperation, what));
            }
        },
    };
    let separators: Option<(String, String)> =
        match options.get::<Option<Vec<String>>>("separators")? {
            None => None,
            Some(pair) => match <[String; 2]>::try_from(pair) {
                Ok([item_separator, key_separator]) => Some((item_separator, key_separator)),
                Err(_) => {
                    let what = "tojson: expected two separators";
                    return Err(Error::new(ErrorKind::InvalidOperation, what));
                }
            },
        };
    let item_separator = if indent.is_some() { "," } else { ", " };
    let (item_separator, key_separator) =
        separators.unwrap_or((item_separator.into(), ": ".into()));
    let ascii_only = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let unserializable =
        |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut out = BoundedOutput::default();
    let format = PythonJson {
        indent,
        item_separator,
        key_separator,
        ascii_only,
        depth: 0,
        has_items: false,
    };
    let mut writer = serde_json::Serializer::with_formatter(&mut out, format);
    if sorted {
        // serde_json sorts the keys of its objects. The first pass is bounded, because the text of
        // a value that contains the same value many times may not fit in memory.
        let mut plain = BoundedOutput::default();
        serde_json::to_writer(&mut plain, &value).map_err(unserializable)?;
        let value: serde_json::Value = serde_json::from_slice(&plain.0).map_err(unserializable)?;
        value.serialize(&mut writer).map_err(unserializable)?;
    } else {
        value.serialize(&mut writer).map_err(unserializable)?;
    }
    // marked as safe, so that it is not escaped again
    Ok(Value::from_safe_string(String::from_utf8_lossy(&out.0).into_owned()))
}

/// A formatter that writes JSON in the format of Python.
struct PythonJson {
    /// The indentation of each level. `None` if the JSON is one line.
    indent: Option<String>,
    /// The separator between items.
    item_separator: String,
    /// The separator between a key and its value.
    key_separator: String,
    /// Whether characters outside of ASCII are escaped.
    ascii_only: bool,
    depth: usize,
    /// Whether the list or object that is being written has an element.
    has_items: bool,
}

impl PythonJson {
    fn open<W: ?Sized + Write>(&mut self, w: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_items = false;
        w.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, w: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_items {
            self.new_line(w)?;
        }
        self.has_items = true;
        w.write_all(bracket)
    }

    fn next<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if !first {
            w.write_all(self.item_separator.as_bytes())?;
        }
        self.has_items = true;
        self.new_line(w)
    }

    fn new_line<W: ?Sized + Write>(&self, w: &mut W) -> io::Result<()> {
        match &self.indent {
            Some(indent) => {
                w.write_all(b"\n")?;
                (0..self.depth).try_for_each(|_| w.write_all(indent.as_bytes()))
            }
            None => Ok(()),
        }
    }
}

impl Formatter for PythonJson {
    fn begin_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.open(w, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.close(w, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.next(w, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.open(w, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.close(w, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        self.next(w, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(self.key_separator.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        w: &mut W,
        text: &str,
    ) -> io::Result<()> {
        if !self.ascii_only {
            return w.write_all(text.as_bytes());
        }
        for letter in text.chars() {
            // reserved characters are not escaped, so that they can be found in the output
            if (' '..='~').contains(&letter) || is_reserved(letter) {
                write!(w, "{letter}")?;
                continue;
            }
            for half in letter.encode_utf16(&mut [0; 2]) {
                write!(w, "\\u{half:04x}")?;
            }
        }
        Ok(())
    }
}
