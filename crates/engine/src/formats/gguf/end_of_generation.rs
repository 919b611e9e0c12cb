//! The tokens that end an answer of a GGUF model. Many files name only the end token of the base
//! model, so llama.cpp also identifies tokens by their text.
//!
//! Source: `special_eog_ids` in `llama-vocab.cpp` of llama.cpp (llama-cpp-python 0.3.36).

use super::metadata::Metadata;
use super::vocabulary::TOKENS;
use candle_core::quantized::gguf_file::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The metadata keys of tokens that end an answer: `tokenizer.ggml.<name>_token_id`.
const END_KEYS: [&str; 3] = ["eos", "eot", "eom"];

/// The texts of tokens that end an answer.
const END_TEXTS: [&str; 22] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "[e~[",
];

/// The tokens of code infilling that end an answer: the name in the metadata key, and the texts that
/// identify the token if there is no key.
const INFILLING: [(&str, &[&str]); 3] = [
    ("fim_pad", &["<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"]),
    ("fim_rep", &["<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"]),
    ("fim_sep", &["<|file_sep|>"]),
];

/// Returns the ids of the tokens that end an answer, in ascending order. In a file without a
/// vocabulary, only the metadata keys name them.
///
/// # Errors
/// The id of a token is not a non-negative integer, or the list of tokens has another type.
pub(super) fn end_of_generation(metadata: &Metadata) -> Result<Vec<u64>, String> {
    let key_of = |name: &str| format!("tokenizer.ggml.{name}_token_id");
    let Some(tokens) = metadata.list(TOKENS)? else {
        let mut ids = Vec::new();
        for name in END_KEYS {
            ids.extend(metadata.number(&key_of(name))?);
        }
        return Ok(ids);
    };
    let texts = || END_TEXTS.iter().chain(INFILLING.iter().flat_map(|(_, texts)| *texts));
    let mut id_of_text: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, token) in (0..).zip(tokens) {
        if let Value::String(token) = token
            && let Some(text) = texts().find(|text| *text == token)
        {
            // the last of several tokens with the same text has the text, as in llama.cpp
            id_of_text.insert(text, id);
        }
    }
    let count = tokens.len() as u64;
    let id_of_key = |name: &str, default: Option<u64>| -> Result<Option<u64>, String> {
        let stated = metadata.number(&key_of(name))?.filter(|id| *id < count);
        Ok(stated.or(default.filter(|id| *id < count)))
    };
    let mut ends = BTreeSet::new();
    for (name, texts) in INFILLING {
        // llama.cpp takes the first text in an undefined order if there are several
        let by_text = texts.iter().find_map(|text| id_of_text.get(text).copied());
        ends.extend(id_of_key(name, None)?.or(by_text));
    }
    ends.extend(END_TEXTS.iter().filter_map(|text| id_of_text.get(text)));
    for name in END_KEYS {
        let default = default_end(metadata)?.filter(|_| name == "eos");
        ends.extend(id_of_key(name, default)?);
    }
    let text_of = |id: u64| match tokens.get(usize::try_from(id).unwrap_or(usize::MAX)) {
        Some(Value::String(text)) => text.as_str(),
        _ => "",
    };
    let has = |ends: &BTreeSet<u64>, text: &str| ends.iter().any(|id| text_of(*id) == text);
    let calls = has(&ends, "<|call|>") || has(&ends, "<|calls|>");
    // in the formats of gpt-oss and Solar, this token ends a message, after which others follow
    if calls && (has(&ends, "<|return|>") || has(&ends, "<|flush|>")) {
        ends.retain(|id| text_of(*id) != "<|end|>");
    }
    // in Gemma 4 and PLaMo, this is ordinary text
    if has(&ends, "<|tool_response>") || has(&ends, "<|plamo:eos|>") {
        ends.retain(|id| text_of(*id) != "</s>");
    }
    Ok(ends.into_iter().collect())
}

/// Returns the end token of a vocabulary whose metadata do not name it. `None` if this kind of
/// vocabulary has no default.
fn default_end(metadata: &Metadata) -> Result<Option<u64>, String> {
    Ok(match metadata.text("tokenizer.ggml.model")? {
        Some("llama" | "plamo2") => Some(2),
        Some("gpt2" | "hybriddna" | "whitespace") => Some(11),
        Some("t5") => Some(1),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Returns the ends of a vocabulary with these tokens and ids in the metadata.
    fn ends(model: &str, tokens: &[&str], ids: &[(&str, u32)]) -> Vec<u64> {
        let texts = tokens.iter().map(|text| Value::String((*text).to_owned())).collect();
        let ids = ids
            .iter()
            .map(|(name, id)| (format!("tokenizer.ggml.{name}_token_id"), Value::U32(*id)));
        let vocabulary = [
            (TOKENS.to_owned(), Value::Array(texts)),
            ("tokenizer.ggml.model".to_owned(), Value::String(model.to_owned())),
        ];
        let values = ids.chain(vocabulary).collect();
        end_of_generation(&Metadata::new(Path::new("x.gguf"), values)).expect("valid metadata")
    }

    #[test]
    fn tokens_that_end_an_answer_are_those_of_llama_cpp() {
        let llama3 = ["a", "<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"];
        assert_eq!(ends("gpt2", &llama3, &[("eos", 1)]), [1, 2, 3]);
        let chat_ml = ["a", "<|endoftext|>", "<|im_start|>", "<|im_end|>"];
        assert_eq!(ends("gpt2", &chat_ml, &[("eos", 1)]), [1, 3]);
        let code = ["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<|fim_middle|>", "<|im_end|>"];
        assert_eq!(ends("gpt2", &code, &[]), [0, 1, 2, 4]);
        // a key has priority over a text, and both over a default
        assert_eq!(ends("gpt2", &["[PAD]", "b", "c"], &[("fim_pad", 1), ("eot", 2)]), [1, 2]);
        // an id without a token is ignored
        assert_eq!(ends("llama", &["a", "b", "c"], &[("eos", 9), ("eot", 9)]), [2]);
        assert_eq!(ends("llama", &["a", "b", "c"], &[("eos", 0)]), [0]);
        assert_eq!(ends("gpt2", &["a", "b"], &[]), [0u64; 0]);
        // the last token with a text
        assert_eq!(ends("none", &["<eos>", "a", "<eos>"], &[]), [2]);
    }

    #[test]
    fn tokens_that_only_end_a_message_do_not_end_an_answer() {
        let harmony = ["<|end|>", "<|return|>", "<|call|>"];
        assert_eq!(ends("gpt2", &harmony, &[("eos", 1)]), [1, 2]);
        assert_eq!(ends("gpt2", &["<|end|>", "<|flush|>", "<|calls|>"], &[]), [1, 2]);
        assert_eq!(ends("gpt2", &["<|end|>", "<|return|>", "<|flush|>"], &[]), [0, 1, 2]);
        assert_eq!(ends("gpt2", &["<|end|>", "<|call|>"], &[]), [0, 1]);
        assert_eq!(ends("gpt2", &["</s>", "<|tool_response>", "<turn|>"], &[]), [1, 2]);
        assert_eq!(ends("plamo2", &["</s>", "a", "<|plamo:eos|>"], &[]), [2]);
    }

    #[test]
    fn a_file_without_a_vocabulary_has_the_ids_of_its_keys() {
        let values = [("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(128_001))];
        let metadata = Metadata::new(Path::new("x.gguf"), values.into_iter().collect());
        assert_eq!(end_of_generation(&metadata), Ok(vec![128_001]));
    }
}
