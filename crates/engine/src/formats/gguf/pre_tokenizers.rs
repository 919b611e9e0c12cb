//! The rules by which texts are split into words before the words are merged into tokens.
//! llama.cpp's names identify the rules.

/// A rule by which texts are split into words.
pub(super) struct PreTokenizer {
    /// The values of the metadata key `tokenizer.ggml.pre` that select the rule.
    pub(super) names: &'static [&'static str],
    /// The regular expressions, applied one after the other.
    pub(super) patterns: &'static [&'static str],
    /// Whether a word that is in the vocabulary becomes that token without applying merges.
    pub(super) ignore_merges: bool,
    /// The Unicode normalization of texts in the reference tokenizer; `None` if texts are not
    /// normalized.
    pub(super) normalizer: Option<&'static str>,
    /// Whether a BOS token is added to texts if the file does not specify it.
    pub(super) adds_bos: bool,
}

/// The pattern of GPT-2.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// All supported rules. The patterns are those of the `tokenizer.json` of the models; llama.cpp
/// writes them in a different form.
pub(super) const PRE_TOKENIZERS: [PreTokenizer; 4] = [
    PreTokenizer {
        names: &["llama-bpe", "llama3", "llama-v3"],
        patterns: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        ignore_merges: true,
        normalizer: None,
        adds_bos: true,
    },
    PreTokenizer {
        names: &["qwen2", "deepseek-r1-qwen"],
        patterns: &[concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        ignore_merges: false,
        normalizer: Some("NFC"),
        adds_bos: false,
    },
    PreTokenizer {
        names: &["gpt-2"],
        patterns: &[GPT2],
        ignore_merges: false,
        normalizer: None,
        adds_bos: false,
    },
    PreTokenizer {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
        ignore_merges: false,
        normalizer: None,
        adds_bos: false,
    },
];
