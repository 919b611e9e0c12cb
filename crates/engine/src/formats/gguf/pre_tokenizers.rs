//! How texts are split into words before they are merged to tokens, by llama.cpp's names.

/// A way to split texts into words.
pub(super) struct PreTokenizer {
    /// llama.cpp's names of it.
    pub(super) names: &'static [&'static str],
    /// The patterns, applied one after the other.
    pub(super) patterns: &'static [&'static str],
    /// Whether a word that is a token is that token, whatever its merges.
    pub(super) ignore_merges: bool,
    /// The reference's normalizer of texts.
    pub(super) normalizer: Option<&'static str>,
    /// Whether a text gets a token that begins it if the file does not say.
    pub(super) adds_bos: bool,
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The patterns of the models' own `tokenizer.json`, which llama.cpp writes differently.
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
