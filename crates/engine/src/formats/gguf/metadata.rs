//! Typed access to the metadata of a GGUF file. The caller decides which keys are required, and
//! which failure a missing key causes.
//!
//! candle's own functions are not used: they format a value of the wrong type for their error
//! message, even if it is a list of millions of values.

use candle_core::quantized::gguf_file::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The metadata of a file. Errors name the key whose value has the wrong type.
pub(super) struct Metadata {
    path: PathBuf,
    values: HashMap<String, Value>,
}

impl Metadata {
    /// Creates the metadata `values` of the file at `path`.
    pub(super) fn new(path: &Path, values: HashMap<String, Value>) -> Metadata {
        Metadata { path: path.to_owned(), values }
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a string; `None` if the key is missing.
    ///
    /// # Errors
    /// The value has another type.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>, String> {
        self.get(key, "a string", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// Returns a non-negative integer of any width; `None` if the key is missing.
    ///
    /// # Errors
    /// The value is negative or has another type.
    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, String> {
        self.get(key, "a non-negative integer", whole_number)
    }

    /// Returns a finite floating-point number; `None` if the key is missing.
    ///
    /// # Errors
    /// The value is NaN or infinite, or has another type.
    pub(super) fn float(&self, key: &str) -> Result<Option<f64>, String> {
        self.get(key, "a finite number", |value| {
            let number = match value {
                Value::F32(number) => f64::from(*number),
                Value::F64(number) => *number,
                _ => return None,
            };
            Some(number).filter(|number| number.is_finite())
        })
    }

    /// Returns a boolean; `None` if the key is missing.
    ///
    /// # Errors
    /// The value has another type.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.get(key, "a boolean", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// Returns a list; `None` if the key is missing.
    ///
    /// # Errors
    /// The value has another type.
    pub(super) fn list(&self, key: &str) -> Result<Option<&[Value]>, String> {
        self.get(key, "a list", |value| match value {
            Value::Array(values) => Some(values.as_slice()),
            _ => None,
        })
    }

    /// Returns the value of a key, converted by `read`; `None` if the key is missing.
    fn get<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| format!("metadata: {key}: expected {expected}"))
    }
}

/// Returns a value as a non-negative integer; `None` if it is negative or has another type.
pub(super) fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::U8(number) => Some(u64::from(*number)),
        Value::U16(number) => Some(u64::from(*number)),
        Value::U32(number) => Some(u64::from(*number)),
        Value::U64(number) => Some(*number),
        Value::I8(number) => u64::try_from(*number).ok(),
        Value::I16(number) => u64::try_from(*number).ok(),
        Value::I32(number) => u64::try_from(*number).ok(),
        Value::I64(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}
