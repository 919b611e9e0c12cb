//! Files made hostile at random: cut, with bits turned over, or with a length in them replaced by one
//! that cannot be. The same number always gives the same mutation.

use crate::random::Random;
use std::ops::Range;

/// What is done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mutation {
    /// Bytes are missing at the end or in the middle.
    Cut,
    /// Some bits are the opposite.
    Flip,
    /// A number that says how many, how long or where is an extreme one.
    Length,
}

/// A place in a file that holds such a number.
#[derive(Debug, Clone)]
pub enum Field {
    /// Little-endian, of so many bytes.
    Binary(Range<usize>),
    /// In decimal digits.
    Decimal(Range<usize>),
}

/// The mutation of that number, and the file that it makes of a sound one. `front` is the length of the
/// part in which everything depends on every bit; half of the bits are turned there.
pub fn mutated(sound: &[u8], front: usize, fields: &[Field], number: u64) -> (Mutation, Vec<u8>) {
    let mut random = Random::new(number);
    let mut below = |bound: usize| (random.bits() % bound.max(1) as u64) as usize;
    let mut bytes = sound.to_vec();
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
            let size = sound.len() as u64;
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

/// Every number in a text.
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
