//! Random damage of files: missing bytes, flipped bits, or a length replaced by an extreme value.
//! The same number always gives the same mutation.

use crate::random::Random;
use std::ops::Range;

/// The kind of a mutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mutation {
    /// Bytes are missing at the end or in the middle.
    Cut,
    /// Some bits are flipped.
    Flip,
    /// A number of the file, for example a count, a length or an offset, has an extreme value.
    Length,
}

/// The byte range of a number in a file, by its encoding.
#[derive(Debug, Clone)]
pub enum Field {
    /// A little-endian integer that fills the range.
    Binary(Range<usize>),
    /// Decimal digits.
    Decimal(Range<usize>),
}

/// Returns the kind of mutation `number` and the mutated copy of `valid`. `front` is the length in
/// bytes of the part in which every bit matters, for example the header; half of the cuts and of
/// the flipped bits are there. `fields` are the numbers that can be replaced.
pub fn mutated(valid: &[u8], front: usize, fields: &[Field], number: u64) -> (Mutation, Vec<u8>) {
    let mut random = Random::new(number);
    let mut below = |bound: usize| (random.bits() % bound.max(1) as u64) as usize;
    let mut bytes = valid.to_vec();
    match number % 3 {
        0 => {
            let place = if below(2) == 0 { front } else { bytes.len() };
            let from = below(place);
            let to =
                if below(2) == 0 { bytes.len() } else { (from + 1 + below(64)).min(bytes.len()) };
            bytes.drain(from..to);
            (Mutation::Cut, bytes)
        }
        1 => {
            for _ in 0..=below(4) {
                let place = if below(2) == 0 { front } else { bytes.len() };
                bytes[below(place)] ^= 1 << below(8);
            }
            (Mutation::Flip, bytes)
        }
        _ => {
            let size = valid.len() as u64;
            let extremes = [
                0,
                1,
                u64::MAX,
                1 << 31,
                1 << 32,
                1 << 63,
                size,
                size - 1,
                size + 1,
                u64::MAX - 7,
                u64::from(u32::MAX),
                (1 << 24) + 1,
            ];
            let value = extremes[below(extremes.len())];
            match fields[below(fields.len())].clone() {
                Field::Binary(place) => {
                    let width = place.len();
                    bytes[place].copy_from_slice(&value.to_le_bytes()[..width]);
                }
                Field::Decimal(place) => {
                    let text = match below(4) {
                        0 => format!("-{value}"),
                        1 => format!("{value}e300"),
                        _ => value.to_string(),
                    };
                    bytes.splice(place, text.into_bytes());
                }
            }
            (Mutation::Length, bytes)
        }
    }
}

/// Returns the places of all sequences of digits in a text.
pub fn decimals(text: &[u8]) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits > 0 {
            fields.push(Field::Decimal(at..at + digits));
        }
        at += digits.max(1);
    }
    fields
}
