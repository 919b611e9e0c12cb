//! The merges of byte-pair encoding (BPE): merges that a file lists, and merges that follow from
//! scores.

use super::tokens::{Token, TokenKind};
use serde_json::json;
use std::collections::HashMap;

/// The maximum number of merges. The largest published vocabulary has 514,906. A file with
/// malicious tokens can have one merge for each character of each token.
pub(super) const MAX_MERGES: usize = 1 << 20;

/// Splits a merge (`left right`) into its two tokens; `None` if it does not contain two tokens. The
/// left token may begin with a space, so the separator is the first space after the first
/// character.
pub(super) fn split_pair(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let at = first + merge[first..].find(' ')?;
    Some((&merge[..at], &merge[at + 1..])).filter(|(_, right)| !right.is_empty())
}

/// Returns the merges that are equivalent to the scores of sentencepiece, which merges the adjacent
/// pair whose combined token has the highest score. The order is that of `generate_merges` of
/// transformers (`convert_slow_tokenizer.py`). `None` if there are more than [`MAX_MERGES`] merges.
pub(super) fn merges_by_score(tokens: &[Token], scores: &[f32]) -> Option<serde_json::Value> {
    let pieces: Vec<&Token> = tokens
        .iter()
        .filter(|token| matches!(token.kind, TokenKind::Normal | TokenKind::UserDefined))
        .collect();
    let ids: HashMap<&str, usize> = pieces.iter().map(|piece| (piece.text, piece.id)).collect();
    let mut merges = Vec::new();
    for piece in pieces {
        let first = merges.len();
        for (at, _) in piece.text.char_indices().skip(1) {
            let (left, right) = piece.text.split_at(at);
            if let (Some(left_id), Some(right_id)) = (ids.get(left), ids.get(right)) {
                merges.push((scores[piece.id], left, right, (left_id, right_id)));
            }
        }
        if merges.len() > MAX_MERGES {
            return None;
        }
        merges[first..].sort_by_key(|(_, _, _, ids)| *ids);
    }
    let letters = |text: &str| text.chars().count();
    merges.sort_by(|(a, a_left, a_right, _), (b, b_left, b_right, _)| {
        b.total_cmp(a)
            .then_with(|| letters(b_left).cmp(&letters(a_left)))
            .then_with(|| letters(b_right).cmp(&letters(a_right)))
    });
    Some(merges.into_iter().map(|(_, left, right, _)| json!([left, right])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_are_ordered_by_score_and_then_as_in_the_reference() {
        let texts = ["a", "b", "c", "ab", "bc", "abc", "<s>"];
        let kinds = [TokenKind::Normal; 6].into_iter().chain([TokenKind::Control]);
        let tokens: Vec<Token> = texts
            .iter()
            .zip(kinds)
            .enumerate()
            .map(|(id, (text, kind))| Token { id, text, kind })
            .collect();
        let merges = merges_by_score(&tokens, &[0.0, 0.0, 0.0, -5.0, -1.0, -2.0, 0.0]);
        assert_eq!(
            merges.expect("fewer merges than the limit"),
            json!([["b", "c"], ["ab", "c"], ["a", "bc"], ["a", "b"]])
        );
    }
}
