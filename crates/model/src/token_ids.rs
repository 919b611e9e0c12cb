//! Token ids in the JSON files of a model.

use serde_json::Value;

/// Reads the token ids of the key `key` from a number or a list of numbers. A missing key or null
/// gives none. A negative number, usually -1, means that there is no such token.
///
/// # Errors
/// A value is not a token id.
pub fn token_ids(key: &str, value: Option<&Value>) -> Result<Vec<u32>, String> {
    let one;
    let ids = match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(ids)) => ids.as_slice(),
        Some(value) => {
            one = [value.clone()];
            one.as_slice()
        }
    };
    ids.iter()
        .filter(|id| !id.as_i64().is_some_and(i64::is_negative))
        .map(|id| {
            let token = id.as_u64().and_then(|id| u32::try_from(id).ok());
            token.ok_or_else(|| format!("`{key}`: expected token IDs, found {id}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn negative_ids_mean_no_token() {
        for (value, expected) in [
            (json!(null), vec![]),
            (json!(-1), vec![]),
            (json!(0), vec![0]),
            (json!([2, -1, 7]), vec![2, 7]),
            (json!([]), vec![]),
        ] {
            assert_eq!(token_ids("eos_token_id", Some(&value)), Ok(expected), "{value}");
        }
        for value in [json!("2"), json!(1.5), json!([1, null]), json!(1u64 << 32), json!(true)] {
            let error = token_ids("eos_token_id", Some(&value)).expect_err("not token ids");
            assert!(error.contains("eos_token_id"), "{error}");
        }
    }
}
